//! The cluster gauges of an embedded store: this agent is the only one, so it may speak for the system.
//!
//! One snapshot of topics and one of groups a scrape interval, never a question per partition or group; where the
//! coordinator's memory is newer than what is stored, it is asked without waiting. A store that does not answer
//! makes the gauges absent. Not here: how gauges look (`streamhouse-observability`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use streamhouse_metadata::ids::{StoreTime, TopicId};
use streamhouse_metadata::model::group::{self, GroupSnapshot, GroupState};
use streamhouse_metadata::model::transaction::Transaction;
use streamhouse_metadata::store::{MetadataStore, StoreError};
use streamhouse_observability::families::{ClusterSource, ClusterView, GroupLag, GroupView, StoredBytes};
use streamhouse_observability::{Metrics, logging};

use crate::group::coordinator::{Groups, Seen};

pub struct Snapshot {
    pub metadata: Arc<dyn MetadataStore>,
    pub metrics: Arc<Metrics>,
    /// Whose memory is newer than what is stored.
    pub groups: Arc<Groups>,
}

#[async_trait]
impl ClusterSource for Snapshot {
    async fn cluster_view(&self) -> Option<ClusterView> {
        match self.take().await {
            Ok(view) => Some(view),
            Err(error) => {
                let error_type = error.error_type();
                if let Some(suppressed) = logging::admit("cluster view", error_type, "") {
                    tracing::warn!(error_type, %error, suppressed, "no snapshot for the cluster gauges");
                }
                None
            }
        }
    }
}

impl Snapshot {
    async fn take(&self) -> Result<ClusterView, StoreError> {
        let seen = self.metrics.topic_names();
        let topics = self.metadata.topics().await?;
        let names: HashSet<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
        self.metrics
            .retain_topics(&|topic| names.contains(topic) || !seen.contains(topic));

        let seen = self.metrics.consumers.names();
        let groups = self.metadata.group_snapshots().await?;
        let listed: HashSet<&str> = groups.iter().map(|group| group.group.group.as_str()).collect();
        self.metrics
            .retain_groups(&|group| listed.contains(group) || !seen.contains(group));
        let now = self.metadata.now().await?;
        let names: HashMap<TopicId, &str> = topics.iter().map(|t| (t.id, t.name.as_str())).collect();
        let open_transactions = oldest_open(&self.metadata.transactions().await?, &names, now);
        let usage = self.metadata.storage_usage().await?;
        // By the rule that tells the task when to come again; those whose PUTs may still land wait for it as well.
        let unswept = self
            .metadata
            .tombstones(StoreTime(now.0.saturating_add(1)))
            .await?;
        let seen = self.groups.seen();
        let groups = groups.into_iter().map(|group| {
            let seen = seen.get(&group.group.group).copied();
            view(group, seen, &names, now)
        });
        Ok(ClusterView {
            groups: groups.collect(),
            agents: 1,
            stored_bytes: Some(StoredBytes {
                live: usage.live.bytes,
                inline: usage.inline.bytes,
                orphan: u64::try_from(self.metrics.orphan_bytes.value()).unwrap_or(0),
                deleting: usage.deleting.bytes,
            }),
            backlogs: vec![
                ("settle", usage.unsettled_segments),
                ("compaction", usage.inline.objects),
                ("purge", usage.deleted_topics),
                ("trim", usage.untrimmed_partitions),
                ("deleting", usage.deleting.objects),
                ("orphans", unswept.len() as u64),
            ],
            open_transactions,
            topics: topics
                .iter()
                .map(|topic| (topic.name.clone(), topic.partitions.unsigned_abs()))
                .collect(),
        })
    }
}

/// By topic, the age of the oldest transaction that wrote there and is open, in seconds.
fn oldest_open(
    transactions: &[Transaction],
    names: &HashMap<TopicId, &str>,
    now: StoreTime,
) -> Vec<(String, f64)> {
    let mut oldest: BTreeMap<&str, i64> = BTreeMap::new();
    for transaction in transactions {
        let Some(since) = transaction.started_at else {
            continue;
        };
        let written = transaction.partitions.iter().filter(|(_, first)| first.is_some());
        for name in written.filter_map(|(partition, _)| names.get(&partition.topic)) {
            let age = oldest.entry(name).or_default();
            *age = (*age).max(now.0.saturating_sub(since.0));
        }
    }
    let oldest = oldest.into_iter();
    oldest
        .map(|(topic, age)| (topic.to_owned(), age as f64 / 1_000.0))
        .collect()
}

fn view(
    snapshot: GroupSnapshot,
    seen: Option<Seen>,
    names: &HashMap<TopicId, &str>,
    now: StoreTime,
) -> GroupView {
    let lags = snapshot.lags.iter().filter_map(|lag| {
        // A topic that was created after the topics were read has no name here yet.
        let topic = names.get(&lag.partition.topic)?;
        Some(show(lag, topic, now))
    });
    let stored = &snapshot.group.summary;
    let seen = seen.unwrap_or(Seen {
        state: stored.state,
        members: stored.members,
    });
    GroupView {
        lags: lags.collect(),
        group: snapshot.group.group,
        state: state_name(seen.state),
        members: seen.members,
        last_commit_seconds: snapshot.last_commit.map(|at| at.0 as f64 / 1_000.0),
    }
}

fn show(lag: &group::GroupLag, topic: &str, now: StoreTime) -> GroupLag {
    let age = lag
        .oldest_unconsumed_at
        .map_or(0, |at| now.0.saturating_sub(at.0).max(0));
    GroupLag {
        topic: topic.to_owned(),
        partition: lag.partition.partition,
        records: lag
            .high_watermark
            .saturating_sub(lag.committed)
            .max(0)
            .unsigned_abs(),
        seconds: age as f64 / 1_000.0,
        // Of markers behind the last record nothing is lost.
        expired: lag
            .log_start_offset
            .min(lag.records_end)
            .saturating_sub(lag.committed)
            .max(0)
            .unsigned_abs(),
    }
}

/// Kafka's name of a state, as groups are listed and shown.
#[must_use]
pub fn state_name(state: GroupState) -> &'static str {
    match state {
        GroupState::Empty => "Empty",
        GroupState::PreparingRebalance => "PreparingRebalance",
        GroupState::CompletingRebalance => "CompletingRebalance",
        GroupState::Assigning => "Assigning",
        GroupState::Reconciling => "Reconciling",
        GroupState::Stable => "Stable",
    }
}

#[cfg(test)]
mod tests {
    use streamhouse_metadata::ids::TopicPartition;
    use uuid::Uuid;

    use super::*;

    /// Lag in records and seconds, and expired records, where the last record is 11 and 12 is a marker.
    fn shown(log_start_offset: i64, committed: i64, oldest: Option<i64>) -> (u64, f64, u64) {
        let lag = group::GroupLag {
            partition: TopicPartition {
                topic: TopicId(Uuid::nil()),
                partition: 0,
            },
            committed,
            log_start_offset,
            records_end: 12,
            high_watermark: 13,
            oldest_unconsumed_at: oldest.map(StoreTime),
        };
        let shown = show(&lag, "t", StoreTime(9_000));
        (shown.records, shown.seconds, shown.expired)
    }

    #[test]
    fn records_that_are_gone_have_expired_and_markers_behind_the_last_have_not() {
        assert_eq!(shown(0, 10, Some(7_000)), (3, 2.0, 0));
        assert_eq!(shown(11, 10, Some(8_000)), (3, 1.0, 1));
        for log_start in [12, 13] {
            assert_eq!(shown(log_start, 10, None), (3, 0.0, 2), "{log_start}");
            // Kafka's tools count the marker as well.
            assert_eq!(shown(log_start, 12, None), (1, 0.0, 0), "{log_start}");
            assert_eq!(shown(log_start, 13, None), (0, 0.0, 0), "{log_start}");
        }
    }
}
