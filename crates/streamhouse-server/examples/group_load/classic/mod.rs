//! The load of the classic protocol: members with the intervals that Kafka's consumers have by default.

mod member;

use std::time::{Duration, Instant};

use member::Member;

use crate::Options;
use crate::beats::Beats;
use crate::server::Server;

/// The default of Kafka's consumers.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// The server's default: how long a new group waits for more members.
const INITIAL_DELAY: Duration = Duration::from_secs(3);

pub(crate) async fn heartbeats(server: &Server, options: &Options) {
    let beats = Beats::default();
    let total = options.groups * options.members;
    let began = Instant::now();
    let mut tasks = Vec::new();
    let (stable, mut settled) = tokio::sync::mpsc::channel::<()>(1);
    for number in 0..total {
        // One after the other: how fast clients connect is another question.
        let mut member =
            Member::connect(server.address, &format!("group-{}", number / options.members)).await;
        let (beats, stable) = (beats.clone(), stable.clone());
        tasks.push(tokio::spawn(async move {
            member.settle().await;
            drop(stable);
            loop {
                tokio::time::sleep(HEARTBEAT).await;
                let asked = Instant::now();
                if !member.heartbeat().await {
                    member.settle().await;
                }
                beats.answered(asked);
            }
        }));
    }
    drop(stable);
    let _ = settled.recv().await;
    println!(
        "{total} members of {} groups are stable after {:.1} s",
        options.groups,
        began.elapsed().as_secs_f64()
    );
    // What joined early may still have to learn of members that came later.
    tokio::time::sleep(HEARTBEAT * 3).await;
    beats.measure(server, Duration::from_secs(options.seconds)).await;
    for task in tasks {
        task.abort();
    }
}

/// A group forms; then one more member joins it and the others learn of that with their heartbeats.
pub(crate) async fn rebalance(server: &Server, size: usize) {
    let group = format!("large-{:?}", Instant::now());
    let mut members = Vec::new();
    for _ in 0..size {
        members.push(Member::connect(server.address, &group).await);
    }
    let before = server.cpu();
    let began = Instant::now();
    let forming: Vec<_> = members
        .into_iter()
        .map(|mut member| {
            tokio::spawn(async move {
                member.settle().await;
                member
            })
        })
        .collect();
    let mut members = Vec::new();
    for task in forming {
        members.push(task.await.unwrap());
    }
    let formed = began.elapsed();
    assert!(
        members
            .iter()
            .all(|member| member.generation() == members[0].generation())
    );

    let last = members[0].generation();
    let mut newcomer = Member::connect(server.address, &group).await;
    let began = Instant::now();
    let mut tasks = vec![tokio::spawn(async move {
        newcomer.settle().await;
        newcomer
    })];
    for (number, mut member) in members.into_iter().enumerate() {
        // Members are somewhere between two heartbeats when another one joins.
        let phase = HEARTBEAT * u32::try_from(number + 1).unwrap() / u32::try_from(size).unwrap();
        tasks.push(tokio::spawn(async move {
            tokio::time::sleep(phase).await;
            while member.generation() == last {
                if !member.heartbeat().await {
                    member.settle().await;
                } else {
                    tokio::time::sleep(HEARTBEAT).await;
                }
            }
            member
        }));
    }
    let mut members = Vec::new();
    for task in tasks {
        members.push(task.await.unwrap());
    }
    let joined = began.elapsed();
    assert!(
        members.iter().all(|member| member.generation() == last + 1),
        "one generation for all"
    );
    println!(
        "{size} members form a group in {:.2} s ({:.2} s beyond the initial delay); one more joins them in {:.2} s \
         ({:.2} s beyond the heartbeat interval); {:.2} CPU-s for both",
        formed.as_secs_f64(),
        formed.saturating_sub(INITIAL_DELAY).as_secs_f64(),
        joined.as_secs_f64(),
        joined.saturating_sub(HEARTBEAT).as_secs_f64(),
        server.cpu() - before,
    );
}
