//! Repeats, held back for the whole process: its one log has one gate for places and one for clients.
//!
//! Not here: how a gate decides (`repeat`).

use std::sync::LazyLock;
use std::time::Duration;

use super::RepeatGate;

/// How long one line stands for all mistakes of a client.
const CLIENT_WINDOW: Duration = Duration::from_secs(60);
const CLIENTS_MAX: usize = 4_096;
/// Of a name that a client has chosen, where it is remembered; it may have 32 KiB.
const REMEMBERED_NAME_BYTES_MAX: usize = 256;

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
    CLIENTS.admit("client", remembered_name(client_id), address)
}

/// As much of a client's name as is remembered; names that are the same so far are one.
#[must_use]
pub fn remembered_name(name: &str) -> &str {
    &name[..name.floor_char_boundary(REMEMBERED_NAME_BYTES_MAX)]
}

/// A duration as the fields `*_ms` show it.
#[must_use]
pub fn milliseconds(duration: Duration) -> f64 {
    // Whole microseconds: more digits than anybody reads.
    duration.as_micros() as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_name_only_so_much_is_remembered() {
        assert_eq!(remembered_name("a"), "a");
        let long = "é".repeat(REMEMBERED_NAME_BYTES_MAX);
        assert_eq!(remembered_name(&long).len(), REMEMBERED_NAME_BYTES_MAX);
        let odd = format!("x{long}");
        assert_eq!(remembered_name(&odd).len(), REMEMBERED_NAME_BYTES_MAX - 1);
        // Clients that differ beyond it share their one line a minute.
        assert_eq!(admit_client(&format!("{long}1"), "here"), Some(0));
        assert_eq!(admit_client(&format!("{long}2"), "here"), None);
    }
}
