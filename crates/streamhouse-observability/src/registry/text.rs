//! Prometheus text format 0.0.4: samples, numbers and escaping.
//!
//! Numbers are written as exact decimals without exponents: integers as they are, nanoseconds as
//! seconds with up to nine digits. Only values that come in as `f64` go through float formatting.

use std::fmt::Write as _;

/// The content type of everything rendered here. There is no negotiation: OpenMetrics changes `le`.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(crate) fn header(out: &mut String, name: &str, help: &str, kind: &str) {
    out.push_str("# HELP ");
    out.push_str(name);
    out.push(' ');
    for character in help.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
    out.push_str("\n# TYPE ");
    out.push_str(name);
    out.push(' ');
    out.push_str(kind);
    out.push('\n');
}

pub(crate) fn sample(
    out: &mut String,
    name: &str,
    suffix: &str,
    labels: &str,
    value: impl FnOnce(&mut String),
) {
    out.push_str(name);
    out.push_str(suffix);
    if !labels.is_empty() {
        out.push('{');
        out.push_str(labels);
        out.push('}');
    }
    out.push(' ');
    value(out);
    out.push('\n');
}

/// Appends `key="value"`, with a comma before it unless it is the first.
pub(crate) fn label(out: &mut String, key: &str, value: &str) {
    if !out.is_empty() {
        out.push(',');
    }
    out.push_str(key);
    out.push_str("=\"");
    for character in value.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
    out.push('"');
}

pub(crate) fn unsigned(out: &mut String, value: u64) {
    let _ = write!(out, "{value}");
}

pub(crate) fn signed(out: &mut String, value: i64) {
    let _ = write!(out, "{value}");
}

pub(crate) fn float(out: &mut String, value: f64) {
    if value == f64::INFINITY {
        out.push_str("+Inf");
    } else if value == f64::NEG_INFINITY {
        out.push_str("-Inf");
    } else {
        let _ = write!(out, "{value}");
    }
}

pub(crate) fn nanos_as_seconds(out: &mut String, nanos: u64) {
    const PER_SECOND: u64 = 1_000_000_000;
    unsigned(out, nanos / PER_SECOND);
    let rest = nanos % PER_SECOND;
    if rest > 0 {
        let _ = write!(out, ".{rest:09}");
        out.truncate(out.trim_end_matches('0').len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        write(&mut out);
        out
    }

    #[test]
    fn seconds_are_exact_decimals_without_trailing_zeros() {
        for (nanos, expected) in [
            (0, "0"),
            (1, "0.000000001"),
            (50_000, "0.00005"),
            (1_000_000_000, "1"),
            (2_500_000_000, "2.5"),
            (10_000_000_000, "10"),
            (100_000_000_000, "100"),
        ] {
            assert_eq!(written(|out| nanos_as_seconds(out, nanos)), expected);
        }
    }

    #[test]
    fn label_values_escape_backslash_quote_and_newline() {
        assert_eq!(
            written(|out| label(out, "topic", "a\\b\"c\nd")),
            r#"topic="a\\b\"c\nd""#
        );
    }

    #[test]
    fn help_escapes_backslash_and_newline_but_not_quotes() {
        let text = written(|out| header(out, "x", "a\\b\n\"c\"", "gauge"));
        assert_eq!(text, "# HELP x a\\\\b\\n\"c\"\n# TYPE x gauge\n");
    }

    #[test]
    fn floats_use_the_words_of_the_format() {
        assert_eq!(written(|out| float(out, f64::INFINITY)), "+Inf");
        assert_eq!(written(|out| float(out, f64::NAN)), "NaN");
        assert_eq!(written(|out| float(out, 0.25)), "0.25");
        assert_eq!(written(|out| float(out, 3.0)), "3");
    }
}
