//! What the server says when it is up: where it listens, where data goes, what to type next.
//!
//! Scripts read the first lines, so their form stays as it is.

use std::fmt::Write;
use std::net::SocketAddr;

use crate::config::Config;
use crate::start::Running;

pub(super) fn print(config: &Config, running: &Running, http: SocketAddr) {
    let text = text(config, &running.kafka.to_string(), &running.objects(), http);
    // A closed pipe must not end a server.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
}

fn text(config: &Config, kafka: &str, objects: &str, http: SocketAddr) -> String {
    let mut text = String::new();
    let version = env!("CARGO_PKG_VERSION");
    let _ = write!(
        text,
        "StreamHouse {version}\n\n  kafka   {kafka}\n  http    http://{http}\n  objects   {objects}\n  metadata  {}\n",
        config.metadata
    );
    if config.metadata_in_memory() || config.objects_in_memory() {
        text.push_str("\n  Data is kept in memory only: it is gone when this process ends.\n");
    } else if !config.local_sync && config.object_store.starts_with("file:") {
        text.push_str("\n  local_sync is off: a power cut can lose acknowledged records.\n");
    }
    let _ = write!(
        text,
        "\nTry it:\n\n  echo hello | kcat -P -b {kafka} -t first\n  kcat -C -b {kafka} -t first -e\n  curl http://{http}/metrics\n\n"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layer;

    #[test]
    fn scripts_find_the_addresses() {
        let config = Config::resolve(Layer::default()).unwrap();
        let http = SocketAddr::from(([127, 0, 0, 1], 8080));
        let text = text(&config, "127.0.0.1:9092", &config.object_store, http);
        assert!(text.contains("\n  kafka   127.0.0.1:9092\n"), "{text}");
        assert!(text.contains("\n  http    http://127.0.0.1:8080\n"), "{text}");
        assert!(text.contains("kcat -P -b 127.0.0.1:9092 -t first"), "{text}");
        assert!(text.contains("file:streamhouse-data/objects"), "{text}");
    }

    #[test]
    fn the_exceptions_to_the_promise_are_named() {
        let said = |toml: &str| {
            let config = Config::resolve(toml::from_str(toml).unwrap()).unwrap();
            text(&config, "k", "o", SocketAddr::from(([127, 0, 0, 1], 1)))
        };
        assert!(
            said("metadata = 'memory:'\nobject_store = 'memory:'").contains("gone when this process ends")
        );
        assert!(said("local_sync = false").contains("can lose acknowledged records"));
        assert!(!said("").contains("lose"));
    }
}
