//! The load of the newer protocol (KIP-848): the server assigns, and says how often it wants to hear.

mod member;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use member::{Member, create_topic};

use crate::Options;
use crate::beats::Beats;
use crate::server::Server;

/// Partitions a member.
const PARTITIONS: usize = 2;
const LOOKS: Duration = Duration::from_millis(10);

/// What a member knows: its epoch, its partitions, and whether the server has been told of them.
type Known = (i32, BTreeSet<i32>, bool);

/// What each member of a group knows, by number.
#[derive(Clone, Default)]
struct Board(Arc<Mutex<BTreeMap<usize, Known>>>);

impl Board {
    fn show(&self, number: usize, member: &Member) {
        let told = !member.pause().is_zero();
        let state = (member.epoch(), member.held().clone(), told);
        self.0.lock().unwrap().insert(number, state);
    }

    /// All `members` are in one epoch and hold every partition, each something, none together.
    fn is_stable(&self, members: usize, partitions: usize) -> bool {
        let board = self.0.lock().unwrap();
        let epochs: BTreeSet<i32> = board.values().map(|(epoch, ..)| *epoch).collect();
        let held: usize = board.values().map(|(_, held, _)| held.len()).sum();
        let different: BTreeSet<i32> = board.values().flat_map(|(_, held, _)| held).copied().collect();
        board.len() == members
            && epochs.len() == 1
            && (held, different.len()) == (partitions, partitions)
            && board.values().all(|(_, held, told)| *told && !held.is_empty())
    }

    async fn stable(&self, members: usize, partitions: usize) {
        while !self.is_stable(members, partitions) {
            tokio::time::sleep(LOOKS).await;
        }
    }
}

/// Heartbeats for ever.
fn run(mut member: Member, number: usize, board: Board, beats: Beats) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            let asked = Instant::now();
            member.heartbeat().await;
            beats.answered(asked);
            board.show(number, &member);
            tokio::time::sleep(member.pause()).await;
        }
    })
}

pub(crate) async fn heartbeats(server: &Server, options: &Options) {
    let beats = Beats::default();
    let partitions = options.members * PARTITIONS;
    create_topic(server.address, "many-groups", partitions).await;
    let began = Instant::now();
    let (mut tasks, mut boards) = (Vec::new(), Vec::new());
    for group in 0..options.groups {
        let board = Board::default();
        boards.push(board.clone());
        for number in 0..options.members {
            let member = Member::connect(server.address, &format!("group-{group}"), "many-groups").await;
            tasks.push(run(member, number, board.clone(), beats.clone()));
        }
    }
    for board in &boards {
        board.stable(options.members, partitions).await;
    }
    println!(
        "{} members of {} groups are stable after {:.1} s",
        options.groups * options.members,
        options.groups,
        began.elapsed().as_secs_f64()
    );
    beats.measure(server, Duration::from_secs(options.seconds)).await;
    assert!(
        boards
            .iter()
            .all(|board| board.is_stable(options.members, partitions))
    );
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
}

/// A group forms; then one more member joins it. Members learn of what changes with their next heartbeat.
pub(crate) async fn rebalance(server: &Server, size: usize, round: usize) {
    let (group, topic) = (format!("large-{round}"), format!("large-{round}"));
    let partitions = size * PARTITIONS;
    create_topic(server.address, &topic, partitions).await;
    let (board, beats) = (Board::default(), Beats::default());
    let mut members = Vec::new();
    for _ in 0..=size {
        members.push(Member::connect(server.address, &group, &topic).await);
    }
    let newcomer = members.pop().unwrap();
    let before = server.cpu();
    let began = Instant::now();
    let joining = members.into_iter().enumerate();
    let mut tasks: Vec<_> = joining
        .map(|(number, member)| run(member, number, board.clone(), beats.clone()))
        .collect();
    board.stable(size, partitions).await;
    let formed = began.elapsed();
    let began = Instant::now();
    tasks.push(run(newcomer, size, board.clone(), beats.clone()));
    board.stable(size + 1, partitions).await;
    println!(
        "{size} members form a group in {:.2} s; one more joins them in {:.2} s; {:.2} CPU-s for both",
        formed.as_secs_f64(),
        began.elapsed().as_secs_f64(),
        server.cpu() - before,
    );
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
}
