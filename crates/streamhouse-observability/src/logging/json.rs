//! The JSON form of a log line: one flat object, `timestamp`, `level`, `target` and `message` first,
//! then the fields of the event and of the spans around it. The inner name wins.
//!
//! Flat, because the field names are the labels of the metrics: the same query word finds both.

use std::fmt;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields};
use tracing_subscriber::registry::{LookupSpan, Scope};

use super::plain::bound;

pub(super) struct FlatJson;

impl<S> FormatEvent<S, JsonFields> for FlatJson
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Map::new();
        for span in context.event_scope().into_iter().flat_map(Scope::from_root) {
            let extensions = span.extensions();
            let text = extensions
                .get::<FormattedFields<JsonFields>>()
                .map_or("", |fields| fields.as_str());
            if let Ok(Value::Object(mut of_span)) = serde_json::from_str(text) {
                for (_, value) in &mut of_span {
                    if let Value::String(text) = value {
                        bound(text);
                    }
                }
                fields.extend(of_span);
            }
        }
        let mut visitor = Fields {
            message: String::new(),
            fields,
        };
        event.record(&mut visitor);
        let Fields { message, mut fields } = visitor;
        let metadata = event.metadata();
        let head = [
            ("timestamp", timestamp()),
            ("level", metadata.level().to_string()),
            ("target", metadata.target().to_owned()),
            ("message", message),
        ];
        writer.write_char('{')?;
        for (index, (name, value)) in head.into_iter().enumerate() {
            fields.remove(name);
            if index > 0 {
                writer.write_char(',')?;
            }
            write!(writer, "\"{name}\":{}", Value::String(value))?;
        }
        for (name, value) in fields {
            write!(writer, ",{}:{value}", Value::String(name))?;
        }
        writer.write_str("}\n")
    }
}

pub(super) fn timestamp() -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

struct Fields {
    message: String,
    fields: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, mut value: Value) {
        if let Value::String(text) = &mut value {
            bound(text);
        }
        if field.name() == "message" {
            self.message = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        } else {
            self.fields.insert(field.name().to_owned(), value);
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::from(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::from(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Value::from(format!("{value:?}")));
    }
}
