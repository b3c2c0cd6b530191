//! Every field of a log line or span stands in `docs/logging.md`, and every field that stands there is written.
//!
//! Read off the source: fields are names in the arguments of `tracing`'s macros. Left out are tests, the client
//! (a program of its own logs there) and xtask.

#![allow(clippy::unwrap_used)] // a test in helpers: a failure is the result

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{Group, TokenStream, TokenTree};

const CRATES: [&str; 4] = ["observability", "metadata", "storage", "server"];
const MACROS: [&str; 12] = [
    "error",
    "warn",
    "info",
    "debug",
    "trace",
    "event",
    "error_span",
    "warn_span",
    "info_span",
    "debug_span",
    "trace_span",
    "span",
];
/// What the forms of a line write beside fields.
const OF_EVERY_LINE: [&str; 4] = ["timestamp", "level", "target", "message"];
/// The line about dropped lines is written without a macro: it must not be dropped as well.
const BY_HAND: [&str; 1] = ["dropped"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            sources(&path, found);
        } else if name.ends_with(".rs") && name != "tests.rs" && !name.ends_with("_tests.rs") {
            found.push(path);
        }
    }
}

/// The arguments of a macro, divided by commas.
fn arguments(group: &Group) -> Vec<Vec<TokenTree>> {
    let mut arguments = vec![Vec::new()];
    for token in group.stream() {
        match &token {
            TokenTree::Punct(comma) if comma.as_char() == ',' => arguments.push(Vec::new()),
            _ => arguments.last_mut().unwrap().push(token),
        }
    }
    arguments
}

fn is(token: Option<&TokenTree>, character: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == character)
}

/// The name of the field that an argument writes: `name = …`, `%name`, `?name` or `name`.
fn field(argument: &[TokenTree]) -> Option<String> {
    let sigil = usize::from(is(argument.first(), '%') || is(argument.first(), '?'));
    let mut tokens = argument[sigil..].iter();
    let Some(TokenTree::Ident(name)) = tokens.next() else {
        return None;
    };
    match tokens.next() {
        // `target: …`, `parent: …`
        token if is(token, ':') => None,
        token if token.is_none() || is(token, '=') => Some(name.to_string()),
        token => panic!("a field that this test does not understand: {name} {token:?}"),
    }
}

/// What is found in the source.
#[derive(Default)]
struct Found {
    /// Each field, and where it is written first.
    fields: BTreeMap<String, String>,
    /// Messages at WARN and ERROR of lines that are not held back when they repeat.
    each_time: BTreeSet<String>,
}

fn take_line(group: &Group, name: &str, place: &str, found: &mut Found) {
    let mut own = Found::default();
    take_fields(group, place, &mut own);
    if matches!(name, "warn" | "error") && !own.fields.contains_key("suppressed") {
        let arguments = arguments(group);
        let literal = arguments.iter().find_map(|argument| match argument.as_slice() {
            [TokenTree::Literal(literal)] => Some(literal.to_string()),
            _ => None,
        });
        found
            .each_time
            .insert(literal.unwrap().trim_matches('"').to_owned());
    }
    for (field, place) in own.fields {
        found.fields.entry(field).or_insert(place);
    }
}

fn take_fields(group: &Group, place: &str, found: &mut Found) {
    for argument in arguments(group) {
        match argument.as_slice() {
            // The name of a span stands before its fields.
            [TokenTree::Literal(_)] if place.ends_with("span") => continue,
            // The message ends the fields: what follows is put into it.
            [TokenTree::Literal(_)] => return,
            [dollar, ..] if is(Some(dollar), '$') => return,
            _ => {}
        }
        if let Some(name) = field(&argument) {
            found.fields.entry(name).or_insert_with(|| place.to_owned());
        }
    }
}

fn walk(stream: TokenStream, file: &str, found: &mut Found) {
    let mut before: Vec<String> = Vec::new();
    for token in stream {
        match token {
            TokenTree::Group(group) => {
                let last: Vec<&str> = before.iter().rev().take(5).map(String::as_str).collect();
                match last.as_slice() {
                    ["!", name, ":", ":", "tracing"] if MACROS.contains(name) => {
                        take_line(&group, name, &format!("{file}: {name}"), found);
                    }
                    // A macro of a file's own that passes the level on.
                    ["!", _, "$", ":", ":"] => take_fields(&group, &format!("{file}: macro"), found),
                    ["instrument"] | ["instrument", ":", ":", "tracing"] => instrument(&group, file, found),
                    ["tests", "mod", ..] => {}
                    _ => walk(group.stream(), file, found),
                }
                before.clear();
            }
            other => before.push(other.to_string()),
        }
    }
}

/// `#[instrument(level = "debug", skip_all, fields(…))]`. Without `skip_all` every argument would be a field.
fn instrument(group: &Group, file: &str, found: &mut Found) {
    let mut tokens = group.stream().into_iter();
    let mut skips = false;
    while let Some(token) = tokens.next() {
        if let TokenTree::Ident(name) = token {
            skips |= name == "skip_all";
            if name == "fields"
                && let Some(TokenTree::Group(fields)) = tokens.next()
            {
                take_fields(&fields, &format!("{file}: span"), found);
            }
        }
    }
    assert!(
        skips,
        "{file}: an instrument without skip_all writes arguments nobody has looked at"
    );
}

fn written() -> Found {
    let mut found = Found::default();
    for name in CRATES {
        let mut files = Vec::new();
        sources(
            &root()
                .join("crates")
                .join(format!("streamhouse-{name}"))
                .join("src"),
            &mut files,
        );
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let stream: TokenStream = text.parse().unwrap();
            walk(stream, &file.display().to_string(), &mut found);
        }
    }
    for name in OF_EVERY_LINE.iter().chain(&BY_HAND) {
        let place = "the line's form".to_owned();
        found.fields.insert((*name).to_owned(), place);
    }
    found
}

/// Lines at WARN and ERROR that cannot repeat in a loop, or each time say something new.
const EACH_TIME: [&str; 19] = [
    // Once, at the start.
    "the clock was ahead in an earlier run; what the metadata store stamps goes on from there",
    "the log of the metadata store could not be copied into it",
    // The agent ends or starts anew after these.
    "stopping: the disk did not confirm a write",
    "the Kafka listener ended abnormally",
    "the metadata store cannot be trusted",
    "the metadata store did not close cleanly",
    "the store remembers other commits than this agent made",
    "the writer ended abnormally",
    "this agent was fenced: it starts anew",
    "fenced: closing all connections",
    // Every ten minutes, every hour.
    "expiring consumer groups failed; tried again later",
    "expiring transactional ids failed; tried again later",
    // A change of state.
    "component has failed",
    // Which object, each time another.
    "a stored object is damaged",
    "a stored object is missing",
    "a stored segment is damaged",
    // Mistakes in this program.
    "a swap was asked for whose new rows do not cover the old ones",
    "connection closed: our answer was wrong",
    "the writing half of a connection panicked",
];

#[test]
fn what_can_repeat_at_warn_and_error_says_what_it_held_back() {
    let expected = EACH_TIME.iter().map(|message| (*message).to_owned());
    assert_eq!(
        written().each_time,
        expected.collect(),
        "a line that can repeat asks logging::admit and writes `suppressed`; one that cannot is listed here"
    );
}

/// The first cells of the tables whose first column is called `field`.
fn documented() -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("docs/logging.md")).unwrap();
    let mut names = BTreeSet::new();
    let mut in_table = false;
    for line in text.lines() {
        let first = line.strip_prefix('|').and_then(|rest| rest.split('|').next());
        match first.map(str::trim) {
            None => in_table = false,
            Some("field") => in_table = true,
            Some(cell) if in_table => {
                names.extend(cell.split('`').skip(1).step_by(2).map(str::to_owned));
            }
            Some(_) => {}
        }
    }
    names
}

#[test]
fn every_field_that_is_written_is_documented_and_the_other_way_round() {
    let (written, documented) = (written().fields, documented());
    assert!(written.len() > 40, "the source was not read: {written:?}");
    let missing: Vec<_> = written
        .iter()
        .filter(|(name, _)| !documented.contains(*name))
        .collect();
    let gone: Vec<_> = documented
        .iter()
        .filter(|name| !written.contains_key(*name))
        .collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "docs/logging.md lacks {missing:#?} and has what nobody writes: {gone:#?}"
    );
}
