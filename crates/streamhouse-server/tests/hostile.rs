//! What bad bytes and greedy requests cost: the sender an error or its connection, the process next to nothing.
//!
//! A test binary of its own, because it counts every allocation of its process, and one test, because
//! two at once could not tell whose memory they see.

#![allow(clippy::unwrap_used)] // a test that cannot go on ends here, with the place

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::fetch_request::ForgottenTopic;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    self, ApiKey, ApiVersionsRequest, BrokerId, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteTopicsRequest, FetchRequest, FindCoordinatorRequest, GroupId, InitProducerIdRequest,
    JoinGroupRequest, ListOffsetsRequest, MetadataRequest, OffsetCommitRequest, ProduceRequest,
    SyncGroupRequest, TransactionalId,
};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};
use streamhouse_server::handlers::{SERVED, produce};
use streamhouse_server::listener::guard::{self, RequestHead};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

#[path = "server/support.rs"]
#[allow(dead_code)] // the other test binary uses the rest
mod support;

use support::requests::{create, fetch, list_offsets, metadata, name, produce as produce_request};
use support::{Client, Server, batch};

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

/// How often a name is repeated, and what the answer to it may take with all that its request takes.
const REPEATS: usize = 20_000;
const REPEATED_COST_MAX: usize = 32 << 20;

/// The answer to a request that must not take more than that.
async fn cheap<R: Request>(client: &mut Client, version: i16, request: &R) -> R::Response {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let answer = client.call(version, request).await;
    let cost = PEAK.load(Ordering::Relaxed).saturating_sub(before);
    assert!(
        cost < REPEATED_COST_MAX,
        "API {} v{version}: {cost} bytes",
        R::KEY
    );
    answer
}

fn repeated<T: Clone>(name: T) -> Vec<T> {
    vec![name; REPEATS]
}

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

/// A group of one member whose assignment and committed metadata are large.
async fn large_group(client: &mut Client) {
    let group = GroupId(text("large"));
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(vec![0; 16 << 10].into());
    let join = JoinGroupRequest::default()
        .with_group_id(group.clone())
        .with_session_timeout_ms(60_000)
        .with_rebalance_timeout_ms(60_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    let joined = client.call(3, &join).await;
    assert_eq!(joined.error_code, 0);
    let share = SyncGroupRequestAssignment::default()
        .with_member_id(joined.member_id.clone())
        .with_assignment(vec![0; 16 << 10].into());
    let sync = SyncGroupRequest::default()
        .with_group_id(group.clone())
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_assignments(vec![share]);
    assert_eq!(client.call(2, &sync).await.error_code, 0);
    let offset = OffsetCommitRequestPartition::default()
        .with_committed_offset(1)
        .with_committed_metadata(Some(text(&"m".repeat(4_096))));
    let topic = OffsetCommitRequestTopic::default()
        .with_name(name("orders"))
        .with_partitions(vec![offset]);
    let commit = OffsetCommitRequest::default()
        .with_group_id(group)
        .with_generation_id_or_member_epoch(joined.generation_id)
        .with_member_id(joined.member_id)
        .with_topics(vec![topic]);
    let committed = client.call(5, &commit).await;
    assert_eq!(committed.topics[0].partitions[0].error_code, 0);
}

async fn a_name_that_is_repeated_costs_what_it_costs_once() {
    let server = Server::with("group_initial_rebalance_delay = '0s'").await;
    let mut client = server.client().await;
    client.call(7, &create("orders", 100)).await;
    large_group(&mut client).await;
    repeated_topics(&mut client).await;
    repeated_groups(&mut client).await;
    repeated_resources(&mut client).await;
    repeated_in_vain(&mut client).await;
}

async fn repeated_topics(client: &mut Client) {
    let mut by_name = metadata("orders");
    let one = by_name.topics.take().unwrap().remove(0);
    by_name.topics = Some(repeated(one.clone()));
    let answer = cheap(client, 12, &by_name).await;
    assert_eq!((answer.topics.len(), answer.topics[0].partitions.len()), (1, 100));
    let id = one.with_name(None).with_topic_id(answer.topics[0].topic_id);
    let by_id = MetadataRequest::default().with_topics(Some(repeated(id)));
    assert_eq!(cheap(client, 12, &by_id).await.topics.len(), 1);

    let topic =
        messages::describe_topic_partitions_request::TopicRequest::default().with_name(name("orders"));
    let request = messages::DescribeTopicPartitionsRequest::default()
        .with_topics(repeated(topic))
        .with_response_partition_limit(2_000);
    assert_eq!(cheap(client, 0, &request).await.topics.len(), 1);

    let topic = DescribableLogDirTopic::default()
        .with_topic(name("orders"))
        .with_partitions(vec![0, 0]);
    let request = messages::DescribeLogDirsRequest::default().with_topics(Some(repeated(topic)));
    let answer = cheap(client, 1, &request).await;
    assert_eq!(answer.results[0].topics.len(), 1);
    assert_eq!(answer.results[0].topics[0].partitions.len(), 1);

    let topic = messages::describe_producers_request::TopicRequest::default()
        .with_name(name("orders"))
        .with_partition_indexes(vec![3, 3]);
    let request = messages::DescribeProducersRequest::default().with_topics(repeated(topic));
    let answer = cheap(client, 0, &request).await;
    assert_eq!((answer.topics.len(), answer.topics[0].partitions.len()), (1, 1));

    // As Kafka: nobody can tell which answer is for which.
    let mut request = list_offsets("orders", 0, -1);
    request.topics = repeated(request.topics.remove(0));
    let answer = cheap(client, 7, &request).await;
    let places = answer.topics.iter().flat_map(|topic| &topic.partitions);
    let refused = ResponseError::InvalidRequest.code();
    assert!(places.clone().count() > 0 && places.into_iter().all(|place| place.error_code == refused));
}

async fn repeated_groups(client: &mut Client) {
    let group = GroupId(text("large"));
    let request = messages::DescribeGroupsRequest::default().with_groups(repeated(group.clone()));
    let answer = cheap(client, 5, &request).await;
    assert_eq!((answer.groups.len(), answer.groups[0].members.len()), (1, 1));
    assert!(answer.groups[0].members[0].member_assignment.len() >= 16 << 10);

    let request = messages::ConsumerGroupDescribeRequest::default().with_group_ids(repeated(group.clone()));
    assert_eq!(cheap(client, 0, &request).await.groups.len(), 1);

    let topic = OffsetFetchRequestTopics::default()
        .with_name(name("orders"))
        .with_partition_indexes(vec![0, 1, 0]);
    let asked = OffsetFetchRequestGroup::default().with_group_id(group.clone());
    let groups = repeated(
        asked
            .clone()
            .with_topics(Some(vec![topic.clone(), topic.clone()])),
    );
    let request = messages::OffsetFetchRequest::default().with_groups(groups);
    let answer = cheap(client, 8, &request).await;
    assert_eq!((answer.groups.len(), answer.groups[0].topics.len()), (1, 1));
    let indexes = answer.groups[0].topics[0].partitions.iter();
    let indexes: Vec<_> = indexes.map(|partition| partition.partition_index).collect();
    assert_eq!(indexes, [0, 1]);
    // Whoever asks for all of a group's topics is told of all of them.
    let groups = vec![asked.clone().with_topics(Some(vec![])), asked.with_topics(None)];
    let request = messages::OffsetFetchRequest::default().with_groups(groups);
    let answer = cheap(client, 8, &request).await;
    assert_eq!((answer.groups.len(), answer.groups[0].topics.len()), (1, 1));

    let topic = OffsetFetchRequestTopic::default()
        .with_name(name("orders"))
        .with_partition_indexes(repeated(0));
    let request = messages::OffsetFetchRequest::default()
        .with_group_id(group)
        .with_topics(Some(vec![topic.clone(), topic]));
    for version in 1..=7 {
        let answer = cheap(client, version, &request).await;
        assert_eq!((answer.topics.len(), answer.topics[0].partitions.len()), (1, 1));
        assert_eq!(
            answer.topics[0].partitions[0].metadata.as_ref().unwrap().len(),
            4_096
        );
    }

    let nobody = repeated(GroupId(text("nobody")));
    let request = messages::DeleteGroupsRequest::default().with_groups_names(nobody);
    assert_eq!(cheap(client, 1, &request).await.results.len(), 1);

    let request = FindCoordinatorRequest::default().with_coordinator_keys(repeated(text("large")));
    assert_eq!(cheap(client, 4, &request).await.coordinators.len(), 1);
}

async fn repeated_resources(client: &mut Client) {
    let resource = DescribeConfigsResource::default().with_resource_type(2);
    let resource = resource.with_resource_name(text("orders"));
    let some = resource
        .clone()
        .with_configuration_keys(Some(vec![text("retention.ms")]));
    let other = resource
        .clone()
        .with_configuration_keys(Some(vec![text("segment.ms")]));
    for (resources, entries) in [
        (repeated(resource.clone().with_configuration_keys(None)), 23),
        (repeated(some.clone()), 1),
        (vec![some.clone(), other], 2),
        (vec![some, resource.with_configuration_keys(None)], 23),
    ] {
        let request = messages::DescribeConfigsRequest::default()
            .with_resources(resources)
            .with_include_synonyms(true)
            .with_include_documentation(true);
        let answer = cheap(client, 4, &request).await;
        assert_eq!(
            (answer.results.len(), answer.results[0].configs.len()),
            (1, entries)
        );
    }
    let ids = repeated(TransactionalId(text("nobody")));
    let request = messages::DescribeTransactionsRequest::default().with_transactional_ids(ids);
    assert_eq!(cheap(client, 0, &request).await.transaction_states.len(), 1);
}

/// Where answers are as short as what is asked they are repeated or refused, as Kafka does.
async fn repeated_in_vain(client: &mut Client) {
    let mut request = create("again", 1);
    request.topics = repeated(request.topics.remove(0));
    cheap(client, 7, &request).await;
    let topic = DeleteTopicState::default().with_name(Some(name("nobody")));
    cheap(
        client,
        6,
        &DeleteTopicsRequest::default().with_topics(repeated(topic)),
    )
    .await;
    let topic = CreatePartitionsTopic::default()
        .with_name(name("orders"))
        .with_count(200)
        .with_assignments(None);
    cheap(
        client,
        3,
        &CreatePartitionsRequest::default().with_topics(repeated(topic)),
    )
    .await;
    let topic = messages::elect_leaders_request::TopicPartitions::default()
        .with_topic(name("orders"))
        .with_partitions(vec![0]);
    let request = messages::ElectLeadersRequest::default().with_topic_partitions(Some(repeated(topic)));
    cheap(client, 2, &request).await;
    let topic = messages::delete_records_request::DeleteRecordsTopic::default()
        .with_name(name("orders"))
        .with_partitions(vec![Default::default()]);
    cheap(
        client,
        2,
        &messages::DeleteRecordsRequest::default().with_topics(repeated(topic)),
    )
    .await;
    let topic = messages::offset_delete_request::OffsetDeleteRequestTopic::default()
        .with_name(name("orders"))
        .with_partitions(vec![Default::default()]);
    let request = messages::OffsetDeleteRequest::default()
        .with_group_id(GroupId(text("large")))
        .with_topics(repeated(topic));
    cheap(client, 0, &request).await;
    let topic = messages::offset_for_leader_epoch_request::OffsetForLeaderTopic::default()
        .with_topic(name("orders"))
        .with_partitions(vec![Default::default()]);
    let request = messages::OffsetForLeaderEpochRequest::default().with_topics(repeated(topic));
    cheap(client, 4, &request).await;
    let user = messages::describe_user_scram_credentials_request::UserName::default().with_name(text("u"));
    let request = messages::DescribeUserScramCredentialsRequest::default().with_users(Some(repeated(user)));
    cheap(client, 0, &request).await;
    let mut request = fetch(12, "orders", Uuid::nil(), 0, 0);
    request.topics = repeated(request.topics.remove(0));
    cheap(client, 12, &request).await;
}

async fn an_answer_that_is_too_large_is_not_even_encoded() {
    // The name of a host comes with every key.
    let host = "h".repeat(30_000);
    let server = Server::with(&format!("kafka_advertise = '{host}:9092'")).await;
    let mut client = server.client().await;
    let keys = (0..4_000).map(|at| text(&at.to_string())).collect();
    let request = FindCoordinatorRequest::default().with_coordinator_keys(keys);
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    client.send(4, &request).await;
    assert!(client.receive_frame().await.is_none());
    let cost = PEAK.load(Ordering::Relaxed).saturating_sub(before);
    assert!(cost < REPEATED_COST_MAX, "{cost} bytes");
    for counted in [
        "streamhouse_connections_rejected_total{reason=\"frame_too_large\"}",
        "streamhouse_api_requests_total{api=\"FindCoordinator\",outcome=\"client_error\"}",
    ] {
        assert_eq!(server.metric(counted), 1.0, "{counted}");
    }
    alive(&server).await;
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
        a_name_that_is_repeated_costs_what_it_costs_once().await;
        an_answer_that_is_too_large_is_not_even_encoded().await;
    });
}
