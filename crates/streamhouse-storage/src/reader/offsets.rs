//! Offset queries (ListOffsets): always from the metadata store, and for a timestamp to the exact record
//! (TRACES 2, 14).

use streamhouse_metadata::ids::TopicPartition;
use streamhouse_metadata::model::segment::{LocatedSegment, TimestampQuery};

use super::segments::{LoadError, Loaded};
use super::{ReadError, Reader};
use crate::batch::{FoundRecord, RecordsError, find_max_timestamp, find_timestamp};

/// Segments that one query looks into: one that was compacted away is looked up again, one that reaches
/// below the log start is followed by its neighbour.
const TRIES_MAX: usize = 3;

/// What is asked of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetQuery {
    /// The log start offset.
    Earliest,
    /// The high watermark; for who reads committed records only, the last stable offset.
    Latest,
    /// The first record whose timestamp (milliseconds) is at least this.
    Timestamp(i64),
    /// The first record that carries the partition's largest timestamp.
    MaxTimestamp,
}

/// The answer; `offset` and `timestamp` are −1 where no record fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundOffset {
    pub offset: i64,
    pub timestamp: i64,
    pub leader_epoch: i32,
}

impl Reader {
    #[tracing::instrument(level = "debug", skip_all, fields(partition = partition.partition))]
    pub async fn list_offset(
        &self,
        partition: TopicPartition,
        query: OffsetQuery,
        read_committed: bool,
    ) -> Result<FoundOffset, ReadError> {
        let found = self.find_offset(partition, query, read_committed).await;
        found.inspect_err(|error| self.count_damage(error))
    }

    async fn find_offset(
        &self,
        partition: TopicPartition,
        query: OffsetQuery,
        read_committed: bool,
    ) -> Result<FoundOffset, ReadError> {
        let snapshot = self.snapshot(partition).await?;
        let leader_epoch = snapshot.leader_epoch;
        let plain = |offset| {
            Ok(FoundOffset {
                offset,
                timestamp: -1,
                leader_epoch,
            })
        };
        let log_start = snapshot.log_start_offset;
        let mut query = match query {
            OffsetQuery::Earliest => return plain(log_start),
            OffsetQuery::Latest if read_committed => return plain(snapshot.last_stable_offset),
            OffsetQuery::Latest => return plain(snapshot.high_watermark),
            OffsetQuery::Timestamp(timestamp) => TimestampQuery::AtLeast(timestamp),
            OffsetQuery::MaxTimestamp => TimestampQuery::Max,
        };
        let mut gone = None;
        for _ in 0..TRIES_MAX {
            let Some(located) = self.metadata.search_timestamp(partition, query).await?? else {
                return plain(-1);
            };
            if gone == Some(located.object.id) {
                return Err(self.segments.missing(located.object).await);
            }
            match self.segments.get(&located).await {
                Ok((loaded, _)) => {
                    let searching = move || search(&loaded, &located, query, log_start);
                    let found = tokio::task::spawn_blocking(searching)
                        .await
                        .map_err(|_| ReadError::Busy)?;
                    if let (
                        Ok(None),
                        TimestampQuery::AtLeast(timestamp) | TimestampQuery::AtLeastFrom { timestamp, .. },
                    ) = (&found, query)
                    {
                        let offset = located.segment.last_offset + 1;
                        query = TimestampQuery::AtLeastFrom { timestamp, offset };
                        continue;
                    }
                    return found
                        .map_err(|_| ReadError::Damaged {
                            partition,
                            offset: located.segment.base_offset,
                        })
                        .map(|found| match found {
                            // What is not stable yet is as if it were not there, as in Kafka.
                            Some((offset, timestamp))
                                if !read_committed || offset < snapshot.last_stable_offset =>
                            {
                                FoundOffset {
                                    offset,
                                    timestamp,
                                    leader_epoch,
                                }
                            }
                            _ => FoundOffset {
                                offset: -1,
                                timestamp: -1,
                                leader_epoch,
                            },
                        });
                }
                Err(LoadError::Read(error)) => return Err(error),
                Err(LoadError::Gone(object)) => gone = Some(object.id),
            }
        }
        Err(ReadError::Moving)
    }

    pub(super) async fn snapshot(
        &self,
        partition: TopicPartition,
    ) -> Result<streamhouse_metadata::model::partition::PartitionSnapshot, ReadError> {
        let mut snapshots = self.metadata.snapshots(&[partition]).await?;
        Ok(snapshots.pop().ok_or(ReadError::UnknownPartition)??)
    }
}

/// Offset and timestamp of the record in a segment that the metadata names.
fn search(
    loaded: &Loaded,
    located: &LocatedSegment,
    query: TimestampQuery,
    log_start: i64,
) -> Result<Option<(i64, i64)>, RecordsError> {
    let base_offset = located.segment.base_offset;
    let least = match query {
        TimestampQuery::AtLeast(timestamp) | TimestampQuery::AtLeastFrom { timestamp, .. } => timestamp,
        TimestampQuery::Max => located.segment.max_timestamp,
    };
    for (base, header, position) in loaded.walk(base_offset, log_start.max(base_offset)) {
        if header.max_timestamp < least {
            continue;
        }
        let batch = loaded.slice(position, header.length_bytes);
        let from_delta = i32::try_from(log_start - base).unwrap_or(0);
        let found: Option<FoundRecord> = match query {
            TimestampQuery::AtLeast(timestamp) | TimestampQuery::AtLeastFrom { timestamp, .. } => {
                find_timestamp(&batch, timestamp, from_delta)?
            }
            TimestampQuery::Max => find_max_timestamp(&batch, &header, from_delta)?,
        };
        if let Some(found) = found {
            return Ok(Some((base + i64::from(found.offset_delta), found.timestamp)));
        }
    }
    Ok(None)
}
