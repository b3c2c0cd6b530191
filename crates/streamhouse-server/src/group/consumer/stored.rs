//! The form in which a group of the newer protocol lies in the metadata store: a version byte, then postcard.
//!
//! All of it is stored: epochs, what everybody has and is giving up, and everybody's target. So whoever takes
//! the group over gives nothing away that somebody still has (TRACES 25). A stored form never changes in
//! place; another form gets another version byte. Members that speak the classic protocol have a form of their
//! own (2): the first one, and what they said in JoinGroup.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use streamhouse_metadata::ids::TopicId;
use streamhouse_metadata::model::group::{GroupKind, GroupSummary, StoredGroup};
use streamhouse_metadata::store::StoreError;

use super::member::{ClassicSide, Member, Profile, Standing};
use super::pattern::Pattern;
use super::state::Subscribed;
use super::subscription::Subscription;
use super::{Assignment, Assignor, ConsumerGroup, ConsumerLimits};
use crate::group::embedded::PROTOCOL_TYPE;
use crate::group::form::{decode, encode, split};
use crate::group::step::Millis;

const GROUP: u8 = 1;
const MEMBER: u8 = 1;
const CLASSIC_MEMBER: u8 = 2;

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

#[derive(Serialize, Deserialize)]
struct ClassicMemberForm {
    member: MemberForm,
    session_timeout_ms: u64,
    protocols: Vec<(String, Vec<u8>)>,
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
    encode(
        GROUP,
        &GroupForm {
            epoch: group.epoch,
            assignment_epoch: group.assignment_epoch,
            subscribed: subscribed
                .map(|(id, topic)| (*id, topic.name.clone(), topic.partitions))
                .collect(),
        },
    )
}

pub(in crate::group) fn member_payload(member: &Member) -> Bytes {
    let profile = member.profile.clone();
    let form = MemberForm {
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
    };
    let Some(ClassicSide {
        session_timeout_ms,
        protocols,
    }) = profile.classic
    else {
        return encode(MEMBER, &form);
    };
    let protocols = protocols.into_iter();
    let protocols = protocols.map(|(name, metadata)| (name, metadata.to_vec()));
    let form = ClassicMemberForm {
        member: form,
        session_timeout_ms,
        protocols: protocols.collect(),
    };
    encode(CLASSIC_MEMBER, &form)
}

fn member_forms(payload: &[u8]) -> Result<(MemberForm, Option<ClassicSide>), StoreError> {
    const WHAT: &str = "group member";
    if !matches!(split(WHAT, payload)?, (CLASSIC_MEMBER, _)) {
        return Ok((decode(WHAT, MEMBER, payload)?, None));
    }
    let form: ClassicMemberForm = decode(WHAT, CLASSIC_MEMBER, payload)?;
    let protocols = form.protocols.into_iter();
    let side = ClassicSide {
        session_timeout_ms: form.session_timeout_ms,
        protocols: protocols
            .map(|(name, metadata)| (name, Bytes::from(metadata)))
            .collect(),
    };
    Ok((form.member, Some(side)))
}

/// The group as it was stored, with timers that begin now.
pub(in crate::group) fn restore(
    stored: &StoredGroup,
    limits: ConsumerLimits,
    now: Millis,
) -> Result<ConsumerGroup, StoreError> {
    let form: GroupForm = decode("group", GROUP, &stored.payload)?;
    let mut members = BTreeMap::new();
    for (id, payload) in &stored.members {
        let (form, classic) = member_forms(payload)?;
        let pattern = form.pattern.as_deref().map(Pattern::stored).transpose();
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
            classic,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::consumer::member::MemberState;
    use streamhouse_metadata::ids::TopicPartition;
    use uuid::Uuid;

    fn member(classic: Option<ClassicSide>) -> Member {
        let held = |partition| TopicPartition {
            topic: TopicId(Uuid::from_u128(1)),
            partition,
        };
        let profile = Profile {
            instance: Some("i".to_owned()),
            rack: None,
            client_id: "c".to_owned(),
            client_host: "/h".to_owned(),
            rebalance_timeout_ms: 300,
            subscription: Subscription {
                names: ["t".to_owned()].into(),
                pattern: None,
            },
            assignor: None,
            classic,
        };
        let standing = Standing {
            epoch: 7,
            previous_epoch: 6,
            state: MemberState::Unrevoked,
            assigned: [held(0)].into_iter().collect(),
            revoking: [held(1)].into_iter().collect(),
        };
        Member::new(profile, (standing, [held(0)].into_iter().collect()), 0)
    }

    fn side() -> ClassicSide {
        ClassicSide {
            session_timeout_ms: 1_000,
            protocols: vec![("range".to_owned(), Bytes::from_static(b"\0\0"))],
        }
    }

    /// A change of these bytes is a new version of the form: it needs an ADR, and these stay.
    const FIRST: &str = "01010169000163022f68ac0201017400000e0c010110000000000000000000000000000000010100\
        01100000000000000000000000000000000101020110000000000000000000000000000000010100";
    const CLASSIC: &str = "02010169000163022f68ac0201017400000e0c010110000000000000000000000000000000010100\
        01100000000000000000000000000000000101020110000000000000000000000000000000010100e807010572616e6765020000";

    fn hex(bytes: &Bytes) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_group_is_read_whole_whose_member_has_a_pattern_that_would_not_be_admitted_now() {
        let text = "y?[a-z]{10000}";
        assert!(Pattern::new(text).is_err());
        let mut member = member(None);
        member.profile.subscription.pattern = Some(Pattern::stored(text).unwrap());
        let limits = ConsumerLimits {
            session_timeout_ms: 1_000,
            heartbeat_interval_ms: 100,
            members_max: 1,
        };
        let group = ConsumerGroup::new(limits, 7);
        let stored = StoredGroup {
            group: "g".to_owned(),
            coordinator_epoch: 1,
            summary: summary(&group),
            payload: group_payload(&group),
            members: vec![("m".to_owned(), member_payload(&member))],
            empty_since: None,
        };
        drop(member);
        let read = restore(&stored, limits, 0).unwrap();
        let pattern = read.members["m"].profile.subscription.pattern.as_ref();
        assert_eq!(pattern.unwrap().text(), text);
    }

    #[test]
    fn members_lie_in_the_forms_they_always_had_and_are_read_from_them() {
        for (known, classic) in [(FIRST, None), (CLASSIC, Some(side()))] {
            let member = member(classic);
            let payload = member_payload(&member);
            assert_eq!(hex(&payload), known);
            let (form, read) = member_forms(&payload).unwrap();
            assert_eq!((read, form.standing), (member.profile.classic, member.standing));
        }
        assert!(member_forms(b"\x03").is_err() && member_forms(b"").is_err());
    }
}
