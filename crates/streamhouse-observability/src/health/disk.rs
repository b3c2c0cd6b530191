//! The local disk: who writes to it reports that it is full, and a look at the free space tells where nobody
//! writes.
//!
//! A full disk is a fault of its own. What failed for want of room is reported here and not as a fault of the
//! store that has its files there, so that health names what has to be mended.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use async_trait::async_trait;
use parking_lot::Mutex;
use rustix::fs::statvfs;

use super::{Access, Health, HealthHandle, Probe};

/// The component.
const DISK: &str = "disk";

/// Whoever keeps files on the local disk, together.
#[derive(Clone)]
pub struct Disk {
    health: Health,
    users: Arc<Mutex<Vec<User>>>,
    /// One bit a user that found no room and none since.
    full: Arc<AtomicU64>,
}

#[derive(Clone)]
struct User {
    directory: PathBuf,
    free_bytes_min: u64,
}

/// What one of them reports through.
#[derive(Clone)]
pub struct RoomHandle {
    handle: HealthHandle,
    users: Arc<Mutex<Vec<User>>>,
    full: Arc<AtomicU64>,
    bit: u64,
}

impl Health {
    /// The disk as a component of this agent. It exists from its first user on.
    #[must_use]
    pub fn disk(&self) -> Disk {
        Disk {
            health: self.clone(),
            users: Arc::default(),
            full: Arc::default(),
        }
    }
}

impl Disk {
    /// Somebody who keeps files in `directory`, which is full when fewer than `free_bytes_min` are free. At
    /// most 64 of them.
    #[must_use]
    pub fn user(&self, directory: PathBuf, free_bytes_min: u64) -> RoomHandle {
        let mut users = self.users.lock();
        let bit = 1 << (users.len() % 64);
        users.push(User {
            directory,
            free_bytes_min,
        });
        let handle = self.health.component(DISK);
        handle.set_probe(Arc::new(FreeSpace(self.users.clone())));
        handle.success();
        RoomHandle {
            handle,
            users: self.users.clone(),
            full: self.full.clone(),
            bit,
        }
    }
}

impl RoomHandle {
    /// Something could not be written for want of room: the disk has failed, at once.
    pub fn full(&self, error: &str) {
        self.full.fetch_or(self.bit, Relaxed);
        self.handle.down(error);
    }

    /// Something was written. Heals once everybody who found no room has found some, and there is as much as
    /// is needed: what is small, or goes where something was before, is still written to a full disk.
    pub fn has_room(&self) {
        if self.full.load(Relaxed) & self.bit == 0 || self.full.fetch_and(!self.bit, Relaxed) != self.bit {
            return;
        }
        match look(&self.users.lock()) {
            Ok(()) => self.handle.success(),
            Err(error) => self.handle.down(&error),
        }
    }
}

struct FreeSpace(Arc<Mutex<Vec<User>>>);

#[async_trait]
impl Probe for FreeSpace {
    async fn probe(&self, _: Access) -> Result<(), String> {
        let users = self.0.lock().clone();
        // A network disk may hang, and must not take the runtime with it.
        let looked = tokio::task::spawn_blocking(move || look(&users));
        looked.await.unwrap_or_else(|error| Err(error.to_string()))
    }
}

fn look(users: &[User]) -> Result<(), String> {
    users.iter().try_for_each(User::look)
}

impl User {
    fn look(&self) -> Result<(), String> {
        let shown = self.directory.display();
        let found = statvfs(&self.directory).map_err(|error| format!("{shown}: {error}"))?;
        let free_bytes = found.f_bavail.saturating_mul(found.f_frsize);
        if free_bytes < self.free_bytes_min {
            let min = self.free_bytes_min;
            return Err(format!("{shown}: {free_bytes} bytes are free, {min} are needed"));
        }
        // File systems without a fixed number of inodes say that there are none at all.
        if found.f_files > 0 && found.f_favail == 0 {
            return Err(format!("{shown}: no inode is free"));
        }
        Ok(())
    }
}
