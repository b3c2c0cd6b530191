//! Logging end to end: what is written, and what is counted.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;
use crate::families::MetricsOptions;

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Logs through a subscriber of its own and returns what was written.
fn logged(filter: &str, format: LogFormat, metrics: &Metrics, log: impl FnOnce()) -> String {
    let out = Captured::default();
    let options = LogOptions {
        filter: filter.to_owned(),
        format,
    };
    let (subscriber, guard) = build(&options, metrics.log_events.clone(), out.clone(), false, None).unwrap();
    tracing::dispatcher::with_default(&subscriber, log);
    drop(guard);
    let bytes = out.0.lock().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_json_line_is_flat_with_the_fields_of_event_and_spans_and_the_inner_name_wins() {
    let metrics = Metrics::new(MetricsOptions::default());
    let text = logged("info", LogFormat::Json, &metrics, || {
        let outer = tracing::info_span!("request", client_id = "c\"1", topic = "outer");
        let _in_outer = outer.enter();
        tracing::warn!(
            topic = "orders",
            partition = 3,
            duration_ms = 1.5,
            retry = true,
            "put {}",
            "failed"
        );
    });
    let mut line: Value = serde_json::from_str(&text).unwrap();
    let fields = line.as_object_mut().unwrap();
    assert!(
        fields
            .remove("timestamp")
            .unwrap()
            .as_str()
            .unwrap()
            .ends_with('Z')
    );
    assert_eq!(
        line,
        json!({
            "level": "WARN", "target": module_path!(), "message": "put failed", "client_id": "c\"1",
            "topic": "orders", "partition": 3, "duration_ms": 1.5, "retry": true,
        })
    );
    assert!(
        text.starts_with("{\"timestamp\":") && text.ends_with("}\n"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1);
}

#[test]
fn events_are_counted_by_level_when_the_filter_lets_them_through() {
    let metrics = Metrics::new(MetricsOptions::default());
    let text = logged("info", LogFormat::Human, &metrics, || {
        tracing::error!(topic = "orders", "given up");
        tracing::info!("one");
        tracing::info!("two");
        tracing::debug!("not logged");
    });
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(
        text.contains("ERROR") && text.contains("given up topic=\"orders\""),
        "{text}"
    );
    let count = |level| metrics.log_events.events(level).value();
    assert_eq!(
        (
            count(LogLevel::Error),
            count(LogLevel::Info),
            count(LogLevel::Debug)
        ),
        (1, 2, 0)
    );
}

#[test]
fn a_newline_in_a_field_does_not_make_a_second_json_line() {
    let metrics = Metrics::new(MetricsOptions::default());
    let text = logged("info", LogFormat::Json, &metrics, || {
        tracing::info!(topic = "a\nb", "x\ny");
    });
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn a_value_with_a_line_in_it_forges_none_in_the_log_for_people() {
    let metrics = Metrics::new(MetricsOptions::default());
    let forged = "c\n2026-01-01T00:00:00.000000Z ERROR streamhouse: all is lost\r\u{1b}[2J\u{85}x\u{7f}";
    let text = logged("info", LogFormat::Human, &metrics, || {
        let span = tracing::info_span!("request", client_id = %forged);
        let _in_span = span.enter();
        tracing::warn!(fault = %forged, error = ?forged, "refused {forged}");
    });
    let line = text.strip_suffix('\n').unwrap();
    assert!(!line.contains(char::is_control), "{line:?}");
    let escaped = "c\\n2026-01-01T00:00:00.000000Z ERROR streamhouse: all is lost\\r\\x1b[2J\\u{85}x\\x7f";
    for shown in ["client_id=", "refused ", "fault="] {
        assert!(line.contains(&format!("{shown}{escaped}")), "{shown} in {line}");
    }
}

#[test]
fn a_panic_is_an_error_in_the_log_with_its_place_and_text() {
    let metrics = Metrics::new(MetricsOptions::default());
    log_panics();
    let text = logged("info", LogFormat::Json, &metrics, || {
        let panicked = std::panic::catch_unwind(|| panic!("number {}", 7));
        assert!(panicked.is_err());
    });
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&line["level"], &line["error"], &line["message"]),
        (&json!("ERROR"), &json!("number 7"), &json!("a thread panicked"))
    );
    assert!(line["location"].as_str().unwrap().contains("tests.rs:"), "{text}");
    assert_eq!(metrics.log_events.events(LogLevel::Error).value(), 1);
}

#[test]
fn a_value_without_end_is_cut_in_both_formats() {
    let metrics = Metrics::new(MetricsOptions::default());
    let long = "é".repeat(plain::VALUE_BYTES_MAX);
    for format in [LogFormat::Human, LogFormat::Json] {
        let text = logged("info", format, &metrics, || {
            let span = tracing::info_span!("request", client_id = long);
            let _in_span = span.enter();
            tracing::warn!(member = %long, partition = 7, "refused");
        });
        assert!(text.len() < 2 * plain::VALUE_BYTES_MAX + 400, "{}", text.len());
        assert!(text.contains("é…") && text.contains('7'), "{text}");
    }
}

#[test]
fn a_filter_and_a_format_that_do_not_parse_are_refused_by_name() {
    let metrics = Metrics::new(MetricsOptions::default());
    let options = LogOptions {
        filter: "a=b=c".to_owned(),
        format: LogFormat::Json,
    };
    let error = build(&options, metrics.log_events.clone(), io::sink(), false, None)
        .err()
        .unwrap();
    assert!(
        matches!(&error, LogError::Filter { filter, .. } if filter == "a=b=c"),
        "{error}"
    );
    assert!(matches!("xml".parse::<LogFormat>(), Err(LogError::Format(found)) if found == "xml"));
    assert_eq!("json".parse::<LogFormat>().unwrap(), LogFormat::Json);
}

#[test]
fn the_line_about_dropped_lines_is_json_where_lines_are() {
    let line: Value = serde_json::from_str(&dropped_line(LogFormat::Json, 7)).unwrap();
    assert_eq!((&line["level"], &line["dropped"]), (&json!("WARN"), &json!(7)));
}

#[test]
fn the_filter_changes_while_the_process_runs_and_a_wrong_one_leaves_it_as_it_was() {
    let metrics = Metrics::new(MetricsOptions::default());
    let out = Captured::default();
    let (subscriber, guard) = build(
        &LogOptions::default(),
        metrics.log_events.clone(),
        out.clone(),
        false,
        None,
    )
    .unwrap();
    let level = guard.level();
    tracing::dispatcher::with_default(&subscriber, || {
        for (filter, taken) in [
            ("info", true),
            ("debug", true),
            ("x=nonsense", false),
            ("warn", true),
        ] {
            assert_eq!(level.change(filter).is_ok(), taken, "{filter}");
            tracing::debug!("said under {filter}");
        }
    });
    assert_eq!(level.current(), "warn");
    drop(guard);
    let text = String::from_utf8(out.0.lock().clone()).unwrap();
    let said: Vec<_> = text
        .lines()
        .filter_map(|line| line.split("said under ").nth(1))
        .collect();
    assert_eq!(said, ["debug", "x=nonsense"]);
}

#[test]
fn what_other_peoples_code_says_below_info_is_never_written() {
    let metrics = Metrics::new(MetricsOptions::default());
    let log = || {
        tracing::trace!(target: "hyper_util::client", authorization = "AWS4-HMAC-SHA256", "a request");
        tracing::debug!(target: "reqwest::connect", "connecting");
        tracing::info!(target: "rustls", "of interest");
        tracing::trace!("ours");
    };
    for filter in ["trace", "trace,hyper_util=trace,reqwest=debug"] {
        let text = logged(filter, LogFormat::Human, &metrics, log);
        assert!(text.contains("of interest") && text.contains("ours"), "{text}");
        assert_eq!(text.lines().count(), 2, "{text}");
    }
}

/// Takes every span and no event, as the export of traces does.
#[derive(Clone, Default)]
struct SpanNames(Arc<Mutex<Vec<&'static str>>>);

impl<S: Subscriber> Layer<S> for SpanNames {
    fn on_new_span(&self, attributes: &tracing::span::Attributes<'_>, _: &tracing::Id, _: Context<'_, S>) {
        self.0.lock().push(attributes.metadata().name());
    }
}

#[test]
fn spans_go_to_traces_whatever_the_level_of_the_log_and_change_none_of_its_lines() {
    let metrics = Metrics::new(MetricsOptions::default());
    let log = || {
        let span = tracing::debug_span!("request", correlation_id = "c-1");
        let _in_span = span.enter();
        tracing::debug!("detail");
        tracing::info!("said");
    };
    let options = LogOptions::default();
    let (out, names) = (Captured::default(), SpanNames::default());
    let spans = names
        .clone()
        .with_filter(filter_fn(|metadata| metadata.is_span() && is_ours(metadata)))
        .boxed();
    let (dispatch, guard) = build(
        &options,
        metrics.log_events.clone(),
        out.clone(),
        false,
        Some(spans),
    )
    .unwrap();
    let level = guard.level();
    tracing::dispatcher::with_default(&dispatch, || {
        log();
        level.change("debug").unwrap();
        log();
    });
    drop(guard);
    let text = String::from_utf8(out.0.lock().clone()).unwrap();
    let said: Vec<_> = text
        .lines()
        .map(|line| (line.contains("c-1"), line.rsplit(' ').next().unwrap_or_default()))
        .collect();
    assert_eq!(said, [(false, "said"), (true, "detail"), (true, "said")]);
    assert_eq!(*names.0.lock(), ["request", "request"]);
    let counted = [LogLevel::Info, LogLevel::Debug].map(|level| metrics.log_events.events(level).value());
    assert_eq!(counted, [2, 1]);
}
