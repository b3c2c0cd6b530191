//! The fields of a line for people, without what could be taken for another line or for a command to the
//! terminal: every control character in a value is written as its escape.
//!
//! Values come from clients too (a member id, a group, a fault that quotes them), so they are bounded here, for
//! both formats. What is written around them (time, level, names, colours) is ours and stays as it is.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::{RecordFields, VisitOutput as _};
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{DefaultVisitor, Writer};

/// Of one value; what goes beyond it is left out.
pub(super) const VALUE_BYTES_MAX: usize = 2_048;
/// Stands for what was left out.
const CUT: char = '…';

/// Formats fields as the library does, their values escaped.
pub(super) struct PlainFields;

impl<'writer> FormatFields<'writer> for PlainFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = Escaping(DefaultVisitor::new(writer, true));
        fields.record(&mut visitor);
        visitor.0.finish()
    }
}

struct Escaping<'a>(DefaultVisitor<'a>);

impl Visit for Escaping<'_> {
    /// The message is no quoted text, all others are.
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.record_debug(field, &format_args!("{value}"));
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.record_debug(field, &Escaped(value));
    }
}

struct Escaped<'a>(&'a dyn fmt::Debug);

impl fmt::Debug for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = EscapingWriter {
            inner: formatter,
            room: Some(VALUE_BYTES_MAX),
        };
        write!(out, "{:?}", self.0)
    }
}

struct EscapingWriter<'a, 'f> {
    inner: &'a mut fmt::Formatter<'f>,
    /// `None` once something was left out.
    room: Option<usize>,
}

impl Write for EscapingWriter<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            let Some(room) = self.room else { break };
            self.room = room.checked_sub(character.len_utf8());
            if self.room.is_none() {
                return self.inner.write_char(CUT);
            }
            match character {
                '\n' => self.inner.write_str("\\n")?,
                '\r' => self.inner.write_str("\\r")?,
                '\t' => self.inner.write_str("\\t")?,
                '\0'..='\x7f' if character.is_control() => {
                    write!(self.inner, "\\x{:02x}", u32::from(character))?;
                }
                // Ends of lines for some readers, and what turns the direction of writing.
                '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    write!(self.inner, "{}", character.escape_unicode())?;
                }
                control if control.is_control() => write!(self.inner, "{}", control.escape_unicode())?,
                other => self.inner.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// As much of a value as is written; for formats that escape by themselves.
pub(super) fn bound(text: &mut String) {
    if text.len() > VALUE_BYTES_MAX {
        text.truncate(text.floor_char_boundary(VALUE_BYTES_MAX));
        text.push(CUT);
    }
}
