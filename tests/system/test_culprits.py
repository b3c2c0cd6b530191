"""Who is to blame: each fault under live traffic, and what metrics, log, health and alerts say of it, after how
many seconds. They have to name the culprit and nobody else.

The seconds are printed, never asserted on: docs/runbooks.md has the table. Alerts run thirty times as fast (see
harness/alerts.py), but for their thresholds.
"""

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

import pytest

from harness.alerts import hurried
from harness.clients import create_topic, producer, unique
from harness.health import look
from harness.process import Child, wait_until
from harness.prometheus import Prometheus
from harness.seaweedfs import SeaweedFS
from harness.surgery import frozen_threads

pytestmark = pytest.mark.ours

SECONDS = 90
WELL = (200, 200, 200)
# What each line of the log says is at fault; a full disk is told by its error type.
BLAMES = {
    "the object store failed; trying again": "object_store",
    "upload given up": "object_store",
    "commit will be repeated": "metadata",
    "the metadata store cannot be trusted": "metadata",
    "the group could not be stored": "metadata",
    "a connection could not be accepted": "listener",
    "the Kafka listener ended abnormally": "listener",
    "the writer ended abnormally": "writer",
    "a member was not heard of in time and is out of its group": "consumer",
}
# Alerts that say what users feel, whoever is at fault.
SYMPTOMS = {"ProduceStalled", "InflightNearLimit", "ClusterViewMissing", "StoreThrottling"}
MEMBER = """
import sys
from confluent_kafka import Consumer
client = Consumer({"bootstrap.servers": sys.argv[1], "group.id": sys.argv[3], "auto.offset.reset": "earliest",
                   "session.timeout.ms": int(sys.argv[4]), "heartbeat.interval.ms": 500,
                   "auto.commit.interval.ms": 200, "log_level": 2})
client.subscribe([sys.argv[2]])
while True:
    client.poll(0.2)
"""


class Traffic:
    """A producer that never stops, and the process of a consumer in a group."""

    # A long session where the consumer is not the culprit: a busy machine may stand still for a while.
    def __init__(self, broker, directory, per_second: int = 20, session_ms: int = 30_000):
        self.topic = create_topic(broker.address, unique("traffic"))
        self.group = unique("group")
        command = [sys.executable, "-c", MEMBER, broker.address, self.topic, self.group, session_ms]
        self.member = Child("member", command, directory / "member.log")
        self._client = producer(broker.address)
        self._pause = 1 / per_second
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._end.wait(self._pause):
            with contextlib.suppress(BufferError):
                self._client.produce(self.topic, b"x" * 200)
            self._client.poll(0)

    def stop(self) -> None:
        self._end.set()
        self._thread.join(30)
        self._client.purge()
        if self.member.alive():
            self.member.kill()


@dataclass
class Findings:
    """What has been seen of the fault, and after how many seconds."""

    began: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=dict)

    def note(self, what: str) -> None:
        self.seconds.setdefault(what, round(time.monotonic() - self.began, 1))

    def show(self, fault: str) -> None:
        told = ", ".join(f"{what} {seconds} s" for what, seconds in sorted(self.seconds.items(), key=lambda it: it[1]))
        print(f"FAULT {fault}: {told}")


class Watch:
    """A server under traffic, watched by a real Prometheus."""

    def __init__(self, broker, directory, interval: str = "1s", **traffic):
        self.broker = broker
        self.traffic = Traffic(broker, directory, **traffic)
        target = broker.http.removeprefix("http://")
        self.prometheus = Prometheus(directory / "prometheus", [target], hurried(directory / "rules"), interval).start()
        settle = time.monotonic() + 90

        def settled() -> bool:
            assert time.monotonic() < settle, "the group never came to rest"
            samples = broker.metrics()
            members = samples.get("streamhouse_consumer_group_members", consumer_group=self.traffic.group)
            return members == 1 and samples.sum("streamhouse_consumer_records_total") > 0 and look(broker).codes == WELL

        wait_until(settled, 90, "traffic", every=0.5)
        self.prometheus.wait_for_scrapes(3)
        self.logged = len(broker.child.output())

    def lines(self) -> list[dict]:
        """Of level WARN and ERROR, since the fault."""
        found = [json.loads(line) for line in self.broker.child.output()[self.logged:].splitlines() if line[:1] == "{"]
        return [each for each in found if each["level"] in ("WARN", "ERROR")]

    def blamed_by_log(self) -> set[str]:
        blamed = set()
        for line in self.lines():
            if line["message"] == "component has failed":
                blamed.add(line["component"])
            elif culprit := BLAMES.get(line["message"]):
                blamed.add("disk" if line.get("error_type") == "full" else culprit)
        return blamed

    def blamed_by_metrics(self) -> set[str]:
        samples = self.broker.metrics()
        return {dict(labels)["component"] for (name, labels), value in samples.values.items()
                if name == "streamhouse_health_component" and value == 0}

    def stop(self) -> None:
        self.prometheus.stop()
        self.traffic.stop()


@contextlib.contextmanager
def watched(broker, directory, **options):
    watch = Watch(broker, directory, **options)
    try:
        yield watch
    finally:
        watch.stop()


def names(watch: Watch, component: str, fault: str, alerts: set[str], codes=(200, 503, 200)) -> None:
    """Waits until metrics, log, health and alerts have all spoken, and nobody has named another component."""
    found = Findings()
    expected = alerts | {"NotReady"}

    def spoken() -> bool:
        health = look(watch.broker)
        for blamed, what in ((watch.blamed_by_metrics(), "metrics"), (watch.blamed_by_log(), "log"),
                             (health.failed(), "health")):
            assert blamed <= {component}, f"{what} blames {blamed}: {health} {watch.lines()[-5:]}"
            if blamed:
                found.note(what)
        if health.codes == codes:
            found.note("readiness")
        firing = watch.prometheus.alerts()
        allowed = expected | SYMPTOMS
        if component != "object_store":
            allowed.discard("StoreThrottling")
        assert set(firing) <= allowed, f"{set(firing) - allowed} fire as well"
        for alert in firing:
            found.note(alert)
        for alert in firing.get("NotReady", []):
            assert alert["component"] == component, alert
        return {"metrics", "log", "health", "readiness", "NotReady"} | alerts <= set(found.seconds)

    try:
        wait_until(spoken, SECONDS, fault, every=0.3)
    except TimeoutError:
        pytest.fail(f"{fault}: within {SECONDS} s only {found.seconds}; {look(watch.broker)}; {watch.lines()[-5:]}")
    found.show(fault)


def heals(watch: Watch) -> None:
    """The fault is gone, and so is all that was said of it."""
    def well() -> bool:
        return look(watch.broker).codes == WELL and not watch.blamed_by_metrics() and not watch.prometheus.alerts()

    wait_until(well, SECONDS, "everything well again", every=0.3)


@pytest.fixture
def own_seaweed(tmp_path):
    store = SeaweedFS(tmp_path / "own-seaweed").start()
    yield store
    with contextlib.suppress(ProcessLookupError):
        store.thaw()
    store.stop()


@pytest.mark.parametrize("how", ["killed", "stalled"])
def test_the_object_store_is_named(new_broker, own_seaweed, tmp_path, how):
    broker = new_broker("s3", endpoint=own_seaweed.endpoint, inline_bytes=0, log_format="json")
    with watched(broker, tmp_path) as watch:
        own_seaweed.kill() if how == "killed" else own_seaweed.freeze()
        # Given up after 25 s.
        expected = {"S3UploadFailed", "UploadGivenUp", "ProduceStalled"}
        names(watch, "object_store", f"object store {how}", expected)
        own_seaweed.start() if how == "killed" else own_seaweed.thaw()
        heals(watch)


@pytest.mark.parametrize("how", ["removed", "hanging"])
def test_the_database_is_named(new_broker, tmp_path, how):
    broker = new_broker(log_format="json")
    # A scrape waits up to two seconds for the view of the cluster: one that may take less calls the agent down.
    with watched(broker, tmp_path, interval="3s" if how == "hanging" else "1s") as watch:
        if how == "removed":
            database = broker.data_dir / "metadata.db"
            database.rename(database.with_name("away"))
            names(watch, "metadata", "database file removed", {"MetadataFailing", "ProduceStalled"})
            database.with_name("away").rename(database)
        else:
            with frozen_threads(broker.child.pid, "metadata-"):
                names(watch, "metadata", "database hangs", {"ProduceStalled"})
        heals(watch)


def test_a_full_disk_is_named(new_broker, tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", place], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"a full disk is NOT tested: mounting needs root here ({mounted.stderr.strip()})")
    try:
        broker = new_broker(data_dir=place / "data", log_format="json")
        with watched(broker, tmp_path) as watch:
            filler = place / "filler"
            with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(b"\0" * 4_096)
            names(watch, "disk", "disk full", {"MetadataFailing", "ProduceStalled"}, (200, 503, 503))
            filler.unlink()
            heals(watch)
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_runtime_that_stands_still_is_named(new_broker, tmp_path):
    broker = new_broker(log_format="json")
    with watched(broker, tmp_path, interval="3s") as watch:
        with frozen_threads(broker.child.pid, "tokio-rt-worker"):
            names(watch, "runtime", "runtime stalled", set(), (503, 503, 503))
        heals(watch)


@pytest.mark.parametrize("how", ["killed", "stalled"])
def test_a_consumer_is_named_and_no_component_of_ours(new_broker, tmp_path, how):
    broker = new_broker(log_format="json")
    with watched(broker, tmp_path, per_second=200, session_ms=6_000) as watch:
        group, topic = watch.traffic.group, watch.traffic.topic
        found = Findings()
        if how == "killed":
            watch.traffic.member.kill()
        else:
            watch.traffic.member.send(signal.SIGSTOP)

        def spoken() -> bool:
            health = look(broker)
            assert health.codes == WELL and not watch.blamed_by_metrics(), health
            assert watch.blamed_by_log() <= {"consumer"}, watch.lines()
            for line in watch.lines():
                if line["message"] in BLAMES:
                    assert line["consumer_group"] == group and line["member"], line
                    found.note("log")
            samples = broker.metrics()
            if samples.get("streamhouse_consumer_group_members", consumer_group=group) == 0:
                found.note("consumer_group_members 0")
            if (samples.get("streamhouse_consumer_lag_seconds", consumer_group=group, topic=topic, partition="0") or 0) > 2:
                found.note("consumer_lag_seconds above 2")
            firing = watch.prometheus.alerts()
            assert set(firing) <= {"ConsumerLagHigh"}, firing
            for alert in firing.get("ConsumerLagHigh", []):
                assert (alert["consumer_group"], alert["topic"]) == (group, topic)
                found.note("ConsumerLagHigh")
            return len(found.seconds) == 4

        try:
            wait_until(spoken, SECONDS, how, every=0.3)
        except TimeoutError:
            pytest.fail(f"only {found.seconds}; {watch.lines()}; {broker.metrics().sum('streamhouse_consumer_lag')}")
        found.show(f"consumer {how}")
        if how == "stalled":
            watch.traffic.member.send(signal.SIGCONT)
            wait_until(lambda: not watch.prometheus.alerts(), SECONDS, "the lag is gone", every=0.5)


def test_a_process_that_is_gone_is_named(new_broker, tmp_path):
    broker = new_broker(log_format="json")
    with watched(broker, tmp_path) as watch:
        target = broker.http.removeprefix("http://")
        found = Findings()
        broker.kill()

        def spoken() -> bool:
            firing = watch.prometheus.alerts()
            assert set(firing) <= {"AgentDown", "ClusterViewMissing"}, firing
            for alert in firing:
                found.note(alert)
            return firing.get("AgentDown", [{}])[0].get("instance") == target

        wait_until(spoken, SECONDS, "AgentDown", every=0.3)
        found.show("process killed")
        broker.start()
        heals(watch)
