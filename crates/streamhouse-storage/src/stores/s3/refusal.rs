//! An S3 server's "no", with its code.
//!
//! `object_store` keeps status and body of a failed request to itself; made into a typed error on the
//! wire ([`super::wire`]) they survive as a source of whatever it reports.

/// What the server answered instead of doing what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store answered {status} {code}: {message}{}", request_id.as_ref().map(|id| format!(" (request {id})")).unwrap_or_default())]
pub struct Refusal {
    pub status: u16,
    /// S3's error code, such as `SlowDown`; empty when the answer had no readable body.
    pub code: String,
    pub message: String,
    /// What the operator of the store asks for.
    pub request_id: Option<String>,
}

impl Refusal {
    pub(super) fn read(status: u16, body: &[u8], request_id: Option<String>) -> Self {
        let text = String::from_utf8_lossy(body);
        Self {
            status,
            code: element(&text, "Code"),
            message: element(&text, "Message"),
            request_id,
        }
    }

    /// True where the same request may be granted a moment later.
    pub fn is_transient(&self) -> bool {
        match self.code.as_str() {
            "SlowDown"
            | "InternalError"
            | "ServiceUnavailable"
            | "RequestTimeout"
            | "OperationAborted"
            | "ConditionalRequestConflict" => true,
            "NotImplemented" => false,
            _ => matches!(self.status, 408 | 429 | 500 | 502 | 503 | 504),
        }
    }
}

/// The text of the first element of that name; bounded, since it goes into log lines.
fn element(xml: &str, name: &str) -> String {
    const CHARS_MAX: usize = 300;
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let inner = xml
        .split_once(&open)
        .and_then(|(_, rest)| rest.split_once(&close));
    inner
        .map(|(text, _)| text.chars().take(CHARS_MAX).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_and_message_of_an_answer_are_read_and_anything_else_is_empty() {
        let body = b"<?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code><Message>gone</Message></Error>";
        let refusal = Refusal::read(404, body, Some("7".into()));
        assert_eq!(
            (refusal.code.as_str(), refusal.message.as_str()),
            ("NoSuchBucket", "gone")
        );
        assert_eq!(
            refusal.to_string(),
            "the store answered 404 NoSuchBucket: gone (request 7)"
        );
        for body in [&b""[..], b"<Code>", b"\xff\xfe<Code", b"</Code><Code>"] {
            assert_eq!(Refusal::read(500, body, None).code, "");
        }
    }
}
