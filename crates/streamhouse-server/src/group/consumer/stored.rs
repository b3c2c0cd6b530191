//! The form in which a group of the newer protocol lies in the metadata store: a version byte, then postcard.
//!
//! All of it is stored: epochs, what everybody has and is giving up, and everybody's target. So whoever takes
//! the group over gives nothing away that somebody still has (TRACES 25). A stored form never changes in
//! place; another form gets another version byte.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use streamhouse_metadata::ids::TopicId;
use streamhouse_metadata::model::group::{GroupKind, GroupSummary, StoredGroup};
use streamhouse_metadata::store::StoreError;

use super::member::{Member, Profile, Standing};
use super::state::Subscribed;
use super::subscription::{Pattern, Subscription};
use super::{Assignment, Assignor, ConsumerGroup, ConsumerLimits};
use crate::group::state::Millis;
use crate::group::stored::{decode, encode};

/// What clients of both protocols call their groups.
const PROTOCOL_TYPE: &str = "consumer";

#[derive(Serialize, Deserialize)]
struct GroupForm {
    epoch: i32,
    assignment_epoch: i32,
    /// Id, name and number of partitions.
    subscribed: Vec<(TopicId, String, i32)>,
}

#[derive(Serialize, Deserialize)]
struct MemberForm {
    instance: Option<String>,
    rack: Option<String>,
    client_id: String,
    client_host: String,
    rebalance_timeout_ms: u64,
    names: BTreeSet<String>,
    pattern: Option<String>,
    assignor: Option<String>,
    standing: Standing,
    target: Assignment,
}

pub(in crate::group) fn summary(group: &ConsumerGroup) -> GroupSummary {
    GroupSummary {
        kind: GroupKind::Consumer,
        state: group.state(),
        protocol_type: PROTOCOL_TYPE.to_owned(),
        members: u32::try_from(group.members.len()).unwrap_or(u32::MAX),
    }
}

pub(in crate::group) fn group_payload(group: &ConsumerGroup) -> Bytes {
    let subscribed = group.subscribed.iter();
    encode(&GroupForm {
        epoch: group.epoch,
        assignment_epoch: group.assignment_epoch,
        subscribed: subscribed
            .map(|(id, topic)| (*id, topic.name.clone(), topic.partitions))
            .collect(),
    })
}

pub(in crate::group) fn member_payload(member: &Member) -> Bytes {
    let profile = member.profile.clone();
    encode(&MemberForm {
        instance: profile.instance,
        rack: profile.rack,
        client_id: profile.client_id,
        client_host: profile.client_host,
        rebalance_timeout_ms: profile.rebalance_timeout_ms,
        names: profile.subscription.names,
        pattern: profile
            .subscription
            .pattern
            .map(|pattern| pattern.text().to_owned()),
        assignor: profile.assignor.map(|assignor| assignor.name().to_owned()),
        standing: member.standing.clone(),
        target: member.target.clone(),
    })
}

/// The group as it was stored, with timers that begin now.
pub(in crate::group) fn restore(
    stored: &StoredGroup,
    limits: ConsumerLimits,
    now: Millis,
) -> Result<ConsumerGroup, StoreError> {
    let form: GroupForm = decode("group", &stored.payload)?;
    let mut members = BTreeMap::new();
    for (id, payload) in &stored.members {
        let form: MemberForm = decode("group member", payload)?;
        let pattern = form.pattern.as_deref().map(Pattern::new).transpose();
        let pattern = pattern.map_err(|error| StoreError::Damaged(format!("group member: {error}")))?;
        let profile = Profile {
            instance: form.instance,
            rack: form.rack,
            client_id: form.client_id,
            client_host: form.client_host,
            rebalance_timeout_ms: form.rebalance_timeout_ms,
            subscription: Subscription {
                names: form.names,
                pattern,
            },
            assignor: form.assignor.as_deref().and_then(Assignor::named),
        };
        members.insert(id.clone(), (profile, form.standing, form.target));
    }
    let subscribed = form
        .subscribed
        .into_iter()
        .map(|(id, name, partitions)| (id, Subscribed { name, partitions }));
    let epochs = (form.epoch, form.assignment_epoch);
    Ok(ConsumerGroup::restored(
        limits,
        epochs,
        subscribed.collect(),
        members,
        now,
    ))
}
