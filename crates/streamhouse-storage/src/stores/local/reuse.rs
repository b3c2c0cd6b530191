//! Memory of large reads, kept for the next ones: a fresh block of some megabytes costs the kernel more
//! (mapping, clearing and unmapping its pages) than filling it does.
//!
//! A block comes back when the last slice of what was read into it is dropped. At most
//! [`IDLE_BYTES_MAX`] stay here between reads; how much is in use is bounded by who reads. What is read
//! lies at an aligned place of its block, as `O_DIRECT` demands.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::staging::BLOCK_BYTES;

/// Lengths of blocks are multiples of this, so that blocks of similar reads fit each other.
const STEP_BYTES: usize = 1 << 20;
/// A block may be this many times larger than what is read into it.
const WASTE_FACTOR_MAX: usize = 2;
/// Enough for the reads that run ahead of a consumer.
const IDLE_BYTES_MAX: usize = 24 << 20;

#[derive(Clone, Debug, Default)]
pub(super) struct ReadMemory(Arc<Mutex<Vec<Vec<u8>>>>);

/// Memory for one read; it goes back when it is dropped.
pub(super) struct ReadBlock {
    memory: Vec<u8>,
    start: usize,
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
        let mut idle = self.home.0.lock();
        idle.push(std::mem::take(&mut self.memory));
        let mut held: usize = idle.iter().map(Vec::len).sum();
        // The oldest go: what was read last tells best what the next reads need.
        while held > IDLE_BYTES_MAX {
            held -= idle.remove(0).len();
        }
    }
}

impl ReadMemory {
    /// A block with room for `wanted` bytes and the blocks of the disk that they begin and end in.
    pub(super) fn take(&self, wanted: usize) -> ReadBlock {
        let least = wanted + 3 * BLOCK_BYTES;
        let memory = {
            let mut idle = self.0.lock();
            let fitting = idle.iter().enumerate().filter(|(_, block)| {
                block.len() >= least && block.len() <= block_bytes(least) * WASTE_FACTOR_MAX
            });
            let smallest = fitting.min_by_key(|(_, block)| block.len()).map(|(at, _)| at);
            smallest.map(|at| idle.remove(at))
        };
        let memory = memory.unwrap_or_else(|| vec![0; block_bytes(least)]);
        let start = memory.as_ptr().align_offset(BLOCK_BYTES);
        ReadBlock {
            memory,
            start,
            home: self.clone(),
        }
    }
}

fn block_bytes(least: usize) -> usize {
    least.next_multiple_of(STEP_BYTES)
}

impl ReadBlock {
    /// All of its aligned part. Holds what an earlier read left there.
    pub(super) fn aligned(&mut self) -> &mut [u8] {
        let end = self.memory.len() - (self.memory.len() - self.start) % BLOCK_BYTES;
        &mut self.memory[self.start..end]
    }

    /// Hands out a part of what was read; positions count from the aligned part's begin.
    pub(super) fn lend(self, range: Range<usize>) -> Bytes {
        let range = self.start + range.start..self.start + range.end;
        Bytes::from_owner(Lent { block: self, range })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_used_again_once_its_last_slice_is_gone_and_is_always_aligned() {
        let memory = ReadMemory::default();
        let mut block = memory.take(3 << 20);
        assert_eq!(block.aligned().as_ptr().align_offset(BLOCK_BYTES), 0);
        assert!(block.aligned().len() >= (3 << 20) + 2 * BLOCK_BYTES);
        block.aligned()[..5].copy_from_slice(b"first");
        let place = block.aligned().as_ptr();
        let slice = block.lend(0..5).slice(1..3);
        let mut other = memory.take(3 << 20);
        assert_ne!(other.aligned().as_ptr(), place, "still in use");
        assert_eq!(&slice[..], b"ir");
        drop(slice);
        assert_eq!(memory.take(2 << 20).aligned().as_ptr(), place);
    }

    #[test]
    fn what_is_kept_is_bounded_and_a_small_read_takes_no_large_block() {
        let memory = ReadMemory::default();
        let lent: Vec<_> = (0..100).map(|_| memory.take(1 << 20).lend(0..10)).collect();
        drop(lent);
        let kept = || memory.0.lock().iter().map(Vec::len).sum::<usize>();
        assert_eq!(kept(), IDLE_BYTES_MAX);
        drop(memory.take(20 << 20));
        assert_eq!(kept(), 23 << 20, "the last that came back stays");
        let _small = [memory.take(300 << 10), memory.take(300 << 10)];
        assert_eq!(kept(), 21 << 20, "one took the block of 2 MiB, one a new one");
    }
}
