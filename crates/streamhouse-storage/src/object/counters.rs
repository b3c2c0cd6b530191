//! The counters of an incarnation's object keys: one source for all that write objects under it, and
//! the record of which of them are still undecided.

use std::collections::BTreeSet;

use parking_lot::Mutex;

/// Gives each object of an incarnation a number of its own, from 1 up. A number is undecided until its
/// object is committed, or given up and its key deleted.
#[derive(Debug, Default)]
pub struct Counters(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    given: u64,
    undecided: BTreeSet<u64>,
}

impl Counters {
    pub fn next(&self) -> u64 {
        let mut state = self.0.lock();
        state.given += 1;
        let counter = state.given;
        state.undecided.insert(counter);
        counter
    }

    pub fn decided(&self, counter: u64) {
        self.0.lock().undecided.remove(&counter);
    }

    /// Every counter below it is decided: where a listing for orphans may start.
    #[must_use]
    pub fn lowest_undecided(&self) -> u64 {
        let state = self.0.lock();
        state.undecided.first().copied().unwrap_or(state.given + 1)
    }
}
