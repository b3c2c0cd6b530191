//! How a transaction can fail. What to do next is what tells the variants apart.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::config::ConfigError;
use crate::error::ErrorCode;

/// Why a call of a transaction failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransactionError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A newer producer has this transactional id. This one can do nothing any more.
    #[error("a newer producer has taken over: {code}")]
    Fenced { code: ErrorCode },
    /// The producer cannot go on; a new one can.
    #[error("the producer cannot go on: {code}")]
    Fatal { code: ErrorCode },
    /// The transaction can only be aborted, which dropping it does.
    #[error("the transaction must be aborted: {code}")]
    MustAbort { code: ErrorCode },
    #[error("no answer within the limit: {code}")]
    TimedOut { code: ErrorCode },
    #[error("refused: {code}")]
    Refused { code: ErrorCode },
    /// The consumer commits by itself: its offsets would be committed twice, once too early.
    #[error("group {group}: the consumer must be built with Commits::InTransactions")]
    ConsumerCommits { group: String },
    #[error("the producer has stopped")]
    Stopped,
}

impl TransactionError {
    pub(super) fn of(error: &KafkaError) -> Self {
        let code = ErrorCode::from(error);
        let is_fenced = matches!(
            code.known(),
            Some(
                Code::Fenced
                    | Code::ProducerFenced
                    | Code::InvalidProducerEpoch
                    | Code::TransactionCoordinatorFenced
            )
        );
        if is_fenced {
            return Self::Fenced { code };
        }
        match error {
            KafkaError::Transaction(error) if error.is_fatal() => Self::Fatal { code },
            KafkaError::Transaction(error) if error.txn_requires_abort() => Self::MustAbort { code },
            KafkaError::Transaction(error) if error.is_retriable() => Self::TimedOut { code },
            _ if code.known() == Some(Code::OperationTimedOut) => Self::TimedOut { code },
            _ => Self::Refused { code },
        }
    }
}

/// How a commit can end other than well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// It was aborted: nothing of it is visible. It can be done again from the start.
    #[error("the transaction was aborted: {code}")]
    Aborted { code: ErrorCode },
    /// Committed or not: no answer tells. It never is both, and never half.
    #[error("whether the transaction was committed is unknown: {code}")]
    Unknown { code: ErrorCode },
    /// The producer cannot go on.
    #[error(transparent)]
    Over(TransactionError),
}

impl From<Stopped> for TransactionError {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

impl From<Stopped> for CommitError {
    fn from(_: Stopped) -> Self {
        Self::Over(TransactionError::Stopped)
    }
}

/// The worker is gone.
pub(super) struct Stopped;
