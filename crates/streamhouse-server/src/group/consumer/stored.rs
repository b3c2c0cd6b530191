//! The form in which a group of the newer protocol lies in the metadata store: a version byte, then postcard.
//!
//! All of it is stored: epochs, what everybody has and is giving up, and everybody's target. So whoever takes
//! the group over gives nothing away that somebody still has (TRACES 25). A stored form never changes in
//! place; another form gets another version byte. A member lies in form 3, and one that speaks the classic protocol
//! in form 4: forms 1 and 2, in which they were before KIP-1251, and since which epoch it has each partition. What
//! is read from those it has since the epoch in which it is, so that no older one commits.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use streamhouse_metadata::ids::TopicId;
use streamhouse_metadata::model::group::{GroupKind, GroupSummary, StoredGroup};
use streamhouse_metadata::store::StoreError;

use super::member::{ClassicSide, Member, MemberState, Profile, Standing};
use super::pattern::Pattern;
use super::since::Since;
use super::state::Subscribed;
use super::subscription::Subscription;
use super::{Assignment, Assignor, ConsumerGroup, ConsumerLimits};
use crate::group::embedded::PROTOCOL_TYPE;
use crate::group::form::{decode, encode, split};
use crate::group::step::Millis;

const GROUP: u8 = 1;
/// Before it was known since when.
const FORMER_MEMBER: u8 = 1;
const FORMER_CLASSIC_MEMBER: u8 = 2;
const MEMBER: u8 = 3;
const CLASSIC_MEMBER: u8 = 4;

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
    standing: StandingForm,
    target: Assignment,
}

#[derive(Serialize, Deserialize)]
struct StandingForm {
    epoch: i32,
    previous_epoch: i32,
    state: MemberState,
    assigned: Assignment,
    revoking: Assignment,
}

#[derive(Serialize, Deserialize)]
struct ClassicMemberForm {
    member: MemberForm,
    session_timeout_ms: u64,
    protocols: Vec<(String, Vec<u8>)>,
}

/// A former form, and since which epoch the member has what is assigned to it, then what it is giving up, in their
/// order.
#[derive(Serialize, Deserialize)]
struct Dated<T> {
    form: T,
    since: Vec<i32>,
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
    let standing = member.standing.clone();
    // It has the epoch of everything that it holds.
    let since = standing
        .held()
        .map(|p| standing.since.of(&p).unwrap_or(standing.epoch));
    let since: Vec<i32> = since.collect();
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
        standing: StandingForm {
            epoch: standing.epoch,
            previous_epoch: standing.previous_epoch,
            state: standing.state,
            assigned: standing.assigned,
            revoking: standing.revoking,
        },
        target: member.target.clone(),
    };
    let Some(ClassicSide {
        session_timeout_ms,
        protocols,
    }) = profile.classic
    else {
        return encode(MEMBER, &Dated { form, since });
    };
    let protocols = protocols.into_iter();
    let protocols = protocols.map(|(name, metadata)| (name, metadata.to_vec()));
    let form = ClassicMemberForm {
        member: form,
        session_timeout_ms,
        protocols: protocols.collect(),
    };
    encode(CLASSIC_MEMBER, &Dated { form, since })
}

/// What is stored of a member: what it said, where it is, and its target.
fn member(payload: &[u8]) -> Result<(Profile, Standing, Assignment), StoreError> {
    const WHAT: &str = "group member";
    let (form, classic, since) = match split(WHAT, payload)?.0 {
        FORMER_MEMBER => (decode(WHAT, FORMER_MEMBER, payload)?, None, None),
        FORMER_CLASSIC_MEMBER => {
            let form: ClassicMemberForm = decode(WHAT, FORMER_CLASSIC_MEMBER, payload)?;
            let (form, side) = both(form);
            (form, Some(side), None)
        }
        CLASSIC_MEMBER => {
            let dated: Dated<ClassicMemberForm> = decode(WHAT, CLASSIC_MEMBER, payload)?;
            let (form, side) = both(dated.form);
            (form, Some(side), Some(dated.since))
        }
        _ => {
            let dated: Dated<MemberForm> = decode(WHAT, MEMBER, payload)?;
            (dated.form, None, Some(dated.since))
        }
    };
    let damaged = |why: String| StoreError::Damaged(format!("{WHAT}: {why}"));
    let pattern = form.pattern.as_deref().map(Pattern::stored).transpose();
    let profile = Profile {
        instance: form.instance,
        rack: form.rack,
        client_id: form.client_id,
        client_host: form.client_host,
        rebalance_timeout_ms: form.rebalance_timeout_ms,
        subscription: Subscription {
            names: form.names,
            pattern: pattern.map_err(|error| damaged(error.to_string()))?,
        },
        assignor: form.assignor.as_deref().and_then(Assignor::named),
        classic,
    };
    let mut standing = Standing {
        epoch: form.standing.epoch,
        previous_epoch: form.standing.previous_epoch,
        state: form.standing.state,
        assigned: form.standing.assigned,
        revoking: form.standing.revoking,
        since: Since::default(),
    };
    standing.since = match since {
        // A static member that is away is in none: whoever comes back for it has it since any.
        None => Since::one(standing.held(), standing.epoch.max(0)),
        Some(epochs) if epochs.len() == standing.held().count() => standing.held().zip(epochs).collect(),
        Some(epochs) => return Err(damaged(format!("{} epochs of what it holds", epochs.len()))),
    };
    Ok((profile, standing, form.target))
}

fn both(form: ClassicMemberForm) -> (MemberForm, ClassicSide) {
    let protocols = form.protocols.into_iter();
    let protocols = protocols.map(|(name, metadata)| (name, Bytes::from(metadata)));
    let side = ClassicSide {
        session_timeout_ms: form.session_timeout_ms,
        protocols: protocols.collect(),
    };
    (form.member, side)
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
        members.insert(id.clone(), member(payload)?);
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
    use crate::group::consumer::member::AWAY;
    use streamhouse_metadata::ids::TopicPartition;
    use uuid::Uuid;

    fn some(classic: Option<ClassicSide>) -> Member {
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
            since: [(held(0), 5), (held(1), 4)].into_iter().collect(),
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
    const FORMER: &str = "01010169000163022f68ac0201017400000e0c010110000000000000000000000000000000010100\
        01100000000000000000000000000000000101020110000000000000000000000000000000010100";
    const FORMER_CLASSIC: &str = "02010169000163022f68ac0201017400000e0c010110000000000000000000000000000000010100\
        01100000000000000000000000000000000101020110000000000000000000000000000000010100e807010572616e6765020000";

    fn hex(bytes: &Bytes) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_group_is_read_whole_whose_member_has_a_pattern_that_would_not_be_admitted_now() {
        let text = "y?[a-z]{10000}";
        assert!(Pattern::new(text).is_err());
        let mut member = some(None);
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

    fn bytes(hex: &str) -> Vec<u8> {
        let digits = hex
            .as_bytes()
            .chunks(2)
            .map(|two| std::str::from_utf8(two).unwrap());
        digits.map(|two| u8::from_str_radix(two, 16).unwrap()).collect()
    }

    #[test]
    fn members_lie_in_the_forms_they_always_had_with_the_epochs_of_what_they_hold_and_are_read_from_them() {
        for (version, known, classic) in [("03", FORMER, None), ("04", FORMER_CLASSIC, Some(side()))] {
            let stored = some(classic);
            let payload = member_payload(&stored);
            // Two epochs, of the one that is assigned and the one that is given up.
            assert_eq!(hex(&payload), format!("{version}{}020a08", &known[2..]));
            let (profile, standing, target) = member(&payload).unwrap();
            assert_eq!(
                (profile.classic, standing),
                (stored.profile.classic, stored.standing)
            );
            assert_eq!(target, stored.target);
            // An epoch less than there are partitions.
            let short = format!("{version}{}010a", &known[2..]);
            assert!(matches!(member(&bytes(&short)), Err(StoreError::Damaged(_))));
        }
        assert!(member(b"\x05").is_err() && member(b"").is_err());
    }

    #[test]
    fn what_lies_in_a_former_form_is_held_since_the_epoch_in_which_its_member_was() {
        for (known, classic) in [(FORMER, None), (FORMER_CLASSIC, Some(side()))] {
            let stored = some(classic);
            let (profile, mut standing, target) = member(&bytes(known)).unwrap();
            assert_eq!(standing.since, Since::one(standing.held(), 7));
            standing.since = stored.standing.since.clone();
            assert_eq!((profile, standing), (stored.profile, stored.standing));
            assert_eq!(target, stored.target);
        }
    }

    #[test]
    fn a_static_member_that_was_away_in_a_former_form_is_not_asked_since_when() {
        let away = bytes(&FORMER.replacen("0e0c01", "030c00", 1));
        let (_, standing, _) = member(&away).unwrap();
        assert_eq!((standing.epoch, standing.state), (AWAY, MemberState::Stable));
        assert_eq!(standing.since, Since::one(standing.held(), 0));
    }
}
