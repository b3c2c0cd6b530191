//! The form in which a classic group lies in the metadata store: a version byte, then postcard.
//!
//! What is stored is a completed generation. A rebalance that was under way when the coordinator died is
//! forgotten: its members are told of another generation and join again. A group with members and without a
//! protocol has just come from the newer protocol: its first generation is still to be. A stored form never
//! changes in place; another form gets another version byte.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use streamhouse_metadata::model::group::{GroupKind, GroupState, GroupSummary, StoredGroup};
use streamhouse_metadata::store::StoreError;

use super::state::{Group, Limits, Member, Millis, Phase, Profile};

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

pub(super) fn encode<T: Serialize>(version: u8, form: &T) -> Bytes {
    // Into memory, of plain values: there is nothing that could fail.
    postcard::to_extend(form, vec![version])
        .map(Bytes::from)
        .unwrap_or_default()
}

/// The version of a form, and the form.
pub(super) fn split<'a>(what: &str, bytes: &'a [u8]) -> Result<(u8, &'a [u8]), StoreError> {
    let empty = || StoreError::Damaged(format!("{what}: empty"));
    bytes
        .split_first()
        .map(|(version, form)| (*version, form))
        .ok_or_else(empty)
}

pub(super) fn decode<'a, T: Deserialize<'a>>(
    what: &str,
    version: u8,
    bytes: &'a [u8],
) -> Result<T, StoreError> {
    let damaged = |why: String| StoreError::Damaged(format!("{what}: {why}"));
    match split(what, bytes)? {
        (found, form) if found == version => {
            postcard::from_bytes(form).map_err(|error| damaged(error.to_string()))
        }
        (other, _) => Err(damaged(format!("unknown form {other}"))),
    }
}

pub(super) fn summary(group: &Group) -> GroupSummary {
    GroupSummary {
        kind: GroupKind::Classic,
        state: match group.phase {
            Phase::Empty => GroupState::Empty,
            Phase::PreparingRebalance => GroupState::PreparingRebalance,
            Phase::CompletingRebalance => GroupState::CompletingRebalance,
            Phase::Stable => GroupState::Stable,
        },
        protocol_type: group.protocol_type.clone(),
        members: u32::try_from(group.members.len()).unwrap_or(u32::MAX),
    }
}

pub(super) fn group_payload(group: &Group) -> Bytes {
    encode(
        VERSION,
        &GroupForm {
            generation: group.generation,
            protocol: group.protocol.clone(),
            leader: group.leader.clone(),
        },
    )
}

pub(super) fn member_payload(member: &Member) -> Bytes {
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
pub(super) fn restore(stored: &StoredGroup, limits: Limits, now: Millis) -> Result<Group, StoreError> {
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
