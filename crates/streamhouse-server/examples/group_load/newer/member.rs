//! One member of a group of the newer protocol, as far as a group can tell: it joins, says what it holds when
//! that changed, heartbeats as often as the server wants.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, CreateTopicsRequest, GroupId, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::connection::Connection;

const HEARTBEAT_VERSION: i16 = 1;
const CREATE_VERSION: i16 = 7;
/// The default of Kafka's consumers.
const REBALANCE_TIMEOUT_MS: i32 = 300_000;

pub(crate) struct Member {
    connection: Connection,
    group: GroupId,
    id: StrBytes,
    topic: TopicName,
    topic_id: Uuid,
    epoch: i32,
    held: BTreeSet<i32>,
    /// What is held has changed and the server was not told yet.
    untold: bool,
    interval: Duration,
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

pub(crate) async fn create_topic(address: SocketAddr, name: &str, partitions: usize) {
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(i32::try_from(partitions).unwrap())
        .with_replication_factor(1);
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(10_000);
    let created = Connection::open(address)
        .await
        .call(CREATE_VERSION, &request)
        .await;
    assert_eq!(created.topics[0].error_code, 0, "CreateTopics");
}

impl Member {
    pub(crate) async fn connect(address: SocketAddr, group: &str, topic: &str) -> Self {
        Self {
            connection: Connection::open(address).await,
            group: StrBytes::from_string(group.to_owned()).into(),
            id: StrBytes::from_string(Uuid::new_v4().to_string()),
            topic: topic_name(topic),
            topic_id: Uuid::nil(),
            epoch: 0,
            held: BTreeSet::new(),
            untold: true,
            interval: Duration::ZERO,
        }
    }

    pub(crate) fn epoch(&self) -> i32 {
        self.epoch
    }

    pub(crate) fn held(&self) -> &BTreeSet<i32> {
        &self.held
    }

    /// How long to wait before the next heartbeat: nothing where the server has to hear of a change.
    pub(crate) fn pause(&self) -> Duration {
        if self.untold {
            Duration::ZERO
        } else {
            self.interval
        }
    }

    /// Joins with the first heartbeat, stays with any other.
    pub(crate) async fn heartbeat(&mut self) {
        let joins = self.epoch == 0;
        let mut beat = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(self.group.clone())
            .with_member_id(self.id.clone())
            .with_member_epoch(self.epoch);
        if joins {
            beat = beat
                .with_rebalance_timeout_ms(REBALANCE_TIMEOUT_MS)
                .with_subscribed_topic_names(Some(vec![self.topic.clone()]));
        }
        if self.untold {
            let partitions = TopicPartitions::default()
                .with_topic_id(self.topic_id)
                .with_partitions(self.held.iter().copied().collect());
            let held = if self.held.is_empty() {
                vec![]
            } else {
                vec![partitions]
            };
            beat = beat.with_topic_partitions(Some(held));
        }
        let answer = self.connection.call(HEARTBEAT_VERSION, &beat).await;
        assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
        self.untold = false;
        self.epoch = answer.member_epoch;
        self.interval = Duration::from_millis(u64::try_from(answer.heartbeat_interval_ms).unwrap());
        if let Some(assignment) = answer.assignment {
            let mut held = BTreeSet::new();
            for topic in assignment.topic_partitions {
                self.topic_id = topic.topic_id;
                held.extend(topic.partitions);
            }
            // Giving up and taking over cost a real consumer time, this one none.
            self.untold = held != self.held;
            self.held = held;
        }
    }
}
