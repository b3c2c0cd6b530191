//! Memory of large reads, kept for the next ones: a fresh block of some megabytes costs the kernel more
//! (mapping, clearing and unmapping its pages) than filling it does.
//!
//! A block comes back when the last slice of what was read into it is dropped. At most
//! [`IDLE_BYTES_MAX`] stay here between reads; how much is in use is bounded by who reads.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

/// Smaller reads are left to the allocator.
const LARGE_BYTES: usize = 256 << 10;
/// Capacities are multiples of this, so that blocks of similar reads fit each other.
const STEP_BYTES: usize = 1 << 20;
const IDLE_BYTES_MAX: usize = 48 << 20;

#[derive(Clone, Debug, Default)]
pub(super) struct ReadMemory(Arc<Mutex<Vec<Vec<u8>>>>);

/// Read bytes whose memory goes back.
struct Lent {
    bytes: Vec<u8>,
    home: ReadMemory,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        let mut idle = self.home.0.lock();
        let held: usize = idle.iter().map(Vec::capacity).sum();
        if held + bytes.capacity() <= IDLE_BYTES_MAX {
            bytes.clear();
            idle.push(bytes);
        }
    }
}

impl ReadMemory {
    /// An empty block for `wanted` bytes.
    pub(super) fn take(&self, wanted: usize) -> Vec<u8> {
        if wanted < LARGE_BYTES {
            return Vec::with_capacity(wanted);
        }
        let mut idle = self.0.lock();
        let fitting = idle
            .iter()
            .enumerate()
            .filter(|(_, block)| block.capacity() >= wanted);
        let smallest = fitting
            .min_by_key(|(_, block)| block.capacity())
            .map(|(at, _)| at);
        match smallest {
            Some(at) => idle.swap_remove(at),
            None => {
                drop(idle);
                Vec::with_capacity(wanted.next_multiple_of(STEP_BYTES))
            }
        }
    }

    /// Hands out what was read into a block.
    pub(super) fn lend(&self, bytes: Vec<u8>) -> Bytes {
        if bytes.capacity() < LARGE_BYTES {
            return Bytes::from(bytes);
        }
        Bytes::from_owner(Lent {
            bytes,
            home: self.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_used_again_once_its_last_slice_is_gone() {
        let memory = ReadMemory::default();
        let mut block = memory.take(3 << 20);
        block.extend_from_slice(b"first");
        let place = block.as_ptr();
        let slice = memory.lend(block).slice(1..3);
        let other = memory.take(3 << 20);
        assert_ne!(other.as_ptr(), place, "still in use");
        assert_eq!(&slice[..], b"ir");
        drop(slice);
        let again = memory.take(2 << 20);
        assert_eq!(again.as_ptr(), place);
        assert!(again.is_empty());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let memory = ReadMemory::default();
        let lent: Vec<_> = (0..100).map(|_| memory.lend(memory.take(1 << 20))).collect();
        drop(lent);
        assert_eq!(
            memory.0.lock().iter().map(Vec::capacity).sum::<usize>(),
            IDLE_BYTES_MAX
        );
    }
}
