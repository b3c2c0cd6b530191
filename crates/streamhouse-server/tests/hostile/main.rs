//! What bad bytes and greedy requests cost: the sender an error or its connection, the process next to nothing.
//!
//! A test binary of its own, because it counts every allocation of its process, and one test, because
//! two at once could not tell whose memory they see.

#![allow(clippy::unwrap_used)] // a test that cannot go on ends here, with the place

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages;
use kafka_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::fetch_request::ForgottenTopic;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest,
    FetchRequest, FindCoordinatorRequest, InitProducerIdRequest, ListOffsetsRequest, MetadataRequest,
    ProduceRequest,
};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};
use streamhouse_server::handlers::{SERVED, produce};
use streamhouse_server::listener::guard::{self, RequestHead};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::support::requests::{create, fetch, list_offsets, metadata, name, produce as produce_request};
use crate::support::{Server, batch};

mod repeated;
#[path = "../server/support.rs"]
#[allow(dead_code)] // the other test binary uses the rest
mod support;

/// Counts the bytes that are allocated now, and the most there ever were.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[allow(unsafe_code)] // an allocator is unsafe by its trait; this one only counts
// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that `work` held beyond what was held before.
fn peak_of(work: impl FnOnce()) -> usize {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    work();
    PEAK.load(Ordering::Relaxed).saturating_sub(before)
}

/// Every way of putting an impossible count somewhere into `body`: four bytes, and a varint in place of
/// one byte.
fn lying(body: &[u8]) -> impl Iterator<Item = Bytes> + '_ {
    let fixed = (0..body.len().saturating_sub(3)).map(|at| {
        let mut bytes = body.to_vec();
        bytes[at..at + 4].copy_from_slice(&i32::MAX.to_be_bytes());
        Bytes::from(bytes)
    });
    let varint = (0..body.len()).map(|at| {
        let mut bytes = body[..at].to_vec();
        bytes.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x07]);
        bytes.extend_from_slice(&body[at + 1..]);
        Bytes::from(bytes)
    });
    fixed.chain(varint)
}

const COST_MAX: usize = 256 << 10;

fn try_all<R: Request + Decodable + Encodable>(
    versions: std::ops::RangeInclusive<i16>,
    request: impl Fn(i16) -> R,
) {
    let api = ApiKey::try_from(R::KEY).unwrap();
    for version in versions {
        let mut body = BytesMut::new();
        request(version).encode(&mut body, version).unwrap();
        let head = RequestHead {
            api,
            version,
            correlation_id: 1,
            client_id: None,
        };
        assert!(
            guard::decode::<R>(&head, &body.clone().freeze()).is_ok(),
            "{api:?} v{version} refuses an honest request"
        );
        for bytes in lying(&body) {
            let cost = peak_of(|| drop(guard::decode::<R>(&head, &bytes)));
            assert!(cost < COST_MAX, "{api:?} v{version}: {cost} bytes for {bytes:?}");
        }
    }
}

fn every_count_of_every_version_is_bounded() {
    try_all::<ApiVersionsRequest>(0..=4, |_| ApiVersionsRequest::default());
    try_all::<MetadataRequest>(0..=13, |_| metadata("orders"));
    try_all::<FetchRequest>(4..=18, |version| {
        let mut request = fetch(version, "orders", Uuid::from_u128(7), 0, 0);
        if version >= 7 {
            let mut forgotten = ForgottenTopic::default().with_partitions(vec![1, 2]);
            if version < 13 {
                forgotten = forgotten.with_topic(name("gone"));
            }
            request.forgotten_topics_data = vec![forgotten];
        }
        request
    });
    try_all::<ListOffsetsRequest>(1..=10, |_| list_offsets("orders", 0, -1));
    try_all::<CreateTopicsRequest>(2..=7, |_| {
        let mut request = create("orders", -1);
        request.topics[0].assignments =
            vec![CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(1)])];
        request.topics[0].configs = vec![
            CreatableTopicConfig::default()
                .with_name(StrBytes::from_static_str("retention.ms"))
                .with_value(Some(StrBytes::from_static_str("1"))),
        ];
        request
    });
    try_all::<DeleteTopicsRequest>(1..=6, |version| {
        if version >= 6 {
            DeleteTopicsRequest::default()
                .with_topics(vec![DeleteTopicState::default().with_name(Some(name("a")))])
        } else {
            DeleteTopicsRequest::default().with_topic_names(vec![name("a")])
        }
    });
    try_all::<CreatePartitionsRequest>(0..=3, |_| {
        let assignment = CreatePartitionsAssignment::default().with_broker_ids(vec![BrokerId(1)]);
        let topic = CreatePartitionsTopic::default()
            .with_name(name("a"))
            .with_assignments(Some(vec![assignment]));
        CreatePartitionsRequest::default().with_topics(vec![topic])
    });
    try_all::<InitProducerIdRequest>(0..=5, |_| InitProducerIdRequest::default());
    try_all::<FindCoordinatorRequest>(0..=6, |version| {
        let key = StrBytes::from_static_str("group");
        if version >= 4 {
            FindCoordinatorRequest::default().with_coordinator_keys(vec![key])
        } else {
            FindCoordinatorRequest::default().with_key(key)
        }
    });
    for version in ProduceRequest::VERSIONS_SERVED {
        let mut body = BytesMut::new();
        produce_request(version, "orders", Uuid::from_u128(7), 0, batch(1, &["a"]))
            .encode(&mut body, version)
            .unwrap();
        for bytes in lying(&body) {
            let cost = peak_of(|| drop(produce::decode(&bytes, version)));
            assert!(cost < COST_MAX, "Produce v{version}: {cost} bytes for {bytes:?}");
        }
    }
}

/// Decodes a body as the server would, whatever the API.
fn decode_any(api: ApiKey, version: i16, body: &Bytes) {
    let head = RequestHead {
        api,
        version,
        correlation_id: 1,
        client_id: None,
    };
    macro_rules! by_api {
        ($($name:ident: $request:ty,)*) => {
            match api {
                ApiKey::Produce => drop(produce::decode(body, version)),
                $(ApiKey::$name => drop(guard::decode::<$request>(&head, body)),)*
                other => panic!("{other:?} is served, and nothing here sends it lies"),
            }
        };
    }
    by_api! {
            Fetch: messages::FetchRequest,
            ListOffsets: messages::ListOffsetsRequest,
            Metadata: messages::MetadataRequest,
            OffsetCommit: messages::OffsetCommitRequest,
            OffsetFetch: messages::OffsetFetchRequest,
            FindCoordinator: messages::FindCoordinatorRequest,
            JoinGroup: messages::JoinGroupRequest,
            Heartbeat: messages::HeartbeatRequest,
            LeaveGroup: messages::LeaveGroupRequest,
            SyncGroup: messages::SyncGroupRequest,
            DescribeGroups: messages::DescribeGroupsRequest,
            ListGroups: messages::ListGroupsRequest,
            ApiVersions: messages::ApiVersionsRequest,
            CreateTopics: messages::CreateTopicsRequest,
            DeleteTopics: messages::DeleteTopicsRequest,
            DeleteRecords: messages::DeleteRecordsRequest,
            InitProducerId: messages::InitProducerIdRequest,
            OffsetForLeaderEpoch: messages::OffsetForLeaderEpochRequest,
            AddPartitionsToTxn: messages::AddPartitionsToTxnRequest,
            AddOffsetsToTxn: messages::AddOffsetsToTxnRequest,
            EndTxn: messages::EndTxnRequest,
            WriteTxnMarkers: messages::WriteTxnMarkersRequest,
            TxnOffsetCommit: messages::TxnOffsetCommitRequest,
            DescribeConfigs: messages::DescribeConfigsRequest,
            AlterConfigs: messages::AlterConfigsRequest,
            DescribeLogDirs: messages::DescribeLogDirsRequest,
            CreatePartitions: messages::CreatePartitionsRequest,
            DeleteGroups: messages::DeleteGroupsRequest,
            ElectLeaders: messages::ElectLeadersRequest,
            IncrementalAlterConfigs: messages::IncrementalAlterConfigsRequest,
            AlterPartitionReassignments: messages::AlterPartitionReassignmentsRequest,
            ListPartitionReassignments: messages::ListPartitionReassignmentsRequest,
            OffsetDelete: messages::OffsetDeleteRequest,
            DescribeClientQuotas: messages::DescribeClientQuotasRequest,
            AlterClientQuotas: messages::AlterClientQuotasRequest,
            DescribeUserScramCredentials: messages::DescribeUserScramCredentialsRequest,
        DescribeCluster: messages::DescribeClusterRequest,
            DescribeProducers: messages::DescribeProducersRequest,
            DescribeTransactions: messages::DescribeTransactionsRequest,
            ListTransactions: messages::ListTransactionsRequest,
            GetTelemetrySubscriptions: messages::GetTelemetrySubscriptionsRequest,
            PushTelemetry: messages::PushTelemetryRequest,
            ConsumerGroupHeartbeat: messages::ConsumerGroupHeartbeatRequest,
            ConsumerGroupDescribe: messages::ConsumerGroupDescribeRequest,
            ListConfigResources: messages::ListConfigResourcesRequest,
            DescribeTopicPartitions: messages::DescribeTopicPartitionsRequest,
    }
}

/// Bodies of small numbers make decoders go deep, whatever the API: a count of one, and another inside. A
/// lie follows.
fn no_body_makes_any_api_grow() {
    let mut random = Random(0x7e1e);
    for served in SERVED {
        for version in served.min..=served.max {
            for round in 0..200 {
                let length = usize::from(random.byte() % 48);
                let mut body: Vec<u8> = (0..length)
                    .map(|_| [0, 0, 0, 1, 1, 2][usize::from(random.byte() % 6)])
                    .collect();
                body.extend_from_slice(if round % 2 == 0 {
                    &[0x7f, 0xff, 0xff, 0xff]
                } else {
                    &[0xff, 0xff, 0xff, 0xff, 0x07]
                });
                body.extend((0..random.byte() % 64).map(|_| random.byte() % 4));
                let body = Bytes::from(body);
                let cost = peak_of(|| decode_any(served.api, version, &body));
                assert!(
                    cost < COST_MAX,
                    "{:?} v{version}: {cost} bytes for {body:?}",
                    served.api
                );
            }
        }
    }
}

/// A stream of numbers that is the same in every run.
struct Random(u64);

impl Random {
    fn byte(&mut self) -> u8 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 as u8
    }
}

/// Sends bytes, says nothing more, and waits for the end of the connection.
async fn closed_after(server: &Server, bytes: &[u8]) {
    let mut stream = TcpStream::connect(server.running.kafka).await.unwrap();
    // The server may have closed before it read everything.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
}

async fn alive(server: &Server) {
    let mut client = server.client().await;
    assert_eq!(client.call(0, &ApiVersionsRequest::default()).await.error_code, 0);
}

async fn random_bytes_and_broken_frames_cost_a_connection() {
    let server = Server::start().await;
    let mut random = Random(0x5eed);
    for length in [
        i32::MAX as u32,
        u32::MAX,
        0x8000_0000,
        0,
        1,
        7,
        9 << 20,
        101 << 20,
    ] {
        let mut bytes = BytesMut::new();
        bytes.put_u32(length);
        // A Metadata request, so that the smaller limit holds; from 8 bytes on it would be read.
        bytes.put_slice(&[0, 3, 0, 9, 0, 0, 0, 1]);
        closed_after(&server, &bytes).await;
    }
    for round in 0..300 {
        let mut bytes = BytesMut::new();
        let body: Vec<u8> = (0..round * 3).map(|_| random.byte()).collect();
        bytes.put_u32(body.len() as u32);
        bytes.put_slice(&body);
        if round % 2 == 0 && bytes.len() > 8 {
            // A real API key and version, so that the decoders are reached.
            bytes[4..8].copy_from_slice(&[0, random.byte() % 40, 0, random.byte() % 14]);
        }
        closed_after(&server, &bytes).await;
    }
    let honest = support::frame(
        9,
        1,
        &produce_request(9, "orders", Uuid::nil(), 0, batch(1, &["a"])),
    );
    for length in 0..honest.len() {
        closed_after(&server, &honest[..length]).await;
    }
    alive(&server).await;
}

async fn two_hundred_connections_that_announce_50_mib_cost_nothing() {
    let server = Server::start().await;
    let before = NOW.load(Ordering::Relaxed);
    let mut open = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(server.running.kafka).await.unwrap();
        let mut bytes = BytesMut::new();
        bytes.put_u32(50 << 20);
        bytes.put_slice(&[0, 0, 0, 9, 0, 0, 0, 1]);
        stream.write_all(&bytes).await.unwrap();
        open.push(stream);
    }
    alive(&server).await;
    let held = NOW.load(Ordering::Relaxed).saturating_sub(before);
    assert!(held < 64 << 20, "{held} bytes held");
    drop(open);
    alive(&server).await;
}

async fn lying_counts_over_the_wire_cost_the_connection() {
    let server = Server::start().await;
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    for version in 0..=13 {
        let honest = support::frame(version, 1, &metadata("orders"));
        let header = if version >= 9 { 19 } else { 18 };
        for body in lying(&honest[header..]).step_by(7) {
            let mut bytes = BytesMut::new();
            bytes.put_u32((header - 4 + body.remaining()) as u32);
            bytes.put_slice(&honest[4..header]);
            bytes.put_slice(&body);
            closed_after(&server, &bytes).await;
        }
    }
    alive(&server).await;
    let peak = PEAK.load(Ordering::Relaxed) - before;
    assert!(peak < 64 << 20, "{peak} bytes at the peak");
}

trait Served {
    const VERSIONS_SERVED: std::ops::RangeInclusive<i16>;
}

impl Served for ProduceRequest {
    const VERSIONS_SERVED: std::ops::RangeInclusive<i16> = 3..=13;
}

#[test]
fn hostile_input_costs_its_sender_and_not_us() {
    every_count_of_every_version_is_bounded();
    no_body_makes_any_api_grow();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        random_bytes_and_broken_frames_cost_a_connection().await;
        two_hundred_connections_that_announce_50_mib_cost_nothing().await;
        lying_counts_over_the_wire_cost_the_connection().await;
        repeated::a_name_that_is_repeated_costs_what_it_costs_once().await;
        repeated::an_answer_that_is_too_large_is_not_even_encoded().await;
    });
}
