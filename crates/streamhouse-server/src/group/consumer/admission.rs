//! Who may ask what of a group of the newer protocol: who is let in and in whose place, and in which epoch members
//! send heartbeats, commit offsets and read them.
//!
//! Nothing changes where somebody is refused. Not here: what members of the classic protocol say when they join
//! (`classic`).

use streamhouse_metadata::ids::TopicPartition;

use super::ConsumerGroup;
use super::member::{AWAY, Standing};
use super::state::Beat;
use crate::group::{GroupFault, MemberId};

/// How a heartbeat's sender becomes a member.
pub(super) enum Admission {
    Known,
    New,
    /// Takes the place of a static member that is away, or of one that spoke the other protocol.
    InPlaceOf(MemberId),
}

impl ConsumerGroup {
    pub(super) fn require_room(&self) -> Result<(), GroupFault> {
        if self.members.len() >= self.limits.members_max {
            return Err(GroupFault::Full);
        }
        Ok(())
    }

    pub(super) fn admit(&self, beat: &Beat) -> Result<Admission, GroupFault> {
        let known = match &beat.instance {
            None => self
                .members
                .contains_key(&beat.member)
                .then(|| beat.member.clone()),
            Some(instance) => self.statics.get(instance).cloned(),
        };
        // Another member's id: its partitions would be nobody's to give up.
        if known.as_ref() != Some(&beat.member) && self.members.contains_key(&beat.member) {
            return Err(GroupFault::FencedInstance);
        }
        let Some(known) = known else {
            if !beat.joins() {
                return Err(GroupFault::UnknownMember);
            }
            self.require_room()?;
            return Ok(Admission::New);
        };
        let Some(member) = self.members.get(&known) else {
            return Err(GroupFault::UnknownMember);
        };
        // A static member of the classic protocol does not say that it goes.
        let is_away = member.standing.epoch == AWAY;
        let goes_over = beat.instance.is_some() && member.profile.classic.is_some();
        match (beat.joins(), known == beat.member) {
            (true, _) if is_away || goes_over => Ok(Admission::InPlaceOf(known)),
            (true, _) if beat.instance.is_some() => Err(GroupFault::UnreleasedInstance),
            (false, false) => Err(GroupFault::FencedInstance),
            // Who joins again is let in while it may not have learnt that it had joined.
            _ => {
                require_epoch(&member.standing, beat)?;
                Ok(Admission::Known)
            }
        }
    }

    /// A static member is back, maybe under another id or with the other protocol: it goes on with what it had.
    pub(super) fn replace(&mut self, old: &str, new: &str) {
        let Some(mut member) = self.members.remove(old) else {
            return;
        };
        self.release(&member.standing);
        member.standing = member.standing.taken_over();
        if let Some(instance) = &member.profile.instance {
            self.statics.insert(instance.clone(), new.to_owned());
        }
        self.hold(new, &member.standing);
        self.members.insert(new.to_owned(), member);
    }

    /// Whether offsets of these partitions may be committed under this identity, by a request that can mean an
    /// epoch. Of members of both protocols alike, whose generation is their epoch.
    ///
    /// # Errors
    /// [`GroupFault::UnknownMember`], [`GroupFault::NoEpochs`], [`GroupFault::StaleEpoch`],
    /// [`GroupFault::IllegalGeneration`].
    pub fn may_commit(
        &self,
        (member, epoch): (&str, i32),
        knows_epochs: bool,
        partitions: impl Iterator<Item = TopicPartition>,
    ) -> Result<(), GroupFault> {
        if epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        let found = self.members.get(member).ok_or(GroupFault::UnknownMember)?;
        if found.profile.classic.is_none() && !knows_epochs {
            return Err(GroupFault::NoEpochs);
        }
        match found.standing.commits_in(epoch, partitions) {
            true => Ok(()),
            false => Err(found.other_epoch()),
        }
    }

    /// Whether offsets may be read under this identity: in the member's own epoch alone.
    ///
    /// # Errors
    /// [`GroupFault::UnknownMember`], [`GroupFault::StaleEpoch`], [`GroupFault::IllegalGeneration`].
    pub fn may_fetch(&self, member: &str, epoch: i32) -> Result<(), GroupFault> {
        let found = self.members.get(member).ok_or(GroupFault::UnknownMember)?;
        match found.standing.epoch == epoch {
            true => Ok(()),
            false => Err(found.other_epoch()),
        }
    }
}

/// The member's own epoch; or the one before, from a member that did not get its last answer: then it cannot
/// have anything that it was not given before.
fn require_epoch(standing: &Standing, beat: &Beat) -> Result<(), GroupFault> {
    if beat.epoch == standing.epoch {
        return Ok(());
    }
    let missed = beat.epoch == standing.previous_epoch
        && beat
            .owned
            .as_ref()
            .is_some_and(|owned| owned.is_within(&standing.assigned));
    if missed {
        Ok(())
    } else {
        Err(GroupFault::FencedEpoch)
    }
}
