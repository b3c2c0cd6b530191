//! One file per Kafka API: requests in, answers out. Handlers translate; they hold no state.
//!
//! This file says which APIs and versions are served and finds the handler. Produce alone has another
//! way in, because it is admitted in order and answered later: see [`produce`] and the connection.
//!
//! All handlers follow Apache Kafka 4.3 where its protocol leaves room; each file names its deviations.

pub mod alter_partition_reassignments;
pub mod api_versions;
pub mod configs;
pub mod consumer_group_describe;
pub mod consumer_group_heartbeat;
pub mod context;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_topic_partitions;
pub mod describe_user_scram_credentials;
pub mod elect_leaders;
pub mod error_code;
pub mod fetch;
pub mod find_coordinator;
pub mod get_telemetry_subscriptions;
pub mod heartbeat;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_config_resources;
pub mod list_groups;
pub mod list_offsets;
pub mod list_partition_reassignments;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod once;
pub mod produce;
pub mod push_telemetry;
pub mod quotas;
pub mod request_log;
pub mod response;
pub mod sync_group;
pub mod topics;
pub mod transactions;

use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, FetchRequest};
use streamhouse_observability::families::ApiOutcome;

use crate::listener::budget::{Budget, Charge};
use crate::listener::guard::{self, RequestError};
use context::RequestContext;
use response::{EncodeError, Response};

/// One API we serve.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    pub api: ApiKey,
    pub min: i16,
    pub max: i16,
    /// The lowest version we claim to know.
    pub advertised_min: i16,
}

const fn served(api: ApiKey, min: i16, max: i16) -> Served {
    Served {
        api,
        min,
        max,
        advertised_min: min,
    }
}

/// Everything we serve, by API key.
pub const SERVED: &[Served] = &[
    // Advertised from 0 as Kafka 4 does: older librdkafka decides by the lowest version whether it may
    // compress, and sends uncompressed without a word otherwise (KAFKA-18659).
    Served {
        api: ApiKey::Produce,
        min: 3,
        max: 13,
        advertised_min: 0,
    },
    served(ApiKey::Fetch, 4, 18),
    served(ApiKey::ListOffsets, 1, 10),
    served(ApiKey::Metadata, 0, 13),
    served(ApiKey::OffsetCommit, 2, 9),
    served(ApiKey::OffsetFetch, 1, 9),
    served(ApiKey::FindCoordinator, 0, 6),
    served(ApiKey::JoinGroup, 0, 9),
    served(ApiKey::Heartbeat, 0, 4),
    served(ApiKey::LeaveGroup, 0, 5),
    served(ApiKey::SyncGroup, 0, 5),
    served(ApiKey::DescribeGroups, 0, 6),
    served(ApiKey::ListGroups, 0, 5),
    served(ApiKey::ApiVersions, 0, 4),
    served(ApiKey::CreateTopics, 2, 7),
    served(ApiKey::DeleteTopics, 1, 6),
    served(ApiKey::DeleteRecords, 0, 2),
    served(ApiKey::InitProducerId, 0, 5),
    served(ApiKey::OffsetForLeaderEpoch, 2, 4),
    served(ApiKey::AddPartitionsToTxn, 0, 3),
    served(ApiKey::AddOffsetsToTxn, 0, 4),
    served(ApiKey::EndTxn, 0, 5),
    served(ApiKey::WriteTxnMarkers, 1, 1),
    served(ApiKey::TxnOffsetCommit, 0, 5),
    served(ApiKey::DescribeConfigs, 1, 4),
    served(ApiKey::AlterConfigs, 0, 2),
    served(ApiKey::DescribeLogDirs, 1, 4),
    served(ApiKey::CreatePartitions, 0, 3),
    served(ApiKey::DeleteGroups, 0, 2),
    served(ApiKey::ElectLeaders, 0, 2),
    served(ApiKey::IncrementalAlterConfigs, 0, 1),
    served(ApiKey::AlterPartitionReassignments, 0, 1),
    served(ApiKey::ListPartitionReassignments, 0, 0),
    served(ApiKey::OffsetDelete, 0, 0),
    served(ApiKey::DescribeClientQuotas, 0, 1),
    served(ApiKey::AlterClientQuotas, 0, 1),
    served(ApiKey::DescribeUserScramCredentials, 0, 0),
    served(ApiKey::DescribeCluster, 0, 2),
    served(ApiKey::DescribeProducers, 0, 0),
    served(ApiKey::DescribeTransactions, 0, 0),
    served(ApiKey::ListTransactions, 0, 2),
    served(ApiKey::ConsumerGroupHeartbeat, 0, 1),
    served(ApiKey::ConsumerGroupDescribe, 0, 1),
    served(ApiKey::GetTelemetrySubscriptions, 0, 0),
    served(ApiKey::PushTelemetry, 0, 0),
    served(ApiKey::ListConfigResources, 0, 1),
    served(ApiKey::DescribeTopicPartitions, 0, 0),
];

/// A fetch that takes more memory than this does not wait for data longer than that, whatever it allows: a few large
/// ones would keep every other request waiting. It is what clients allow unless told otherwise.
const LARGE_FETCH_BYTES: usize = 32 << 10;
const LARGE_FETCH_WAIT_MS: i32 = 500;

/// Finds the API if we serve that version of it.
pub fn find(api_key: i16, version: i16) -> Result<ApiKey, RequestError> {
    let served = SERVED
        .iter()
        .find(|served| served.api as i16 == api_key)
        .ok_or(RequestError::UnknownApi(api_key))?;
    if (served.min..=served.max).contains(&version) {
        Ok(served.api)
    } else {
        Err(RequestError::UnsupportedVersion {
            api: served.api,
            version,
        })
    }
}

/// Why a request gets no answer but the end of its connection.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Produce without acknowledgement has no other way to say that it failed.
    #[error("a produce with acks=0 failed: {message}")]
    Unacknowledged { message: String, outcome: ApiOutcome },
    /// No field of the answer says that it failed, and an empty one would be believed.
    #[error("{api:?} v{version} cannot say that it failed: {message}")]
    Unsayable {
        api: ApiKey,
        version: i16,
        message: String,
    },
}

impl HandleError {
    /// Whose fault it is, for the count of requests.
    #[must_use]
    pub fn outcome(&self) -> ApiOutcome {
        match self {
            Self::Request(_) | Self::Encode(EncodeError::TooLarge { .. }) => ApiOutcome::ClientError,
            Self::Encode(EncodeError::Message { .. }) | Self::Unsayable { .. } => ApiOutcome::ServerError,
            Self::Unacknowledged { outcome, .. } => *outcome,
        }
    }
}

/// Answers any request but Produce. `charge` covers the worst that decoding can take; what it did not take is given
/// back. `waiting` is for requests that wait for other clients.
pub async fn handle(
    context: &RequestContext,
    body: Bytes,
    mut charge: Charge,
    waiting: &Budget,
) -> Result<Response, HandleError> {
    macro_rules! answer {
        ($handler:path) => {{
            let request = guard::decode(&context.head, &body)?;
            charge.shrink(body.len() + request.bytes_max);
            Ok($handler(context, request.request).await?)
        }};
    }
    // Waits for other clients with what it keeps of the request in a budget of its own: they need the usual one to
    // come. Where that is used up as well, it stays in this one, which keeps all within bounds.
    macro_rules! wait {
        ($handler:path) => {{
            let request = guard::decode(&context.head, &body)?.request;
            charge.shrink(body.len());
            let _kept = waiting.try_charge(body.len()).unwrap_or(charge);
            drop(body);
            Ok($handler(context, request).await?)
        }};
    }
    match context.head.api {
        ApiKey::Fetch => {
            let mut request = guard::decode::<FetchRequest>(&context.head, &body)?;
            let kept = body.len() + request.bytes_max;
            charge.shrink(kept);
            if kept > LARGE_FETCH_BYTES {
                let wait = &mut request.request.max_wait_ms;
                *wait = (*wait).min(LARGE_FETCH_WAIT_MS);
            }
            Ok(fetch::handle(context, request.request).await?)
        }
        ApiKey::ListOffsets => answer!(list_offsets::handle),
        ApiKey::Metadata => answer!(metadata::handle),
        ApiKey::FindCoordinator => answer!(find_coordinator::handle),
        ApiKey::ApiVersions => answer!(api_versions::handle),
        ApiKey::CreateTopics => answer!(create_topics::handle),
        ApiKey::DeleteTopics => answer!(delete_topics::handle),
        ApiKey::InitProducerId => answer!(init_producer_id::handle),
        ApiKey::CreatePartitions => answer!(create_partitions::handle),
        ApiKey::JoinGroup => wait!(join_group::handle),
        ApiKey::SyncGroup => wait!(sync_group::handle),
        ApiKey::Heartbeat => answer!(heartbeat::handle),
        ApiKey::LeaveGroup => answer!(leave_group::handle),
        ApiKey::OffsetCommit => answer!(offset_commit::handle),
        ApiKey::OffsetFetch => answer!(offset_fetch::handle),
        ApiKey::OffsetDelete => answer!(offset_delete::handle),
        ApiKey::ListGroups => answer!(list_groups::handle),
        ApiKey::DescribeGroups => answer!(describe_groups::handle),
        ApiKey::DeleteGroups => answer!(delete_groups::handle),
        ApiKey::DeleteRecords => answer!(delete_records::handle),
        ApiKey::OffsetForLeaderEpoch => answer!(offset_for_leader_epoch::handle),
        ApiKey::DescribeConfigs => answer!(configs::describe::handle),
        ApiKey::AlterConfigs => answer!(configs::alter::handle),
        ApiKey::IncrementalAlterConfigs => answer!(configs::incremental::handle),
        ApiKey::DescribeLogDirs => answer!(describe_log_dirs::handle),
        ApiKey::ElectLeaders => answer!(elect_leaders::handle),
        ApiKey::AlterPartitionReassignments => answer!(alter_partition_reassignments::handle),
        ApiKey::ListPartitionReassignments => answer!(list_partition_reassignments::handle),
        ApiKey::DescribeClientQuotas => answer!(quotas::describe::handle),
        ApiKey::AlterClientQuotas => answer!(quotas::alter::handle),
        ApiKey::DescribeUserScramCredentials => answer!(describe_user_scram_credentials::handle),
        ApiKey::DescribeCluster => answer!(describe_cluster::handle),
        ApiKey::ConsumerGroupHeartbeat => answer!(consumer_group_heartbeat::handle),
        ApiKey::ConsumerGroupDescribe => answer!(consumer_group_describe::handle),
        ApiKey::DescribeTopicPartitions => answer!(describe_topic_partitions::handle),
        ApiKey::AddPartitionsToTxn => answer!(transactions::add_partitions::handle),
        ApiKey::AddOffsetsToTxn => answer!(transactions::add_offsets::handle),
        ApiKey::EndTxn => answer!(transactions::end::handle),
        ApiKey::WriteTxnMarkers => answer!(transactions::write_markers::handle),
        ApiKey::TxnOffsetCommit => answer!(transactions::commit_offsets::handle),
        ApiKey::DescribeProducers => answer!(transactions::describe_producers::handle),
        ApiKey::DescribeTransactions => answer!(transactions::describe::handle),
        ApiKey::ListTransactions => answer!(transactions::list::handle),
        ApiKey::GetTelemetrySubscriptions => answer!(get_telemetry_subscriptions::handle),
        ApiKey::PushTelemetry => answer!(push_telemetry::handle),
        ApiKey::ListConfigResources => answer!(list_config_resources::handle),
        other => Err(RequestError::UnknownApi(other as i16).into()),
    }
}
