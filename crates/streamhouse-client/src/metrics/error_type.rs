//! Why a record or a request failed, as a label: the server's words, and two for what no server said.
//!
//! `agent_error` is a failure that an agent (a broker) reported and that is not the program's fault, also where the
//! agent says that it took too long (REQUEST_TIMED_OUT). Where nobody answered in time it is `timed_out`; where this
//! process refused or gave up without asking, `local`.

use rdkafka::error::RDKafkaErrorCode as Code;
use streamhouse_observability::closed_label;

use crate::error::ErrorCode;

closed_label! {
    /// Why a record was not acknowledged.
    ProducerErrorType, "error_type" {
        AgentError = "agent_error",
        Invalid = "invalid",
        Corrupt = "corrupt",
        TooLarge = "too_large",
        UnknownTopic = "unknown_topic",
        Sequence = "sequence",
        Fenced = "fenced",
        Unauthorized = "unauthorized",
        Transaction = "transaction",
        Throttled = "throttled",
        /// No answer came in time; the record may be stored.
        TimedOut = "timed_out",
        /// This process gave up: it stopped, aborted, or could not send.
        Local = "local",
    }
}

closed_label! {
    /// Why a fetch, a commit or the membership in a group failed.
    ConsumerErrorType, "error_type" {
        OutOfRange = "out_of_range",
        UnknownTopic = "unknown_topic",
        UnknownMember = "unknown_member",
        StaleGeneration = "stale_generation",
        Fenced = "fenced",
        Unauthorized = "unauthorized",
        Invalid = "invalid",
        AgentError = "agent_error",
        TimedOut = "timed_out",
        Local = "local",
    }
}

impl ProducerErrorType {
    pub(crate) fn of(code: ErrorCode) -> Self {
        let Some(known) = code.known() else {
            return if code.is_from_broker() {
                Self::AgentError
            } else {
                Self::Local
            };
        };
        match known {
            Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => {
                Self::TooLarge
            }
            Code::InvalidMessage | Code::BadMessage | Code::BadCompression => Self::Corrupt,
            Code::UnknownTopicOrPartition
            | Code::UnknownTopicId
            | Code::UnknownTopic
            | Code::UnknownPartition => Self::UnknownTopic,
            Code::OutOfOrderSequenceNumber
            | Code::DuplicateSequenceNumber
            | Code::UnknownProducerId
            | Code::GaplessGuarantee
            | Code::Inconsistent => Self::Sequence,
            Code::InvalidProducerEpoch
            | Code::ProducerFenced
            | Code::TransactionCoordinatorFenced
            | Code::Fenced => Self::Fenced,
            Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::SaslAuthenticationFailed
            | Code::Authentication => Self::Unauthorized,
            Code::InvalidTransactionalState
            | Code::InvalidProducerIdMapping
            | Code::ConcurrentTransactions
            | Code::InvalidTransactionTimeout => Self::Transaction,
            Code::ThrottlingQuotaExceeded => Self::Throttled,
            Code::MessageTimedOut | Code::OperationTimedOut | Code::TimedOutQueue => Self::TimedOut,
            Code::InvalidTopic
            | Code::InvalidRecord
            | Code::InvalidTimestamp
            | Code::InvalidRequiredAcks
            | Code::InvalidRequest
            | Code::InvalidArgument
            | Code::InvalidDifferentRecord
            | Code::UnsupportedCompressionType
            | Code::UnsupportedForMessageFormat
            | Code::PolicyViolation => Self::Invalid,
            _ if code.is_from_broker() => Self::AgentError,
            _ => Self::Local,
        }
    }
}

impl ConsumerErrorType {
    pub(crate) fn of(code: ErrorCode) -> Self {
        let Some(known) = code.known() else {
            return if code.is_from_broker() {
                Self::AgentError
            } else {
                Self::Local
            };
        };
        match known {
            Code::OffsetOutOfRange | Code::AutoOffsetReset | Code::LogTruncation => Self::OutOfRange,
            Code::UnknownTopicOrPartition
            | Code::UnknownTopicId
            | Code::UnknownTopic
            | Code::UnknownPartition => Self::UnknownTopic,
            Code::UnknownMemberId | Code::GroupIdNotFound | Code::UnknownGroup => Self::UnknownMember,
            Code::IllegalGeneration | Code::StaleMemberEpoch => Self::StaleGeneration,
            Code::FencedInstanceId | Code::FencedMemberEpoch | Code::UnreleasedInstanceId | Code::Fenced => {
                Self::Fenced
            }
            Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::SaslAuthenticationFailed
            | Code::Authentication => Self::Unauthorized,
            Code::InvalidTopic
            | Code::InvalidGroupId
            | Code::InvalidSessionTimeout
            | Code::InconsistentGroupProtocol
            | Code::InvalidRequest
            | Code::InvalidArgument
            | Code::UnsupportedAssignor
            | Code::OffsetMetadataTooLarge => Self::Invalid,
            Code::OperationTimedOut | Code::TimedOutQueue | Code::PollExceeded => Self::TimedOut,
            _ if code.is_from_broker() => Self::AgentError,
            _ => Self::Local,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_answered_has_timed_out() {
        for number in -1..200 {
            let code = ErrorCode::new(number);
            assert_ne!(
                ProducerErrorType::of(code),
                ProducerErrorType::TimedOut,
                "{code:?}"
            );
            assert_ne!(
                ConsumerErrorType::of(code),
                ConsumerErrorType::TimedOut,
                "{code:?}"
            );
        }
        let answered = ErrorCode::from(Code::RequestTimedOut);
        assert_eq!(ProducerErrorType::of(answered), ProducerErrorType::AgentError);
        assert_eq!(ConsumerErrorType::of(answered), ConsumerErrorType::AgentError);
        for code in [Code::OperationTimedOut, Code::TimedOutQueue] {
            assert_eq!(ProducerErrorType::of(code.into()), ProducerErrorType::TimedOut);
            assert_eq!(ConsumerErrorType::of(code.into()), ConsumerErrorType::TimedOut);
        }
    }
}
