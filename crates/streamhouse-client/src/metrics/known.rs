//! The topics that have series, as every send looks them up.
//!
//! A look takes no lock and writes nothing that another thread reads: each thread remembers the map it looked
//! into last, and a version says whether that is still the map. The map is copied when a topic is born or
//! forgotten, which is rare. A thread that works for several registries by turns remembers one of them and asks
//! for the others; what it remembers lives until it looks elsewhere or ends.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;
use parking_lot::Mutex;

/// Hashed fast: the names are the program's own.
type Map<V> = HashMap<Box<str>, V, RandomState>;

/// Tells the maps of several registries apart in a thread's memory.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// Names and what is known of them. `V` is cheap to clone.
pub(super) struct Known<V: 'static> {
    id: u64,
    /// Grows with each change, after it.
    version: AtomicU64,
    map: Mutex<Arc<Map<V>>>,
}

/// What a thread remembers.
pub(super) struct Seen<V> {
    id: u64,
    version: u64,
    map: Arc<Map<V>>,
}

/// Where a thread keeps it: a static in thread-local storage has no type parameters.
pub(super) trait Remembered: Clone + Sized + 'static {
    /// `None` when the thread is about to end and remembers nothing any more.
    fn memory<R>(work: impl FnOnce(&RefCell<Option<Seen<Self>>>) -> R) -> Option<R>;
}

impl<V: Remembered> Default for Known<V> {
    fn default() -> Self {
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            version: AtomicU64::new(0),
            map: Mutex::default(),
        }
    }
}

impl<V: Remembered> Known<V> {
    pub(super) fn contains(&self, name: &str) -> bool {
        self.look(|map| map.contains_key(name))
    }

    pub(super) fn get(&self, name: &str) -> Option<V> {
        self.look(|map| map.get(name).cloned())
    }

    /// What is known of the name, made first if nothing is.
    pub(super) fn get_or_insert(&self, name: &str, make: impl FnOnce() -> V) -> V {
        let mut map = self.map.lock();
        if let Some(value) = map.get(name) {
            return value.clone();
        }
        let value = make();
        let mut grown = Map::clone(&map);
        grown.insert(name.into(), value.clone());
        self.replace(&mut map, grown);
        value
    }

    pub(super) fn remove(&self, name: &str) {
        let mut map = self.map.lock();
        if map.contains_key(name) {
            let mut fewer = Map::clone(&map);
            fewer.remove(name);
            self.replace(&mut map, fewer);
        }
    }

    /// Under the lock, so that whoever holds it reads a version and its map.
    fn replace(&self, map: &mut Arc<Map<V>>, new: Map<V>) {
        *map = Arc::new(new);
        self.version.fetch_add(1, Ordering::Release);
    }

    fn look<R>(&self, find: impl Fn(&Map<V>) -> R) -> R {
        let remembered = V::memory(|memory| {
            let version = self.version.load(Ordering::Acquire);
            if let Some(seen) = &*memory.borrow()
                && seen.id == self.id
                && seen.version == version
            {
                return find(&seen.map);
            }
            self.look_anew(memory, &find)
        });
        remembered.unwrap_or_else(|| find(&self.map.lock()))
    }

    #[cold]
    fn look_anew<R>(&self, memory: &RefCell<Option<Seen<V>>>, find: &impl Fn(&Map<V>) -> R) -> R {
        let seen = {
            let map = self.map.lock();
            Seen {
                id: self.id,
                version: self.version.load(Ordering::Relaxed),
                map: map.clone(),
            }
        };
        let found = find(&seen.map);
        // What was remembered before may hold the last handles of a registry: dropped when nothing is borrowed.
        let _earlier = memory.replace(Some(seen));
        found
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    thread_local! {
        static MEMORY: RefCell<Option<Seen<u32>>> = const { RefCell::new(None) };
    }

    impl Remembered for u32 {
        fn memory<R>(work: impl FnOnce(&RefCell<Option<Seen<Self>>>) -> R) -> Option<R> {
            MEMORY.try_with(work).ok()
        }
    }

    #[test]
    fn a_thread_sees_what_another_changed_since_it_looked() {
        let known = Arc::new(Known::<u32>::default());
        known.get_or_insert("a", || 1);
        let (ask, asked) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let other = {
            let known = known.clone();
            std::thread::spawn(move || {
                while asked.recv().is_ok() {
                    tell.send((known.get("a"), known.get("b"))).unwrap();
                }
            })
        };
        let look = || {
            ask.send(()).unwrap();
            told.recv().unwrap()
        };
        assert_eq!(look(), (Some(1), None));
        assert_eq!(known.get_or_insert("b", || 2), 2);
        assert_eq!(look(), (Some(1), Some(2)));
        known.remove("a");
        assert_eq!(look(), (None, Some(2)));
        assert_eq!(known.get_or_insert("a", || 3), 3);
        assert_eq!(look(), (Some(3), Some(2)));
        drop(ask);
        other.join().unwrap();
    }

    #[test]
    fn maps_that_a_thread_looks_into_by_turns_stay_apart() {
        let (one, two) = (Known::<u32>::default(), Known::<u32>::default());
        one.get_or_insert("a", || 1);
        two.get_or_insert("b", || 2);
        for _ in 0..3 {
            assert_eq!((one.contains("a"), one.contains("b")), (true, false));
            assert_eq!((two.contains("a"), two.contains("b")), (false, true));
        }
    }

    #[test]
    fn a_name_is_made_once_however_many_threads_meet_it() {
        let known = Known::<u32>::default();
        let made = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (known, made) = (&known, &made);
                scope.spawn(move || {
                    for n in 0..100_u32 {
                        let name = format!("topic-{}", (n + thread) % 100);
                        known.get_or_insert(&name, || {
                            made.fetch_add(1, Ordering::Relaxed);
                            n
                        });
                        assert!(known.contains(&name));
                    }
                });
            }
        });
        assert_eq!(made.into_inner(), 100);
    }
}
