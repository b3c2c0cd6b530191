//! The form in which a classic group lies in the metadata store.
//!
//! What is stored is a completed generation. A rebalance that was under way when the coordinator died is
//! forgotten: its members are told of another generation and join again. A group with members and without a
//! protocol has just come from the newer protocol: its first generation is still to be.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use streamhouse_metadata::model::group::{GroupKind, GroupSummary, StoredGroup};
use streamhouse_metadata::store::StoreError;

use super::{Group, Limits, Member, Profile};
use crate::group::form::{decode, encode};
use crate::group::step::Millis;

const VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
struct GroupForm {
    generation: i32,
    protocol: Option<String>,
    leader: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct MemberForm {
    instance: Option<String>,
    client_id: String,
    client_host: String,
    session_timeout_ms: u64,
    rebalance_timeout_ms: u64,
    protocols: Vec<(String, Vec<u8>)>,
    assignment: Vec<u8>,
}

pub(in crate::group) fn summary(group: &Group) -> GroupSummary {
    GroupSummary {
        kind: GroupKind::Classic,
        state: group.state(),
        protocol_type: group.protocol_type.clone(),
        members: u32::try_from(group.members.len()).unwrap_or(u32::MAX),
    }
}

pub(in crate::group) fn group_payload(group: &Group) -> Bytes {
    encode(
        VERSION,
        &GroupForm {
            generation: group.generation,
            protocol: group.protocol.clone(),
            leader: group.leader.clone(),
        },
    )
}

pub(in crate::group) fn member_payload(member: &Member) -> Bytes {
    let Profile {
        instance,
        client_id,
        client_host,
        session_timeout_ms,
        rebalance_timeout_ms,
        protocols,
    } = member.profile.clone();
    encode(
        VERSION,
        &MemberForm {
            instance,
            client_id,
            client_host,
            session_timeout_ms,
            rebalance_timeout_ms,
            protocols: protocols
                .into_iter()
                .map(|(name, metadata)| (name, metadata.to_vec()))
                .collect(),
            assignment: member.assignment.to_vec(),
        },
    )
}

/// The group as it was stored, with session timers that begin now.
pub(in crate::group) fn restore(
    stored: &StoredGroup,
    limits: Limits,
    now: Millis,
) -> Result<Group, StoreError> {
    let form: GroupForm = decode("group", VERSION, &stored.payload)?;
    let mut members = BTreeMap::new();
    for (id, payload) in &stored.members {
        let form: MemberForm = decode("group member", VERSION, payload)?;
        let protocols = form
            .protocols
            .into_iter()
            .map(|(name, metadata)| (name, Bytes::from(metadata)));
        let profile = Profile {
            instance: form.instance,
            client_id: form.client_id,
            client_host: form.client_host,
            session_timeout_ms: form.session_timeout_ms,
            rebalance_timeout_ms: form.rebalance_timeout_ms,
            protocols: protocols.collect(),
        };
        members.insert(
            id.clone(),
            Member::restored(profile, Bytes::from(form.assignment), now),
        );
    }
    let mut group = Group::new(limits);
    group.generation = form.generation;
    group.protocol = form.protocol;
    group.leader = form.leader;
    group.protocol_type.clone_from(&stored.summary.protocol_type);
    Ok(group.restored(members, now))
}
