//! What heartbeats cost over a while: counted by the members, the CPU time told by the kernel.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::server::Server;

/// Shared by all members of a load.
#[derive(Clone, Default)]
pub(crate) struct Beats {
    sent: Arc<AtomicU64>,
    slowest_us: Arc<AtomicU64>,
}

impl Beats {
    /// A heartbeat that was asked for at `asked` has been answered.
    pub(crate) fn answered(&self, asked: Instant) {
        let took = u64::try_from(asked.elapsed().as_micros()).unwrap();
        self.slowest_us.fetch_max(took, Ordering::Relaxed);
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts from now on for `period`, and prints.
    pub(crate) async fn measure(&self, server: &Server, period: Duration) {
        self.sent.store(0, Ordering::Relaxed);
        self.slowest_us.store(0, Ordering::Relaxed);
        let (began, before) = (Instant::now(), server.cpu());
        tokio::time::sleep(period).await;
        let (elapsed, cpu) = (began.elapsed().as_secs_f64(), server.cpu() - before);
        let count = self.sent.load(Ordering::Relaxed);
        println!(
            "{count} heartbeats in {elapsed:.1} s ({:.0} a second): {:.1} % of one core, {:.1} µs each, slowest answer {:.1} ms, {} MiB resident",
            count as f64 / elapsed,
            100.0 * cpu / elapsed,
            1e6 * cpu / count as f64,
            self.slowest_us.load(Ordering::Relaxed) as f64 / 1e3,
            server.resident_bytes() >> 20,
        );
    }
}
