//! The body of a scrape: a rendering that many scrapes share, plain or compressed once.
//!
//! A reader that takes its time keeps its rendering in memory, and nothing else: it keeps nobody from reading.
//! What readers hold of renderings that are no longer the newest is bounded; beyond it those who read the
//! oldest one lose their connections. So honest readers are cut only where somebody asks for large
//! renderings much faster than they are read.

use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Of renderings that are no longer the newest.
const HELD_BYTES_MAX: usize = 64 << 20;

/// Ends the connection that a request came over.
#[derive(Clone, Debug)]
pub(super) struct Cut(pub(super) CancellationToken);

/// The renderings that are being read, the newest last.
pub(super) struct Scrapes {
    renderings: Mutex<VecDeque<Arc<Rendering>>>,
    held_bytes_max: usize,
}

struct Rendering {
    plain: Bytes,
    gzip: OnceLock<Option<Bytes>>,
    readers: Mutex<Readers>,
}

#[derive(Default)]
struct Readers {
    next: u64,
    cuts: HashMap<u64, Cut>,
}

impl Default for Scrapes {
    fn default() -> Self {
        Self::new(HELD_BYTES_MAX)
    }
}

impl Scrapes {
    pub(super) fn new(held_bytes_max: usize) -> Self {
        Self {
            renderings: Mutex::default(),
            held_bytes_max,
        }
    }

    /// The bytes to send, and whether they are compressed. They count as held until the last of them has been
    /// written or the connection is gone, not until the response is handed over.
    pub(super) fn body(&self, plain: &Bytes, wants_gzip: bool, cut: Cut) -> (Bytes, bool) {
        let mut renderings = self.renderings.lock();
        let rendering = match renderings.back() {
            Some(newest) if newest.is_of(plain) => newest.clone(),
            _ => self.add(&mut renderings, plain),
        };
        let gzip = if wants_gzip { rendering.gzip() } else { None };
        let is_gzip = gzip.is_some();
        let reader = rendering.begin(cut);
        let held = Held {
            bytes: gzip.unwrap_or_else(|| plain.clone()),
            rendering,
            reader,
        };
        (Bytes::from_owner(held), is_gzip)
    }

    /// A new rendering: the others are past, and make room where they are too many.
    fn add(&self, renderings: &mut VecDeque<Arc<Rendering>>, plain: &Bytes) -> Arc<Rendering> {
        renderings.retain(|rendering| rendering.is_read());
        let mut held: usize = renderings.iter().map(|rendering| rendering.size_bytes()).sum();
        while held > self.held_bytes_max
            && let Some(oldest) = renderings.pop_front()
        {
            held -= oldest.size_bytes();
            oldest.cut();
        }
        let rendering = Arc::new(Rendering {
            // Kept while it is the newest, so that its address cannot be given to others.
            plain: plain.clone(),
            gzip: OnceLock::new(),
            readers: Mutex::default(),
        });
        renderings.push_back(rendering.clone());
        rendering
    }
}

impl Rendering {
    fn is_of(&self, plain: &Bytes) -> bool {
        self.plain.as_ptr() == plain.as_ptr() && self.plain.len() == plain.len()
    }

    /// Compressed once, however many ask for it. `None` if that cannot be done.
    fn gzip(&self) -> Option<Bytes> {
        let compressed = self.gzip.get_or_init(|| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&self.plain).ok()?;
            encoder.finish().ok().map(Bytes::from)
        });
        compressed.clone()
    }

    fn size_bytes(&self) -> usize {
        let gzip = self.gzip.get().and_then(Option::as_ref);
        self.plain.len() + gzip.map_or(0, Bytes::len)
    }

    fn is_read(&self) -> bool {
        !self.readers.lock().cuts.is_empty()
    }

    fn begin(&self, cut: Cut) -> u64 {
        let mut readers = self.readers.lock();
        readers.next += 1;
        let reader = readers.next;
        readers.cuts.insert(reader, cut);
        reader
    }

    fn cut(&self) {
        let readers = self.readers.lock();
        tracing::debug!(
            readers = readers.cuts.len(),
            "scrapes are read too slowly: their connections are closed"
        );
        for Cut(connection) in readers.cuts.values() {
            connection.cancel();
        }
    }
}

/// The bytes of one answer.
struct Held {
    bytes: Bytes,
    rendering: Arc<Rendering>,
    reader: u64,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.rendering.readers.lock().cuts.remove(&self.reader);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut() -> Cut {
        Cut(CancellationToken::new())
    }

    fn rendering(n: u8) -> Bytes {
        Bytes::from(vec![n; 100])
    }

    #[test]
    fn those_who_read_the_oldest_are_cut_when_readers_hold_too_much() {
        let scrapes = Scrapes::new(200);
        let readers: Vec<_> = (0..5)
            .map(|n| {
                let (newest, cut) = (rendering(n), cut());
                let first = scrapes.body(&newest, false, cut.clone()).0;
                let second = scrapes.body(&newest, false, cut.clone()).0;
                (first, second, cut)
            })
            .collect();
        // Of the five, the newest and two hundred bytes before it may stay.
        let is_cut: Vec<bool> = readers.iter().map(|(_, _, cut)| cut.0.is_cancelled()).collect();
        assert_eq!(is_cut, [true, true, false, false, false]);
    }

    #[test]
    fn who_has_read_to_the_end_is_left_alone_and_holds_nothing() {
        let scrapes = Scrapes::new(150);
        let connection = cut();
        for n in 0..10 {
            let (bytes, is_gzip) = scrapes.body(&rendering(n), n % 2 == 0, connection.clone());
            assert_eq!(is_gzip, n % 2 == 0);
            let part = bytes.slice(1..2);
            drop(bytes);
            assert!(scrapes.renderings.lock().back().unwrap().is_read());
            drop(part);
            assert!(!scrapes.renderings.lock().back().unwrap().is_read());
        }
        assert!(!connection.0.is_cancelled());
        assert_eq!(scrapes.renderings.lock().len(), 1, "only the newest is kept");
    }

    #[test]
    fn a_rendering_is_compressed_once_for_all_who_ask_for_it() {
        let scrapes = Scrapes::default();
        let plain = rendering(7);
        let (one, _) = scrapes.body(&plain, true, cut());
        let (two, _) = scrapes.body(&plain, true, cut());
        assert_eq!(one.as_ptr(), two.as_ptr());
        let (three, is_gzip) = scrapes.body(&plain, false, cut());
        assert_eq!((three.as_ptr(), is_gzip), (plain.as_ptr(), false));
    }
}
