use bytes::Bytes;

use super::{Group, Join, Limits, Member, Phase, Profile};
use crate::group::step::{Answer, JoinReply, Step};
use crate::group::{Committing, GroupFault};

const PLAIN: Committing = Committing::Plain { knows_epochs: true };

fn group(initial_delay_ms: u64) -> Group {
    Group::new(Limits {
        initial_delay_ms,
        members_max: 3,
    })
}

fn joining(member: &str, new: &str, instance: Option<&str>) -> Join {
    Join {
        member: member.to_owned(),
        new_member: new.to_owned(),
        protocol_type: "consumer".to_owned(),
        profile: Profile {
            instance: instance.map(str::to_owned),
            client_id: "c".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            protocols: vec![("range".to_owned(), Bytes::from_static(b"topics"))],
        },
        needs_known_member: false,
        may_skip_assignment: true,
    }
}

fn joined(step: &Step, ticket: u64) -> Result<JoinReply, GroupFault> {
    let found = step.answers.iter().find(|(at, _)| *at == ticket);
    match found {
        Some((_, Answer::Join(reply))) => reply.clone().map_err(|(fault, _)| fault),
        other => panic!("ticket {ticket}: {other:?}"),
    }
}

fn lapsed(step: &Step) -> Vec<&str> {
    step.lapsed.iter().map(|each| each.member.as_str()).collect()
}

fn assignment(step: &Step, ticket: u64) -> Result<Bytes, GroupFault> {
    let found = step.answers.iter().find(|(at, _)| *at == ticket);
    match found {
        Some((_, Answer::Sync(reply))) => reply.clone().map(|reply| reply.assignment),
        other => panic!("ticket {ticket}: {other:?}"),
    }
}

/// Two members, a the leader, in a stable first generation.
fn stable() -> Group {
    let mut group = group(3_000);
    assert!(group.join(0, 1, joining("", "a", None)).answers.is_empty());
    assert!(
        group
            .join(10, 2, joining("", "b", Some("static-b")))
            .answers
            .is_empty()
    );
    let step = group.tick(3_010);
    assert_eq!(joined(&step, 1).unwrap().members.len(), 2);
    assert!(joined(&step, 2).unwrap().members.is_empty());
    assert!(
        group
            .sync(3_010, 3, ("b", Some("static-b"), 1), (None, None), vec![])
            .answers
            .is_empty()
    );
    let given = vec![
        ("a".to_owned(), Bytes::from_static(b"A")),
        ("b".to_owned(), Bytes::from_static(b"B")),
    ];
    let step = group.sync(3_011, 4, ("a", None, 1), (Some("consumer"), Some("range")), given);
    assert!(step.store && step.rebalanced);
    assert_eq!(assignment(&step, 3).unwrap(), "B");
    assert_eq!(assignment(&step, 4).unwrap(), "A");
    assert_eq!(group.phase, Phase::Stable);
    group
}

#[test]
fn the_first_generation_waits_for_members_that_start_together() {
    let mut group = group(3_000);
    assert!(group.join(0, 1, joining("", "a", None)).answers.is_empty());
    assert_eq!(group.next_deadline(), Some(3_000));
    assert!(group.tick(2_999).answers.is_empty());
    let step = group.tick(3_000);
    let reply = joined(&step, 1).unwrap();
    assert_eq!(
        (reply.generation, reply.leader.as_str(), reply.protocol.as_str()),
        (1, "a", "range")
    );
}

#[test]
fn a_member_that_leaves_makes_the_others_join_again() {
    let mut group = stable();
    let (left, step) = group.leave(4_000, "a", None);
    assert_eq!(left, Ok(()));
    assert!(step.answers.is_empty());
    assert_eq!(
        group.heartbeat(4_001, "b", Some("static-b"), 1),
        Err(GroupFault::RebalanceInProgress)
    );
    let step = group.join(4_002, 5, joining("b", "", Some("static-b")));
    let reply = joined(&step, 5).unwrap();
    assert_eq!(
        (reply.generation, reply.leader.as_str(), reply.members.len()),
        (2, "b", 1)
    );
}

#[test]
fn zombies_are_refused_with_the_reason_that_fits() {
    let mut group = stable();
    assert_eq!(
        group.heartbeat(4_000, "a", None, 0),
        Err(GroupFault::IllegalGeneration)
    );
    assert_eq!(
        group.heartbeat(4_000, "x", None, 1),
        Err(GroupFault::UnknownMember)
    );
    assert_eq!(
        group.heartbeat(4_000, "a", Some("static-b"), 1),
        Err(GroupFault::FencedInstance)
    );
    assert_eq!(
        group.may_commit(4_000, ("a", None, 2), PLAIN),
        Err(GroupFault::IllegalGeneration)
    );
    assert_eq!(
        group.may_commit(4_000, ("", None, -1), PLAIN),
        Err(GroupFault::UnknownMember)
    );
    assert_eq!(group.may_commit(4_000, ("a", None, 1), PLAIN), Ok(()));
    let step = group.sync(4_000, 9, ("a", None, 0), (None, None), vec![]);
    assert_eq!(assignment(&step, 9), Err(GroupFault::IllegalGeneration));
    let step = group.sync(4_000, 9, ("a", None, 1), (None, Some("sticky")), vec![]);
    assert_eq!(assignment(&step, 9), Err(GroupFault::InconsistentProtocol));
    let mut stranger = joining("", "d", None);
    stranger.profile.protocols[0].0 = "sticky".to_owned();
    assert_eq!(
        joined(&group.join(4_000, 9, stranger), 9),
        Err(GroupFault::InconsistentProtocol)
    );
}

#[test]
fn a_session_that_expires_costs_the_member_its_place() {
    let mut group = stable();
    group.heartbeat(12_000, "a", None, 1).unwrap();
    // a synced last, b a millisecond before.
    assert_eq!(group.next_deadline(), Some(13_011));
    let step = group.tick(13_011);
    assert_eq!(lapsed(&step), ["b"]);
    assert_eq!(group.phase, Phase::PreparingRebalance);
    assert_eq!(group.require_member("b", None), Err(GroupFault::UnknownMember));
    let step = group.join(13_500, 7, joining("a", "", None));
    assert_eq!(joined(&step, 7).unwrap().generation, 2);
}

#[test]
fn a_static_member_takes_its_place_again_without_a_rebalance() {
    let mut group = stable();
    let step = group.join(5_000, 8, joining("", "b2", Some("static-b")));
    assert!(step.store);
    assert_eq!(joined(&step, 8).unwrap().generation, 1);
    assert_eq!(group.phase, Phase::Stable);
    assert_eq!(
        group.heartbeat(5_001, "b", Some("static-b"), 1),
        Err(GroupFault::FencedInstance)
    );
    let step = group.sync(5_001, 9, ("b2", Some("static-b"), 1), (None, None), vec![]);
    assert_eq!(assignment(&step, 9).unwrap(), "B");
}

#[test]
fn a_new_member_learns_its_id_first_and_a_group_has_a_limit() {
    let mut group = stable();
    let mut third = joining("", "c", None);
    third.needs_known_member = true;
    let refused = joined(&group.join(4_000, 5, third), 5);
    assert_eq!(refused, Err(GroupFault::MemberIdRequired("c".to_owned())));
    assert_eq!(group.phase, Phase::Stable);
    // The id that was given out holds its place.
    assert_eq!(
        joined(&group.join(4_000, 6, joining("", "d", None)), 6),
        Err(GroupFault::Full)
    );
    group.join(4_001, 7, joining("c", "", None));
    assert_eq!(group.phase, Phase::PreparingRebalance);
}

#[test]
fn a_group_whose_last_member_left_is_empty_and_stored() {
    let mut group = stable();
    let (_, _) = group.leave(4_000, "a", None);
    let (left, step) = group.leave(4_000, "", Some("static-b"));
    assert_eq!(left, Ok(()));
    assert!(step.store);
    assert_eq!((group.phase, group.next_deadline()), (Phase::Empty, None));
    assert_eq!(group.may_commit(4_001, ("", None, -1), PLAIN), Ok(()));
}

#[test]
fn only_a_plain_commit_has_to_wait_for_the_assignment() {
    let mut group = stable();
    group.join(4_000, 5, joining("a", "", None));
    group.join(4_001, 6, joining("b", "", Some("static-b")));
    assert_eq!((group.phase, group.generation), (Phase::CompletingRebalance, 2));
    let mut commit = |generation, committing| group.may_commit(4_002, ("a", None, generation), committing);
    assert_eq!(commit(2, PLAIN), Err(GroupFault::RebalanceInProgress));
    assert_eq!(commit(2, Committing::InTransaction), Ok(()));
    assert_eq!(
        commit(1, Committing::InTransaction),
        Err(GroupFault::IllegalGeneration)
    );
}

/// Both of [`stable`] in a second generation since 4_001, and the leader has assigned it.
fn led() -> Group {
    let mut group = stable();
    group.join(4_000, 5, joining("a", "", None));
    group.join(4_001, 6, joining("b", "", Some("static-b")));
    assert_eq!((group.phase, group.generation), (Phase::CompletingRebalance, 2));
    group.sync(4_002, 7, ("a", None, 2), (None, None), vec![]);
    assert_eq!(group.phase, Phase::Stable);
    group
}

/// Nobody's session ends before `until`.
fn live(group: &mut Group, until: u64) {
    for now in (12_000..until).step_by(9_000).chain([until]) {
        group.heartbeat(now, "a", None, 2).unwrap();
        group.heartbeat(now, "b", Some("static-b"), 2).unwrap();
    }
}

#[test]
fn who_was_told_of_a_generation_and_never_syncs_is_left_behind_though_the_leader_has_synced() {
    let mut group = led();
    live(&mut group, 64_000);
    assert_eq!(group.next_deadline(), Some(64_001));
    let step = group.tick(64_000);
    assert!(step.lapsed.is_empty() && group.phase == Phase::Stable);
    let step = group.tick(64_001);
    assert_eq!(lapsed(&step), ["b"]);
    assert_eq!(group.phase, Phase::PreparingRebalance);
    assert_eq!(
        group.heartbeat(64_002, "a", None, 2),
        Err(GroupFault::RebalanceInProgress)
    );
    let step = group.join(64_003, 8, joining("a", "", None));
    assert_eq!(joined(&step, 8).unwrap().members.len(), 1);
}

#[test]
fn who_syncs_after_the_leader_stays() {
    let mut group = led();
    group.sync(30_000, 8, ("b", Some("static-b"), 2), (None, None), vec![]);
    live(&mut group, 64_000);
    assert_eq!(group.next_deadline(), Some(74_000), "only sessions end");
    assert!(group.tick(64_001).lapsed.is_empty());
}

#[test]
fn a_restarted_coordinator_waits_for_nobody_to_sync() {
    let before = led();
    let mut after = group(3_000);
    after.protocol.clone_from(&before.protocol);
    let members = before.members.into_iter();
    let stored = members.map(|(id, member)| (id, Member::restored(member.profile, member.assignment, 4_003)));
    let mut after = after.restored(stored.collect(), 4_003);
    assert_eq!(
        (after.phase, after.next_deadline()),
        (Phase::Stable, Some(14_003))
    );
    assert!(after.tick(4_004).lapsed.is_empty());
}

#[test]
fn outside_of_generations_anybody_commits_for_a_group_without_members() {
    let names = [("", None), ("x", None), ("", Some("i")), ("x", Some("i"))];
    for committing in [PLAIN, Committing::InTransaction] {
        let (mut empty, mut busy) = (group(0), stable());
        for (member, instance) in names {
            assert_eq!(empty.may_commit(0, (member, instance, -1), committing), Ok(()));
            let named = empty.may_commit(0, (member, instance, 0), committing);
            assert_eq!(named, Err(GroupFault::UnknownMember));
            let refused = busy.may_commit(4_000, (member, instance, -1), committing);
            assert_eq!(refused, Err(GroupFault::UnknownMember));
        }
        let member = busy.may_commit(4_000, ("a", None, -1), committing);
        assert_eq!(member, Err(GroupFault::IllegalGeneration));
    }
}

#[test]
fn members_that_do_not_come_back_in_time_are_left_behind() {
    let mut group = stable();
    group.join(5_000, 6, joining("", "c", None));
    group.heartbeat(60_000, "a", None, 1).unwrap_err();
    let step = group.join(60_000, 7, joining("b", "", Some("static-b")));
    assert!(step.answers.is_empty());
    let step = group.tick(65_000);
    let reply = joined(&step, 6).unwrap();
    assert_eq!(reply.generation, 2);
    assert_eq!(lapsed(&step), ["a"]);
    assert_eq!(group.members.len(), 2, "{:?}", group.members.keys());
}

proptest::proptest! {
    /// Whatever happens in whatever order: no ticket is answered twice, none of another kind, and a member
    /// that joined is in the generation it was told.
    #[test]
    fn every_ticket_is_answered_at_most_once(events in proptest::collection::vec((0u8..6, 0usize..3, 0u64..20_000), 1..80)) {
        let mut group = group(1_000);
        let (mut now, mut ticket) = (0, 0);
        let mut open = std::collections::HashMap::new();
        let ids = ["a", "b", "c"];
        for (what, who, later) in events {
            now += later;
            ticket += 1;
            let id = ids[who];
            let known = group.members.contains_key(id);
            let generation = group.generation;
            let step = match what {
                0 | 1 => {
                    open.insert(ticket, "join");
                    group.join(now, ticket, joining(if known { id } else { "" }, id, None))
                }
                2 => {
                    open.insert(ticket, "sync");
                    let all = ids.map(|id| (id.to_owned(), Bytes::from_static(b"x"))).to_vec();
                    group.sync(now, ticket, (id, None, generation), (None, None), all)
                }
                3 => group.leave(now, id, None).1,
                4 => {
                    let _ = group.heartbeat(now, id, None, generation);
                    Step::default()
                }
                _ => group.tick(now),
            };
            for (answered, answer) in step.answers {
                let kind = open.remove(&answered);
                match answer {
                    Answer::Join(reply) => {
                        proptest::prop_assert_eq!(kind, Some("join"));
                        if let Ok(reply) = reply {
                            proptest::prop_assert_eq!(reply.generation, group.generation);
                        }
                    }
                    Answer::Sync(_) => proptest::prop_assert_eq!(kind, Some("sync")),
                }
            }
            if group.phase == Phase::Stable || group.phase == Phase::Empty {
                proptest::prop_assert!(open.is_empty(), "{:?} wait in {:?}", open, group.phase);
            }
        }
    }
}
