//! `docs/kafka-compatibility.md` is what the code says of itself: the table of what is served, and what
//! the head of each handler's file says about its API.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use kafka_protocol::messages::ApiKey;
use streamhouse_metadata::model::topic_config::{ENTRIES, Use};
use streamhouse_server::handlers::{SERVED, Served};

const INTRODUCTION: &str = "\
# Kafka compatibility

What of the Kafka protocol is served, in which versions, and where behaviour differs from Apache Kafka 4.3.
This page is generated from the code by the test `the_compatibility_page_is_what_the_code_says`; run it with
`UPDATE_DOCS=1` after a change.

In general:

- Every partition has one leader and one replica, the agent that answers; the object store replicates.
- `acks=1` means the same as `acks=all`: what is acknowledged is stored.
- A sequence gap of an idempotent producer is answered with the retriable NOT_ENOUGH_REPLICAS until it has
  lasted long enough that the missing batch can no longer arrive, and only then with
  OUT_OF_ORDER_SEQUENCE_NUMBER.
- What is deleted (topics, records, what retention removes) is gone for readers at once. Its objects are
  deleted when nothing names them any more: after one `retention_check_interval` (5 minutes; retention only),
  one `delete_grace` (60 s) and some seconds of upkeep. What a killed process left half done goes 31 s after
  the next start.
- Segments end with the object that holds them, so a record outlives its limits by what shares its segment,
  and `segment.*` tunes nothing. Retention looks at all segments, the newest too.
- Versions that Kafka 4 no longer serves are not served here either. Of its newest, these are missing, for which
  clients take the one before: ListOffsets v11, OffsetCommit and OffsetFetch v10, DescribeLogDirs v5 and
  WriteTxnMarkers v2. AddPartitionsToTxn v4 and v5 are for brokers.
- Not served at all: SASL, ACLs, credentials and delegation tokens (there is no authentication yet), share groups
  (KIP-932), groups of Kafka Streams (KIP-1071; keys 88 and 89, which the table leaves out), and what brokers and
  controllers ask of each other.
- A request may have 100 MiB if it is a Produce, 8 MiB otherwise, and 400,000 fields, which is room for some 60,000
  partitions; beyond that it costs the connection. So does asking for what cannot be told in 100 MiB, but by a Fetch.
";

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The heads of the files under `handlers` by their first word, without the comment marks.
fn heads() -> BTreeMap<String, String> {
    let mut files = Vec::new();
    sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src/handlers"),
        &mut files,
    );
    let mut heads = BTreeMap::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
        let head: Vec<&str> = lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
        let head = head.join("\n");
        if let Some(word) = head.split_whitespace().next() {
            heads.insert(word.to_owned(), head);
        }
    }
    heads
}

fn versions(min: i16, max: i16) -> String {
    if min == max {
        format!("v{min}")
    } else {
        format!("v{min}–v{max}")
    }
}

/// What a head says about its API, below the sentence that names it.
fn about<'a>(heads: &'a BTreeMap<String, String>, served: &Served) -> &'a str {
    let name = format!("{:?}", served.api);
    let head = heads
        .get(&name)
        .unwrap_or_else(|| panic!("no file under handlers begins with `//! {name} v…`"));
    let expected = format!("{name} {}", versions(served.min, served.max));
    let rest = head
        .strip_prefix(&expected)
        .filter(|rest| rest.starts_with([':', '.']));
    rest.unwrap_or_else(|| panic!("the head of {name}'s file does not begin with `{expected}:`"))
        .trim_start_matches([':', '.'])
        .trim()
}

fn page() -> String {
    let heads = heads();
    let mut page = INTRODUCTION.to_owned();
    page += "\n## APIs\n\n| key | API | served |\n|---|---|---|\n";
    for api in ApiKey::iter() {
        let served = SERVED.iter().find(|served| served.api == api);
        let cell = served.map_or("–".to_owned(), |served| versions(served.min, served.max));
        let _ = writeln!(page, "| {} | {api:?} | {cell} |", api as i16);
    }
    page += "\n## What there is to know about each\n";
    for served in SERVED {
        let _ = write!(page, "\n### {:?}\n\n{}\n", served.api, about(&heads, served));
    }
    page += "\n## Topic configuration\n\nAny other name is refused as unknown.\n\n";
    page += "| name | default | honoured | |\n|---|---|---|---|\n";
    for entry in ENTRIES {
        let honoured = match entry.used {
            Use::Honoured => "yes",
            Use::Kept => "kept and reported",
        };
        let _ = writeln!(
            page,
            "| `{}` | {} | {honoured} | {} |",
            entry.name, entry.default, entry.doc
        );
    }
    page
}

#[test]
fn the_compatibility_page_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/kafka-compatibility.md");
    let expected = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == expected,
        "docs/kafka-compatibility.md is out of date: UPDATE_DOCS=1 writes it anew"
    );
}

#[test]
fn what_is_served_is_sorted_named_in_metrics_and_known_to_the_protocol() {
    assert!(
        SERVED
            .windows(2)
            .all(|pair| (pair[0].api as i16) < pair[1].api as i16)
    );
    for served in SERVED {
        let known = served.api.valid_versions();
        assert!(
            known.min <= served.min && served.max <= known.max,
            "{:?} {known}",
            served.api
        );
        assert_eq!(
            streamhouse_server::listener::api_name(served.api),
            format!("{:?}", served.api)
        );
    }
}
