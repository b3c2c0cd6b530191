//! What a step of a group's machine leads to, and the answers of the classic protocol that it may carry.

use bytes::Bytes;

use super::{GroupFault, MemberId};

/// Names a request that waits for its answer.
pub type Ticket = u64;
/// Milliseconds on the coordinator's clock.
pub type Millis = u64;

/// An answer to a waiting request.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Join(Result<JoinReply, (GroupFault, MemberId)>),
    Sync(Result<SyncReply, GroupFault>),
}

/// What a member that joined is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinReply {
    pub generation: i32,
    pub protocol_type: String,
    pub protocol: String,
    pub leader: MemberId,
    pub member: MemberId,
    pub skip_assignment: bool,
    /// Id, instance and metadata of all members; for the leader only.
    pub members: Vec<(MemberId, Option<String>, Bytes)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncReply {
    pub protocol_type: String,
    pub protocol: String,
    pub assignment: Bytes,
}

/// A member that is out of its group because it was not heard of in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lapsed {
    pub member: MemberId,
    pub client_id: String,
    pub client_host: String,
}

/// What a step leads to.
#[derive(Debug, Default)]
pub struct Step {
    pub answers: Vec<(Ticket, Answer)>,
    /// The group has to be stored before anything is answered.
    pub store: bool,
    /// A generation was completed.
    pub rebalanced: bool,
    /// For the log: nobody else says why a partition is not read any more.
    pub lapsed: Vec<Lapsed>,
}

impl Step {
    pub(super) fn and(mut self, then: Self) -> Self {
        self.answers.extend(then.answers);
        self.store |= then.store;
        self.rebalanced |= then.rebalanced;
        self.lapsed.extend(then.lapsed);
        self
    }

    pub(super) fn join(&mut self, ticket: Ticket, answer: Result<JoinReply, (GroupFault, MemberId)>) {
        self.answers.push((ticket, Answer::Join(answer)));
    }

    pub(super) fn sync(&mut self, ticket: Ticket, answer: Result<SyncReply, GroupFault>) {
        self.answers.push((ticket, Answer::Sync(answer)));
    }
}
