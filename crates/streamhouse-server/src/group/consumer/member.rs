//! One member on its way to its target.
//!
//! A member gives up what it shall not have any more before it is given anything new, and gets a partition
//! only when nobody else has it or is still giving it up. So no partition is ever with two members, whoever
//! is slow (KIP-848; TRACES 25: each step is stored before it is answered).

use std::cmp::Ordering;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use streamhouse_metadata::ids::TopicPartition;

use super::{Assignment, Assignor, since::Since, subscription::Subscription};
use crate::group::GroupFault;
use crate::group::step::Millis;

/// The epoch of a static member that is away for a while.
pub const AWAY: i32 = -2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberState {
    Stable,
    /// It has been told to give partitions up and has not said that it did.
    Unrevoked,
    /// Others have not yet given up what it shall have.
    Unreleased,
}

/// What a member said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    pub instance: Option<String>,
    pub rack: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: u64,
    pub subscription: Subscription,
    pub assignor: Option<Assignor>,
    /// Of a member that speaks the classic protocol.
    pub classic: Option<ClassicSide>,
}

/// What a member of the classic protocol says that others do not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicSide {
    pub session_timeout_ms: u64,
    /// Name and metadata, the preferred first; never empty.
    pub protocols: Vec<(String, Bytes)>,
}

/// Where a member is on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub epoch: i32,
    /// An answer may have been lost: the member may still be here.
    pub previous_epoch: i32,
    pub state: MemberState,
    pub assigned: Assignment,
    /// What it is giving up; still its own.
    pub revoking: Assignment,
    /// Of each partition of both.
    pub since: Since,
}

/// Nothing yet, in no epoch.
impl Default for Standing {
    fn default() -> Self {
        Self {
            epoch: 0,
            previous_epoch: -1,
            state: MemberState::Stable,
            assigned: Assignment::default(),
            revoking: Assignment::default(),
            since: Since::default(),
        }
    }
}

impl Standing {
    /// Everything that nobody else may have.
    pub fn held(&self) -> impl Iterator<Item = TopicPartition> {
        self.assigned.partitions().chain(self.revoking.partitions())
    }

    /// Whether it may commit in this epoch: its own, or an older one if it has had all of `partitions` since then
    /// (KIP-1251).
    pub fn commits_in(&self, epoch: i32, mut partitions: impl Iterator<Item = TopicPartition>) -> bool {
        let had = |partition: TopicPartition| self.since.of(&partition).is_some_and(|since| since <= epoch);
        match epoch.cmp(&self.epoch) {
            Ordering::Less => partitions.all(had),
            Ordering::Equal => true,
            Ordering::Greater => false,
        }
    }

    /// A static member goes for a while: what it was giving up is given up, the rest waits for it. As in Kafka, who
    /// comes back for it is not asked since when it was assigned.
    #[must_use]
    pub fn away(&self) -> Self {
        Self {
            epoch: AWAY,
            state: MemberState::Stable,
            revoking: Assignment::default(),
            since: Since::one(self.assigned.partitions(), 0),
            ..self.clone()
        }
    }

    /// Somebody takes its place: in no epoch yet, with what it had.
    #[must_use]
    pub fn taken_over(&self) -> Self {
        Self {
            since: self.since_of(self.assigned.partitions(), self.epoch),
            assigned: self.assigned.clone(),
            ..Self::default()
        }
    }

    /// Since when it holds `held`: what it had goes on, all else begins in `epoch`, also what it had given up.
    fn since_of(&self, held: impl Iterator<Item = TopicPartition>, epoch: i32) -> Since {
        let had = |p: &TopicPartition| {
            self.since
                .of(p)
                .filter(|_| self.assigned.holds(p.topic, p.partition))
        };
        held.map(|partition| (partition, had(&partition).unwrap_or(epoch)))
            .collect()
    }

    /// The next step towards `target`, the one of `target_epoch`. `owned` is what the member says it has, if
    /// it says so; `is_held` whether anybody has a partition or is giving it up.
    #[must_use]
    pub fn reconciled(
        &self,
        (target_epoch, target): (i32, &Assignment),
        owned: Option<&Assignment>,
        is_held: impl Fn(TopicPartition) -> bool,
    ) -> Self {
        let owns = |revoking: &Assignment| owned.is_none_or(|owned| owned.holds_one_of(revoking));
        match self.state {
            MemberState::Stable if self.epoch == target_epoch => return self.clone(),
            MemberState::Unrevoked if owns(&self.revoking) => return self.clone(),
            MemberState::Stable | MemberState::Unrevoked | MemberState::Unreleased => {}
        }
        let (kept, revoking): (Vec<_>, Vec<_>) = self
            .assigned
            .partitions()
            .partition(|p| target.holds(p.topic, p.partition));
        let mut assigned: Assignment = kept.into_iter().collect();
        let revoking: Assignment = revoking.into_iter().collect();
        if !revoking.is_empty() && owns(&revoking) {
            // Whoever has something to give up comes to no newer epoch, also if it has just given up something else.
            return self.moved(self.epoch, MemberState::Unrevoked, assigned, revoking);
        }
        let missing = target.partitions();
        let missing = missing.filter(|p| !assigned.holds(p.topic, p.partition));
        // What it is giving up itself is given up by now.
        let own = |p: &TopicPartition| {
            self.assigned.holds(p.topic, p.partition) || self.revoking.holds(p.topic, p.partition)
        };
        let (held, free): (Vec<_>, Vec<_>) = missing.partition(|p| is_held(*p) && !own(p));
        for partition in free {
            assigned.insert(partition.topic, partition.partition);
        }
        let state = if held.is_empty() {
            MemberState::Stable
        } else {
            MemberState::Unreleased
        };
        self.moved(target_epoch, state, assigned, Assignment::default())
    }

    fn moved(&self, epoch: i32, state: MemberState, assigned: Assignment, revoking: Assignment) -> Self {
        Self {
            // What is new comes with the epoch of its target only.
            since: self.since_of(assigned.partitions().chain(revoking.partitions()), epoch),
            epoch,
            previous_epoch: if epoch == self.epoch {
                self.previous_epoch
            } else {
                self.epoch
            },
            state,
            assigned,
            revoking,
        }
    }
}

/// See the module's head.
#[derive(Clone, Debug)]
pub struct Member {
    pub profile: Profile,
    pub standing: Standing,
    /// What it is to have, of the group's last assignment.
    pub target: Assignment,
    pub(super) session_deadline: Millis,
    /// Until when it may give up what it has to.
    pub(super) revocation_deadline: Option<Millis>,
    /// Until when a member of the classic protocol has to join again, having been told so; and to sync, having
    /// joined.
    pub(super) rejoin_deadline: Option<Millis>,
    pub(super) sync_deadline: Option<Millis>,
}

impl Member {
    pub(super) fn new(
        profile: Profile,
        (standing, target): (Standing, Assignment),
        session_deadline: Millis,
    ) -> Self {
        Self {
            profile,
            standing,
            target,
            session_deadline,
            revocation_deadline: None,
            rejoin_deadline: None,
            sync_deadline: None,
        }
    }

    /// What an epoch that is not the member's is called in its protocol.
    pub(super) fn other_epoch(&self) -> GroupFault {
        match self.profile.classic {
            Some(_) => GroupFault::IllegalGeneration,
            None => GroupFault::StaleEpoch,
        }
    }

    pub(super) fn deadlines(&self) -> impl Iterator<Item = Millis> {
        let others = [self.revocation_deadline, self.rejoin_deadline, self.sync_deadline];
        others.into_iter().flatten().chain([self.session_deadline])
    }
}
