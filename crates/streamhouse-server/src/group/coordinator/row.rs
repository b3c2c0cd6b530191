//! A group's row in the metadata store: read when the group is first asked for, which takes it over from any other
//! coordinator, and written with what a step decided, as long as nobody has taken it over since (TRACES 24).
//!
//! Not here: what is in a row (`AnyGroup`, and the stored forms of either protocol).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use streamhouse_metadata::ids::TopicId;
use streamhouse_metadata::model::group::GroupWrite;
use streamhouse_metadata::store::groups::GroupError;
use streamhouse_observability::logging;

use super::{Groups, Held, Live, Slot};
use crate::group::GroupFault;
use crate::group::any::AnyGroup;
use crate::group::classic::Group;

impl Groups {
    /// Loads the group into its slot; false when there is none and none was asked to be made.
    pub(super) async fn load(
        &self,
        slot: &Arc<Slot>,
        held: &mut Held<'_>,
        create: bool,
    ) -> Result<bool, GroupFault> {
        let (group, epoch, members) = match self.metadata.claim_group(&slot.name).await? {
            Some(stored) => {
                let group = AnyGroup::restore(&stored, &self.rules(), self.now())?;
                self.meet(&slot.name).await?;
                (
                    group,
                    Some(stored.coordinator_epoch),
                    stored.members.into_iter().collect(),
                )
            }
            None if create => (
                AnyGroup::Classic(Group::new(self.rules().classic)),
                None,
                BTreeMap::new(),
            ),
            None => return Ok(false),
        };
        **held = Some(Live {
            group,
            epoch,
            stored_members: members,
            waiting: HashMap::new(),
            sleeps_until: None,
            gone: false,
        });
        Ok(true)
    }

    /// A group is loaded: its series are born.
    async fn meet(&self, name: &str) -> Result<(), GroupFault> {
        let offsets = self.metadata.group_offsets(name, None).await?;
        let topics: BTreeSet<TopicId> = offsets.iter().map(|offset| offset.partition.topic).collect();
        let topics: Vec<TopicId> = topics.into_iter().collect();
        let topics = self.metadata.topics_by_id(&topics).await?;
        self.metrics.consumers.meet(name);
        for topic in topics.into_iter().flatten() {
            self.metrics.consumers.meet_topic(name, &topic.name);
        }
        Ok(())
    }

    pub(super) async fn store(&self, slot: &Slot, live: &mut Live) -> Result<(), GroupFault> {
        let members = live.group.member_payloads();
        let changed = members
            .iter()
            .filter(|(id, payload)| live.stored_members.get(*id) != Some(payload));
        let changed = changed.map(|(id, payload)| (id.clone(), Some(payload.clone())));
        let removed = live.stored_members.keys().filter(|id| !members.contains_key(*id));
        let write = GroupWrite {
            group: slot.name.clone(),
            coordinator_epoch: live.epoch,
            summary: live.group.summary(),
            payload: live.group.payload(),
            members: changed.chain(removed.map(|id| (id.clone(), None))).collect(),
        };
        let written = self.metadata.write_group(write, self.settings.groups_max).await;
        let epoch = self.definite(slot, live, written)?;
        if live.epoch.replace(epoch).is_none() {
            self.metrics.consumers.meet(&slot.name);
        }
        live.stored_members = members;
        self.stored.notify_one();
        Ok(())
    }

    /// After a failed write what is in memory may not be what is stored: it is forgotten, and with it
    /// everybody who waits.
    pub(super) fn definite<T>(
        &self,
        slot: &Slot,
        live: &mut Live,
        written: Result<T, GroupError>,
    ) -> Result<T, GroupFault> {
        written.map_err(|error| {
            live.forget();
            self.wake(slot);
            match error {
                GroupError::Fenced(_) | GroupError::Unknown(_) => GroupFault::NotCoordinator,
                GroupError::NotEmpty(_) => GroupFault::NotEmpty,
                GroupError::TooMany { limit } => GroupFault::TooManyGroups(limit),
                GroupError::Store(error) => {
                    let error_type = error.error_type();
                    if let Some(suppressed) = logging::admit("store a group", error_type, &slot.name) {
                        tracing::warn!(
                            consumer_group = %slot.name,
                            error_type,
                            %error,
                            suppressed,
                            "the group could not be stored"
                        );
                    }
                    error.into()
                }
            }
        })
    }
}
