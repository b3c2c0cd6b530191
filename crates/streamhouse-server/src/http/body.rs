//! The body of a scrape: a rendering that many scrapes share, plain or compressed once.
//!
//! A reader that takes its time keeps its rendering in memory, so only so many bodies are out at once.
//! The permit belongs to the bytes: it comes back when the last of them has been written or the
//! connection is gone, not when the response is handed over.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Scrapes being read at once; more wait for one of these to end.
pub(super) const SCRAPES_MAX: usize = 64;
/// How long a scrape waits for its turn.
pub(super) const SCRAPE_WAIT_MAX: Duration = Duration::from_secs(5);

/// Bounds the bodies that are out, and remembers the last compressed one.
pub(super) struct Scrapes {
    turns: Arc<Semaphore>,
    compressed: Mutex<Option<Compressed>>,
}

struct Compressed {
    plain: Bytes,
    gzip: Bytes,
}

impl Default for Scrapes {
    fn default() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(SCRAPES_MAX)),
            compressed: Mutex::default(),
        }
    }
}

impl Scrapes {
    /// `None` if no turn came in time.
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        let turn = tokio::time::timeout(SCRAPE_WAIT_MAX, self.turns.clone().acquire_owned());
        turn.await.ok()?.ok()
    }

    /// The same rendering is compressed once, however many ask for it.
    pub(super) fn gzip(&self, plain: &Bytes) -> std::io::Result<Bytes> {
        let mut compressed = self.compressed.lock();
        if let Some(last) = &*compressed
            && last.plain.as_ptr() == plain.as_ptr()
            && last.plain.len() == plain.len()
        {
            return Ok(last.gzip.clone());
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(plain)?;
        let gzip = Bytes::from(encoder.finish()?);
        // The plain bytes are kept beside it, so that their address cannot be given to others.
        *compressed = Some(Compressed {
            plain: plain.clone(),
            gzip: gzip.clone(),
        });
        Ok(gzip)
    }
}

struct Held {
    bytes: Bytes,
    _turn: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The same bytes, giving the turn back when they are dropped.
pub(super) fn hold(bytes: Bytes, turn: OwnedSemaphorePermit) -> Bytes {
    Bytes::from_owner(Held { bytes, _turn: turn })
}
