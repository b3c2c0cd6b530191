//! Memory of large reads: a few slabs, cut to the size of each read and joined again when it comes back.
//! Fresh memory of some megabytes costs the kernel more (mapping, clearing and unmapping its pages) than
//! filling it does, and blocks kept whole rarely fit the next read, since segments differ in size.
//!
//! Reads of the local directory go straight into them, answers of an S3 server are joined there. A block comes
//! back when the last slice of what was read into it is dropped. How much is lent is bounded
//! by who reads; slabs hold at most twice what was ever lent at once, and two more, and one stays when
//! nothing is lent. What is read lies at an aligned place, as `O_DIRECT` demands.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

/// Alignment of addresses, positions and lengths. 4 KiB suits every disk in use.
pub(super) const BLOCK_BYTES: usize = 4096;

/// Reads of less than this are better served by memory of their own, which keeps nothing else from coming back.
pub(super) const LARGE_BYTES_MIN: usize = 256 * 1024;

/// Two full objects of the default size (8 MiB and a batch) fit with little left over. Larger slabs are held
/// longer for the sake of one piece.
const SLAB_BYTES: usize = 19 << 20;

#[derive(Clone, Debug, Default)]
pub(super) struct ReadMemory(Arc<Mutex<Slabs>>);

#[derive(Debug, Default)]
struct Slabs {
    slabs: Vec<Slab>,
    lent_bytes: usize,
}

/// One allocation. Pieces of it know it by their address.
#[derive(Debug)]
struct Slab {
    addresses: Range<usize>,
    /// Ascending, no two of them side by side.
    free: Vec<BytesMut>,
}

/// Memory for one read; it goes back when it is dropped.
pub(super) struct ReadBlock {
    memory: BytesMut,
    home: ReadMemory,
}

/// The part of a block that was asked for.
struct Lent {
    block: ReadBlock,
    range: Range<usize>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.block.memory[self.range.clone()]
    }
}

impl Drop for ReadBlock {
    fn drop(&mut self) {
        self.home.0.lock().give_back(std::mem::take(&mut self.memory));
    }
}

impl ReadMemory {
    /// A block of `wanted` bytes, rounded up to whole blocks of the disk. Holds what an earlier read left there.
    pub(super) fn take(&self, wanted: usize) -> ReadBlock {
        ReadBlock {
            memory: self.0.lock().take(wanted.next_multiple_of(BLOCK_BYTES)),
            home: self.clone(),
        }
    }
}

impl ReadBlock {
    pub(super) fn aligned(&mut self) -> &mut [u8] {
        &mut self.memory
    }

    /// Hands out a part of what was read; positions count from the block's begin.
    pub(super) fn lend(self, range: Range<usize>) -> Bytes {
        Bytes::from_owner(Lent { block: self, range })
    }
}

impl Slabs {
    fn take(&mut self, wanted: usize) -> BytesMut {
        let (slab, run) = self.smallest_that_fits(wanted).unwrap_or_else(|| {
            // Where much is free and yet nothing fits, another slab would only be cut up as well.
            let held: usize = self.slabs.iter().map(|slab| slab.addresses.len()).sum();
            let room = if held <= 2 * self.lent_bytes + SLAB_BYTES {
                SLAB_BYTES
            } else {
                0
            };
            self.slabs.push(Slab::new(room.max(wanted)));
            (self.slabs.len() - 1, 0)
        });
        self.lent_bytes += wanted;
        let free = &mut self.slabs[slab].free;
        let piece = free[run].split_to(wanted);
        if free[run].is_empty() {
            free.remove(run);
        }
        piece
    }

    fn smallest_that_fits(&self, wanted: usize) -> Option<(usize, usize)> {
        let runs = self.slabs.iter().enumerate().flat_map(|(at, slab)| {
            let lengths = slab.free.iter().map(BytesMut::len).enumerate();
            lengths.map(move |(run, length)| (length, at, run))
        });
        let (_, slab, run) = runs.filter(|(length, ..)| *length >= wanted).min()?;
        Some((slab, run))
    }

    fn give_back(&mut self, piece: BytesMut) {
        self.lent_bytes -= piece.len();
        let address = piece.as_ptr() as usize;
        let Some(at) = self
            .slabs
            .iter()
            .position(|slab| slab.addresses.contains(&address))
        else {
            return;
        };
        self.slabs[at].join(piece);
        let odd = self.slabs[at].addresses.len() != SLAB_BYTES;
        let free = self.slabs.iter().filter(|slab| slab.is_free()).count();
        if self.slabs[at].is_free() && (odd || free > 1) {
            self.slabs.swap_remove(at);
        }
    }
}

impl Slab {
    fn new(length: usize) -> Self {
        let mut memory = BytesMut::zeroed(length + BLOCK_BYTES);
        let start = memory.as_ptr().align_offset(BLOCK_BYTES);
        let mut memory = memory.split_off(start);
        memory.truncate(length);
        // Behind its end nothing is left that could be taken for a part of it.
        let memory = memory.split_to(length);
        let begin = memory.as_ptr() as usize;
        Self {
            addresses: begin..begin + length,
            free: vec![memory],
        }
    }

    /// Puts a piece back between its neighbours and makes one run of what then lies side by side.
    fn join(&mut self, piece: BytesMut) {
        let end_of = |run: &BytesMut| run.as_ptr() as usize + run.len();
        let address = piece.as_ptr() as usize;
        let mut at = self.free.partition_point(|run| (run.as_ptr() as usize) < address);
        if at > 0 && end_of(&self.free[at - 1]) == address {
            at -= 1;
            self.free[at].unsplit(piece);
        } else {
            self.free.insert(at, piece);
        }
        if let Some(next) = self.free.get(at + 1)
            && end_of(&self.free[at]) == next.as_ptr() as usize
        {
            let next = self.free.remove(at + 1);
            self.free[at].unsplit(next);
        }
    }

    fn is_free(&self) -> bool {
        matches!(&self.free[..], [all] if all.len() == self.addresses.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_bytes(memory: &ReadMemory) -> usize {
        let slabs = memory.0.lock();
        slabs.slabs.iter().map(|slab| slab.addresses.len()).sum()
    }

    #[test]
    fn a_block_is_used_again_once_its_last_slice_is_gone_and_is_always_aligned() {
        let memory = ReadMemory::default();
        let mut block = memory.take(3 << 20);
        assert_eq!(block.aligned().as_ptr().align_offset(BLOCK_BYTES), 0);
        assert_eq!(block.aligned().len(), 3 << 20);
        block.aligned()[..5].copy_from_slice(b"first");
        let place = block.aligned().as_ptr();
        let slice = block.lend(0..5).slice(1..3);
        let mut other = memory.take(3 << 20);
        assert_ne!(other.aligned().as_ptr(), place, "still in use");
        assert_eq!(other.aligned().as_ptr().align_offset(BLOCK_BYTES), 0);
        assert_eq!(&slice[..], b"ir");
        drop(slice);
        assert_eq!(memory.take(2 << 20).aligned().as_ptr(), place);
    }

    #[test]
    fn a_block_is_whole_blocks_of_the_disk_at_an_aligned_place_after_any_other() {
        let memory = ReadMemory::default();
        let blocks: Vec<_> = [1, BLOCK_BYTES, BLOCK_BYTES + 1, 12_345, 1 << 20]
            .into_iter()
            .map(|wanted| (wanted, memory.take(wanted)))
            .collect();
        for (wanted, mut block) in blocks {
            let aligned = block.aligned();
            assert_eq!(aligned.len(), wanted.next_multiple_of(BLOCK_BYTES));
            assert_eq!(aligned.as_ptr().align_offset(BLOCK_BYTES), 0, "{wanted}");
        }
    }

    #[test]
    fn pieces_that_come_back_in_any_order_are_one_again_and_keep_their_bytes_apart() {
        let memory = ReadMemory::default();
        let part = SLAB_BYTES / 8;
        let mut blocks: Vec<_> = (0..8u8)
            .map(|number| {
                let mut block = memory.take(part);
                block.aligned().fill(number);
                Some(block.lend(0..part))
            })
            .collect();
        assert_eq!(held_bytes(&memory), SLAB_BYTES, "they fill it to the last byte");
        for gone in [1, 6, 2, 4, 3, 7, 0] {
            blocks[gone] = None;
            assert!(blocks[5].as_ref().unwrap().iter().all(|byte| *byte == 5));
        }
        let mut between = memory.take(5 * part);
        between.aligned().fill(9);
        assert!(blocks[5].as_ref().unwrap().iter().all(|byte| *byte == 5));
        assert_eq!(
            held_bytes(&memory),
            SLAB_BYTES,
            "five that were side by side hold it"
        );
        drop((between, blocks));
        let _whole = memory.take(SLAB_BYTES);
        assert_eq!(held_bytes(&memory), SLAB_BYTES);
    }

    #[test]
    fn what_is_held_is_bounded_by_what_is_lent_and_one_slab_stays() {
        let memory = ReadMemory::default();
        let half = 9 << 20;
        let lent: Vec<_> = (0..100).map(|_| memory.take(half).lend(0..10)).collect();
        assert_eq!(held_bytes(&memory), 50 * SLAB_BYTES);
        drop(lent);
        assert_eq!(held_bytes(&memory), SLAB_BYTES);
        // Something in the middle keeps each slab: what fits nowhere then gets no more than its own size.
        let mut ends = Vec::new();
        let mut middles = Vec::new();
        for _ in 0..20 {
            ends.push(memory.take(8 << 20));
            middles.push(memory.take(3 << 20));
            ends.push(memory.take(8 << 20));
        }
        drop(ends);
        assert_eq!(held_bytes(&memory), 20 * SLAB_BYTES);
        let fits = memory.take(8 << 20);
        assert_eq!(held_bytes(&memory), 20 * SLAB_BYTES);
        let fits_nowhere = memory.take(half);
        assert_eq!(held_bytes(&memory), 20 * SLAB_BYTES + half);
        drop((fits, fits_nowhere));
        assert_eq!(held_bytes(&memory), 20 * SLAB_BYTES, "an odd one goes at once");
        drop(middles);
        assert_eq!(held_bytes(&memory), SLAB_BYTES);
    }
}
