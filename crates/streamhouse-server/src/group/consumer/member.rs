//! One member on its way to its target.
//!
//! A member gives up what it shall not have any more before it is given anything new, and gets a partition
//! only when nobody else has it or is still giving it up. So no partition is ever with two members, whoever
//! is slow (KIP-848; TRACES 25: each step is stored before it is answered).

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use streamhouse_metadata::ids::TopicPartition;

use super::{Assignment, Assignor, subscription::Subscription};
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    pub epoch: i32,
    /// An answer may have been lost: the member may still be here.
    pub previous_epoch: i32,
    pub state: MemberState,
    pub assigned: Assignment,
    /// What it is giving up; still its own.
    pub revoking: Assignment,
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
        }
    }
}

impl Standing {
    /// Everything that nobody else may have.
    pub fn held(&self) -> impl Iterator<Item = TopicPartition> {
        self.assigned.partitions().chain(self.revoking.partitions())
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
        let from = match self.state {
            MemberState::Stable if self.epoch == target_epoch => return self.clone(),
            MemberState::Unrevoked if owns(&self.revoking) => return self.clone(),
            MemberState::Unrevoked => self.epoch + 1,
            MemberState::Stable | MemberState::Unreleased => self.epoch,
        };
        let (kept, revoking): (Vec<_>, Vec<_>) = self
            .assigned
            .partitions()
            .partition(|p| target.holds(p.topic, p.partition));
        let mut assigned: Assignment = kept.into_iter().collect();
        let revoking: Assignment = revoking.into_iter().collect();
        if !revoking.is_empty() && owns(&revoking) {
            return self.moved(from, MemberState::Unrevoked, assigned, revoking);
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

    pub(super) fn deadlines(&self) -> impl Iterator<Item = Millis> {
        let others = [self.revocation_deadline, self.rejoin_deadline, self.sync_deadline];
        others.into_iter().flatten().chain([self.session_deadline])
    }
}
