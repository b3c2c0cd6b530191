//! A client of few words: one connection, one request at a time.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    CreateTopicsRequest, FetchRequest, OffsetCommitRequest, ProduceRequest, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, HeaderVersion, Request, StrBytes};
use streamhouse_storage::batch::testing::TestBatch;

use crate::shared;

const START_MAX: Duration = Duration::from_secs(120);
/// The newest that name topics by name.
const PRODUCE_VERSION: i16 = 12;
const FETCH_VERSION: i16 = 12;
const CREATE_VERSION: i16 = 7;
const COMMIT_VERSION: i16 = 9;

pub(crate) struct Client {
    stream: TcpStream,
    answer: Vec<u8>,
}

fn name(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A whole request, to be sent as often as one likes.
pub(crate) fn framed<R: Request>(version: i16, request: &R) -> Bytes {
    shared::framed("metrics-cost", version, 1, request)
}

/// `records` records of 100 bytes in one batch.
pub(crate) fn produce(topic: &str, partition: i32, records: usize) -> Bytes {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let batch = TestBatch {
        values: vec![Bytes::from(vec![b'x'; 100]); records],
        base_timestamp: i64::try_from(now.as_millis()).unwrap(),
        ..TestBatch::default()
    };
    let data = PartitionProduceData::default()
        .with_index(partition)
        .with_records(Some(batch.bytes()));
    let topic = TopicProduceData::default()
        .with_name(TopicName(name(topic)))
        .with_partition_data(vec![data]);
    let request = ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic]);
    framed(PRODUCE_VERSION, &request)
}

/// One partition from its start, as much as `max_bytes`.
pub(crate) fn fetch(topic: &str, max_bytes: i32) -> Bytes {
    let partition = FetchPartition::default().with_partition_max_bytes(max_bytes);
    let topic = FetchTopic::default()
        .with_topic(TopicName(name(topic)))
        .with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_max_bytes(max_bytes)
        .with_min_bytes(1)
        .with_max_wait_ms(500)
        .with_session_epoch(-1)
        .with_topics(vec![topic]);
    framed(FETCH_VERSION, &request)
}

impl Client {
    /// Waits for a server that is still starting.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let began = Instant::now();
        loop {
            match TcpStream::connect(address) {
                Ok(stream) => {
                    stream.set_nodelay(true).unwrap();
                    let answer = Vec::new();
                    return Self { stream, answer };
                }
                Err(error) => assert!(began.elapsed() < START_MAX, "{address}: {error}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Sends a frame and reads its answer.
    pub(crate) fn call(&mut self, frame: &[u8]) -> &[u8] {
        self.stream.write_all(frame).unwrap();
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).unwrap();
        self.answer.resize(u32::from_be_bytes(length) as usize, 0);
        self.stream.read_exact(&mut self.answer).unwrap();
        &self.answer
    }

    pub(crate) fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        decoded::<R>(version, self.call(&framed(version, request)))
    }

    /// Sends a produce, and looks whether it was stored.
    pub(crate) fn produce(&mut self, frame: &[u8]) {
        let answer = decoded::<ProduceRequest>(PRODUCE_VERSION, self.call(frame));
        for partition in answer
            .responses
            .iter()
            .flat_map(|topic| &topic.partition_responses)
        {
            assert_eq!(partition.error_code, 0, "{:?}", partition.error_message);
        }
    }

    /// Sends a fetch; how many bytes of records came.
    pub(crate) fn fetch(&mut self, frame: &[u8]) -> usize {
        let answer = decoded::<FetchRequest>(FETCH_VERSION, self.call(frame));
        let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
        let records = partitions.map(|partition| {
            assert_eq!(partition.error_code, 0);
            partition.records.as_ref().map_or(0, Bytes::len)
        });
        records.sum()
    }

    pub(crate) fn create(&mut self, topics: &[String], partitions: i32) {
        let topics = topics.iter().map(|topic| {
            CreatableTopic::default()
                .with_name(TopicName(name(topic)))
                .with_num_partitions(partitions)
                .with_replication_factor(1)
        });
        let request = CreateTopicsRequest::default()
            .with_timeout_ms(60_000)
            .with_topics(topics.collect());
        for topic in self.ask(CREATE_VERSION, &request).topics {
            assert_eq!(topic.error_code, 0, "{:?}", topic.error_message);
        }
    }

    /// Commits offset 0 in all partitions, for a group without members.
    pub(crate) fn commit(&mut self, group: &str, topics: &[String], partitions: i32) {
        let topics = topics.iter().map(|topic| {
            let partitions = (0..partitions)
                .map(|index| OffsetCommitRequestPartition::default().with_partition_index(index));
            OffsetCommitRequestTopic::default()
                .with_name(TopicName(name(topic)))
                .with_partitions(partitions.collect())
        });
        let request = OffsetCommitRequest::default()
            .with_group_id(name(group).into())
            .with_generation_id_or_member_epoch(-1)
            .with_topics(topics.collect());
        let answer = self.ask(COMMIT_VERSION, &request);
        for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
            assert_eq!(partition.error_code, 0);
        }
    }
}

fn decoded<R: Request>(version: i16, answer: &[u8]) -> R::Response {
    let mut answer = Bytes::copy_from_slice(answer);
    ResponseHeader::decode(&mut answer, R::Response::header_version(version)).unwrap();
    R::Response::decode(&mut answer, version).unwrap()
}
