use super::*;

fn name(topic: &str) -> TopicKey {
    TopicKey::Name(topic.to_owned())
}

fn at(offset: i64) -> Wanted {
    Wanted {
        offset,
        max_bytes: 1 << 20,
        leader_epoch: -1,
    }
}

fn places(topic: &str, partitions: &[(i32, i64)]) -> Places {
    let partitions = partitions.iter().map(|(index, offset)| (*index, at(*offset)));
    vec![(name(topic), partitions.collect())]
}

fn quiet(high_watermark: i64) -> Told {
    Told {
        high_watermark,
        log_start_offset: 0,
        has_records: false,
        failed: false,
    }
}

/// A session of partitions 0 .. `count`, told a high watermark of 10.
fn session(sessions: &FetchSessions, topic: &str, count: i32) -> i32 {
    let wanted: Vec<(i32, i64)> = (0..count).map(|index| (index, 10)).collect();
    sessions.make(&places(topic, &wanted), false, |_, _| quiet(10))
}

#[tokio::test]
async fn a_session_remembers_what_is_fetched_and_tells_what_changed() {
    let sessions = FetchSessions::default();
    let id = session(&sessions, "t", 3);
    assert_ne!(id, NO_SESSION);
    let (mode, wanted) = sessions.begin((id, 1), false, Vec::new(), &[]).unwrap();
    assert_eq!(mode, Mode::Incremental { id });
    assert_eq!(wanted, places("t", &[(0, 10), (1, 10), (2, 10)]));

    let t = name("t");
    let records = Told {
        has_records: true,
        ..quiet(11)
    };
    let failed = Told {
        failed: true,
        ..quiet(-1)
    };
    let told = [(&t, 0, quiet(10)), (&t, 1, records), (&t, 2, failed)];
    assert_eq!(sessions.changed(id, &told), [false, true, true]);
    let told = [(&t, 0, quiet(12)), (&t, 1, quiet(11)), (&t, 2, quiet(10))];
    assert_eq!(
        sessions.changed(id, &told),
        [true, false, true],
        "a new high watermark and the end of a failure are news"
    );
    let raised = Told {
        log_start_offset: 3,
        ..quiet(12)
    };
    assert_eq!(sessions.changed(id, &[(&t, 0, raised)]), [true]);
}

#[tokio::test]
async fn partitions_are_added_moved_and_forgotten() {
    let sessions = FetchSessions::default();
    let id = session(&sessions, "t", 2);
    let named = [places("t", &[(1, 15)]), places("u", &[(0, 0)])].concat();
    let forgotten = [(name("t"), vec![0, 7])];
    let (_, wanted) = sessions.begin((id, 1), false, named, &forgotten).unwrap();
    assert_eq!(wanted, [places("t", &[(1, 15)]), places("u", &[(0, 0)])].concat());
    assert_eq!(sessions.count().partitions, 2);
    let all = [(name("t"), vec![1]), (name("u"), vec![0])];
    let (mode, wanted) = sessions.begin((id, 2), false, Vec::new(), &all).unwrap();
    assert_eq!((mode, wanted.len()), (Mode::Sessionless, 0));
    assert_eq!(sessions.count(), Count::default());
}

#[tokio::test]
async fn a_session_is_used_in_order_and_under_one_kind_of_names() {
    let sessions = FetchSessions::default();
    let id = session(&sessions, "t", 1);
    let unknown = sessions.begin((id + 1, 1), false, Vec::new(), &[]);
    assert_eq!(unknown, Err(SessionFault::Unknown(id + 1)));
    let early = sessions.begin((id, 2), false, Vec::new(), &[]);
    assert_eq!(early, Err(SessionFault::Epoch { expected: 1, got: 2 }));
    let by_id = vec![(TopicKey::Id(uuid::Uuid::nil()), vec![(0, at(0))])];
    assert_eq!(
        sessions.begin((id, 1), true, by_id, &[]),
        Err(SessionFault::TopicIds)
    );
    assert_eq!(
        sessions.begin((id, 1), true, Vec::new(), &[]),
        Err(SessionFault::TopicIds),
        "also where nothing is named"
    );
    assert!(sessions.begin((id, 1), false, Vec::new(), &[]).is_ok());
    let late = sessions.begin((id, 1), false, Vec::new(), &[]);
    assert_eq!(late, Err(SessionFault::Epoch { expected: 2, got: 1 }), "a repeat");
    assert_eq!(next_epoch(i32::MAX), 1);
}

#[tokio::test]
async fn a_client_ends_its_session_or_begins_another() {
    let sessions = FetchSessions::default();
    let id = session(&sessions, "t", 1);
    let (mode, _) = sessions
        .begin((id, FINAL_EPOCH), false, places("t", &[(0, 1)]), &[])
        .unwrap();
    assert_eq!((mode, sessions.count()), (Mode::Sessionless, Count::default()));
    let id = session(&sessions, "t", 1);
    let (mode, _) = sessions
        .begin((id, INITIAL_EPOCH), false, places("t", &[(0, 1)]), &[])
        .unwrap();
    assert_eq!((mode, sessions.count()), (Mode::Full, Count::default()));
}

#[tokio::test(start_paused = true)]
async fn sessions_are_bounded_and_the_stale_and_the_small_make_room() {
    let sessions = FetchSessions::default();
    let ids: Vec<i32> = (0..SESSIONS_MAX).map(|_| session(&sessions, "t", 2)).collect();
    assert_eq!(session(&sessions, "t", 9), NO_SESSION, "all are young");
    tokio::time::advance(EVICTION_AGE + Duration::from_secs(1)).await;
    for id in &ids[1..] {
        sessions.begin((*id, 1), false, Vec::new(), &[]).unwrap();
    }
    assert_ne!(
        session(&sessions, "t", 1),
        NO_SESSION,
        "in place of the stale one"
    );
    assert!(sessions.begin((ids[0], 1), false, Vec::new(), &[]).is_err());
    assert_eq!(session(&sessions, "t", 2), NO_SESSION, "none is smaller");
    assert_ne!(
        session(&sessions, "t", 3),
        NO_SESSION,
        "in place of a smaller one"
    );
    let count = sessions.count();
    assert_eq!((count.sessions, count.evictions), (SESSIONS_MAX, 2));
    assert_eq!(count.partitions, 2 * SESSIONS_MAX + 1 + 3 - 2 * 2);
}

#[tokio::test]
async fn names_that_no_topic_can_have_are_not_remembered() {
    let sessions = FetchSessions::default();
    let long = "x".repeat(NAME_BYTES_MAX + 1);
    assert_eq!(session(&sessions, &long, 1), NO_SESSION);
    let id = session(&sessions, "t", 1);
    let grown = sessions.begin((id, 1), false, places(&long, &[(0, 0)]), &[]);
    assert_eq!(grown, Err(SessionFault::Unknown(id)));
    assert_eq!(sessions.count(), Count::default());
}

#[tokio::test]
async fn partitions_are_bounded_over_all_sessions() {
    let sessions = FetchSessions::default();
    let half = i32::try_from(PARTITIONS_MAX / 2).unwrap();
    let id = session(&sessions, "t", half);
    assert_ne!(session(&sessions, "u", half), NO_SESSION);
    assert_eq!(session(&sessions, "v", 1), NO_SESSION);
    let grown = sessions.begin((id, 1), false, places("w", &[(0, 0)]), &[]);
    assert_eq!(
        grown,
        Err(SessionFault::Unknown(id)),
        "it grew beyond the bound and is gone"
    );
    assert_eq!(sessions.count().partitions, PARTITIONS_MAX / 2);
}
