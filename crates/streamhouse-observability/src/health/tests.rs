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
fn a_stall_says_since_when_and_is_remembered_after_its_end() {
    let (health, seconds) = health();
    let watch = health.watch("writer", WRITER_STALL_MAX);
    health.running();
    let told = |at: u64| {
        seconds.store(at, Relaxed);
        let report = health.live().components.remove(0);
        (
            report.since_seconds,
            report.last_error,
            report.last_error_age_seconds,
        )
    };
    assert_eq!(told(500), (500, None, None));
    watch.set_queued(1);
    assert_eq!(told(559), (559, None, None), "a long idleness was no stall");
    let error = |seconds: u64| Some(format!("no progress for {seconds} s"));
    assert_eq!(told(560), (0, error(60), Some(0.0)));
    assert_eq!(told(580), (20, error(80), Some(0.0)));
    watch.set_queued(0);
    assert_eq!(told(587), (7, error(80), Some(7.0)));
    watch.set_queued(1);
    watch.progress();
    assert_eq!(told(590), (10, error(80), Some(10.0)));
}

#[test]
fn a_report_serialises_to_status_and_components_sorted_by_name() {
    let (health, seconds) = health();
    let metadata = health.component("metadata");
    let attempt = metadata.begin(Access::Write);
    seconds.store(2, Relaxed);
    attempt.succeeded();
    health.component("listener").success();
    health.running();
    seconds.store(4, Relaxed);
    metadata.failure("busy");
    seconds.store(5, Relaxed);
    let json = serde_json::to_string(&health.ready()).unwrap();
    assert_eq!(
        json,
        "{\"status\":\"ok\",\"components\":[\
         {\"component\":\"listener\",\"state\":\"ok\",\"scope\":\"agent\",\"since_seconds\":3,\
         \"latency_seconds\":null,\"last_success_age_seconds\":3.0,\
         \"last_error\":null,\"last_error_age_seconds\":null},\
         {\"component\":\"metadata\",\"state\":\"ok\",\"scope\":\"shared\",\"since_seconds\":3,\
         \"latency_seconds\":2.0,\"last_success_age_seconds\":3.0,\
         \"last_error\":\"busy\",\"last_error_age_seconds\":1.0}]}"
    );
}

#[test]
fn a_dependency_that_hangs_is_failed_without_anybody_reporting_it() {
    let (health, seconds) = health();
    let store = health.component("object_store");
    store.success();
    health.running();
    seconds.store(20, Relaxed);
    let hanging = store.begin(Access::Write);
    seconds.store(29, Relaxed);
    assert_eq!(health.ready().status, Status::Ok);
    seconds.store(30, Relaxed);
    let report = health.ready();
    assert_eq!(report.status, Status::Failed);
    assert_eq!(
        report.components[0].last_error.as_deref(),
        Some("no answer for 10 s")
    );
    drop(hanging);
    assert_eq!(health.ready().status, Status::Ok);
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
    async fn probe(&self, _: Access) -> Result<(), String> {
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

#[tokio::test]
async fn a_disk_is_full_for_everybody_until_each_who_found_it_full_has_found_room() {
    let (health, _) = health();
    let disk = health.disk();
    let here = std::env::temp_dir();
    let (objects, metadata) = (disk.user(here.clone(), 1), disk.user(here, 1));
    health.running();
    objects.full("no room for an object");
    metadata.full("no room for a commit");
    assert_eq!(health.ready_agent_scope().status, Status::Failed);
    metadata.has_room();
    assert_eq!(health.ready().status, Status::Failed);
    objects.has_room();
    assert_eq!(health.ready().status, Status::Ok);
    // What finds a place on a disk that is all but full does not make room.
    let huge = disk.user(std::env::temp_dir(), u64::MAX);
    huge.full("no room");
    huge.has_room();
    assert_eq!(health.ready().status, Status::Failed);
}

#[tokio::test]
async fn a_disk_that_nobody_writes_to_is_full_when_little_is_free() {
    let (health, seconds) = health();
    let _huge = health.disk().user(std::env::temp_dir(), u64::MAX);
    health.running();
    for round in 1..=3 {
        seconds.store(10 * round, Relaxed);
        health.probe_stale().await;
    }
    let report = health.ready();
    assert_eq!(report.status, Status::Failed);
    let error = report.components[0].last_error.clone().unwrap();
    assert!(error.contains("bytes are free"), "{error}");
}

struct AskedFor(Mutex<Vec<Access>>);

#[async_trait]
impl Probe for AskedFor {
    async fn probe(&self, access: Access) -> Result<(), String> {
        self.0.lock().push(access);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_writes_only_after_a_write_failed() {
    let (health, seconds) = health();
    let store = health.component("object_store");
    let probe = Arc::new(AskedFor(Mutex::default()));
    store.set_probe(probe.clone());
    store.success();
    seconds.store(10, Relaxed);
    health.probe_stale().await;
    store.begin(Access::Write).failed("refused");
    seconds.store(20, Relaxed);
    health.probe_stale().await;
    seconds.store(30, Relaxed);
    health.probe_stale().await;
    assert_eq!(*probe.0.lock(), [Access::Read, Access::Write, Access::Read]);
}

#[tokio::test(start_paused = true)]
async fn a_look_at_the_metrics_probes_what_is_not_well_and_nothing_else() {
    let (health, seconds) = health();
    let metrics = Metrics::new(MetricsOptions::default());
    health.export_to(&metrics);
    let (store, metadata) = (health.component("object_store"), health.component("metadata"));
    let (of_store, of_metadata) = (Arc::new(AskedFor(Mutex::default())), probe(|| Some(Ok(()))));
    store.set_probe(of_store.clone());
    metadata.set_probe(of_metadata.clone());
    store.success();
    metadata.success();
    health.running();
    // What a scrape does; then the time until the next one.
    let scraped = async |at: u64| {
        seconds.store(at, Relaxed);
        let before = tokio::time::Instant::now();
        health.probe_unwell();
        let text = metrics.render();
        assert_eq!(before.elapsed(), Duration::ZERO, "a scrape waits for no probe");
        tokio::time::sleep(Duration::from_secs(15)).await;
        text.contains("streamhouse_health_component{component=\"object_store\"} 1\n")
    };
    assert!(scraped(600).await);
    assert!(of_store.0.lock().is_empty(), "an idle agent asks nothing");
    store.begin(Access::Write).failed("refused");
    assert!(!scraped(615).await, "nobody has used it for too long");
    assert!(
        scraped(630).await,
        "the probe of the scrape before has shown that it is well"
    );
    assert_eq!(*of_store.0.lock(), [Access::Write]);
    assert_eq!(of_metadata.runs.load(Relaxed), 0);
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
async fn a_stalled_runtime_is_blamed_alone() {
    let (health, seconds) = health();
    let metrics = Metrics::new(MetricsOptions::default());
    let store = health.component("object_store");
    store.success();
    store.set_probe(probe(|| None));
    health.running();
    let heartbeat = health.start_heartbeat(&metrics);
    tokio::time::sleep(HEARTBEAT_INTERVAL).await;
    // Its answer may be here, and nobody hears it.
    let _unheard = store.begin(Access::Write);
    heartbeat.abort();
    for second in [6, 9, 12, 15] {
        seconds.store(second, Relaxed);
        health.probe_stale().await;
    }
    assert_eq!(state(&health.ready(), "runtime"), ComponentState::Failed);
    assert_eq!(state(&health.ready(), "object_store"), ComponentState::Ok);
    assert_eq!(health.ready_agent_scope().status, Status::Failed);
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
