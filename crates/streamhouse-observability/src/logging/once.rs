//! Repeats, held back for the whole process: its one log has one gate for places and one for clients.
//!
//! Not here: how a gate decides (`repeat`).

use std::sync::LazyLock;
use std::time::Duration;

use super::RepeatGate;

/// How long one line stands for all mistakes of a client.
const CLIENT_WINDOW: Duration = Duration::from_secs(60);
const CLIENTS_MAX: usize = 4_096;

static PLACES: LazyLock<RepeatGate> = LazyLock::new(RepeatGate::default);
static CLIENTS: LazyLock<RepeatGate> = LazyLock::new(|| RepeatGate::new(CLIENT_WINDOW, CLIENTS_MAX));

/// `Some(suppressed)`: write the line; see [`RepeatGate::admit`]. Ask only for lines of level WARN and
/// above: it takes a lock.
#[must_use]
pub fn admit(place: &'static str, error_type: &str, topic: &str) -> Option<u64> {
    PLACES.admit(place, error_type, topic)
}

/// The same for the mistakes of one client, once a minute.
#[must_use]
pub fn admit_client(client_id: &str, address: &str) -> Option<u64> {
    CLIENTS.admit("client", client_id, address)
}

/// A duration as the fields `*_ms` show it.
#[must_use]
pub fn milliseconds(duration: Duration) -> f64 {
    // Whole microseconds: more digits than anybody reads.
    duration.as_micros() as f64 / 1_000.0
}
