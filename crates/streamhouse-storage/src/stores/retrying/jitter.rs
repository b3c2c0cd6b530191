//! Randomness for pauses, so that agents which failed together do not come back together.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use uuid::Uuid;

/// A stream of pauses between half and the whole of what is asked. The same seed gives the same
/// stream; nothing secret depends on it.
#[derive(Debug)]
pub struct Jitter(AtomicU64);

impl Jitter {
    pub fn seeded(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    pub fn from_entropy() -> Self {
        Self::seeded(Uuid::new_v4().as_u64_pair().1)
    }

    /// Between half of `pause` and all of it.
    pub(super) fn spread(&self, pause: Duration) -> Duration {
        // A Weyl sequence run through a mixing function (SplitMix64): one atomic add, no lock.
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let fraction = (mixed >> 11) as f64 / (1u64 << 53) as f64;
        pause.mul_f64(0.5 + fraction / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_spread_over_the_upper_half_and_repeat_with_their_seed() {
        let (one, two) = (Jitter::seeded(7), Jitter::seeded(7));
        let whole = Duration::from_secs(1);
        let mut low = 0;
        for _ in 0..1_000 {
            let pause = one.spread(whole);
            assert_eq!(pause, two.spread(whole));
            assert!(pause >= whole / 2 && pause <= whole);
            low += usize::from(pause < whole.mul_f64(0.75));
        }
        assert!((400..600).contains(&low), "{low} of 1000 in the lower quarter");
    }
}
