//! Markers that an administrator asks for: what each partition is answered, and what readers see then.

use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest, ProducerId, TransactionalId,
    WriteTxnMarkersRequest,
};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};
use uuid::Uuid;

use crate::support::requests::{create, fetch, name, produce};
use crate::support::{Client, Server};

const ADD_PARTITIONS_VERSION: i16 = 3;
const END_VERSION: i16 = 4;
const FETCH_VERSION: i16 = 12;

fn id() -> TransactionalId {
    StrBytes::from_static_str("payments").into()
}

async fn identity(client: &mut Client) -> (ProducerId, i16) {
    let init = InitProducerIdRequest::default()
        .with_transactional_id(Some(id()))
        .with_transaction_timeout_ms(60_000);
    let answer = client.call(4, &init).await;
    assert_eq!(answer.error_code, 0);
    (answer.producer_id, answer.producer_epoch)
}

/// One transactional record of this producer.
async fn write(client: &mut Client, topic: &str, partition: i32, (producer, epoch): (ProducerId, i16)) {
    let added = AddPartitionsToTxnTopic::default()
        .with_name(name(topic))
        .with_partitions(vec![partition]);
    let add = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(id())
        .with_v3_and_below_producer_id(producer)
        .with_v3_and_below_producer_epoch(epoch)
        .with_v3_and_below_topics(vec![added]);
    let added = client.call(ADD_PARTITIONS_VERSION, &add).await;
    let results = &added.results_by_topic_v3_and_below[0].results_by_partition;
    assert_eq!(results[0].partition_error_code, 0);
    let record = Record {
        transactional: true,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 0,
        producer_id: producer.0,
        producer_epoch: epoch,
        timestamp_type: TimestampType::Creation,
        offset: 0,
        sequence: 0,
        timestamp: 1_000,
        key: None,
        value: Some(Bytes::from_static(b"open")),
        headers: Default::default(),
    };
    let mut batch = BytesMut::new();
    let options = RecordEncodeOptions {
        version: 2,
        compression: Compression::None,
    };
    RecordBatchEncoder::encode(&mut batch, &[record], &options).unwrap();
    let request =
        produce(11, topic, Uuid::nil(), partition, batch.freeze()).with_transactional_id(Some(id()));
    let produced = client.call(11, &request).await;
    assert_eq!(produced.responses[0].partition_responses[0].error_code, 0);
}

/// Codes in the order asked.
async fn mark(
    client: &mut Client,
    (producer, epoch): (ProducerId, i16),
    commit: bool,
    topics: &[(&str, &[i32])],
) -> Vec<i16> {
    let asked = topics.iter().map(|(topic, partitions)| {
        WritableTxnMarkerTopic::default()
            .with_name(name(topic))
            .with_partition_indexes(partitions.to_vec())
    });
    let marker = WritableTxnMarker::default()
        .with_producer_id(producer)
        .with_producer_epoch(epoch)
        .with_transaction_result(commit)
        .with_topics(asked.collect())
        .with_coordinator_epoch(-1);
    let request = WriteTxnMarkersRequest::default().with_markers(vec![marker]);
    let answer = client.call(1, &request).await;
    assert_eq!(
        (answer.markers.len(), answer.markers[0].producer_id),
        (1, producer)
    );
    let mut codes = Vec::new();
    for ((topic, partitions), result) in topics.iter().zip(&answer.markers[0].topics) {
        assert_eq!(result.name, name(topic));
        let indexes: Vec<i32> = result
            .partitions
            .iter()
            .map(|each| each.partition_index)
            .collect();
        assert_eq!(indexes, *partitions);
        codes.extend(result.partitions.iter().map(|each| each.error_code));
    }
    codes
}

/// Last stable offset and number of aborted transactions, as a reader of committed records is told.
async fn stable(client: &mut Client, topic: &str, partition: i32) -> (i64, usize) {
    let request = fetch(FETCH_VERSION, topic, Uuid::nil(), partition, 0).with_isolation_level(1);
    let answer = client.call(FETCH_VERSION, &request).await;
    let partition = &answer.responses[0].partitions[0];
    let aborted = partition.aborted_transactions.as_ref().map_or(0, Vec::len);
    (partition.last_stable_offset, aborted)
}

#[tokio::test]
async fn an_abort_asked_for_ends_the_transaction_everywhere_and_fences_its_producer() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.call(7, &create("orders", 2)).await;
    client.call(7, &create("parts", 1)).await;
    let producer = identity(&mut client).await;
    write(&mut client, "orders", 1, producer).await;
    write(&mut client, "parts", 0, producer).await;
    assert_eq!(stable(&mut client, "orders", 1).await, (0, 0));
    let unknown = ResponseError::UnknownTopicOrPartition.code();
    let topics: [(&str, &[i32]); 3] = [("orders", &[7, 1, 0]), ("nowhere", &[0]), ("parts", &[0])];
    for _ in 0..2 {
        let codes = mark(&mut client, producer, false, &topics).await;
        assert_eq!(codes, [unknown, 0, 0, unknown, 0], "a repeat is answered alike");
        assert_eq!(stable(&mut client, "orders", 1).await, (2, 1));
        assert_eq!(stable(&mut client, "parts", 0).await, (2, 1));
        assert_eq!(stable(&mut client, "orders", 0).await, (0, 0));
    }
    let end = EndTxnRequest::default()
        .with_transactional_id(id())
        .with_producer_id(producer.0)
        .with_producer_epoch(producer.1)
        .with_committed(true);
    let ended = client.call(END_VERSION, &end).await;
    assert_eq!(ended.error_code, ResponseError::ProducerFenced.code());
}

#[tokio::test]
async fn commits_and_stale_epochs_are_refused_and_leave_the_transaction_open() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.call(7, &create("orders", 1)).await;
    let first = identity(&mut client).await;
    let producer = identity(&mut client).await;
    write(&mut client, "orders", 0, producer).await;
    let topics: [(&str, &[i32]); 1] = [("orders", &[0])];
    let refused = mark(&mut client, producer, true, &topics).await;
    assert_eq!(refused, [ResponseError::InvalidRequest.code()]);
    let stale = mark(&mut client, first, false, &topics).await;
    assert_eq!(stale, [ResponseError::InvalidProducerEpoch.code()]);
    assert_eq!(stable(&mut client, "orders", 0).await, (0, 0));
}
