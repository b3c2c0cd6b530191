//! The one place that knows Kafka's error numbers.
//!
//! Each family of errors is matched without a catch-all, so that a new kind of failure cannot be sent
//! out as something it is not. Retriable codes promise nothing about the batch; where a client's retry
//! might otherwise go wrong, the reason stands beside the arm.

use crate::fetch_session::SessionFault;
use crate::group::GroupFault;
use crate::telemetry::TelemetryFault;
use crate::transaction::TransactionFault;
use kafka_protocol::ResponseError;
use streamhouse_metadata::model::client_metrics::ClientMetricsError;
use streamhouse_metadata::model::commit::AppendRefusal;
use streamhouse_metadata::model::topic::{TopicConfigError, TopicNameError};
use streamhouse_metadata::store::admin::{
    AlterClientMetricsError, AlterConfigError, DeleteRecordsError, QuotaError,
};
use streamhouse_metadata::store::transactions::TransactionError;
use streamhouse_metadata::store::{StoreError, TopicError};
use streamhouse_observability::families::{ApiOutcome, ConsumerErrorType, ProducerErrorType};
use streamhouse_storage::batch::{BatchError, HeaderError};
use streamhouse_storage::reader::ReadError;
use streamhouse_storage::writer::AppendError;

/// No error.
pub const NONE: i16 = 0;

/// What a handler finds wrong with a request by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestFault {
    #[error("this server has no such topic or partition")]
    UnknownTopic,
    #[error("this server has no topic with that id")]
    UnknownTopicId,
    #[error(transparent)]
    TopicName(#[from] TopicNameError),
    #[error("a topic has between 1 and {max} partitions, not {got}")]
    Partitions { got: i32, max: u32 },
    #[error("replication factor must be -1 or larger than 0, not {0}")]
    ReplicationFactor(i16),
    #[error("the replica assignment is not consecutive from partition {0} or names no broker")]
    Assignment(i32),
    #[error("a replica assignment excludes a number of partitions and a replication factor")]
    AssignmentAndCount,
    #[error("the topic is named twice in one request")]
    NamedTwice,
    #[error("the request names the topic by name and by id, or by neither")]
    NameAndId,
    #[error("acks must be -1, 0 or 1, not {0}")]
    Acks(i16),
    #[error("Produce v{0} does not know zstd")]
    ZstdTooOld(i16),
    #[error("a transactional batch needs a request with a transactional id")]
    NoTransactionalId,
    #[error("this server coordinates consumer groups and transactions only")]
    CoordinatorKind,
    #[error("offset {0} cannot be asked for")]
    SpecialTimestamp(i64),
    #[error("leader epoch {got} is newer than {current}")]
    UnknownLeaderEpoch { got: i32, current: i32 },
    #[error("leader epoch {got} is older than {current}")]
    FencedLeaderEpoch { got: i32, current: i32 },
    #[error("broker {got} is not this one: {node}")]
    NotThisBroker { got: String, node: i32 },
    #[error("resources of type {0} have no configuration here")]
    ResourceType(i8),
    #[error("the resource is named twice in one request")]
    ResourceTwice,
    #[error("a config is named twice for one resource")]
    ConfigTwice,
    #[error("{0} needs a value")]
    ConfigNull(String),
    #[error("there is no config operation {0}")]
    ConfigOperation(i8),
    #[error("{0} is set by the operator in the agent's own configuration")]
    StaticConfig(String),
    #[error("quotas of {0} are not supported: there are user and client-id")]
    QuotaEntity(String),
    #[error("the quota's entity is named twice, incompletely or not at all")]
    QuotaFilter,
    #[error("quota {0} is not supported: there are producer_byte_rate and consumer_byte_rate")]
    QuotaKey(String),
    #[error("quota {0} must be at least 1 byte a second")]
    QuotaValue(String),
    #[error("there are no credentials of user {0}: there is no authentication here")]
    NoCredentials(String),
    #[error("the user is named twice in one request")]
    UserTwice,
    #[error("there are no endpoints of type {0} here")]
    EndpointType(i8),
    #[error("leaders are not elected here: the partition has the leader it prefers")]
    ElectionNotNeeded,
    #[error("there is no election of type {0}")]
    ElectionType(i8),
    #[error("no reassignment of the partition is under way")]
    NoReassignment,
    #[error("partitions are not assigned to brokers here: the object store replicates")]
    Reassignment,
    #[error(transparent)]
    FetchSession(#[from] SessionFault),
    #[error("an offset's metadata has {0} bytes, more than is kept")]
    OffsetMetadata(usize),
    #[error("a transaction has not ended that may change this offset")]
    UnstableOffset,
    #[error("only its producer commits a transaction: markers can be asked for to abort one")]
    CommitMarker,
}

pub fn request_fault(fault: &RequestFault) -> ResponseError {
    match fault {
        RequestFault::UnknownTopic => ResponseError::UnknownTopicOrPartition,
        RequestFault::UnknownTopicId => ResponseError::UnknownTopicId,
        RequestFault::TopicName(..) => ResponseError::InvalidTopicException,
        RequestFault::Partitions { .. } => ResponseError::InvalidPartitions,
        RequestFault::ReplicationFactor(_) => ResponseError::InvalidReplicationFactor,
        RequestFault::Assignment(_) => ResponseError::InvalidReplicaAssignment,
        RequestFault::AssignmentAndCount | RequestFault::NamedTwice | RequestFault::NameAndId => {
            ResponseError::InvalidRequest
        }
        RequestFault::Acks(_) => ResponseError::InvalidRequiredAcks,
        RequestFault::ZstdTooOld(_) => ResponseError::UnsupportedCompressionType,
        RequestFault::NoTransactionalId => ResponseError::TransactionalIdAuthorizationFailed,
        RequestFault::CoordinatorKind => ResponseError::InvalidRequest,
        RequestFault::SpecialTimestamp(_) => ResponseError::UnsupportedVersion,
        RequestFault::UnknownLeaderEpoch { .. } => ResponseError::UnknownLeaderEpoch,
        RequestFault::FencedLeaderEpoch { .. } => ResponseError::FencedLeaderEpoch,
        RequestFault::NotThisBroker { .. }
        | RequestFault::ResourceType(_)
        | RequestFault::ResourceTwice
        | RequestFault::ConfigTwice
        | RequestFault::ConfigNull(_)
        | RequestFault::ConfigOperation(_)
        | RequestFault::QuotaEntity(_)
        | RequestFault::QuotaFilter
        | RequestFault::QuotaKey(_)
        | RequestFault::QuotaValue(_)
        | RequestFault::ElectionType(_)
        | RequestFault::CommitMarker => ResponseError::InvalidRequest,
        RequestFault::StaticConfig(_) => ResponseError::InvalidConfig,
        RequestFault::NoCredentials(_) => ResponseError::ResourceNotFound,
        RequestFault::UserTwice => ResponseError::DuplicateResource,
        RequestFault::EndpointType(_) => ResponseError::UnsupportedEndpointType,
        RequestFault::ElectionNotNeeded => ResponseError::ElectionNotNeeded,
        RequestFault::NoReassignment => ResponseError::NoReassignmentInProgress,
        RequestFault::Reassignment => ResponseError::InvalidReplicaAssignment,
        RequestFault::FetchSession(fault) => match fault {
            SessionFault::Unknown(_) => ResponseError::FetchSessionIdNotFound,
            SessionFault::Epoch { .. } => ResponseError::InvalidFetchSessionEpoch,
            SessionFault::TopicIds => ResponseError::FetchSessionTopicIdError,
        },
        RequestFault::OffsetMetadata(_) => ResponseError::OffsetMetadataTooLarge,
        RequestFault::UnstableOffset => ResponseError::UnstableOffsetCommit,
    }
}

pub fn group(fault: &GroupFault) -> ResponseError {
    match fault {
        GroupFault::UnknownMember => ResponseError::UnknownMemberId,
        GroupFault::IllegalGeneration => ResponseError::IllegalGeneration,
        GroupFault::RebalanceInProgress => ResponseError::RebalanceInProgress,
        GroupFault::FencedInstance => ResponseError::FencedInstanceId,
        GroupFault::FencedEpoch => ResponseError::FencedMemberEpoch,
        GroupFault::StaleEpoch => ResponseError::StaleMemberEpoch,
        GroupFault::NoEpochs => ResponseError::UnsupportedVersion,
        GroupFault::UnreleasedInstance => ResponseError::UnreleasedInstanceId,
        GroupFault::UnknownAssignor(_) => ResponseError::UnsupportedAssignor,
        GroupFault::InvalidPattern(_) => ResponseError::InvalidRegularExpression,
        GroupFault::Malformed(_) => ResponseError::InvalidRequest,
        GroupFault::OtherProtocol => ResponseError::GroupIdNotFound,
        GroupFault::InconsistentProtocol => ResponseError::InconsistentGroupProtocol,
        GroupFault::MemberIdRequired(_) => ResponseError::MemberIdRequired,
        GroupFault::Full => ResponseError::GroupMaxSizeReached,
        GroupFault::SessionTimeout(_) => ResponseError::InvalidSessionTimeout,
        GroupFault::GroupId => ResponseError::InvalidGroupId,
        GroupFault::UnknownGroup => ResponseError::GroupIdNotFound,
        GroupFault::NotEmpty => ResponseError::NonEmptyGroup,
        GroupFault::Subscribed => ResponseError::GroupSubscribedToTopic,
        GroupFault::TooManyGroups(_) => ResponseError::PolicyViolation,
        GroupFault::NotCoordinator => ResponseError::NotCoordinator,
        // Both make a client find the coordinator and ask again; nothing was answered that is not stored.
        GroupFault::Store(_) | GroupFault::StoreUnknown(_) => ResponseError::CoordinatorNotAvailable,
    }
}

pub fn append(error: &AppendError) -> ResponseError {
    match error {
        AppendError::Refused(refusal) => match refusal {
            AppendRefusal::UnknownPartition => ResponseError::UnknownTopicOrPartition,
            // The missing batch may still be on its way; OUT_OF_ORDER would make the client start a
            // new epoch and store both copies (TRACES 7).
            AppendRefusal::GapPending { .. } => ResponseError::NotEnoughReplicas,
            AppendRefusal::OutOfOrder { .. } => ResponseError::OutOfOrderSequenceNumber,
            AppendRefusal::StaleEpoch { .. } => ResponseError::InvalidProducerEpoch,
            AppendRefusal::InvalidTransactionState => ResponseError::InvalidTxnState,
            AppendRefusal::NotTransactional(_) => ResponseError::InvalidProducerIdMapping,
            // Retriable: compaction makes room.
            AppendRefusal::MarkersFull => ResponseError::NotEnoughReplicas,
        },
        // The fate of these is not known, so nothing may be answered that says "not stored".
        AppendError::TimedOut | AppendError::Fenced | AppendError::Stopping => ResponseError::RequestTimedOut,
        AppendError::Storage => ResponseError::KafkaStorageError,
    }
}

/// `generic` where clients of this version know an error that any transaction can end with (KIP-890).
pub fn transactional_append(error: &AppendError, generic: bool) -> ResponseError {
    match error {
        AppendError::Refused(AppendRefusal::InvalidTransactionState) if generic => {
            ResponseError::TransactionAbortable
        }
        error => append(error),
    }
}

/// Of requests to the coordinator of transactions. `fenced_by_name` where clients of this version know
/// PRODUCER_FENCED.
pub fn transaction(fault: &TransactionFault, fenced_by_name: bool) -> ResponseError {
    match fault {
        TransactionFault::Refused(error) => match error {
            TransactionError::UnknownProducer(_) => ResponseError::InvalidProducerIdMapping,
            TransactionError::Fenced { .. } if fenced_by_name => ResponseError::ProducerFenced,
            TransactionError::Fenced { .. } => ResponseError::InvalidProducerEpoch,
            TransactionError::InvalidState(_) => ResponseError::InvalidTxnState,
            TransactionError::UnknownPartition => ResponseError::UnknownTopicOrPartition,
            // Retriable: compaction makes room.
            TransactionError::MarkersFull => ResponseError::CoordinatorLoadInProgress,
            TransactionError::GroupFenced(_) => ResponseError::NotCoordinator,
            TransactionError::TooMany { .. } => ResponseError::PolicyViolation,
            // The client asks again, and a repeat gets the same answer.
            TransactionError::Store(_) => ResponseError::CoordinatorNotAvailable,
        },
        TransactionFault::Group(fault) => group(fault),
        TransactionFault::EmptyId | TransactionFault::HalfIdentity => ResponseError::InvalidRequest,
        TransactionFault::Timeout { .. } => ResponseError::InvalidTransactionTimeout,
        TransactionFault::UnknownId(_) => ResponseError::TransactionalIdNotFound,
    }
}

/// Of markers that an administrator asks for, a partition at a time.
pub fn marker(error: &TransactionError) -> ResponseError {
    match error {
        TransactionError::Store(error) => store(error),
        refused => transaction(&TransactionFault::Refused(refused.clone()), false),
    }
}

pub fn batch(error: &BatchError) -> ResponseError {
    match error {
        BatchError::Missing
        | BatchError::Several
        | BatchError::Control
        | BatchError::Count { .. }
        | BatchError::Producer { .. }
        | BatchError::Records(_)
        | BatchError::Header(HeaderError::Magic(_)) => ResponseError::InvalidRecord,
        BatchError::Header(HeaderError::Short { .. } | HeaderError::Length(_))
        | BatchError::Truncated { .. }
        | BatchError::Crc { .. } => ResponseError::CorruptMessage,
        BatchError::TooLarge { .. } => ResponseError::MessageTooLarge,
        BatchError::Timestamp { .. } => ResponseError::InvalidTimestamp,
        BatchError::Codec(_) => ResponseError::UnsupportedCompressionType,
    }
}

/// Under which error type a batch counts that never reached the writer.
pub fn batch_type(error: &BatchError) -> ProducerErrorType {
    match error {
        BatchError::Missing
        | BatchError::Several
        | BatchError::Control
        | BatchError::Count { .. }
        | BatchError::Producer { .. }
        | BatchError::Timestamp { .. }
        | BatchError::Codec(_)
        | BatchError::Header(HeaderError::Magic(_)) => ProducerErrorType::Invalid,
        BatchError::Header(HeaderError::Short { .. } | HeaderError::Length(_))
        | BatchError::Truncated { .. }
        | BatchError::Crc { .. }
        | BatchError::Records(_) => ProducerErrorType::Corrupt,
        BatchError::TooLarge { .. } => ProducerErrorType::TooLarge,
    }
}

pub fn read(error: &ReadError) -> ResponseError {
    match error {
        ReadError::UnknownPartition => ResponseError::UnknownTopicOrPartition,
        ReadError::OutOfRange { .. } => ResponseError::OffsetOutOfRange,
        ReadError::Metadata(error) => store(error),
        // Retriable. Damaged data is ours to mend: a consumer must neither skip it nor see it.
        ReadError::ObjectStore { .. }
        | ReadError::Missing { .. }
        | ReadError::Moving
        | ReadError::Damaged { .. }
        | ReadError::Busy => ResponseError::KafkaStorageError,
    }
}

pub fn store(error: &StoreError) -> ResponseError {
    match error {
        // Retriable, and makes clients ask for metadata again.
        StoreError::Unavailable(_) | StoreError::Full(_) => ResponseError::KafkaStorageError,
        StoreError::Unknown(_) => ResponseError::RequestTimedOut,
        StoreError::Damaged(_) => ResponseError::UnknownServerError,
    }
}

pub fn topic(error: &TopicError) -> ResponseError {
    match error {
        TopicError::Exists(_) => ResponseError::TopicAlreadyExists,
        TopicError::Unknown => ResponseError::UnknownTopicOrPartition,
        TopicError::TooMany { .. } => ResponseError::PolicyViolation,
        TopicError::NotMorePartitions { .. } => ResponseError::InvalidPartitions,
        TopicError::Store(error) => store(error),
    }
}

pub fn alter_config(error: &AlterConfigError) -> ResponseError {
    match error {
        AlterConfigError::Unknown => ResponseError::UnknownTopicOrPartition,
        AlterConfigError::Config(error) => topic_config(error),
        AlterConfigError::Store(error) => store(error),
    }
}

pub fn quota(error: &QuotaError) -> ResponseError {
    match error {
        QuotaError::TooMany { .. } => ResponseError::PolicyViolation,
        QuotaError::Store(error) => store(error),
    }
}

pub fn alter_client_metrics(error: &AlterClientMetricsError) -> ResponseError {
    match error {
        AlterClientMetricsError::Config(error) => match error {
            ClientMetricsError::Name { .. }
            | ClientMetricsError::Unknown(_)
            | ClientMetricsError::Interval(_) => ResponseError::InvalidRequest,
            ClientMetricsError::Match(_) | ClientMetricsError::TooLong(_) | ClientMetricsError::Whole(_) => {
                ResponseError::InvalidConfig
            }
        },
        AlterClientMetricsError::TooMany { .. } => ResponseError::PolicyViolation,
        AlterClientMetricsError::Store(error) => store(error),
    }
}

pub fn telemetry(fault: &TelemetryFault) -> ResponseError {
    match fault {
        TelemetryFault::InstanceId | TelemetryFault::Terminated => ResponseError::InvalidRequest,
        TelemetryFault::TooEarly => ResponseError::ThrottlingQuotaExceeded,
        TelemetryFault::UnknownSubscription => ResponseError::UnknownSubscriptionId,
        TelemetryFault::Compression(_) => ResponseError::UnsupportedCompressionType,
        TelemetryFault::TooLarge => ResponseError::TelemetryTooLarge,
        TelemetryFault::Malformed => ResponseError::InvalidRecord,
    }
}

pub fn delete_records(error: &DeleteRecordsError) -> ResponseError {
    match error {
        DeleteRecordsError::UnknownPartition => ResponseError::UnknownTopicOrPartition,
        DeleteRecordsError::OutOfRange { .. } => ResponseError::OffsetOutOfRange,
    }
}

pub fn topic_config(error: &TopicConfigError) -> ResponseError {
    match error {
        TopicConfigError::Unknown(_)
        | TopicConfigError::Unsupported { .. }
        | TopicConfigError::Invalid { .. }
        | TopicConfigError::NoList(_) => ResponseError::InvalidConfig,
    }
}

/// Under which error type a consumer's request counts that got this code; `None` where nothing went wrong:
/// members learn of rebalances and of their id this way, and that a fetch session is over.
#[must_use]
pub fn consumer_error(code: i16) -> Option<ConsumerErrorType> {
    use ConsumerErrorType as Type;
    let error = ResponseError::try_from_code(code)?;
    Some(match error {
        ResponseError::RebalanceInProgress
        | ResponseError::MemberIdRequired
        | ResponseError::FetchSessionIdNotFound
        | ResponseError::InvalidFetchSessionEpoch
        | ResponseError::FetchSessionTopicIdError => return None,
        ResponseError::OffsetOutOfRange => Type::OutOfRange,
        ResponseError::UnknownTopicOrPartition | ResponseError::UnknownTopicId => Type::UnknownTopic,
        ResponseError::UnknownMemberId => Type::UnknownMember,
        ResponseError::IllegalGeneration | ResponseError::StaleMemberEpoch => Type::StaleGeneration,
        ResponseError::FencedInstanceId
        | ResponseError::FencedMemberEpoch
        | ResponseError::FencedLeaderEpoch
        | ResponseError::UnknownLeaderEpoch
        | ResponseError::ProducerFenced
        | ResponseError::InvalidProducerEpoch => Type::Fenced,
        ResponseError::TopicAuthorizationFailed | ResponseError::GroupAuthorizationFailed => {
            Type::Unauthorized
        }
        ResponseError::KafkaStorageError
        | ResponseError::UnknownServerError
        | ResponseError::RequestTimedOut
        | ResponseError::CoordinatorNotAvailable
        | ResponseError::CoordinatorLoadInProgress
        | ResponseError::NotCoordinator => Type::AgentError,
        _ => Type::Invalid,
    })
}

/// Steps of the protocol that are told as errors: every first join learns its id this way, every member that a
/// rebalance is under way. Nobody has made a mistake.
const STEPS: [ResponseError; 2] = [
    ResponseError::MemberIdRequired,
    ResponseError::RebalanceInProgress,
];

/// Whose fault a code is, for the count of requests by outcome.
#[must_use]
pub fn outcome(code: i16) -> ApiOutcome {
    const OURS: [ResponseError; 5] = [
        ResponseError::UnknownServerError,
        ResponseError::KafkaStorageError,
        ResponseError::RequestTimedOut,
        // So a coordinator answers whose store fails, or has no room.
        ResponseError::CoordinatorNotAvailable,
        ResponseError::CoordinatorLoadInProgress,
    ];
    if code == NONE || STEPS.iter().any(|step| step.code() == code) {
        ApiOutcome::Ok
    } else if OURS.iter().any(|ours| ours.code() == code) {
        ApiOutcome::ServerError
    } else {
        ApiOutcome::ClientError
    }
}

/// The outcome of a request that answers with several codes: the worst of them.
#[must_use]
pub fn worst(codes: impl IntoIterator<Item = i16>) -> ApiOutcome {
    codes
        .into_iter()
        .map(outcome)
        .fold(ApiOutcome::Ok, super::response::worse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_our_fault_to_a_consumer_is_ours_by_outcome_too() {
        let codes = (1..200).filter(|code| consumer_error(*code) == Some(ConsumerErrorType::AgentError));
        let theirs: Vec<_> = codes
            .filter(|code| outcome(*code) != ApiOutcome::ServerError)
            .collect();
        // A client that asks one of several agents only learns where its coordinator is.
        assert_eq!(theirs, [ResponseError::NotCoordinator.code()]);
    }

    #[test]
    fn a_step_of_the_protocol_is_neither_a_failed_request_nor_a_refused_consumer() {
        for fault in [
            GroupFault::MemberIdRequired("m".to_owned()),
            GroupFault::RebalanceInProgress,
        ] {
            let code = group(&fault).code();
            assert_eq!(
                (outcome(code), consumer_error(code)),
                (ApiOutcome::Ok, None),
                "{fault}"
            );
        }
        let refused = group(&GroupFault::UnknownMember).code();
        assert_eq!(outcome(refused), ApiOutcome::ClientError);
    }
}
