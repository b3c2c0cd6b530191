//! What a failed attempt means: worth another try, or final.
//!
//! Invariant: decided by types along the error's chain of sources, never by its text. What is not
//! recognised is final: an error that will not go away must not cost its deadline each time.

use std::error::Error as StdError;
use std::time::Duration;

use object_store::Error;
use object_store::client::HttpError;

use super::local::LocalError;
use super::s3::Refusal;

const RANGE_NOT_SATISFIABLE: u16 = 416;

/// How to take a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An answer rather than a fault: absent, exists, precondition failed, not modified.
    Expected,
    /// May go better on another try: an overloaded or unreachable store, a lost reply, a full disk.
    Transient,
    /// Another try would fail the same way: refused credentials, a missing bucket, a bad request.
    Lasting,
}

/// The attempt took longer than it may; its fate is not known.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {waited:?}")]
pub struct Stalled {
    pub waited: Duration,
}

/// The store sent fewer or more bytes than it announced.
#[derive(Debug, thiserror::Error)]
#[error("{actual} bytes came where {announced} were announced")]
pub struct WrongLength {
    pub announced: u64,
    pub actual: u64,
}

/// See the module's head.
pub fn classify(error: &Error) -> Fault {
    match error {
        Error::NotFound { .. }
        | Error::AlreadyExists { .. }
        | Error::Precondition { .. }
        | Error::NotModified { .. } => Fault::Expected,
        _ if is_transient(error) => Fault::Transient,
        _ => Fault::Lasting,
    }
}

fn is_transient(error: &Error) -> bool {
    if let Some(refusal) = find::<Refusal>(error) {
        return refusal.is_transient();
    }
    if let Some(local) = find::<LocalError>(error) {
        return local.is_retriable();
    }
    find::<Stalled>(error).is_some()
        || find::<WrongLength>(error).is_some()
        || find::<HttpError>(error).is_some()
}

/// Whether the store works and only this object does not: its file is shorter than it has to be, the range
/// lies beyond its end, its name is none.
pub fn concerns_one_object(error: &Error) -> bool {
    if let Some(local) = find::<LocalError>(error) {
        return matches!(
            local,
            LocalError::Short { .. } | LocalError::Range(_) | LocalError::BadKey { .. } | LocalError::GivenUp
        );
    }
    find::<Refusal>(error).is_some_and(|refusal| refusal.status == RANGE_NOT_SATISFIABLE)
}

/// Whether there was no room on the local disk.
pub fn is_disk_full(error: &Error) -> bool {
    matches!(find::<LocalError>(error), Some(LocalError::DiskFull { .. }))
}

/// The first error of type `T` among an error and its sources.
pub fn find<'e, T: StdError + 'static>(error: &'e (dyn StdError + 'static)) -> Option<&'e T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use object_store::client::HttpErrorKind;

    use super::*;

    fn generic(source: impl StdError + Send + Sync + 'static) -> Error {
        Error::Generic {
            store: "test",
            source: Box::new(source),
        }
    }

    fn refusal(status: u16, code: &str) -> Error {
        let refusal = Refusal {
            status,
            code: code.to_owned(),
            message: String::new(),
            request_id: None,
        };
        generic(HttpError::new(HttpErrorKind::Unknown, refusal))
    }

    #[test]
    fn an_overloaded_store_is_asked_again_and_a_refusing_one_is_not() {
        for (status, code) in [
            (500, "InternalError"),
            (503, "SlowDown"),
            (429, ""),
            (400, "RequestTimeout"),
            (200, "SlowDown"),
        ] {
            assert_eq!(
                classify(&refusal(status, code)),
                Fault::Transient,
                "{status} {code}"
            );
        }
        for (status, code) in [
            (403, "SignatureDoesNotMatch"),
            (404, "NoSuchBucket"),
            (400, "InvalidRequest"),
            (301, "PermanentRedirect"),
            (501, "NotImplemented"),
        ] {
            assert_eq!(
                classify(&refusal(status, code)),
                Fault::Lasting,
                "{status} {code}"
            );
        }
    }

    #[test]
    fn a_broken_object_is_no_broken_store() {
        let short = LocalError::Short {
            path: "objects/1".into(),
            position: 0,
            wanted: 2,
            actual: 1,
        };
        assert!(concerns_one_object(&short.into()));
        assert!(concerns_one_object(&refusal(416, "InvalidRange")));
        for error in [refusal(503, "SlowDown"), refusal(403, "AccessDenied")] {
            assert!(!concerns_one_object(&error), "{error}");
        }
        let full = LocalError::DiskFull {
            path: "objects/1".into(),
            source: std::io::ErrorKind::StorageFull.into(),
        };
        let full = object_store::Error::from(full);
        assert!(is_disk_full(&full) && !concerns_one_object(&full));
    }

    #[test]
    fn lost_connections_and_silence_are_transient_and_the_unknown_is_final() {
        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let lost = HttpError::new(HttpErrorKind::Interrupted, reset);
        assert_eq!(classify(&generic(lost)), Fault::Transient);
        let silence = Stalled {
            waited: Duration::from_secs(1),
        };
        assert_eq!(classify(&generic(silence)), Fault::Transient);
        assert_eq!(classify(&generic(std::fmt::Error)), Fault::Lasting);
    }
}
