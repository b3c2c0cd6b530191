//! Kafka's error codes, and librdkafka's own (negative) ones, as one number with a name.
//!
//! The errors of each family of operations are typed where they happen (`producer`, `transaction`,
//! `consumer`, `config`); all of them carry one of these where somebody else gave a reason.

use std::fmt;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka_sys::types::RDKafkaRespErr;

/// Why a broker or librdkafka refused something: positive and −1 are the protocol's, others are librdkafka's.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorCode(i32);

impl ErrorCode {
    pub(crate) const ASSIGN_PARTITIONS: i32 = RDKafkaErrorCode::AssignPartitions as i32;

    /// The client is gone.
    pub(crate) const DESTROYED: Self = Self(RDKafkaErrorCode::BrokerDestroy as i32);

    pub(crate) fn new(number: i32) -> Self {
        Self(number)
    }

    /// As in the Kafka protocol, or negative.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0
    }

    /// Whether a broker said so; else librdkafka did without one.
    #[must_use]
    pub fn is_from_broker(self) -> bool {
        self.0 >= -1
    }

    /// The code by librdkafka's name; `None` for one that this librdkafka does not know.
    pub(crate) fn known(self) -> Option<RDKafkaErrorCode> {
        RDKafkaRespErr::try_from(self.0).ok().map(RDKafkaErrorCode::from)
    }
}

impl From<RDKafkaErrorCode> for ErrorCode {
    fn from(code: RDKafkaErrorCode) -> Self {
        Self(code as i32)
    }
}

/// The code that an error of the crate `rdkafka` carries; those without one are what a caller got wrong.
impl From<&KafkaError> for ErrorCode {
    fn from(error: &KafkaError) -> Self {
        match error {
            KafkaError::Transaction(error) => error.code().into(),
            error => error
                .rdkafka_error_code()
                .unwrap_or(RDKafkaErrorCode::InvalidArgument)
                .into(),
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known() {
            Some(code) => write!(f, "{code}"),
            None => write!(f, "error code {}", self.0),
        }
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0, self)
    }
}
