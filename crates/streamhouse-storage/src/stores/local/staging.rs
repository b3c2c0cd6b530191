//! Aligned buffers through which large payloads are written past the page cache.
//!
//! Invariant: a buffer's slice begins at a multiple of [`BLOCK_BYTES`] and its length is one, as
//! `O_DIRECT` demands. At most [`IDLE_MAX`] buffers are kept between writes.

use parking_lot::Mutex;

use crate::stores::reuse::BLOCK_BYTES;

/// One write of the kernel's; larger gains nothing, smaller costs calls.
const BUFFER_BYTES: usize = 1024 * 1024;

/// Buffers kept for the next write.
const IDLE_MAX: usize = 4;

/// A buffer larger than its aligned part, since safe code cannot ask the allocator for alignment.
pub(super) struct StagingBuffer {
    memory: Vec<u8>,
    start: usize,
}

impl StagingBuffer {
    fn new() -> Self {
        let memory = vec![0; BUFFER_BYTES + BLOCK_BYTES];
        let start = memory.as_ptr().align_offset(BLOCK_BYTES);
        Self { memory, start }
    }

    pub(super) fn aligned(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + BUFFER_BYTES]
    }
}

#[derive(Default)]
pub(super) struct StagingPool {
    idle: Mutex<Vec<StagingBuffer>>,
}

impl StagingPool {
    pub(super) fn take(&self) -> StagingBuffer {
        self.idle.lock().pop().unwrap_or_else(StagingBuffer::new)
    }

    pub(super) fn put_back(&self, buffer: StagingBuffer) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_MAX {
            idle.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_also_after_it_was_reused() {
        let pool = StagingPool::default();
        for _ in 0..3 {
            let mut buffer = pool.take();
            assert_eq!(buffer.aligned().as_ptr().align_offset(BLOCK_BYTES), 0);
            assert_eq!(buffer.aligned().len() % BLOCK_BYTES, 0);
            pool.put_back(buffer);
        }
    }
}
