//! The memory of responses that are encoded and not yet written: what clients asked for and do not take.
//!
//! Before it reads, a fetch is told how much it may ask for: at most half of what is free
//! ([`ResponseMemory::allowance`]), so that a few large answers leave room for the next ones. What it
//! read is then held ([`ResponseMemory::hold`]) until its last byte was given to the kernel or the
//! connection ended. Nobody ever waits: where the room is gone meanwhile, the fetch reads anew, no more
//! than [`FLOOR_BYTES`] or one batch, which goes beyond the budget. A connection has one fetch at a time,
//! so clients that do not read take no more memory than the budget and a floor or batch each.
//!
//! Not counted: the reads under way. They wait for stores, never for clients, so they come to an end
//! and are then counted or thrown away.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a fetch may return when nothing is free; a larger first batch is returned too.
pub const FLOOR_BYTES: usize = 64 << 10;

/// Shared by all connections.
#[derive(Clone, Debug)]
pub struct ResponseMemory {
    bytes: Arc<Semaphore>,
    limit: usize,
}

/// What one response holds. Dropping it gives everything back.
#[derive(Debug, Default)]
pub struct Held {
    _permit: Option<OwnedSemaphorePermit>,
}

impl ResponseMemory {
    pub fn new(limit_bytes: u64) -> Self {
        let limit = usize::try_from(limit_bytes)
            .unwrap_or(usize::MAX)
            .min(Semaphore::MAX_PERMITS);
        Self {
            bytes: Arc::new(Semaphore::new(limit)),
            limit,
        }
    }

    pub fn limit_bytes(&self) -> usize {
        self.limit
    }

    /// Bytes held at this moment; what goes beyond the budget is not included.
    pub fn held_bytes(&self) -> usize {
        self.limit - self.bytes.available_permits()
    }

    /// How many bytes somebody who wants `wanted` should ask for. Takes nothing.
    pub fn allowance(&self, wanted: usize) -> usize {
        wanted.min((self.bytes.available_permits() / 2).max(FLOOR_BYTES))
    }

    /// Takes `bytes`, or nothing where that much is not free.
    pub fn hold(&self, bytes: usize) -> Option<Held> {
        let wanted = u32::try_from(bytes).ok()?;
        let permit = Arc::clone(&self.bytes).try_acquire_many_owned(wanted).ok()?;
        Some(Held {
            _permit: Some(permit),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stuck_responses_leave_half_of_the_rest_to_the_next_and_never_less_than_the_floor() {
        let memory = ResponseMemory::new(1 << 20);
        let mut stuck = Vec::new();
        for expected in [512 << 10, 256 << 10, 128 << 10, FLOOR_BYTES, FLOOR_BYTES] {
            let allowed = memory.allowance(100 << 20);
            assert_eq!(allowed, expected);
            stuck.push(memory.hold(allowed).unwrap());
        }
        assert_eq!(memory.held_bytes(), memory.limit_bytes());
        assert_eq!(memory.allowance(100 << 20), FLOOR_BYTES);
        assert_eq!(memory.allowance(1), 1);
        assert!(memory.hold(1).is_none());
        assert!(memory.hold(0).is_some(), "an empty answer needs no room");
        stuck.clear();
        assert_eq!(memory.held_bytes(), 0);
    }
}
