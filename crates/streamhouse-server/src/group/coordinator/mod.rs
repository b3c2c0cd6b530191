//! One state machine a group, its timer, and its row in the metadata store.
//!
//! A group is loaded when it is first asked for: loading takes it over from any other coordinator, and every
//! write is conditional on that (TRACES 24). What a step decided is stored before anybody is answered; when
//! that fails the group is forgotten, everybody who waits is sent to find the coordinator again, and the
//! next request loads what is stored. Requests about one group take effect one after the other.
//!
//! Here is what every request needs; `row` reads the group's row and writes it, `classic` and `consumer` are the
//! requests of members of the two protocols, `offsets` those about committed offsets.

mod classic;
mod consumer;
mod offsets;
mod row;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use streamhouse_metadata::model::group::GroupState;
use streamhouse_metadata::store::MetadataStore;
use streamhouse_metadata::store::groups::GroupError;
use streamhouse_observability::{Metrics, logging};
use tokio::sync::{MutexGuard, Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::any::{AnyGroup, Rules};
use super::classic::Limits;
use super::consumer::ConsumerLimits;
use super::consumer::subscription::TopicView;
use super::migration::MigrationPolicy;
use super::step::{Answer, Lapsed, Millis, Step, Ticket};
use super::{GroupFault, MemberId};

/// What the operator decided.
#[derive(Clone, Copy, Debug)]
pub struct GroupSettings {
    /// How long a new group waits for more members before its first generation.
    pub initial_rebalance_delay: Duration,
    pub session_timeout_min: Duration,
    pub session_timeout_max: Duration,
    /// Of the newer protocol, where the server says how long a session lasts and how often members beat.
    pub consumer_session_timeout: Duration,
    pub consumer_heartbeat_interval: Duration,
    /// Which way groups with members may go over to the other protocol.
    pub migration: MigrationPolicy,
    pub members_max: usize,
    pub groups_max: u32,
    /// How long offsets outlive the last member of their group.
    pub offsets_retention: Duration,
}

impl Default for GroupSettings {
    fn default() -> Self {
        Self {
            initial_rebalance_delay: Duration::from_secs(3),
            session_timeout_min: Duration::from_secs(6),
            session_timeout_max: Duration::from_secs(1_800),
            consumer_session_timeout: Duration::from_secs(45),
            consumer_heartbeat_interval: Duration::from_secs(5),
            migration: MigrationPolicy::default(),
            members_max: 2_000,
            groups_max: 20_000,
            offsets_retention: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }
}

/// See the module's head. Shared by all connections.
pub struct Groups {
    metadata: Arc<dyn MetadataStore>,
    metrics: Arc<Metrics>,
    settings: GroupSettings,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
    began: Instant,
    tickets: AtomicU64,
    stopping: CancellationToken,
    /// Rung when a group was stored.
    stored: Notify,
    /// The topics of the cluster, and when they were read.
    topics: tokio::sync::Mutex<(Option<Instant>, Arc<TopicView>)>,
}

struct Slot {
    name: String,
    live: tokio::sync::Mutex<Option<Live>>,
    /// How the group stood after its last step, for who only looks; `None` where the store knows it as well.
    seen: Mutex<Option<Seen>>,
    /// The protocol type of a group that is seen.
    seen_type: Mutex<String>,
    /// Rung when a deadline came nearer.
    sooner: Notify,
}

/// What may be told of a group without taking part in its turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub state: GroupState,
    pub members: u32,
}

impl Slot {
    /// A rebalance of the classic protocol is stored when it is over; a group of the newer one at every change.
    fn show(&self, live: &Live) {
        let seen = match &live.group {
            AnyGroup::Classic(group) if !live.gone => {
                self.seen_type.lock().clone_from(&group.protocol_type);
                Some(Seen {
                    state: group.state(),
                    members: u32::try_from(group.members.len()).unwrap_or(u32::MAX),
                })
            }
            AnyGroup::Classic(_) | AnyGroup::Consumer(_) => None,
        };
        *self.seen.lock() = seen;
    }
}

struct Live {
    group: AnyGroup,
    /// `None` while the group is not stored.
    epoch: Option<i64>,
    stored_members: BTreeMap<MemberId, Bytes>,
    waiting: HashMap<Ticket, oneshot::Sender<Answer>>,
    /// A task waits for this deadline.
    sleeps_until: Option<Millis>,
    /// Left its slot: whoever comes to it now looks for the slot again.
    gone: bool,
}

impl Live {
    /// Nothing of it is stored and nobody waits for it: the name alone is no reason to keep it.
    fn is_nothing(&self) -> bool {
        self.epoch.is_none() && self.waiting.is_empty() && self.group.next_deadline().is_none()
    }

    /// What is in memory may not be what is stored: it goes, and who waits is sent to ask again.
    fn forget(&mut self) {
        self.gone = true;
        self.waiting.clear();
    }
}

/// A request whose client goes away is dropped where it stands, maybe between a step and its answers. Then
/// the group is loaded anew.
struct Midway<'a> {
    slot: &'a Slot,
    live: &'a mut Live,
    done: bool,
}

impl Drop for Midway<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.live.forget();
        }
        self.slot.show(self.live);
    }
}

type Held<'a> = MutexGuard<'a, Option<Live>>;

impl Groups {
    #[must_use]
    pub fn new(
        metadata: Arc<dyn MetadataStore>,
        settings: GroupSettings,
        metrics: Arc<Metrics>,
        stopping: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            metadata,
            metrics,
            settings,
            slots: Mutex::default(),
            began: Instant::now(),
            tickets: AtomicU64::new(1),
            stopping,
            stored: Notify::new(),
            topics: tokio::sync::Mutex::default(),
        })
    }

    #[must_use]
    pub fn settings(&self) -> &GroupSettings {
        &self.settings
    }

    pub(in crate::group) fn metadata(&self) -> &dyn MetadataStore {
        self.metadata.as_ref()
    }

    pub(in crate::group) fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    pub(in crate::group) fn stored(&self) -> &Notify {
        &self.stored
    }

    /// The group is gone from the store: what is in memory goes too.
    pub(in crate::group) async fn forget(&self, name: &str) {
        self.metrics.forget_group(name);
        let slot = self.slots.lock().get(name).cloned();
        if let Some(slot) = slot {
            if let Some(live) = slot.live.lock().await.as_mut() {
                live.forget();
            }
            self.drop_slot(&slot);
        }
    }

    fn now(&self) -> Millis {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn rules(&self) -> Rules {
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let members_max = self.settings.members_max;
        Rules {
            classic: Limits {
                initial_delay_ms: millis(self.settings.initial_rebalance_delay),
                members_max,
            },
            consumer: ConsumerLimits {
                session_timeout_ms: millis(self.settings.consumer_session_timeout),
                heartbeat_interval_ms: millis(self.settings.consumer_heartbeat_interval),
                members_max,
            },
            migration: self.settings.migration,
        }
    }

    /// Runs `work` on the group, loaded; with `create` a group that does not exist is begun in memory.
    async fn with<T>(
        self: &Arc<Self>,
        name: &str,
        create: bool,
        work: impl AsyncFnOnce(&Arc<Slot>, &mut Live) -> Result<T, GroupFault>,
    ) -> Result<Option<T>, GroupFault> {
        let mut work = Some(work);
        loop {
            let slot = self.slot(name, create)?;
            let mut held = slot.live.lock().await;
            // Slots leave the map under their lock only: one that is still there cannot be a second one.
            if !self.is_current(&slot) {
                continue;
            }
            if held.is_none() {
                let loaded = self.load(&slot, &mut held, create).await;
                if !matches!(loaded, Ok(true)) {
                    self.drop_slot(&slot);
                    return loaded.map(|_| None);
                }
            }
            let Some(live) = held.as_mut() else {
                return Ok(None);
            };
            if live.gone {
                self.drop_slot(&slot);
                continue;
            }
            let Some(work) = work.take() else {
                return Err(GroupFault::NotCoordinator);
            };
            let mut midway = Midway {
                slot: &slot,
                live,
                done: false,
            };
            let done = work(&slot, midway.live).await;
            midway.done = true;
            let live = &mut *midway.live;
            if live.gone || live.is_nothing() {
                live.gone = true;
                self.drop_slot(&slot);
            } else {
                self.wind(&slot, live);
            }
            return done.map(Some);
        }
    }

    /// The slot of this name, made if there is none; as many may be made as there may be groups.
    fn slot(&self, name: &str, create: bool) -> Result<Arc<Slot>, GroupFault> {
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.get(name) {
            return Ok(Arc::clone(slot));
        }
        let groups_max = self.settings.groups_max;
        if create && slots.len() >= groups_max as usize {
            return Err(GroupFault::TooManyGroups(groups_max));
        }
        let slot = Arc::new(Slot {
            name: name.to_owned(),
            live: tokio::sync::Mutex::new(None),
            seen: Mutex::default(),
            seen_type: Mutex::default(),
            sooner: Notify::new(),
        });
        slots.insert(name.to_owned(), Arc::clone(&slot));
        Ok(slot)
    }

    fn is_current(&self, slot: &Arc<Slot>) -> bool {
        let slots = self.slots.lock();
        slots
            .get(&slot.name)
            .is_some_and(|current| Arc::ptr_eq(current, slot))
    }

    fn drop_slot(&self, slot: &Arc<Slot>) {
        let mut slots = self.slots.lock();
        if slots
            .get(&slot.name)
            .is_some_and(|current| Arc::ptr_eq(current, slot))
        {
            slots.remove(&slot.name);
        }
    }

    /// Stores what the step decided, then answers.
    async fn apply(&self, slot: &Slot, live: &mut Live, step: Step) -> Result<(), GroupFault> {
        if step.store {
            self.store(slot, live).await?;
        }
        for lapsed in &step.lapsed {
            log_lapsed(&slot.name, lapsed);
        }
        if step.rebalanced {
            let (generation, members) = (live.group.generation(), live.group.members());
            tracing::info!(consumer_group = %slot.name, generation, members, "generation completed");
            // A generation without members is the end of the last one.
            if members > 0 {
                self.metrics.consumers.rebalanced(&slot.name);
            }
        }
        for (ticket, answer) in step.answers {
            if let Some(waiting) = live.waiting.remove(&ticket) {
                // A client that went away needs no answer; its session will expire.
                let _ = waiting.send(answer);
            }
        }
        Ok(())
    }

    fn wake(&self, slot: &Slot) {
        slot.sooner.notify_one();
    }

    /// Sees to it that a task ticks at the group's next deadline.
    fn wind(self: &Arc<Self>, slot: &Arc<Slot>, live: &mut Live) {
        let Some(next) = live.group.next_deadline() else {
            return;
        };
        match live.sleeps_until {
            Some(until) if until <= next => {}
            Some(_) => self.wake(slot),
            None => {
                live.sleeps_until = Some(next);
                tokio::spawn(Arc::clone(self).tick(Arc::clone(slot), next));
            }
        }
    }

    /// Ticks until the group has no deadline any more.
    async fn tick(self: Arc<Self>, slot: Arc<Slot>, mut until: Millis) {
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(self.began + Duration::from_millis(until)) => {}
                () = slot.sooner.notified() => {}
                () = self.stopping.cancelled() => return,
            }
            let mut held = slot.live.lock().await;
            let Some(live) = held.as_mut() else { return };
            if live.gone {
                self.drop_slot(&slot);
                return;
            }
            let step = live.group.tick(self.now(), &self.rules());
            let applied = self.apply(&slot, live, step).await;
            slot.show(live);
            if applied.is_err() {
                self.drop_slot(&slot);
                return;
            }
            if live.is_nothing() {
                live.gone = true;
                self.drop_slot(&slot);
                return;
            }
            live.sleeps_until = live.group.next_deadline();
            match live.sleeps_until {
                Some(next) => until = next,
                None => return,
            }
        }
    }

    fn ticket(&self, live: &mut Live) -> (Ticket, oneshot::Receiver<Answer>) {
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let (waiting, answer) = oneshot::channel();
        live.waiting.insert(ticket, waiting);
        (ticket, answer)
    }

    /// Waits for the answer; at a stop everybody is sent to look for another coordinator.
    async fn answer(&self, answer: oneshot::Receiver<Answer>) -> Result<Answer, GroupFault> {
        tokio::select! {
            answer = answer => answer.map_err(|_| GroupFault::NotCoordinator),
            () = self.stopping.cancelled() => Err(GroupFault::NotCoordinator),
        }
    }

    /// Removes a group without members, with its offsets.
    #[tracing::instrument(name = "group", level = "debug", skip_all, fields(operation = "delete", consumer_group = name))]
    pub async fn delete(self: &Arc<Self>, name: &str) -> Result<(), GroupFault> {
        self.with(name, false, async |_, live| {
            if !live.group.is_empty() {
                return Err(GroupFault::NotEmpty);
            }
            let Some(epoch) = live.epoch else {
                return Err(GroupFault::UnknownGroup);
            };
            let deleted = self.metadata.delete_group(name, epoch).await;
            live.gone = true;
            if deleted.is_ok() {
                self.metrics.forget_group(name);
            }
            deleted.map_err(|error| match error {
                GroupError::Unknown(_) => GroupFault::UnknownGroup,
                GroupError::NotEmpty(_) => GroupFault::NotEmpty,
                GroupError::Fenced(_) => GroupFault::NotCoordinator,
                GroupError::TooMany { limit } => GroupFault::TooManyGroups(limit),
                GroupError::Store(error) => error.into(),
            })
        })
        .await?
        .ok_or(GroupFault::UnknownGroup)
    }

    /// The group as it is now; `None` when there is none.
    #[tracing::instrument(name = "group", level = "debug", skip_all, fields(operation = "describe", consumer_group = name))]
    pub async fn describe(self: &Arc<Self>, name: &str) -> Result<Option<AnyGroup>, GroupFault> {
        self.with(name, false, async |_, live| Ok(live.group.clone()))
            .await
    }

    /// The groups of which memory knows something newer than what is stored. Waits for none of them.
    pub fn seen(&self) -> HashMap<String, Seen> {
        let slots: Vec<Arc<Slot>> = self.slots.lock().values().cloned().collect();
        let seen = slots
            .iter()
            .filter_map(|slot| Some((slot.name.clone(), (*slot.seen.lock())?)));
        seen.collect()
    }

    /// The protocol type of a group that is among [`Self::seen`]; empty where none is known.
    pub fn seen_type(&self, name: &str) -> String {
        let slot = self.slots.lock().get(name).cloned();
        slot.map_or_else(String::new, |slot| slot.seen_type.lock().clone())
    }
}

/// Once a minute for each client: one that comes and goes has said it then.
fn log_lapsed(consumer_group: &str, lapsed: &Lapsed) {
    let Lapsed {
        member,
        client_id,
        client_host,
    } = lapsed;
    if let Some(suppressed) = logging::admit_client(client_id, client_host) {
        tracing::warn!(
            consumer_group,
            member,
            client_id,
            peer = client_host,
            suppressed,
            "a member was not heard of in time and is out of its group"
        );
    }
}
