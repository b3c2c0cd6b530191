//! ConsumerGroupHeartbeat v0–v1: being a member of a group of the newer protocol (KIP-848).
//!
//! Joining, staying, moving towards an assignment and leaving, all in one request. Patterns (v1) have RE2's
//! syntax; one may take 256 KiB compiled, and the different ones of all members 64 MiB, else it is refused
//! (INVALID_REGULAR_EXPRESSION). The session timeout and the interval of heartbeats are the server's to say.
//!
//! Who joins a classic group of consumers takes it over (`group_consumer_migration_policy`, Kafka's
//! `group.consumer.migration.policy`); when the last member of this protocol is gone the group goes back. What a
//! classic member joined with and has not given up is nobody else's, also where its leader has taken it away.
//! A static member of the classic protocol that takes the place of the last one of this protocol lets the group
//! rebalance, where Kafka may do without. Assignments with data beside the partitions are no
//! obstacle where an assignor has made them that clients come with, as librdkafka's cooperative one does; Kafka
//! refuses those as well (GROUP_ID_NOT_FOUND).

use std::collections::BTreeSet;

use kafka_protocol::messages::consumer_group_heartbeat_response::{
    Assignment as WireAssignment, TopicPartitions as WirePartitions,
};
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use kafka_protocol::protocol::StrBytes;
use streamhouse_metadata::ids::TopicId;
use uuid::Uuid;

use super::context::RequestContext;
use super::error_code;
use super::response::{EncodeError, Response};
use crate::group::GroupFault;
use crate::group::consumer::member::AWAY;
use crate::group::consumer::pattern::Pattern;
use crate::group::consumer::{Assignment, Assignor, Beat, BeatReply};

/// First version whose members name themselves, and which has patterns.
const NAMES_ITSELF: i16 = 1;
/// The epochs with which a member joins and leaves.
const JOINS: i32 = 0;
const LEAVES: i32 = -1;

pub async fn handle(
    context: &RequestContext,
    request: ConsumerGroupHeartbeatRequest,
) -> Result<Response, EncodeError> {
    let group = request.group_id.to_string();
    let response = match answer(context, request).await {
        Ok(reply) => {
            let interval = context.agent.groups.settings().consumer_heartbeat_interval;
            ConsumerGroupHeartbeatResponse::default()
                .with_member_id(Some(StrBytes::from_string(reply.member)))
                .with_member_epoch(reply.epoch)
                .with_heartbeat_interval_ms(i32::try_from(interval.as_millis()).unwrap_or(i32::MAX))
                .with_assignment(reply.assignment.map(|assignment| wire(&assignment)))
        }
        Err(fault) => {
            context.report_group(&fault);
            ConsumerGroupHeartbeatResponse::default()
                .with_error_code(error_code::group(&fault).code())
                .with_error_message(Some(context.explain(&fault)))
        }
    };
    context.count_refused(None, Some(&group), response.error_code);
    Response::encode(&context.head, &response, error_code::outcome(response.error_code))
}

async fn answer(
    context: &RequestContext,
    request: ConsumerGroupHeartbeatRequest,
) -> Result<BeatReply, GroupFault> {
    check(&request, context.head.version)?;
    let groups = &context.agent.groups;
    let group = request.group_id.to_string();
    if request.member_epoch < JOINS {
        let (member, instance) = (request.member_id.as_str(), request.instance_id.as_deref());
        groups
            .consumer_leave(&group, (member, instance), request.member_epoch)
            .await?;
        return Ok(BeatReply {
            member: member.to_owned(),
            epoch: request.member_epoch,
            assignment: None,
        });
    }
    groups.consumer_heartbeat(&group, beat(context, request)?).await
}

/// What Kafka's coordinator asks of a heartbeat before it looks at the group.
fn check(request: &ConsumerGroupHeartbeatRequest, version: i16) -> Result<(), GroupFault> {
    let blank = |text: &Option<StrBytes>| text.as_ref().is_some_and(|text| text.trim().is_empty());
    let refuse = |why| Err(GroupFault::Malformed(why));
    if request.group_id.trim().is_empty() {
        return refuse("the group id is empty");
    }
    if blank(&request.instance_id) {
        return refuse("the instance id is empty");
    }
    if blank(&request.rack_id) {
        return refuse("the rack id is empty");
    }
    // Who goes for a while without a name is found out by its instance id: another member has it.
    let names_itself = version >= NAMES_ITSELF || !matches!(request.member_epoch, JOINS | ..=AWAY);
    if names_itself && request.member_id.trim().is_empty() {
        return refuse("the member id is empty");
    }
    match request.member_epoch {
        JOINS => {
            if request.rebalance_timeout_ms == -1 {
                return refuse("who joins says how long giving partitions up may take");
            }
            if !request.topic_partitions.as_ref().is_some_and(Vec::is_empty) {
                return refuse("who joins has no partitions");
            }
            if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
                return refuse("who joins says what it subscribes to");
            }
        }
        AWAY if request.instance_id.is_none() => return refuse("only a static member can go for a while"),
        LEAVES | AWAY | 1.. => {}
        _ => return refuse("there is no such member epoch"),
    }
    assignor(request).map(|_| ())
}

fn assignor(request: &ConsumerGroupHeartbeatRequest) -> Result<Option<Assignor>, GroupFault> {
    let unknown = |name: &str| GroupFault::UnknownAssignor(name.to_owned());
    let name = request.server_assignor.as_deref();
    name.map(|name| Assignor::named(name).ok_or_else(|| unknown(name)))
        .transpose()
}

fn beat(context: &RequestContext, request: ConsumerGroupHeartbeatRequest) -> Result<Beat, GroupFault> {
    let assignor = assignor(&request)?;
    let pattern = match request.subscribed_topic_regex.as_deref() {
        None => None,
        Some("") => Some(None),
        Some(text) => Some(Some(Pattern::new(text)?)),
    };
    let member = match request.member_id.is_empty() {
        true => Uuid::new_v4().to_string(),
        false => request.member_id.to_string(),
    };
    let names = request.subscribed_topic_names;
    let owned = request.topic_partitions.map(|topics| {
        let mut owned = Assignment::default();
        for topic in topics {
            for partition in topic.partitions {
                owned.insert(TopicId(topic.topic_id), partition);
            }
        }
        owned
    });
    Ok(Beat {
        member,
        epoch: request.member_epoch,
        instance: request.instance_id.map(|instance| instance.to_string()),
        rack: request.rack_id.map(|rack| rack.to_string()),
        client_id: context.head.client_id.as_deref().unwrap_or_default().to_owned(),
        client_host: format!("/{}", context.peer.ip()),
        rebalance_timeout_ms: u64::try_from(request.rebalance_timeout_ms).ok(),
        names: names.map(|names| names.iter().map(|name| name.to_string()).collect::<BTreeSet<_>>()),
        pattern,
        assignor,
        owned,
        classic: None,
    })
}

fn wire(assignment: &Assignment) -> WireAssignment {
    let topics = assignment.topics().map(|(topic, partitions)| {
        WirePartitions::default()
            .with_topic_id(topic.0)
            .with_partitions(partitions.iter().copied().collect())
    });
    WireAssignment::default().with_topic_partitions(topics.collect())
}
