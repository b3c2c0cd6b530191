//! Where counts live: every worker thread writes words of its own, and a scrape adds them up.
//!
//! A word that one thread alone writes needs no locked instruction, and its cache line stays with that
//! thread's core. Invariant: the words of a lane are written by the one thread that holds the lane; those of
//! lane 0 by all other threads, atomically. So nothing is lost whoever counts, and claiming a lane is only a
//! matter of speed. Words come from blocks that many series share; a series that is gone gives its words back.
//!
//! The lanes are the one global of this crate beside the log: what belongs to a thread cannot be handed over.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

/// The lane of all threads without one of their own.
const SHARED: usize = 0;
/// Threads beyond the workers that may have a lane: a runtime's blocking threads start beside them.
const SPARE_LANES: usize = 2;
/// Beyond it threads share: a word a lane is kept for every series.
const LANES_MAX: usize = 64;

/// Words of one lane in a block, and the distance to the next lane's: a cache line lies between them.
const LANE_WORDS: usize = 504;
const LANE_STRIDE: usize = LANE_WORDS + 8;

thread_local! {
    static LANE: Cell<usize> = const { Cell::new(SHARED) };
    static CLAIM: RefCell<Option<Claim>> = const { RefCell::new(None) };
}

/// Which lanes have a thread.
static CLAIMED: Mutex<Vec<bool>> = Mutex::new(Vec::new());

fn lanes() -> usize {
    static LANES: OnceLock<usize> = OnceLock::new();
    *LANES.get_or_init(|| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (1 + cores + SPARE_LANES).min(LANES_MAX)
    })
}

/// A lane held until its thread ends.
struct Claim(usize);

impl Drop for Claim {
    fn drop(&mut self) {
        LANE.set(SHARED);
        CLAIMED.lock()[self.0] = false;
    }
}

/// Gives this thread a lane of its own until it ends; false when there is none left, and the thread counts in
/// the shared one. For threads that count all the time: called when a runtime starts its workers.
pub fn claim_lane() -> bool {
    if LANE.get() != SHARED {
        return true;
    }
    let mut claimed = CLAIMED.lock();
    claimed.resize(lanes(), false);
    let free = (SHARED + 1..claimed.len()).find(|lane| !claimed[*lane]);
    let Some(lane) = free else { return false };
    claimed[lane] = true;
    drop(claimed);
    CLAIM.set(Some(Claim(lane)));
    LANE.set(lane);
    true
}

/// One block: the same words in every lane.
type Block = Arc<[AtomicU64]>;

/// Gives out words. One a registry.
#[derive(Debug, Default)]
pub struct Pool(Mutex<Free>);

#[derive(Debug, Default)]
struct Free {
    /// The newest block and its first word that nobody has.
    newest: Option<(Block, usize)>,
    /// Words given back, zero in every lane, by how many lie together.
    returned: BTreeMap<usize, Vec<(Block, usize)>>,
}

impl Pool {
    /// `len` words that are zero.
    pub(super) fn take(self: &Arc<Self>, len: usize) -> Words {
        debug_assert!((1..=LANE_WORDS).contains(&len));
        let mut free = self.0.lock();
        let returned = free.returned.get_mut(&len).and_then(Vec::pop);
        let (block, first) = returned.unwrap_or_else(|| match &mut free.newest {
            Some((block, next)) if *next + len <= LANE_WORDS => {
                let first = *next;
                *next += len;
                (block.clone(), first)
            }
            newest => {
                let block: Block = (0..lanes() * LANE_STRIDE).map(|_| AtomicU64::new(0)).collect();
                *newest = Some((block.clone(), len));
                (block, 0)
            }
        });
        Words {
            block,
            first,
            len,
            pool: self.clone(),
        }
    }
}

/// Some numbers that only grow, each with a word in every lane.
#[derive(Debug)]
pub(super) struct Words {
    block: Block,
    first: usize,
    len: usize,
    pool: Arc<Pool>,
}

impl Words {
    #[inline]
    pub(super) fn add(&self, at: usize, n: u64) {
        debug_assert!(at < self.len);
        if super::UNCOUNTED {
            return;
        }
        let lane = LANE.get();
        let word = &self.block[lane * LANE_STRIDE + self.first + at];
        if lane == SHARED {
            word.fetch_add(n, Relaxed);
        } else {
            word.store(word.load(Relaxed).wrapping_add(n), Relaxed);
        }
    }

    pub(super) fn sum(&self, at: usize) -> u64 {
        self.words(at)
            .map(|word| word.load(Relaxed))
            .fold(0, u64::wrapping_add)
    }

    /// One number's word in every lane.
    fn words(&self, at: usize) -> impl Iterator<Item = &AtomicU64> {
        self.block[self.first + at..].iter().step_by(LANE_STRIDE)
    }
}

impl Drop for Words {
    /// Nobody can count here any more: whoever could has dropped its handle before.
    fn drop(&mut self) {
        for at in 0..self.len {
            self.words(at).for_each(|word| word.store(0, Relaxed));
        }
        let mut free = self.pool.0.lock();
        let returned = free.returned.entry(self.len).or_default();
        returned.push((self.block.clone(), self.first));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_between_threads_with_and_without_a_lane() {
        let pool = Arc::new(Pool::default());
        let words = Arc::new(pool.take(2));
        std::thread::scope(|scope| {
            for thread in 0..lanes() + 3 {
                let words = &words;
                scope.spawn(move || {
                    if thread % 2 == 0 {
                        claim_lane();
                    }
                    for _ in 0..10_000 {
                        words.add(0, 1);
                        words.add(1, 3);
                    }
                });
            }
        });
        let threads = (lanes() + 3) as u64;
        assert_eq!((words.sum(0), words.sum(1)), (threads * 10_000, threads * 30_000));
    }

    #[test]
    fn a_lane_comes_back_when_its_thread_has_ended() {
        for _ in 0..4 * LANES_MAX {
            // Other tests hold lanes at the same time, but not all of them for long.
            let claim = || std::thread::spawn(claim_lane).join().unwrap();
            assert!((0..1_000).any(|_| claim()));
        }
    }

    #[test]
    fn words_given_back_are_given_out_again_as_zero() {
        let pool = Arc::new(Pool::default());
        let first = pool.take(3);
        let kept = pool.take(3);
        kept.add(0, 7);
        first.add(2, 5);
        let place = first.first;
        drop(first);
        let again = pool.take(3);
        assert_eq!(again.first, place);
        assert_eq!((0..3).map(|at| again.sum(at)).sum::<u64>(), 0);
        assert_eq!(kept.sum(0), 7);
    }

    #[test]
    fn more_words_than_a_block_holds_lie_in_several() {
        let pool = Arc::new(Pool::default());
        let taken: Vec<Words> = (0..LANE_WORDS).map(|_| pool.take(2)).collect();
        for (n, words) in taken.iter().enumerate() {
            words.add(1, n as u64);
        }
        for (n, words) in taken.iter().enumerate() {
            assert_eq!((words.sum(0), words.sum(1)), (0, n as u64));
        }
    }
}
