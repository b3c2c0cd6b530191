//! Health as its users meet it: handles, watches, probes and reports, on a clock of ours.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use async_trait::async_trait;

use super::*;
use crate::families::MetricsOptions;

/// A registry whose clock stands where the test puts it, in seconds.
fn health() -> (Health, Arc<AtomicU64>) {
    let seconds = Arc::new(AtomicU64::new(0));
    let read = seconds.clone();
    (
        Health::with_clock(Arc::new(move || Duration::from_secs(read.load(Relaxed)))),
        seconds,
    )
}

fn state(report: &Report, component: &str) -> ComponentState {
    report
        .components
        .iter()
        .find(|found| found.component == component)
        .unwrap()
        .state
}

#[test]
fn ready_comes_after_the_start_and_goes_before_the_stop() {
    let (health, _) = health();
    let listener = health.component("listener");
    listener.success();
    assert_eq!(health.ready().status, Status::Starting);
    assert!(!health.ready().healthy);
    assert!(health.live().healthy && health.summary().healthy);
    health.running();
    assert_eq!(health.ready().status, Status::Ok);
    health.stopping();
    assert!(!health.ready().healthy && !health.ready_agent_scope().healthy);
    health.running();
    assert_eq!(health.ready().status, Status::Stopping);
}

#[test]
fn a_component_that_never_succeeded_keeps_the_agent_unready() {
    let (health, _) = health();
    let metadata = health.component("metadata");
    health.running();
    assert_eq!(health.ready().status, Status::Starting);
    metadata.success();
    assert_eq!(health.ready().status, Status::Ok);
}

#[test]
fn a_failed_shared_dependency_only_degrades_the_agent_scope_and_a_success_heals() {
    let (health, seconds) = health();
    let store = health.component("object_store");
    store.success();
    health.running();
    seconds.store(100, Relaxed);
    store.failure("503 from the store");
    assert_eq!(health.ready().status, Status::Ok);
    seconds.store(110, Relaxed);
    let ready = health.ready();
    assert_eq!((ready.status, ready.healthy), (Status::Failed, false));
    let agent = health.ready_agent_scope();
    assert_eq!((agent.status, agent.healthy), (Status::Degraded, true));
    assert!(health.live().healthy && health.summary().healthy);
    assert_eq!(
        agent.components[0].last_error.as_deref(),
        Some("503 from the store")
    );
    store.success();
    assert_eq!(health.ready().status, Status::Ok);
}

#[test]
fn a_fenced_agent_is_unready_in_every_scope() {
    let (health, _) = health();
    let writer = health.component("writer");
    writer.success();
    health.running();
    writer.down("fenced");
    assert_eq!(health.ready_agent_scope().status, Status::Failed);
    assert!(health.live().healthy);
}

#[test]
fn queued_work_without_progress_for_a_minute_fails_liveness_and_readiness() {
    let (health, seconds) = health();
    health.component("writer").success();
    let watch = health.watch("writer", WRITER_STALL_MAX);
    health.running();
    seconds.store(1_000, Relaxed);
    assert!(health.live().healthy, "idle is no stall");
    watch.set_queued(2);
    seconds.store(1_059, Relaxed);
    assert!(health.live().healthy);
    seconds.store(1_060, Relaxed);
    let live = health.live();
    assert_eq!((live.status, live.healthy), (Status::Failed, false));
    assert!(!health.summary().healthy);
    assert_eq!(
        state(&health.ready_agent_scope(), "writer"),
        ComponentState::Failed
    );
    assert_eq!(health.ready_agent_scope().status, Status::Failed);
    // Withdrawing a part of the work is progress, more work is none.
    watch.set_queued(1);
    assert!(health.live().healthy);
    seconds.store(1_119, Relaxed);
    watch.set_queued(5);
    seconds.store(1_120, Relaxed);
    assert!(!health.live().healthy);
    watch.progress();
    assert!(health.live().healthy);
    watch.set_queued(0);
    seconds.store(9_000, Relaxed);
    assert!(health.live().healthy);
}

#[test]
fn a_report_serialises_to_status_and_components_sorted_by_name() {
    let (health, seconds) = health();
    health.component("metadata").success();
    health.component("listener").success();
    health.running();
    seconds.store(3, Relaxed);
    let json = serde_json::to_string(&health.ready()).unwrap();
    assert_eq!(
        json,
        "{\"status\":\"ok\",\"components\":[\
         {\"component\":\"listener\",\"state\":\"ok\",\"scope\":\"agent\",\"since_seconds\":3,\"last_error\":null},\
         {\"component\":\"metadata\",\"state\":\"ok\",\"scope\":\"shared\",\"since_seconds\":3,\"last_error\":null}]}"
    );
}

#[test]
fn each_component_is_a_gauge_that_is_one_only_while_it_is_ok() {
    let (health, _) = health();
    let metrics = Metrics::new(MetricsOptions::default());
    health.export_to(&metrics);
    assert!(!metrics.render().contains("health_component"));
    let (listener, _) = (
        health.component("listener"),
        health.component("metadata").success(),
    );
    let text = metrics.render();
    assert!(
        text.contains("streamhouse_health_component{component=\"listener\"} 0\n"),
        "{text}"
    );
    assert!(
        text.contains("streamhouse_health_component{component=\"metadata\"} 1\n"),
        "{text}"
    );
    listener.success();
    assert!(
        metrics
            .render()
            .contains("streamhouse_health_component{component=\"listener\"} 1\n")
    );
}

struct Counted {
    runs: AtomicUsize,
    answer: fn() -> Option<Result<(), String>>,
}

#[async_trait]
impl Probe for Counted {
    async fn probe(&self) -> Result<(), String> {
        self.runs.fetch_add(1, Relaxed);
        match (self.answer)() {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
}

fn probe(answer: fn() -> Option<Result<(), String>>) -> Arc<Counted> {
    Arc::new(Counted {
        runs: AtomicUsize::new(0),
        answer,
    })
}

#[tokio::test(start_paused = true)]
async fn a_probe_runs_only_when_the_last_success_is_older_than_five_seconds() {
    let (health, seconds) = health();
    let store = health.component("object_store");
    let probe = probe(|| Some(Ok(())));
    store.set_probe(probe.clone());
    store.success();
    seconds.store(5, Relaxed);
    health.probe_stale().await;
    assert_eq!(probe.runs.load(Relaxed), 0);
    seconds.store(6, Relaxed);
    health.probe_stale().await;
    assert_eq!(probe.runs.load(Relaxed), 1);
    health.probe_stale().await;
    assert_eq!(probe.runs.load(Relaxed), 1, "the probe's own success counts");
}

#[tokio::test(start_paused = true)]
async fn a_hanging_probe_fails_after_two_seconds_and_does_not_pile_up() {
    let (health, seconds) = health();
    let store = health.component("object_store");
    let probe = probe(|| None);
    store.set_probe(probe.clone());
    store.success();
    health.running();
    for round in 1..=3 {
        seconds.store(10 * round, Relaxed);
        let before = tokio::time::Instant::now();
        tokio::join!(health.probe_stale(), health.probe_stale());
        assert_eq!(before.elapsed(), PROBE_TIMEOUT);
        assert_eq!(probe.runs.load(Relaxed), usize::try_from(round).unwrap());
    }
    let report = health.ready();
    assert_eq!(report.status, Status::Failed);
    assert_eq!(
        report.components[0].last_error.as_deref(),
        Some("the probe timed out")
    );
}

#[tokio::test(start_paused = true)]
async fn an_asker_who_goes_away_does_not_block_later_probes() {
    let (health, seconds) = health();
    let store = health.component("object_store");
    let probe = probe(|| None);
    store.set_probe(probe.clone());
    let gone = tokio::time::timeout(Duration::from_secs(1), health.probe_stale()).await;
    assert!(gone.is_err());
    seconds.store(5, Relaxed);
    health.probe_stale().await;
    assert_eq!(probe.runs.load(Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_runtime_without_heartbeat_for_ten_seconds_fails_liveness() {
    let (health, seconds) = health();
    let metrics = Metrics::new(MetricsOptions::default());
    let heartbeat = health.start_heartbeat(&metrics);
    seconds.store(9, Relaxed);
    tokio::time::sleep(HEARTBEAT_INTERVAL * 2).await;
    seconds.store(18, Relaxed);
    assert!(health.live().healthy);
    seconds.store(19, Relaxed);
    assert_eq!(state(&health.live(), "runtime"), ComponentState::Failed);
    tokio::time::sleep(HEARTBEAT_INTERVAL * 2).await;
    assert!(health.live().healthy);
    assert!(metrics.runtime_stall_seconds().count() >= 2);
    heartbeat.abort();
}
