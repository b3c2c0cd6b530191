//! W3C trace context in record headers: `traceparent` and `tracestate`, level 1 of the recommendation.
//!
//! The producer writes what the record or its hook says; this crate depends on no tracing system, the hook is
//! the seam to whichever the program has. A received header is somebody else's: it is parsed to the letter,
//! and what does not hold is no trace at all. A broken `tracestate` is dropped and the trace kept, as the
//! recommendation says.

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

use crate::record::Header;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
/// A later version may have more after the fields we know; what is longer than this is nobody's.
const TRACEPARENT_BYTES_MAX: usize = 256;
/// The recommendation asks to pass on at least 512 characters.
const TRACESTATE_BYTES_MAX: usize = 512;
const TRACESTATE_MEMBERS_MAX: usize = 32;
const SAMPLED: u8 = 1;

/// Which trace a record belongs to, and which span sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
    state: Option<String>,
}

impl TraceContext {
    /// `None` when an id is all zeros, which names nothing.
    #[must_use]
    pub fn new(trace_id: [u8; 16], span_id: [u8; 8], sampled: bool) -> Option<Self> {
        (trace_id != [0; 16] && span_id != [0; 8]).then_some(Self {
            trace_id,
            span_id,
            flags: u8::from(sampled),
            state: None,
        })
    }

    /// With what tracing systems keep beside the ids; a state that does not hold is left out.
    #[must_use]
    pub fn with_state(mut self, state: &str) -> Self {
        self.state = valid_state(state).then(|| state.to_owned());
        self
    }

    #[must_use]
    pub fn trace_id(&self) -> [u8; 16] {
        self.trace_id
    }

    /// The span that sent the record: the parent of whatever processes it.
    #[must_use]
    pub fn span_id(&self) -> [u8; 8] {
        self.span_id
    }

    /// Whether the sender records this trace.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The `tracestate`, as it came.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

/// The text of a `traceparent`, version 00. Flags that version does not know are not passed on.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("00-")?;
        self.trace_id
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("-")?;
        self.span_id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "-{:02x}", self.flags & SAMPLED)
    }
}

/// Why a text is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceparentError {
    #[error("a traceparent has the shape version-traceid-spanid-flags")]
    Shape,
    #[error("a field of a traceparent is lower-case hexadecimal")]
    Hexadecimal,
    #[error("version ff does not exist")]
    Version,
    #[error("an id of zeros names nothing")]
    Zero,
}

/// Parses a `traceparent`: version 00 to the letter, a later one as far as it is known to go.
impl FromStr for TraceContext {
    type Err = TraceparentError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > TRACEPARENT_BYTES_MAX {
            return Err(TraceparentError::Shape);
        }
        let mut fields = text.split('-');
        let mut field = || fields.next().ok_or(TraceparentError::Shape);
        let [version] = hexadecimal(field()?)?;
        let trace_id = hexadecimal(field()?)?;
        let span_id = hexadecimal(field()?)?;
        let [flags] = hexadecimal(field()?)?;
        if version == 0xff {
            return Err(TraceparentError::Version);
        }
        if version == 0 && fields.next().is_some() {
            return Err(TraceparentError::Shape);
        }
        let context = Self::new(trace_id, span_id, false).ok_or(TraceparentError::Zero)?;
        Ok(Self { flags, ..context })
    }
}

/// Exactly `N` bytes in lower-case hexadecimal.
fn hexadecimal<const N: usize>(text: &str) -> Result<[u8; N], TraceparentError> {
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return Err(TraceparentError::Shape);
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(TraceparentError::Hexadecimal),
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(bytes)
}

/// A list of at most 32 members `key=value`, printable, at most 512 bytes.
fn valid_state(state: &str) -> bool {
    let key = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'*' | b'/' | b'@')
    };
    let value = |byte: u8| (0x20..=0x7e).contains(&byte) && byte != b'=';
    let member = |member: &str| {
        let member = member.trim_matches([' ', '\t']);
        member.is_empty()
            || member.split_once('=').is_some_and(|(k, v)| {
                !k.is_empty() && k.bytes().all(key) && !v.is_empty() && v.bytes().all(value)
            })
    };
    !state.is_empty()
        && state.len() <= TRACESTATE_BYTES_MAX
        && state.split(',').count() <= TRACESTATE_MEMBERS_MAX
        && state.split(',').all(member)
}

/// Writes the context into headers that do not name one yet.
pub(crate) fn into_headers(context: &TraceContext, headers: &mut Vec<Header>) {
    if headers.iter().any(|header| header.name == TRACEPARENT) {
        return;
    }
    let mut add = |name: &str, value: String| {
        headers.push(Header {
            name: name.to_owned(),
            value: Some(Bytes::from(value)),
        });
    };
    add(TRACEPARENT, context.to_string());
    if let Some(state) = &context.state {
        add(TRACESTATE, state.clone());
    }
}

/// The context that headers name: exactly one `traceparent` that holds, and what holds of its `tracestate`.
pub(crate) fn from_headers(headers: &[Header]) -> Option<TraceContext> {
    let context = only(headers, TRACEPARENT)?.parse::<TraceContext>().ok()?;
    Some(match only(headers, TRACESTATE) {
        Some(state) => context.with_state(state),
        None => context,
    })
}

/// The text of a header that comes once; of two that contradict each other, neither is believed.
fn only<'h>(headers: &'h [Header], name: &str) -> Option<&'h str> {
    let mut found = headers.iter().filter(|header| header.name == name);
    let header = found.next()?;
    if found.next().is_some() {
        return None;
    }
    std::str::from_utf8(header.value.as_ref()?).ok()
}
