//! Groups of the classic protocol: members join, one of them assigns the partitions, all sync.
//!
//! `state` is the machine of a whole group (pure), with `join` and `rebalance` for the two halves of a rebalance;
//! `stored` is the form in which the group lies in the metadata store. Here are the words they share. Not here:
//! timers, the store, the protocol.

mod join;
mod rebalance;
mod state;
pub(super) mod stored;

#[cfg(test)]
pub(super) mod coordinator_tests;
#[cfg(test)]
mod tests;

use bytes::Bytes;

use super::MemberId;
use super::step::{Millis, Ticket};

pub use state::Group;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

/// What a member said of itself when it joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: u64,
    pub rebalance_timeout_ms: u64,
    /// Name and metadata, the preferred first.
    pub protocols: Vec<(String, Bytes)>,
}

#[derive(Clone, Debug)]
pub struct Member {
    pub profile: Profile,
    pub assignment: Bytes,
    pub(super) session_deadline: Millis,
    pub(super) joining: Option<Ticket>,
    pub(super) syncing: Option<Ticket>,
    /// It was told of the generation and has not asked what it has there.
    pub(super) owes_sync: bool,
}

impl Member {
    /// As it was stored. Who had synced is not, so nobody owes it: as in Kafka, the session alone judges whoever
    /// did not come for its assignment before the coordinator went away.
    pub fn restored(profile: Profile, assignment: Bytes, now: Millis) -> Self {
        Self {
            session_deadline: now + profile.session_timeout_ms,
            profile,
            assignment,
            joining: None,
            syncing: None,
            owes_sync: false,
        }
    }
}

/// A JoinGroup request, checked against the server's limits.
#[derive(Clone, Debug)]
pub struct Join {
    /// Empty for a member that has no id yet.
    pub member: MemberId,
    /// The id that a new member gets.
    pub new_member: MemberId,
    pub protocol_type: String,
    pub profile: Profile,
    /// KIP-394: the client is told its id first (v4 and later, not for static members).
    pub needs_known_member: bool,
    /// KIP-814: a static leader may be told to keep its assignment.
    pub may_skip_assignment: bool,
}

/// Bounds that the operator sets.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub initial_delay_ms: u64,
    pub members_max: usize,
}
