//! Incremental fetch sessions (KIP-227): what a client fetches is remembered, so that it names only what
//! changed and is told only what changed.
//!
//! Rules are Kafka's. A session is made by a full fetch, used by one client in strictly rising epochs, and
//! evicted when room is needed: one unused for two minutes first, else a smaller one that is two minutes old.
//! A client without a session sends full fetches, which costs it bandwidth and nothing else; so sessions and
//! their partitions are bounded, and whoever finds no room gets session id 0. Not here: reading, the protocol.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::handlers::topics::TopicKey;

/// Kafka's `max.incremental.fetch.session.cache.slots` and its eviction time.
const SESSIONS_MAX: usize = 1_000;
const EVICTION_AGE: Duration = Duration::from_secs(120);
/// Partitions of all sessions together.
const PARTITIONS_MAX: usize = 100_000;
/// No topic has a longer name; a longer one is not kept in memory for whoever sends it.
const NAME_BYTES_MAX: usize = 249;

/// The session id of who has none.
pub const NO_SESSION: i32 = 0;
/// The epochs with which a client begins a session and ends it.
const INITIAL_EPOCH: i32 = 0;
const FINAL_EPOCH: i32 = -1;

/// What a client wants of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub offset: i64,
    pub max_bytes: i32,
    pub leader_epoch: i32,
}

/// Topics in the order asked, each with its partitions.
pub type Places = Vec<(TopicKey, Vec<(i32, Wanted)>)>;

/// What a response tells of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    pub high_watermark: i64,
    pub log_start_offset: i64,
    pub has_records: bool,
    pub failed: bool,
}

/// Why there is no session to go on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionFault {
    #[error("there is no fetch session {0}")]
    Unknown(i32),
    #[error("the fetch session expects epoch {expected}, not {got}")]
    Epoch { expected: i32, got: i32 },
    #[error("the fetch session names its topics in another way")]
    TopicIds,
}

/// How a fetch is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// With everything, and no session.
    Sessionless,
    /// With everything; a session is made if there is room.
    Full,
    /// With what changed.
    Incremental { id: i32 },
}

#[derive(Clone, Copy, Debug)]
struct Cached {
    wanted: Wanted,
    high_watermark: i64,
    log_start_offset: i64,
}

/// What a client knows of a partition it was told nothing about.
const NEVER_TOLD: i64 = -1;

#[derive(Debug)]
struct Session {
    topics: BTreeMap<TopicKey, BTreeMap<i32, Cached>>,
    size: usize,
    /// The epoch of the next request.
    epoch: i32,
    /// How its topics are named.
    by_id: bool,
    made_at: Instant,
    used_at: Instant,
}

#[derive(Debug, Default)]
struct Cache {
    sessions: HashMap<i32, Session>,
    partitions: usize,
    evictions: u64,
}

/// How many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub sessions: usize,
    pub partitions: usize,
    /// Since the start.
    pub evictions: u64,
}

/// See the module's head. Shared by all connections.
#[derive(Debug, Default)]
pub struct FetchSessions(Mutex<Cache>);

impl FetchSessions {
    /// Begins a fetch: how it is to be answered, and what is to be read. `by_id`: topics have ids in its version.
    ///
    /// # Errors
    /// [`SessionFault`]: the client begins anew with a full fetch.
    pub fn begin(
        &self,
        (id, epoch): (i32, i32),
        by_id: bool,
        named: Places,
        forgotten: &[(TopicKey, Vec<i32>)],
    ) -> Result<(Mode, Places), SessionFault> {
        let mut cache = self.0.lock();
        if epoch == INITIAL_EPOCH || epoch == FINAL_EPOCH {
            cache.remove(id);
            let mode = if epoch == INITIAL_EPOCH {
                Mode::Full
            } else {
                Mode::Sessionless
            };
            return Ok((mode, named));
        }
        if named.iter().any(|(key, _)| is_too_long(key)) {
            cache.remove(id);
            return Err(SessionFault::Unknown(id));
        }
        let room = PARTITIONS_MAX - cache.partitions.min(PARTITIONS_MAX);
        let session = cache.sessions.get_mut(&id).ok_or(SessionFault::Unknown(id))?;
        if session.epoch != epoch {
            return Err(SessionFault::Epoch {
                expected: session.epoch,
                got: epoch,
            });
        }
        // Also where this request names none: the topics of its session would be told in its version.
        if by_id != session.by_id {
            return Err(SessionFault::TopicIds);
        }
        let before = session.size;
        session.update(named, forgotten);
        session.epoch = next_epoch(epoch);
        session.used_at = Instant::now();
        let (after, places) = (session.size, session.places());
        if after == 0 || after > before + room {
            cache.remove_sized(id, before);
            // Nothing to remember, or more than there is room for: with a full fetch the client goes on.
            return if after == 0 {
                Ok((Mode::Sessionless, Vec::new()))
            } else {
                Err(SessionFault::Unknown(id))
            };
        }
        cache.partitions = cache.partitions - before + after;
        Ok((Mode::Incremental { id }, places))
    }

    /// Remembers a full fetch and what it was told; the id of its session, or [`NO_SESSION`].
    pub fn make(&self, places: &Places, by_id: bool, told: impl Fn(usize, usize) -> Told) -> i32 {
        let size: usize = places.iter().map(|(_, partitions)| partitions.len()).sum();
        let mut cache = self.0.lock();
        let too_long = places.iter().any(|(key, _)| is_too_long(key));
        if size == 0 || too_long || !cache.make_room(size) {
            return NO_SESSION;
        }
        let now = Instant::now();
        let mut session = Session {
            topics: BTreeMap::new(),
            size: 0,
            epoch: next_epoch(INITIAL_EPOCH),
            by_id,
            made_at: now,
            used_at: now,
        };
        for (at, (key, partitions)) in places.iter().enumerate() {
            let topic = session.topics.entry(key.clone()).or_default();
            for (nth, (index, wanted)) in partitions.iter().enumerate() {
                let mut cached = Cached::new(*wanted);
                cached.tell(told(at, nth));
                session.size += usize::from(topic.insert(*index, cached).is_none());
            }
        }
        let id = cache.free_id();
        cache.partitions += session.size;
        cache.sessions.insert(id, session);
        id
    }

    /// Whether each partition has to be in the answer of an incremental fetch; what is told is remembered.
    /// All have to, where the session is gone meanwhile.
    pub fn changed(&self, id: i32, told: &[(&TopicKey, i32, Told)]) -> Vec<bool> {
        let mut cache = self.0.lock();
        let session = cache.sessions.get_mut(&id);
        let Some(session) = session else {
            return vec![true; told.len()];
        };
        let changed = told.iter().map(|(key, index, told)| {
            let topic = session.topics.get_mut(key);
            let cached = topic.and_then(|topic| topic.get_mut(index));
            cached.is_none_or(|cached| cached.tell(*told))
        });
        changed.collect()
    }

    #[must_use]
    pub fn count(&self) -> Count {
        let cache = self.0.lock();
        Count {
            sessions: cache.sessions.len(),
            partitions: cache.partitions,
            evictions: cache.evictions,
        }
    }
}

fn is_too_long(key: &TopicKey) -> bool {
    matches!(key, TopicKey::Name(name) if name.len() > NAME_BYTES_MAX)
}

/// Epochs wrap to 1: 0 and −1 have meanings of their own.
fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

impl Cached {
    fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            high_watermark: NEVER_TOLD,
            log_start_offset: NEVER_TOLD,
        }
    }

    /// Whether this is news; then it is remembered.
    fn tell(&mut self, told: Told) -> bool {
        let moved =
            self.high_watermark != told.high_watermark || self.log_start_offset != told.log_start_offset;
        self.high_watermark = told.high_watermark;
        self.log_start_offset = told.log_start_offset;
        if told.failed {
            // So that the end of the failure is news.
            self.high_watermark = NEVER_TOLD;
        }
        told.has_records || told.failed || moved
    }
}

impl Session {
    fn update(&mut self, named: Places, forgotten: &[(TopicKey, Vec<i32>)]) {
        for (key, partitions) in named {
            let topic = self.topics.entry(key).or_default();
            for (index, wanted) in partitions {
                match topic.get_mut(&index) {
                    Some(cached) => cached.wanted = wanted,
                    None => {
                        topic.insert(index, Cached::new(wanted));
                        self.size += 1;
                    }
                }
            }
        }
        for (key, partitions) in forgotten {
            let Some(topic) = self.topics.get_mut(key) else {
                continue;
            };
            for index in partitions {
                self.size -= usize::from(topic.remove(index).is_some());
            }
            if topic.is_empty() {
                self.topics.remove(key);
            }
        }
    }

    fn places(&self) -> Places {
        let topics = self.topics.iter().map(|(key, partitions)| {
            let partitions = partitions.iter().map(|(index, cached)| (*index, cached.wanted));
            (key.clone(), partitions.collect())
        });
        topics.collect()
    }
}

impl Cache {
    fn remove(&mut self, id: i32) {
        let size = self.sessions.get(&id).map_or(0, |session| session.size);
        self.remove_sized(id, size);
    }

    /// `size`: what it counts for in `partitions`.
    fn remove_sized(&mut self, id: i32, size: usize) {
        if self.sessions.remove(&id).is_some() {
            self.partitions -= size;
        }
    }

    /// Makes room for a session of `size` partitions, if there can be.
    fn make_room(&mut self, size: usize) -> bool {
        while self.sessions.len() >= SESSIONS_MAX || self.partitions + size > PARTITIONS_MAX {
            let now = Instant::now();
            let sessions = self.sessions.iter();
            let stale = sessions
                .clone()
                .filter(|(_, session)| now - session.used_at > EVICTION_AGE)
                .min_by_key(|(_, session)| session.used_at);
            let smaller = || {
                sessions
                    .filter(|(_, session)| now - session.made_at > EVICTION_AGE && session.size < size)
                    .min_by_key(|(_, session)| session.size)
            };
            let Some(id) = stale.or_else(smaller).map(|(id, _)| *id) else {
                return false;
            };
            self.remove(id);
            self.evictions += 1;
        }
        true
    }

    fn free_id(&self) -> i32 {
        loop {
            let random = uuid::Uuid::new_v4().as_u128();
            let id = (random as u32 >> 1) as i32;
            if id != NO_SESSION && !self.sessions.contains_key(&id) {
                return id;
            }
        }
    }
}
