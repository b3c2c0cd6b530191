//! The bytes that producers may have handed us and that are not stored yet.
//!
//! A frame takes its permit in pieces as its bytes arrive, so announcing 50 MiB costs nobody anything.
//! When the budget is used up, the producers' connections stop being read: they feel the slow store
//! through TCP. One *overdraft* lets exactly one half-read frame finish beyond the budget, because half
//! frames that all wait for each other would wait for ever. It is returned with the frame, so memory is
//! bounded by the budget and one frame.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Shared by all connections.
#[derive(Clone, Debug)]
pub struct Budget {
    bytes: Arc<Semaphore>,
    overdraft: Arc<Semaphore>,
    limit: usize,
}

/// What one frame holds. Dropping it gives everything back.
#[derive(Debug, Default)]
pub struct Charge {
    permit: Option<OwnedSemaphorePermit>,
    overdraft: Option<OwnedSemaphorePermit>,
    charged: usize,
}

impl Budget {
    pub fn new(limit_bytes: u64) -> Self {
        let limit = usize::try_from(limit_bytes)
            .unwrap_or(usize::MAX)
            .min(Semaphore::MAX_PERMITS);
        Self {
            bytes: Arc::new(Semaphore::new(limit)),
            overdraft: Arc::new(Semaphore::new(1)),
            limit,
        }
    }

    pub fn limit_bytes(&self) -> usize {
        self.limit
    }

    /// Bytes held at this moment, the overdraft not included.
    pub fn used_bytes(&self) -> usize {
        self.limit - self.bytes.available_permits()
    }

    /// `bytes` at once, if there is room for them.
    pub fn try_charge(&self, bytes: usize) -> Option<Charge> {
        let wanted = u32::try_from(bytes).ok()?;
        let permit = Arc::clone(&self.bytes).try_acquire_many_owned(wanted).ok()?;
        Some(Charge {
            permit: Some(permit),
            overdraft: None,
            charged: bytes,
        })
    }

    /// Adds `more` bytes to what `charge` holds, waiting until there is room. True when it had to wait.
    ///
    /// A charge that holds nothing yet waits for the budget alone; one that holds a part may also be
    /// given the overdraft.
    pub async fn charge(&self, charge: &mut Charge, more: usize) -> bool {
        if more == 0 || charge.overdraft.is_some() {
            charge.charged += more;
            return false;
        }
        // More than the whole budget can only be had by overdraft.
        let wanted = u32::try_from(more.min(self.limit)).unwrap_or(u32::MAX);
        let mut waited = false;
        let permit = match Arc::clone(&self.bytes).try_acquire_many_owned(wanted) {
            Ok(permit) => Some(permit),
            Err(_) => {
                waited = true;
                let bytes = Arc::clone(&self.bytes).acquire_many_owned(wanted);
                if charge.charged == 0 {
                    bytes.await.ok()
                } else {
                    tokio::select! {
                        biased;
                        permit = bytes => permit.ok(),
                        overdraft = Arc::clone(&self.overdraft).acquire_owned() => {
                            charge.overdraft = overdraft.ok();
                            None
                        }
                    }
                }
            }
        };
        if let Some(permit) = permit {
            match &mut charge.permit {
                Some(held) => held.merge(permit),
                none => *none = Some(permit),
            }
        }
        charge.charged += more;
        waited
    }
}

impl Charge {
    /// Bytes this frame was charged with, overdraft included.
    pub fn bytes(&self) -> usize {
        self.charged
    }

    /// Gives back all but `keep` bytes: a request turned out smaller than feared. The overdraft goes back with them
    /// where what is kept fits the budget.
    pub fn shrink(&mut self, keep: usize) {
        if let Some(permit) = &mut self.permit {
            let held = permit.num_permits();
            if held >= keep {
                drop(permit.split(held - keep));
                self.overdraft = None;
            } else if self.overdraft.is_some() {
                let budget = Arc::clone(permit.semaphore());
                let missing = u32::try_from(keep - held).unwrap_or(u32::MAX);
                if let Ok(more) = budget.try_acquire_many_owned(missing) {
                    permit.merge(more);
                    self.overdraft = None;
                }
            }
        }
        if keep < self.charged {
            self.charged = keep;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn half_read_frames_cannot_wait_for_each_other_for_ever() {
        let budget = Budget::new(100);
        let (mut a, mut b) = (Charge::default(), Charge::default());
        budget.charge(&mut a, 50).await;
        budget.charge(&mut b, 50).await;
        // a takes the overdraft and finishes; b goes on once a is stored.
        assert!(budget.charge(&mut a, 50).await);
        assert_eq!(a.bytes(), 100);
        let second = {
            let budget = budget.clone();
            tokio::spawn(async move {
                budget.charge(&mut b, 50).await;
                b
            })
        };
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!second.is_finished());
        drop(a);
        let b = second.await.unwrap();
        assert_eq!(b.bytes(), 100);
        drop(b);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_frame_never_takes_the_overdraft() {
        let budget = Budget::new(100);
        let mut full = Charge::default();
        budget.charge(&mut full, 100).await;
        let mut new = Charge::default();
        let waiting = tokio::time::timeout(Duration::from_secs(60), budget.charge(&mut new, 1));
        assert!(waiting.await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn the_overdraft_is_free_again_once_what_is_kept_fits_the_budget() {
        let budget = Budget::new(100);
        let (mut kept, mut full) = (Charge::default(), Charge::default());
        budget.charge(&mut kept, 20).await;
        budget.charge(&mut full, 80).await;
        budget.charge(&mut kept, 500).await;
        kept.shrink(30);
        let overdraft = || budget.overdraft.available_permits();
        assert_eq!(overdraft(), 0, "ten bytes are beyond the budget");
        full.shrink(75);
        kept.shrink(26);
        assert_eq!(overdraft(), 0, "there is room for five");
        kept.shrink(25);
        assert_eq!((overdraft(), budget.used_bytes()), (1, 100));
        drop(kept);
        assert_eq!(budget.used_bytes(), 75);
    }

    #[tokio::test]
    async fn what_a_charge_gives_back_is_free_again() {
        let budget = Budget::new(100);
        let mut charge = Charge::default();
        budget.charge(&mut charge, 80).await;
        charge.shrink(10);
        assert_eq!(budget.used_bytes(), 10);
        drop(charge);
        assert_eq!(budget.used_bytes(), 0);
    }
}
