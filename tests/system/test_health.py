"""The table of faults of docs/observability.md, row by row: what a real process answers to liveness, readiness
and readiness of the agent's own scope when something around it or in it breaks, and what it does not mind.

The limits of the table are generous here by what a busy machine needs; how long it took is printed.
"""

import contextlib
import json
import os
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, TopicPartition

from harness.clients import admin, consumer, create_topic, producer, send_all, unique
from harness.health import AGENT, LIVE, READY, look, wait_for
from harness.process import wait_until
from harness.seaweedfs import SeaweedFS
from harness.surgery import frozen_threads, shut_down_listener
from harness.wire import Connection, batch

pytestmark = pytest.mark.ours

MIB = 1 << 20
WELL = (200, 200, 200)
# Fifteen seconds by the table; the rest is for the machine.
SECONDS = 40


@pytest.fixture
def own_seaweed(tmp_path):
    store = SeaweedFS(tmp_path / "own-seaweed").start()
    yield store
    with contextlib.suppress(ProcessLookupError):
        store.thaw()
    store.stop()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", place], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"a full disk is NOT tested: mounting needs root here ({mounted.stderr.strip()})")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def fill(place: Path) -> Path:
    """A file that leaves no room beside it."""
    filler = place / "filler"
    # Without a buffer, whose rest would be tried again on closing.
    with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 65_536)
    return filler


def is_blamed(broker, codes: tuple[int, int, int], component: str, seconds: float = SECONDS):
    """The endpoints answer so, for this component's sake alone; says how long it took."""
    began = time.monotonic()
    health = wait_for(broker, codes, seconds)
    print(f"{component}: {codes} after {time.monotonic() - began:.1f} s: {health.components[component]['last_error']}")
    assert health.failed() == {component}, health
    assert health.components[component]["last_error"]
    samples = broker.metrics()
    shown = {name: samples.get("streamhouse_health_component", component=name) for name in health.components}
    assert shown == {name: float(name != component) for name in health.components}
    return health


def is_well(broker, seconds: float = SECONDS) -> None:
    health = wait_for(broker, WELL, seconds)
    assert health.status == "ok" and not health.failed()


def test_every_component_tells_state_latency_and_last_error(new_broker):
    broker = new_broker()
    topic = create_topic(broker.address, unique("health"))
    send_all(broker.address, topic, [b"x"])
    time.sleep(1.5)
    health = wait_for(broker, WELL, SECONDS)
    assert set(health.components) == {"disk", "listener", "metadata", "object_store", "runtime", "writer"}
    for name, each in health.components.items():
        assert set(each) == {
            "component", "state", "scope", "since_seconds", "latency_seconds", "last_success_age_seconds",
            "last_error", "last_error_age_seconds",
        }
        assert each["state"] == "ok" and each["last_error"] is None and each["last_error_age_seconds"] is None, each
        assert each["last_success_age_seconds"] >= 0
        assert each["scope"] == ("shared" if name in ("metadata", "object_store") else "agent")
    for name in ("metadata", "object_store", "writer"):
        assert 0 < health.components[name]["latency_seconds"] < 60, name
    # Nobody has tried these two for a while: the probes of somebody who asks do.
    def probed() -> bool:
        found = look(broker).components
        return all(found[name]["latency_seconds"] is not None for name in ("disk", "listener"))

    wait_until(probed, SECONDS, "latencies of probes", every=0.5)


def test_starting_is_alive_and_not_ready(new_broker, own_seaweed):
    own_seaweed.kill()
    broker = new_broker("s3", endpoint=own_seaweed.endpoint, start=False)
    broker.spawn()

    def answers() -> bool:
        with contextlib.suppress(OSError):
            return broker.get(LIVE)[0] == 200
        return False

    wait_until(answers, 30, "HTTP")
    health = look(broker)
    assert health.codes == (200, 503, 503) and health.status == "starting"
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", broker.port), 1):
        pytest.fail("it accepts clients before it is ready")
    own_seaweed.start()
    is_well(broker, 60)


def test_sigterm_turns_readiness_before_the_listener_closes(new_broker, proxy):
    broker = new_broker("s3", endpoint=proxy.endpoint, inline_bytes=0, stop_timeout="60s")
    topic = create_topic(broker.address, unique("stopping"))
    is_well(broker)
    proxy.fault("stall", "PUT", "/objects/")
    client = producer(broker.address)
    client.produce(topic, b"in hand")
    client.poll(0)
    wait_until(lambda: broker.metrics().get("streamhouse_flush_oldest_seconds") > 0, SECONDS, "a batch in hand")
    samples = []

    def closed() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", broker.port), 1):
            return False
        return True

    broker.child.process.terminate()
    began = time.monotonic()
    while time.monotonic() - began < 10:
        # In this order: what was closed before was unready after.
        samples.append((closed(), broker.get(READY)[0], broker.get(AGENT)[0], broker.get(LIVE)[0]))
        if samples[-1][0]:
            print(f"closed {time.monotonic() - began:.2f} s after SIGTERM, samples {len(samples)}")
            break
    assert samples[-1] == (True, 503, 503, 200), samples
    assert look(broker).status == "stopping"
    proxy.heal()
    assert broker.child.process.wait(60) == 0
    assert client.flush(10) == 0, "what was in hand was stored and acknowledged"


@pytest.mark.parametrize("how", ["killed", "stalled"])
@pytest.mark.parametrize("load", ["idle", "busy"])
def test_an_object_store_that_is_down_for_all_degrades_the_agent(new_broker, own_seaweed, how, load):
    broker = new_broker("s3", endpoint=own_seaweed.endpoint, inline_bytes=0)
    topic = create_topic(broker.address, unique("down"))
    send_all(broker.address, topic, [b"before"])
    is_well(broker)
    own_seaweed.kill() if how == "killed" else own_seaweed.freeze()
    client = producer(broker.address)
    if load == "busy":
        client.produce(topic, b"waits")
        client.poll(0)
    health = is_blamed(broker, (200, 503, 200), "object_store")
    assert (health.status, health.agent_status) == ("failed", "degraded")
    own_seaweed.start() if how == "killed" else own_seaweed.thaw()
    is_well(broker)
    assert client.flush(60) == 0


def test_uploads_that_hang_are_seen_while_everything_else_answers(new_broker, proxy):
    broker = new_broker("s3", endpoint=proxy.endpoint, inline_bytes=0)
    topic = create_topic(broker.address, unique("hangs"))
    is_well(broker)
    proxy.fault("stall", "PUT", "/objects/")
    client = producer(broker.address)
    client.produce(topic, b"waits")
    client.poll(0)
    health = is_blamed(broker, (200, 503, 200), "object_store")
    assert "no answer" in health.components["object_store"]["last_error"]
    proxy.heal()
    is_well(broker)
    assert client.flush(60) == 0


def test_a_store_that_takes_nothing_is_not_excused_because_it_can_be_read(new_broker, proxy):
    broker = new_broker("s3", endpoint=proxy.endpoint, inline_bytes=0)
    topic = create_topic(broker.address, unique("refuses"))
    is_well(broker)
    proxy.fault("503", "PUT")
    client = producer(broker.address)
    client.produce(topic, b"waits")
    client.poll(0)
    is_blamed(broker, (200, 503, 200), "object_store")
    # Asked for long enough that a probe which only reads would have healed it.
    end = time.monotonic() + 12
    while time.monotonic() < end:
        assert look(broker).failed() == {"object_store"}
        time.sleep(0.5)
    proxy.heal()
    is_well(broker)
    client.flush(60)


def test_a_database_whose_file_was_taken_away_degrades_the_agent_and_loses_nothing(new_broker):
    broker = new_broker()
    topic = create_topic(broker.address, unique("taken"))
    send_all(broker.address, topic, [b"before"])
    is_well(broker)
    database = broker.data_dir / "metadata.db"
    database.rename(database.with_name("away"))
    client = producer(broker.address)
    client.produce(topic, b"waits")
    client.poll(0)
    health = is_blamed(broker, (200, 503, 200), "metadata")
    assert "removed or replaced" in health.components["metadata"]["last_error"]
    assert client.flush(0.1) == 1, "nothing is acknowledged that the next start would not find"
    database.with_name("away").rename(database)
    is_well(broker)
    assert client.flush(60) == 0
    broker.kill()
    broker.start()
    with Connection(broker.address) as connection:
        assert sum(each.records for each in connection.stored(topic)) == 2


@pytest.mark.parametrize("load", ["idle", "busy"])
def test_a_database_that_hangs_degrades_the_agent(new_broker, load):
    broker = new_broker()
    topic = create_topic(broker.address, unique("hangs"))
    send_all(broker.address, topic, [b"before"])
    is_well(broker)
    client = producer(broker.address)
    with frozen_threads(broker.child.pid, "metadata-"):
        if load == "busy":
            client.produce(topic, b"waits")
            client.poll(0)
        is_blamed(broker, (200, 503, 200), "metadata")
    is_well(broker)
    assert client.flush(60) == 0


@pytest.mark.parametrize("load", ["idle", "busy"])
@pytest.mark.parametrize("store", ["local", "s3"])
def test_a_full_disk_is_this_agents_own(new_broker, small_disk, store, load):
    flags = {"data_dir": small_disk / "data", "inline_bytes": 0 if store == "local" else "16KiB"}
    broker = new_broker(store, **flags)
    topic = create_topic(broker.address, unique("full"))
    send_all(broker.address, topic, [b"before"])
    is_well(broker)
    filler = fill(small_disk)
    client = producer(broker.address)
    if load == "busy":
        for _ in range(200):
            client.produce(topic, os.urandom(1_000))
        client.poll(0)
    is_blamed(broker, (200, 503, 503), "disk")
    filler.unlink()
    is_well(broker)
    assert client.flush(60) == 0


def test_a_dead_listener_is_this_agents_own(new_broker):
    broker = new_broker()
    is_well(broker)
    shut_down_listener(broker.child.pid, broker.port)
    health = is_blamed(broker, (200, 503, 503), "listener")
    assert health.status == "failed"
    broker.child.require_alive()
    lines = broker.child.output().count("a connection could not be accepted")
    assert 1 <= lines < 10, "it is tried ten times a second and said once in ten"


def test_a_stalled_runtime_fails_liveness(new_broker):
    broker = new_broker()
    topic = create_topic(broker.address, unique("stalled"))
    send_all(broker.address, topic, [b"before"])
    is_well(broker)
    client = producer(broker.address)
    with frozen_threads(broker.child.pid, "tokio-rt-worker"):
        client.produce(topic, b"waits")
        client.poll(0)
        health = wait_for(broker, (503, 503, 503), SECONDS)
        assert health.failed() == {"runtime"}, health
        print(health.components["runtime"])
        assert broker.get("/health")[0] == 503
        # The scrape needs no runtime either, and names it.
        assert broker.metrics().get("streamhouse_health_component", component="runtime") == 0
    is_well(broker)
    assert client.flush(60) == 0


class Readiness:
    """Asks all three while something goes on, and remembers every answer that was not 200."""

    def __init__(self, broker):
        self.broker = broker
        self.asked = 0
        self.refused: list = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._end.wait(0.2):
            for path in (LIVE, READY, AGENT):
                status, body = self.broker.get(path, 30)
                self.asked += 1
                if status != 200:
                    self.refused.append((path, status, body))

    def __enter__(self) -> "Readiness":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._end.set()
        self._thread.join(60)
        assert self.asked > 0 and not self.refused, self.refused[:2]


def test_backpressure_is_no_fault(new_broker):
    broker = new_broker(inline_bytes=0, inflight_bytes="10MiB", flush_bytes="1MiB")
    topic = create_topic(broker.address, unique("pressed"), 3)
    is_well(broker)
    clients = [producer(broker.address, queue_buffering_max_kbytes=200_000) for _ in range(4)]

    def pressed() -> bool:
        return broker.metrics().get("streamhouse_backpressure_seconds_total") > 0

    assert not pressed()
    with Readiness(broker):
        began = time.monotonic()
        # On a machine where producers get less of the time than the server, one round may not be enough.
        while not pressed():
            assert time.monotonic() - began < 200, "the budget never filled"
            for number in range(4_000):
                for client in clients:
                    client.produce(topic, b"x" * 10_000, partition=number % 3)
                    client.poll(0)
            for client in clients:
                assert client.flush(120) == 0
            # A scrape may show a rendering of a quarter of a second ago.
            time.sleep(0.3)


def test_lag_and_one_topics_errors_are_no_fault(new_broker):
    broker = new_broker(inline_bytes=0, tail_bytes="1MiB", cache_bytes="1MiB")
    topic, broken = (create_topic(broker.address, unique(name)) for name in ("late", "broken"))
    is_well(broker)
    before = set(broker.data_dir.rglob("objects/**/*"))
    send_all(broker.address, broken, [b"y" * 10_000])
    (damaged,) = [each for each in set(broker.data_dir.rglob("objects/**/*")) - before if each.is_file()]
    os.truncate(damaged, 100)
    # More than what is kept in memory of the newest.
    send_all(broker.address, topic, [b"x" * 1_000] * 5_000)
    member = consumer(broker.address, group_id=unique("late"))
    member.commit(offsets=[TopicPartition(topic, 0, 0)], asynchronous=False)
    with Readiness(broker):
        began = time.monotonic()
        refused = 0
        with Connection(broker.address) as connection:
            while time.monotonic() - began < 12 or refused <= 10:
                assert time.monotonic() - began < 120, refused
                with contextlib.suppress(KafkaException, AssertionError):
                    connection.stored(broken)
                refused += connection.produce({(broken, 0): batch([b"x"], crc=7)})[broken, 0][0] != 0
                time.sleep(0.2)
    in_vain = broker.metrics().get("streamhouse_api_requests_total", api="Fetch", outcome="server_error")
    assert in_vain > 10, "what is damaged was read again and again"
    # A scrape shows no lag where the snapshot took too long.
    wait_until(lambda: broker.metrics().sum("streamhouse_consumer_lag") >= 5_000, 60, "the lag")
    member.close()


def test_upkeep_that_fails_is_no_fault(new_broker, proxy):
    broker = new_broker("s3", endpoint=proxy.endpoint, inline_bytes=0, delete_grace="1s")
    topic = create_topic(broker.address, unique("gone"))
    send_all(broker.address, topic, [b"x" * 1_000])
    is_well(broker)
    proxy.fault("503", "DELETE")
    admin(broker.address).delete_topics([topic])[topic].result(30)
    with Readiness(broker):
        def given_up() -> bool:
            return broker.metrics().sum("streamhouse_s3_errors_total", operation="DELETE") >= 3

        wait_until(given_up, 90, "deletes that fail", every=0.5)
        time.sleep(12)
    assert json.loads(broker.get("/health")[1])["status"] == "ok"
    proxy.heal()
