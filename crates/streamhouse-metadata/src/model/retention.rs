//! What retention and DeleteRecords ask and answer.

use crate::ids::{StoreTime, TopicPartition};

/// Up to where records of a partition are to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteUpTo {
    /// Everything below this offset.
    Offset(i64),
    /// Everything below the high watermark of that moment.
    HighWatermark,
}

/// What one round of retention did and when it is due again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionRound {
    /// Partitions whose log begins later now, and where.
    pub raised: Vec<(TopicPartition, i64)>,
    /// When the next segment becomes too old; `None` while no commit comes.
    pub due: Option<StoreTime>,
    /// A bound ended the round: ask again for the same partitions.
    pub more: bool,
}
