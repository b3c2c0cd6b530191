//! A Produce request taken apart by hand, v3–v13: the records stay slices of the frame.
//!
//! The message crate would do as much, but its vectors come from counts of the wire, and Produce is the
//! one request that may be 100 MiB. Here a first walk counts the partitions without keeping anything,
//! so that the caller can charge what the second one will allocate.

use bytes::Bytes;

use crate::handlers::topics::TopicKey;
use crate::listener::wire::{Cursor, WireError};

/// What one partition of a request may cost us in memory, from decoding to the answer, bytes.
pub const PARTITION_COST_BYTES: usize = 512;

/// First version with flexible encoding, and first that names topics by id.
const FLEXIBLE: i16 = 9;
const TOPIC_IDS: i16 = 13;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceRequest {
    pub transactional: bool,
    pub acks: i16,
    pub timeout_ms: i32,
    pub topics: Vec<TopicData>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicData {
    pub key: TopicKey,
    pub partitions: Vec<PartitionData>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionData {
    pub index: i32,
    /// A slice of the frame; empty where the request has null.
    pub records: Bytes,
}

/// How many partitions a body holds. Keeps nothing, and refuses all that [`decode`] refuses.
pub fn count_partitions(body: &Bytes, version: i16) -> Result<usize, WireError> {
    let mut partitions = 0;
    walk(body, version, |event| {
        if matches!(event, Event::Partition(_)) {
            partitions += 1;
        }
    })?;
    Ok(partitions)
}

/// Takes the body apart.
pub fn decode(body: &Bytes, version: i16) -> Result<ProduceRequest, WireError> {
    let mut topics: Vec<TopicData> = Vec::new();
    let (transactional, acks, timeout_ms) = walk(body, version, |event| match event {
        Event::Topic(key) => topics.push(TopicData {
            key,
            partitions: Vec::new(),
        }),
        Event::Partition(partition) => {
            if let Some(topic) = topics.last_mut() {
                topic.partitions.push(partition);
            }
        }
    })?;
    Ok(ProduceRequest {
        transactional,
        acks,
        timeout_ms,
        topics,
    })
}

enum Event {
    Topic(TopicKey),
    /// Belongs to the last topic.
    Partition(PartitionData),
}

/// Walks the body and tells what it meets.
fn walk(body: &Bytes, version: i16, mut tell: impl FnMut(Event)) -> Result<(bool, i16, i32), WireError> {
    let flexible = version >= FLEXIBLE;
    let mut cursor = Cursor::new(body.clone());
    let transactional = cursor.nullable_text(flexible)?.is_some();
    let acks = cursor.i16()?;
    let timeout_ms = cursor.i32()?;
    for _ in 0..cursor.count(flexible, 2)? {
        let key = if version >= TOPIC_IDS {
            TopicKey::Id(cursor.uuid()?)
        } else {
            TopicKey::Name(cursor.text(flexible)?.to_string())
        };
        tell(Event::Topic(key));
        for _ in 0..cursor.count(flexible, 5)? {
            let index = cursor.i32()?;
            let records = cursor.nullable_bytes(flexible)?.unwrap_or_default();
            if flexible {
                cursor.tagged_fields()?;
            }
            tell(Event::Partition(PartitionData { index, records }));
        }
        if flexible {
            cursor.tagged_fields()?;
        }
    }
    if flexible {
        cursor.tagged_fields()?;
    }
    Ok((transactional, acks, timeout_ms))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::produce_request as theirs;
    use kafka_protocol::messages::{ProduceRequest as Theirs, TopicName};
    use kafka_protocol::protocol::{Encodable, StrBytes};

    use uuid::Uuid;

    use super::*;

    fn encoded(version: i16) -> Bytes {
        let partition = |index, records: Option<&'static [u8]>| {
            theirs::PartitionProduceData::default()
                .with_index(index)
                .with_records(records.map(Bytes::from_static))
        };
        let mut topic = theirs::TopicProduceData::default()
            .with_partition_data(vec![partition(3, Some(b"abc")), partition(4, None)]);
        if version >= 13 {
            topic = topic.with_topic_id(Uuid::from_u128(7));
        } else {
            topic = topic.with_name(TopicName(StrBytes::from_static_str("orders")));
        }
        let request = Theirs::default()
            .with_acks(-1)
            .with_timeout_ms(1500)
            .with_topic_data(vec![topic]);
        let mut bytes = BytesMut::new();
        request.encode(&mut bytes, version).unwrap();
        bytes.freeze()
    }

    #[test]
    fn every_version_of_another_encoder_is_understood() {
        for version in 3..=13 {
            let body = encoded(version);
            assert_eq!(count_partitions(&body, version), Ok(2));
            let request = decode(&body, version).unwrap();
            let key = if version >= 13 {
                TopicKey::Id(Uuid::from_u128(7))
            } else {
                TopicKey::Name("orders".to_owned())
            };
            assert_eq!(
                request,
                ProduceRequest {
                    transactional: false,
                    acks: -1,
                    timeout_ms: 1500,
                    topics: vec![TopicData {
                        key,
                        partitions: vec![
                            PartitionData {
                                index: 3,
                                records: Bytes::from_static(b"abc")
                            },
                            PartitionData {
                                index: 4,
                                records: Bytes::new()
                            },
                        ]
                    }]
                }
            );
        }
    }

    #[test]
    fn records_are_slices_of_the_frame() {
        let body = encoded(9);
        let request = decode(&body, 9).unwrap();
        let records = &request.topics[0].partitions[0].records;
        assert!(body.as_ptr_range().contains(&records.as_ptr()));
    }

    #[test]
    fn every_truncation_is_an_error_and_no_panic() {
        for version in 3..=13 {
            let body = encoded(version);
            for length in 0..body.len() {
                assert!(
                    decode(&body.slice(..length), version).is_err(),
                    "v{version} {length}"
                );
            }
        }
    }
}
