//! Deadlines, lost replies and fencing: what is given up, repeated or left out.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use streamhouse_metadata::model::commit::AppendRefusal;
use streamhouse_metadata::store::MetadataStore as _;
use streamhouse_metadata::testing::CommitFault;
use streamhouse_observability::families::BatchCount;
use tokio::time::Instant;

use super::{INLINE, base_offset, house, house_with, options};
use crate::batch::testing::TestBatch;
use crate::stores::faulty::{Call, Plan};
use crate::writer::{Append, AppendError};

#[tokio::test]
async fn trace_11_an_object_given_up_leaves_the_queue_before_its_batches_are_refused() {
    let house = house(options(0)).await;
    house.objects.plan(Call::Put, Plan::RefuseBefore(503));
    let refused = house.append(0, &TestBatch::of(1, "lost"));
    assert_eq!(refused.await, [Err(AppendError::Storage)]);
    assert_eq!(house.high_watermark(0).await, 0);
    assert_eq!(house.abandoned.lock().len(), 1);
    assert_eq!(base_offset(&house.append(0, &TestBatch::of(1, "kept")).await), 0);
    assert_eq!(house.metrics.produce.batches(BatchCount::ServerError).value(), 1);
    assert_eq!(house.metrics.produce.batches(BatchCount::Ok).value(), 1);
}

#[tokio::test]
async fn trace_11_a_lost_reply_does_not_let_the_successor_pass_a_gap() {
    let house = house(options(0)).await;
    house.objects.plan(Call::Put, Plan::LoseReply);
    let first = house.append(0, &TestBatch::of(1, "a").by(7, 0, 0));
    house.objects.wait_until_held(Call::Put, 0).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let second = house.append(0, &TestBatch::of(1, "b").by(7, 0, 1));
    assert_eq!(first.await, [Err(AppendError::Storage)]);
    let refusal = AppendRefusal::GapPending { expected: 0, got: 1 };
    assert_eq!(second.await, [Err(AppendError::Refused(refusal))]);
    // The client sends both again, in order, and each is there once.
    assert_eq!(
        base_offset(&house.append(0, &TestBatch::of(1, "a").by(7, 0, 0)).await),
        0
    );
    assert_eq!(
        base_offset(&house.append(0, &TestBatch::of(1, "b").by(7, 0, 1)).await),
        1
    );
    assert_eq!(house.high_watermark(0).await, 2);
}

#[tokio::test(start_paused = true)]
async fn trace_08_a_batch_is_withdrawn_at_its_deadline_and_never_committed() {
    let house = house(options(0)).await;
    house.objects.close_gate(Call::Put);
    let start = Instant::now();
    let mut entry = house.entry(0, &TestBatch::of(1, "late"));
    entry.deadline = start + Duration::from_secs(3);
    let pending = house.writer.append(vec![entry]);
    assert_eq!(pending.await, [Err(AppendError::TimedOut)]);
    assert_eq!(start.elapsed(), Duration::from_secs(3));
    // The store's threads live in real time, so the rest of this test does too.
    tokio::time::resume();
    house.objects.open_gate(Call::Put);
    assert_eq!(base_offset(&house.append(0, &TestBatch::of(1, "next")).await), 0);
    assert!(!String::from_utf8_lossy(&house.read(0, 0).await).contains("late"));
}

#[tokio::test]
async fn a_deadline_is_kept_by_batches_that_come_behind_more_patient_ones() {
    let house = house(options(0)).await;
    house.objects.close_gate(Call::Put);
    let mut held = Vec::new();
    for slot in 1..=2 {
        held.push(house.append(0, &TestBatch::of(1, "held")));
        house.objects.wait_until_held(Call::Put, slot).await;
    }
    held.push(house.append(0, &TestBatch::of(1, "patient")));
    tokio::time::sleep(Duration::from_millis(20)).await;
    let hasty = Append {
        deadline: Instant::now() + Duration::from_millis(50),
        ..house.entry(0, &TestBatch::of(1, "hasty"))
    };
    let answer = tokio::time::timeout(Duration::from_secs(5), house.writer.append(vec![hasty])).await;
    assert_eq!(answer.unwrap(), [Err(AppendError::TimedOut)]);
}

#[tokio::test]
async fn a_panic_of_the_writer_stops_the_process_and_leaves_nobody_waiting() {
    let told = Arc::new(Mutex::new(None));
    let kept = told.clone();
    let house = house_with(
        options(INLINE),
        Box::new(|| panic!("on purpose")),
        Box::new(move |why| *kept.lock() = Some(why.to_string())),
    )
    .await;
    assert_eq!(base_offset(&house.append(0, &TestBatch::of(1, "a")).await), 0);
    let next = house.append(0, &TestBatch::of(1, "b"));
    let answer = tokio::time::timeout(Duration::from_secs(5), next).await;
    assert_eq!(answer.unwrap(), [Err(AppendError::Stopping)]);
    assert_eq!(told.lock().as_deref(), Some("the writer panicked"));
    assert_eq!(house.our_faults(), (1, 1));
}

#[tokio::test]
async fn what_the_writer_gives_up_and_what_comes_after_counts_as_our_fault() {
    let house = house_with(options(INLINE), Box::new(|| {}), Box::new(|_| {})).await;
    house.metadata.fail_commits([CommitFault::Damaged]);
    let held = house.append(0, &TestBatch::of(1, "a"));
    assert_eq!(held.await, [Err(AppendError::Stopping)]);
    assert_eq!(house.our_faults(), (1, 1));
    let late = house.append(0, &TestBatch::of(1, "b"));
    assert_eq!(late.await, [Err(AppendError::Stopping)]);
    assert_eq!(house.our_faults(), (2, 2));
}

#[tokio::test]
async fn trace_08_a_fenced_agent_discards_what_it_holds_and_starts_anew() {
    let house = house(options(0)).await;
    let identity = house.writer.identity();
    let before = identity.borrow().incarnation;
    house.metadata.fence(before).await.unwrap();
    let pending = house.append(0, &TestBatch::of(1, "zombie"));
    assert_eq!(pending.await, [Err(AppendError::Fenced)]);
    assert_eq!(house.high_watermark(0).await, 0);
    assert_eq!(base_offset(&house.append(0, &TestBatch::of(1, "new")).await), 0);
    assert_ne!(identity.borrow().incarnation, before);
}

/// Fenced, and the metadata store is down when it wants to start anew.
#[tokio::test]
async fn what_comes_while_an_agent_cannot_start_anew_is_answered_at_its_deadline() {
    let house = house(options(0)).await;
    house
        .metadata
        .fence(house.writer.identity().borrow().incarnation)
        .await
        .unwrap();
    house.metadata.refuse_agents(true);
    let refused = house.append(0, &TestBatch::of(1, "zombie")).await;
    assert_eq!(refused, [Err(AppendError::Fenced)]);
    assert_eq!(house.writer.oldest(), None, "nothing waits any more");
    let in_a_second = Append {
        deadline: Instant::now() + Duration::from_secs(1),
        ..house.entry(0, &TestBatch::of(1, "meanwhile"))
    };
    let answered = house.writer.append(vec![in_a_second]).await;
    assert_eq!(answered, [Err(AppendError::TimedOut)]);
    house.metadata.refuse_agents(false);
    assert_eq!(base_offset(&house.append(0, &TestBatch::of(1, "new")).await), 0);
}

#[tokio::test]
async fn trace_09_a_commit_whose_reply_is_lost_is_repeated_under_its_number_and_stored_once() {
    for fault in [
        CommitFault::ReplyLost,
        CommitFault::RequestLost,
        CommitFault::Refused,
    ] {
        for inline in [0, INLINE] {
            let house = house(options(inline)).await;
            house.append(0, &TestBatch::of(1, "before")).await;
            house
                .metadata
                .fail_commits([fault.clone(), fault.clone(), CommitFault::None]);
            // Not idempotent: only the commit's number keeps it from being there twice.
            let first = house.append(0, &TestBatch::of(2, "a"));
            let second = house.append(0, &TestBatch::of(3, "b"));
            assert_eq!(base_offset(&first.await), 1, "{fault:?}");
            assert_eq!(base_offset(&second.await), 3, "{fault:?}");
            assert_eq!(house.high_watermark(0).await, 6, "{fault:?}");
            assert_eq!(house.metrics.topic("orders").records.value(), 6);
            let text = String::from_utf8_lossy(&house.read(0, 1).await).into_owned();
            assert_eq!(text.matches("a-0").count(), 1);
        }
    }
}

#[tokio::test]
async fn trace_08_a_batch_that_expires_while_the_store_is_down_is_left_out_of_the_repeat() {
    let house = house(options(INLINE)).await;
    house.metadata.set_down(true);
    let mut entry = house.entry(0, &TestBatch::of(1, "expired"));
    entry.deadline = Instant::now() + Duration::from_millis(100);
    let expired = house.writer.append(vec![entry]);
    let patient = house.append(0, &TestBatch::of(1, "patient"));
    assert_eq!(expired.await, [Err(AppendError::TimedOut)]);
    house.metadata.set_down(false);
    assert_eq!(base_offset(&patient.await), 0);
    assert!(!String::from_utf8_lossy(&house.read(0, 0).await).contains("expired"));
}
