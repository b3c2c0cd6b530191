//! Consumer groups as they are stored: one row a group, one row a member, committed offsets.
//!
//! The store keeps what the coordinator's state machine encodes without looking into it; beside it stands
//! only what others ask for (lists, expiry, lag). Every write names the coordinator epoch under which it
//! was decided, so that a coordinator which lost its group writes nothing any more (TRACES 24).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{StoreTime, TopicPartition};

/// Which protocol a group follows; decides who can read its payloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum GroupKind {
    /// JoinGroup and SyncGroup; also groups that only commit offsets.
    Classic,
    /// KIP-848.
    Consumer,
}

/// What lists, health and metrics say of a group. The names of states are Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum GroupState {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    /// KIP-848: an assignment is being computed.
    Assigning,
    /// KIP-848: members move towards their assignment.
    Reconciling,
    Stable,
}

/// What anyone may read of a group without understanding its payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSummary {
    pub kind: GroupKind,
    pub state: GroupState,
    /// Kafka's protocol type, such as "consumer"; empty for a group that only commits offsets.
    pub protocol_type: String,
    pub members: u32,
}

/// A group as loaded by the coordinator that has just taken it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredGroup {
    pub group: String,
    /// The epoch of the new coordinator: to be named in every write.
    pub coordinator_epoch: i64,
    pub summary: GroupSummary,
    /// What the state machine encoded of the group as a whole.
    pub payload: Bytes,
    /// Member id and what the state machine encoded, ascending by id.
    pub members: Vec<(String, Bytes)>,
    /// Since when it has had no members; `None` while it has some.
    pub empty_since: Option<StoreTime>,
}

/// A change of a group, applied whole or not at all. Creates the group when `coordinator_epoch` is `None`.
#[derive(Clone, Debug)]
pub struct GroupWrite {
    pub group: String,
    /// `None`: the group must not exist; it is created with coordinator epoch 1.
    pub coordinator_epoch: Option<i64>,
    pub summary: GroupSummary,
    pub payload: Bytes,
    /// Members that changed: `Some` stores, `None` removes.
    pub members: Vec<(String, Option<Bytes>)>,
}

/// One committed offset. An offset of which the topic was deleted is gone with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedOffset {
    pub offset: i64,
    /// -1 when the client knew none.
    pub leader_epoch: i32,
    pub metadata: String,
}

/// What became of one offset of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetOutcome {
    /// Stored. `previous` is what it replaced: the records in between were consumed.
    Stored { previous: Option<i64> },
    /// The partition does not exist (any more).
    UnknownPartition,
}

/// What is known of a group in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOffset {
    pub partition: TopicPartition,
    pub committed: Option<CommittedOffset>,
    /// A transaction that has not ended holds an offset here (KIP-447: unstable).
    pub pending: bool,
    /// When `committed` was stored; with it offsets expire.
    pub committed_at: StoreTime,
}

/// One line of a list of groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    pub group: String,
    pub summary: GroupSummary,
}

/// A group and how far behind it is, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSnapshot {
    pub group: ListedGroup,
    /// When any offset was last committed.
    pub last_commit: Option<StoreTime>,
    pub lags: Vec<GroupLag>,
}

/// A partition in which a group has a committed offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupLag {
    pub partition: TopicPartition,
    pub committed: i64,
    pub log_start_offset: i64,
    /// One past the last record that the partition ever had; what lies beyond are markers of transactions alone.
    pub records_end: i64,
    pub high_watermark: i64,
    /// When the oldest record that was not consumed and still exists was committed; `None` when there is none.
    pub oldest_unconsumed_at: Option<StoreTime>,
}
