//! An object can be read and checked without the metadata; a damaged one says so.

use bytes::Bytes;
use object_store::path::Path;
use proptest::prelude::{any, proptest};
use streamhouse_metadata::ids::{IncarnationId, ObjectName, TopicId, TopicPartition};
use uuid::Uuid;

use super::{Counters, FormatError, Part, build, key_of, open_index, parse_key, prefix_of, verify_segment};

fn part(topic: u128, partition: i32, bytes: &'static [u8]) -> Part {
    let partition = TopicPartition {
        topic: TopicId(Uuid::from_u128(topic)),
        partition,
    };
    Part {
        partition,
        bytes: Bytes::from_static(bytes),
        batch_count: 1,
        record_count: 2,
    }
}

fn object() -> Vec<u8> {
    build(&[
        part(1, 0, b"first"),
        part(1, 0, b"second"),
        part(1, 11, b"third"),
        part(2, -1, b"x"),
    ])
    .payload
    .concat()
}

#[test]
fn an_object_tells_its_segments() {
    let object = object();
    let index = open_index(&object).unwrap();
    let told: Vec<_> = index
        .iter()
        .map(|entry| {
            let bytes = &object[entry.position as usize..][..entry.length_bytes as usize];
            verify_segment(entry, bytes).unwrap();
            (
                entry.partition.partition,
                bytes.to_vec(),
                entry.batch_count,
                entry.record_count,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (0, b"firstsecond".to_vec(), 2, 4),
            (11, b"third".to_vec(), 1, 2),
            (-1, b"x".to_vec(), 1, 2)
        ]
    );
}

#[test]
fn the_stored_format_does_not_change() {
    // A change of these bytes is a new version of the format: it needs an ADR and this fixture stays.
    let object = build(&[part(0x0102, 3, b"ab")]).payload.concat();
    let hex: String = object.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        concat!(
            "6162",
            "00000000000000000000000000000102",
            "00000003",
            "0000000000000000",
            "00000002",
            "00000001",
            "00000002",
            "e2a22936",
            "00000001",
            "5319d08f",
            "0001",
            "0000",
            "5354524d484f5553"
        )
    );
}

#[test]
fn damage_is_named() {
    let whole = object();
    let entry = open_index(&whole).unwrap()[0];
    assert_eq!(
        verify_segment(&entry, b"firstsecone"),
        Err(FormatError::SegmentCrc(entry.partition))
    );
    let mut footer = whole.clone();
    let at = footer.len() - 30;
    footer[at] ^= 1;
    assert_eq!(open_index(&footer), Err(FormatError::FooterCrc));
    let mut version = whole.clone();
    let at = version.len() - 11;
    version[at] = 9;
    assert_eq!(open_index(&version), Err(FormatError::Version(9)));
    assert_eq!(open_index(&whole[..whole.len() - 1]), Err(FormatError::Magic));
    assert_eq!(open_index(b"short"), Err(FormatError::Short(5)));
}

#[test]
fn keys_are_read_back_and_foreign_ones_are_not_ours() {
    let name = ObjectName {
        incarnation: IncarnationId(Uuid::from_u128(7)),
        counter: 42,
    };
    let key = key_of(&name);
    assert_eq!(
        key.as_ref(),
        "objects/00000000-0000-0000-0000-000000000007/00000000000000000042"
    );
    assert_eq!(parse_key(&key), Some(name));
    assert!(key.prefix_matches(&prefix_of(name.incarnation)));
    for foreign in [
        "objects/x/1",
        "objects/00000000-0000-0000-0000-000000000007/42",
        "cluster.json",
        "",
    ] {
        assert_eq!(parse_key(&Path::from(foreign)), None, "{foreign}");
    }
}

#[test]
fn the_lowest_undecided_counter_passes_over_what_is_decided() {
    let counters = Counters::default();
    assert_eq!(counters.lowest_undecided(), 1);
    let (first, second) = (counters.next(), counters.next());
    counters.decided(second);
    assert_eq!(counters.lowest_undecided(), first);
    counters.decided(first);
    assert_eq!(counters.lowest_undecided(), 3);
}

proptest! {
    #[test]
    fn hostile_objects_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), count in any::<u32>()) {
        let mut object = bytes;
        object.extend_from_slice(&count.to_be_bytes());
        object.extend_from_slice(&[0; 4]);
        object.extend_from_slice(&[0, 1, 0, 0]);
        object.extend_from_slice(b"STRMHOUS");
        let _ = open_index(&object);
    }
}
