//! The server over real sockets: routes, words, and what hostile or slow clients get.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use axum::Extension;
use axum::http::Request;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use streamhouse_observability::health::WRITER_STALL_MAX;
use streamhouse_observability::{Health, LevelControl, Metrics, MetricsOptions};
use tokio_util::sync::CancellationToken;

use super::*;

struct Running {
    address: SocketAddr,
    state: HttpState,
    shutdown: CancellationToken,
    server: Option<HttpServer>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(server) = self.server.take() {
            server.join();
        }
    }
}

fn start_with(health: Health, limits: HttpLimits) -> Running {
    start_from(
        HttpState::new(Metrics::new(MetricsOptions::default()), health),
        limits,
    )
}

fn start_from(state: HttpState, limits: HttpLimits) -> Running {
    let shutdown = CancellationToken::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = serve_with(listener, router(state.clone()), shutdown.clone(), limits).unwrap();
    Running {
        address: server.address(),
        state,
        shutdown,
        server: Some(server),
    }
}

fn start() -> Running {
    start_with(Health::new(), HttpLimits::default())
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let (name, head) = (format!("{name}: "), self.head.lines());
        head.skip(1).find_map(|line| line.strip_prefix(name.as_str()))
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// One request on its own connection; `head` may hold further header lines.
fn ask(address: SocketAddr, request: &str, headers: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "{request} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{headers}\r\n"
    )
    .unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .expect("an answer with a head");
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer {
        status,
        head,
        body: bytes[end + 4..].to_vec(),
    }
}

#[test]
fn metrics_are_text_0_0_4_whatever_the_client_accepts() {
    let running = start();
    running.state.metrics.topic("orders").records.add(3);
    for accept in ["", "accept: application/openmetrics-text; version=1.0.0\r\n"] {
        let answer = ask(running.address, "GET /metrics", accept);
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; version=0.0.4; charset=utf-8")
        );
        assert!(
            answer
                .text()
                .contains("streamhouse_producer_records_total{topic=\"orders\"} 3\n")
        );
    }
}

#[test]
fn metrics_are_compressed_when_asked_and_only_then() {
    let running = start();
    let answer = ask(
        running.address,
        "GET /metrics",
        "accept-encoding: deflate, gzip;q=0.5\r\n",
    );
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let mut text = String::new();
    flate2::read::GzDecoder::new(answer.body.as_slice())
        .read_to_string(&mut text)
        .unwrap();
    assert!(text.contains("\n# TYPE streamhouse_uptime_seconds gauge\n"));
    for refused in ["", "accept-encoding: br\r\n", "accept-encoding: gzip;q=0\r\n"] {
        let answer = ask(running.address, "GET /metrics", refused);
        assert_eq!(answer.header("content-encoding"), None, "{refused}");
    }
}

#[test]
fn health_answers_follow_the_agent_through_its_life() {
    let running = start();
    let health = running.state.health.clone();
    let status = |path: &str| ask(running.address, &format!("GET {path}"), "").status;
    let all = || {
        [
            "/health",
            "/health/live",
            "/health/ready",
            "/health/ready?scope=agent",
        ]
        .map(status)
    };

    let store = health.component("object_store");
    assert_eq!(all(), [200, 200, 503, 503]);
    store.success();
    health.running();
    assert_eq!(all(), [200, 200, 200, 200]);
    for _ in 0..3 {
        store.failure("connection refused");
    }
    assert_eq!(all(), [200, 200, 503, 200]);
    let answer = ask(running.address, "GET /health/ready?scope=agent", "");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["status"], "degraded");
    assert_eq!(body["components"][0]["component"], "object_store");
    assert_eq!(body["components"][0]["last_error"], "connection refused");
    store.success();
    assert_eq!(all(), [200, 200, 200, 200]);
    health.stopping();
    assert_eq!(all(), [200, 200, 503, 503]);
}

struct Answers;

#[async_trait::async_trait]
impl streamhouse_observability::health::Probe for Answers {
    async fn probe(&self, _: streamhouse_observability::health::Access) -> Result<(), String> {
        Ok(())
    }
}

#[test]
fn scrapes_alone_find_out_that_what_had_failed_is_well_again() {
    let running = start();
    running.state.health.export_to(&running.state.metrics);
    let store = running.state.health.component("object_store");
    store.set_probe(Arc::new(Answers));
    store.down("connection refused");
    let is = |value: &str| {
        let answer = ask(running.address, "GET /metrics", "");
        let line = format!("streamhouse_health_component{{component=\"object_store\"}} {value}\n");
        answer.text().contains(&line)
    };
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !is("1") {
        assert!(std::time::Instant::now() < deadline, "it stays failed");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_stalled_writer_fails_liveness() {
    let clock = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let read = clock.clone();
    let seconds = move || Duration::from_secs(read.load(std::sync::atomic::Ordering::Relaxed));
    let running = start_with(Health::with_clock(Arc::new(seconds)), HttpLimits::default());
    running
        .state
        .health
        .watch("writer", WRITER_STALL_MAX)
        .set_queued(1);
    assert_eq!(ask(running.address, "GET /health/live", "").status, 200);
    clock.store(60, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(ask(running.address, "GET /health/live", "").status, 503);
    assert_eq!(ask(running.address, "GET /health", "").status, 503);
}

#[test]
fn liveness_answers_while_the_runtime_of_the_agent_hangs() {
    let agent = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _entered = agent.enter();
    // Nobody drives that runtime: whatever waits for it waits for ever.
    let running = start();
    let heartbeat = running.state.health.start_heartbeat(&running.state.metrics);
    assert_eq!(ask(running.address, "GET /health/live", "").status, 200);
    assert_eq!(ask(running.address, "GET /metrics", "").status, 200);
    heartbeat.abort();
}

#[test]
fn unknown_paths_methods_and_queries_get_json_that_says_so() {
    let running = start();
    for (request, status, error) in [
        ("GET /nothing", 404, "not_found"),
        ("GET /metrics/", 404, "not_found"),
        ("POST /metrics", 405, "method_not_allowed"),
        ("DELETE /health/ready", 405, "method_not_allowed"),
        ("GET /health/ready?scope=world", 400, "invalid_query"),
    ] {
        let answer = ask(running.address, request, "");
        assert_eq!(answer.status, status, "{request}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/json"),
            "{request}"
        );
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["error"], error, "{request}");
    }
    assert_eq!(
        ask(running.address, "POST /metrics", "").header("allow"),
        Some("GET,HEAD")
    );
}

/// A level that is changed nowhere but here.
fn with_level() -> HttpState {
    let level = LevelControl::new("info", |_| true).unwrap();
    HttpState::new(Metrics::new(MetricsOptions::default()), Health::new()).with_level(level)
}

#[test]
fn every_answer_names_its_request_by_another_id() {
    let running = start_from(with_level(), HttpLimits::default());
    let mut ids = std::collections::BTreeSet::new();
    let mut statuses = std::collections::BTreeSet::new();
    for (request, head) in [
        ("GET /", ""),
        ("HEAD /metrics", ""),
        ("GET /metrics", "accept-encoding: gzip\r\n"),
        ("GET /health", ""),
        ("GET /health/ready", ""),
        ("GET /health/ready?scope=world", ""),
        ("GET /nothing", ""),
        ("DELETE /metrics", ""),
        ("GET /log/level", ""),
        // No filter at all.
        ("PUT /log/level", "content-length: 0\r\n"),
    ] {
        let answer = ask(running.address, request, head);
        let id = answer.header("x-correlation-id").map(str::to_owned);
        assert!(
            ids.insert(id.unwrap_or_else(|| panic!("{request}: {}", answer.head))),
            "{request}"
        );
        statuses.insert(answer.status);
    }
    assert_eq!(
        statuses.into_iter().collect::<Vec<_>>(),
        [200, 400, 404, 405, 503]
    );
}

#[test]
fn the_log_level_is_changed_from_this_machine_alone_and_only_to_a_filter() {
    let state = with_level();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let put = |peer: &str, filter: &str| {
        let peer = log_level::Peer(SocketAddr::new(peer.parse().unwrap(), 50_000));
        let request = Request::put("/log/level").body(filter.to_owned()).unwrap();
        let routes = router(state.clone()).layer(Extension(peer));
        let answer = TowerToHyperService::new(routes).call(request);
        runtime.block_on(answer).unwrap().status().as_u16()
    };
    let level = state.level.as_ref().unwrap();
    for (peer, filter, status, then) in [
        ("127.0.0.1", "debug", 200, "debug"),
        ("192.0.2.7", "trace", 403, "debug"),
        ("2001:db8::7", "trace", 403, "debug"),
        (
            "::1",
            "info,streamhouse_storage=debug",
            200,
            "info,streamhouse_storage=debug",
        ),
        // An IPv4 client of a listener for both.
        ("::ffff:127.0.0.1", "warn", 200, "warn"),
        ("::ffff:192.0.2.7", "trace", 403, "warn"),
        ("127.0.0.1", "a=b=c", 400, "warn"),
        ("127.0.0.1", " ", 400, "warn"),
        // Who may not change it is not told either what would be right.
        ("192.0.2.7", "a=b=c", 403, "warn"),
    ] {
        assert_eq!(put(peer, filter), status, "{peer} {filter}");
        assert_eq!(level.current(), then, "{peer} {filter}");
    }
    assert_eq!(put("127.0.0.1", &"x".repeat(1_025)), 400);
    let without = start();
    assert_eq!(ask(without.address, "GET /log/level", "").status, 404);
}

#[test]
fn the_index_links_what_there_is_and_so_does_the_answer_for_what_is_not() {
    let running = start_with(Health::new(), HttpLimits::default());
    running.state.health.running();
    let index = ask(running.address, "GET /", "");
    assert_eq!(index.header("content-type"), Some("text/html; charset=utf-8"));
    let links: Vec<&str> = index
        .text()
        .split("href=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert_eq!(links.len(), 6);
    let lost = ask(running.address, "GET /nothing", "");
    for link in links {
        let answer = ask(running.address, &format!("GET {link}"), "");
        // A process without a log of its own, as here, has no level of it.
        let expected = if link == "/log/level" { 404 } else { 200 };
        assert_eq!(answer.status, expected, "{link}");
        let path = link.split('?').next().unwrap();
        assert!(lost.text().contains(path), "{path} is missing in {}", lost.text());
    }
}

#[test]
fn head_has_no_body() {
    let running = start();
    let answer = ask(running.address, "HEAD /metrics", "");
    assert_eq!((answer.status, answer.body.len()), (200, 0));
}

#[test]
fn a_client_that_never_ends_its_head_loses_its_connection_and_others_get_their_turn() {
    let limits = HttpLimits {
        connections_max: 1,
        head_time_max: Duration::from_millis(50),
        ..HttpLimits::default()
    };
    let running = start_with(Health::new(), limits);
    let mut slow = TcpStream::connect(running.address).unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nhost: te").unwrap();
    // The only slot is taken; this is answered when the slow one was thrown out.
    assert_eq!(ask(running.address, "GET /", "").status, 200);
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest);
    assert!(
        !rest.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&rest)
    );
}

#[test]
fn where_all_connections_are_taken_the_oldest_makes_room() {
    let limits = HttpLimits {
        connections_max: 3,
        makes_room_after: Duration::from_millis(20),
        // Nothing else ends them.
        head_time_max: Duration::from_secs(3_600),
        connection_age_max: Duration::from_secs(3_600),
        ..HttpLimits::default()
    };
    let running = start_with(Health::new(), limits);
    let mut idle: Vec<TcpStream> = (0..3)
        .map(|_| TcpStream::connect(running.address).unwrap())
        .collect();
    for _ in 0..2 {
        assert_eq!(ask(running.address, "GET /health/live", "").status, 200);
    }
    let mut rest = Vec::new();
    let oldest = idle.remove(0).read_to_end(&mut rest);
    assert!(matches!(oldest, Ok(0) | Err(_)), "the oldest was closed");
}

#[test]
fn a_head_beyond_its_bound_is_refused() {
    let running = start();
    let mut stream = TcpStream::connect(running.address).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let line = format!("x-filler: {}\r\n", "y".repeat(1_000));
    for _ in 0..64 {
        // The server may have hung up already.
        if stream.write_all(line.as_bytes()).is_err() {
            break;
        }
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    assert_eq!(ask(running.address, "GET /", "").status, 200);
}

#[test]
fn hundreds_of_scrapes_at_once_are_all_answered() {
    let running = start();
    let mut streams: Vec<TcpStream> = (0..1_000)
        .map(|_| TcpStream::connect(running.address).unwrap())
        .collect();
    for stream in &mut streams {
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
            .unwrap();
    }
    for stream in &mut streams {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200"),
            "{}",
            &answer[..answer.len().min(100)]
        );
    }
}

#[test]
fn the_server_ends_when_asked_and_frees_its_port() {
    let mut running = start();
    let address = running.address;
    // An idle connection must not hold it open.
    let _idle = TcpStream::connect(address).unwrap();
    running.shutdown.cancel();
    running.server.take().unwrap().join();
    assert!(TcpStream::connect(address).is_err());
}
