//! The agent under test and a client that can send anything.

#[path = "../../examples/shared/frame.rs"]
mod wire;

use std::net::SocketAddr;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::ResponseHeader;
use kafka_protocol::protocol::{Decodable, HeaderVersion, Request, StrBytes};
use kafka_protocol::records::{
    Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use streamhouse_observability::{Health, Metrics, MetricsOptions};
use streamhouse_server::config::{Config, Layer};
use streamhouse_server::start::{House, Running, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use wire::framed;

pub(crate) struct Server {
    pub(crate) running: Running,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with("").await
    }

    /// `settings` is TOML; stores in memory and free ports are given.
    pub(crate) async fn with(settings: &str) -> Self {
        let mut layer: Layer = toml::from_str(settings).unwrap();
        layer.kafka_listen = Some("127.0.0.1:0".to_owned());
        layer.object_store.get_or_insert("memory:".to_owned());
        layer.metadata.get_or_insert("memory:".to_owned());
        let house = House {
            config: Config::resolve(layer).unwrap(),
            metrics: Metrics::new(MetricsOptions::default()),
            health: Health::new(),
            stop: CancellationToken::new(),
        };
        Self {
            running: start(house).await.unwrap(),
        }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.running.kafka).await
    }

    /// The value of a series, as a scrape shows it; 0 when it is not there.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = self.running.agent.metrics.render();
        text.lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
            .map_or(0.0, |value| value.parse().unwrap())
    }
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    correlation: i32,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self {
            stream: TcpStream::connect(address).await.unwrap(),
            correlation: 0,
        }
    }

    /// Sends a request without waiting; returns its correlation id.
    pub(crate) async fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        self.correlation += 1;
        let frame = frame(version, self.correlation, request);
        self.stream.write_all(&frame).await.unwrap();
        self.correlation
    }

    /// The next response, which has to be complete in that version and carry `correlation`.
    pub(crate) async fn receive<R: Request>(&mut self, version: i16, correlation: i32) -> R::Response {
        let mut frame = self.receive_frame().await.expect("the connection is open");
        let header = ResponseHeader::decode(&mut frame, R::Response::header_version(version)).unwrap();
        assert_eq!(header.correlation_id, correlation);
        let response = R::Response::decode(&mut frame, version).unwrap();
        assert!(
            !frame.has_remaining(),
            "bytes after the response of version {version}"
        );
        response
    }

    pub(crate) async fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let correlation = self.send(version, request).await;
        self.receive::<R>(version, correlation).await
    }

    /// `None` when the server closed the connection.
    pub(crate) async fn receive_frame(&mut self) -> Option<Bytes> {
        let length = self.stream.read_u32().await.ok()?;
        let mut frame = vec![0; length as usize];
        self.stream.read_exact(&mut frame).await.ok()?;
        Some(frame.into())
    }
}

pub(crate) fn frame<R: Request>(version: i16, correlation: i32, request: &R) -> Bytes {
    framed("test", version, correlation, request)
}

/// A record batch with these values, their timestamps counting up from `timestamp`.
pub(crate) fn batch(timestamp: i64, values: &[&str]) -> Bytes {
    let records: Vec<Record> = values
        .iter()
        .zip(0..)
        .map(|(value, at)| Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: 0,
            producer_id: -1,
            producer_epoch: -1,
            timestamp_type: TimestampType::Creation,
            offset: i64::from(at),
            sequence: at,
            timestamp: timestamp + i64::from(at),
            key: None,
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            headers: Default::default(),
        })
        .collect();
    let mut bytes = BytesMut::new();
    let options = RecordEncodeOptions {
        version: 2,
        compression: Compression::None,
    };
    RecordBatchEncoder::encode(&mut bytes, &records, &options).unwrap();
    bytes.freeze()
}

/// Offsets and values of what a fetch returned.
pub(crate) fn records(bytes: Option<Bytes>) -> Vec<(i64, String)> {
    let mut bytes = bytes.unwrap_or_default();
    let mut all = Vec::new();
    while bytes.has_remaining() {
        for record in RecordBatchDecoder::decode(&mut bytes).unwrap().records {
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            all.push((record.offset, value));
        }
    }
    all
}

/// Requests as tests need them.
pub(crate) mod requests {
    use kafka_protocol::messages::create_topics_request::CreatableTopic;
    use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
    use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
    use kafka_protocol::messages::{
        BrokerId, CreateTopicsRequest, FetchRequest, ListOffsetsRequest, MetadataRequest, ProduceRequest,
        TopicName,
    };
    use uuid::Uuid;

    use super::*;

    pub(crate) fn name(name: &str) -> TopicName {
        TopicName(StrBytes::from_string(name.to_owned()))
    }

    pub(crate) fn create(topic: &str, partitions: i32) -> CreateTopicsRequest {
        let topic = CreatableTopic::default()
            .with_name(name(topic))
            .with_num_partitions(partitions)
            .with_replication_factor(3);
        CreateTopicsRequest::default().with_topics(vec![topic])
    }

    pub(crate) fn metadata(topic: &str) -> MetadataRequest {
        let topic = MetadataRequestTopic::default().with_name(Some(name(topic)));
        MetadataRequest::default()
            .with_topics(Some(vec![topic]))
            .with_allow_auto_topic_creation(true)
    }

    /// By name before version 13, by id from there.
    pub(crate) fn produce(
        version: i16,
        topic: &str,
        id: Uuid,
        partition: i32,
        records: Bytes,
    ) -> ProduceRequest {
        let data = PartitionProduceData::default()
            .with_index(partition)
            .with_records(Some(records));
        let mut topic_data = TopicProduceData::default().with_partition_data(vec![data]);
        if version >= 13 {
            topic_data = topic_data.with_topic_id(id);
        } else {
            topic_data = topic_data.with_name(name(topic));
        }
        ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(10_000)
            .with_topic_data(vec![topic_data])
    }

    pub(crate) fn fetch(version: i16, topic: &str, id: Uuid, partition: i32, offset: i64) -> FetchRequest {
        let mut wanted = FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(1 << 20);
        if version < 9 {
            wanted = wanted.with_current_leader_epoch(-1);
        }
        let mut topic_data = FetchTopic::default().with_partitions(vec![wanted]);
        if version >= 13 {
            topic_data = topic_data.with_topic_id(id);
        } else {
            topic_data = topic_data.with_topic(name(topic));
        }
        FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(0)
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_session_epoch(if version >= 7 { 0 } else { -1 })
            .with_topics(vec![topic_data])
    }

    pub(crate) fn list_offsets(topic: &str, partition: i32, timestamp: i64) -> ListOffsetsRequest {
        let wanted = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default()
            .with_name(name(topic))
            .with_partitions(vec![wanted]);
        ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_topics(vec![topic])
    }
}
