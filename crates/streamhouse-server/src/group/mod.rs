//! Consumer groups: who is a member, what each consumes, how far each group has come.
//!
//! `classic` and `consumer` hold a machine for each of the two protocols (pure) and the form in which its groups
//! are stored, `any` a group of either, `migration` the way from one to the other. `coordinator` keeps one machine
//! a group, drives its timers and stores what it decided (`step`, `form`) before anybody is answered. Here are the
//! words they share with the handlers. Not here: the Kafka protocol, but for what members of classic groups embed
//! in it (`embedded`).

pub mod any;
pub mod classic;
pub mod consumer;
pub mod coordinator;
pub mod embedded;
mod expiry;
mod form;
pub mod migration;
pub mod step;

#[cfg(test)]
mod migration_tests;
#[cfg(test)]
mod migration_world;

use streamhouse_metadata::store::StoreError;

pub type MemberId = String;

/// How offsets are committed, as far as that decides who may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committing {
    /// By OffsetCommit; `knows_epochs`: in a version that does.
    Plain { knows_epochs: bool },
    /// By TxnOffsetCommit.
    InTransaction,
}

/// Why a request about a group is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GroupFault {
    #[error("the member is not known to the group")]
    UnknownMember,
    #[error("the generation is not the group's")]
    IllegalGeneration,
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    #[error("another member has this instance id now")]
    FencedInstance,
    #[error("the member's epoch is not the one it was given")]
    FencedEpoch,
    #[error("the member has got another epoch meanwhile")]
    StaleEpoch,
    #[error("members of the newer protocol commit in a version that knows their epochs")]
    NoEpochs,
    #[error("another member has this instance id and has not left")]
    UnreleasedInstance,
    #[error("there is no assignor {0}")]
    UnknownAssignor(String),
    #[error("the pattern cannot be used: {0}")]
    InvalidPattern(String),
    #[error("{0}")]
    Malformed(&'static str),
    #[error("the group follows another protocol")]
    OtherProtocol,
    #[error("the member shares no protocol with the group")]
    InconsistentProtocol,
    #[error("join again with the member id {0}")]
    MemberIdRequired(MemberId),
    #[error("the group has as many members as it may")]
    Full,
    #[error("session timeout {0} ms is outside the server's bounds")]
    SessionTimeout(i32),
    #[error("an empty group id is no group's")]
    GroupId,
    #[error("there is no such group")]
    UnknownGroup,
    #[error("the group is not empty")]
    NotEmpty,
    #[error("the group consumes the topic")]
    Subscribed,
    #[error("the limit of {0} groups is reached")]
    TooManyGroups(u32),
    /// Ask for the coordinator again: what was in memory here is gone.
    #[error("this is not the group's coordinator any more")]
    NotCoordinator,
    #[error("metadata store: {0}")]
    Store(String),
    #[error("metadata store did not answer: {0}")]
    StoreUnknown(String),
}

impl From<StoreError> for GroupFault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(why) | StoreError::Full(why) | StoreError::Damaged(why) => {
                Self::Store(why)
            }
            StoreError::Unknown(why) => Self::StoreUnknown(why),
        }
    }
}
