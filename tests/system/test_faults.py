"""The object store stopped, hanging, answering 503, and storing an object while its reply is lost.

Producers wait and retry, memory stays within --inflight-bytes, nothing is acknowledged that is not
stored, nothing appears twice, and everything goes on when the store is back. Each fault runs with small
commits inline (the default) and without.
"""

import contextlib
import os
import time

import pytest

from harness.clients import create_topic, producer, unique
from harness.ledger import Ledger
from harness.process import wait_until
from harness.seaweedfs import SeaweedFS

pytestmark = [pytest.mark.ours, pytest.mark.promise]

MIB = 1 << 20
PARTITIONS = 3
# Objects' keys; what else the server writes to the bucket is not broken here.
OBJECTS = "/objects/"
INLINE = pytest.mark.parametrize("flags", [{}, {"inline_bytes": 0}], ids=["inline", "never-inline"])


@pytest.fixture
def own_seaweed(tmp_path):
    """A store of the test's own, to be stopped and hung."""
    store = SeaweedFS(tmp_path / "own-seaweed").start()
    yield store
    with contextlib.suppress(ProcessLookupError):
        store.thaw()
    store.stop()


def send_for(ledger: Ledger, client, seconds: float, size_bytes: int = 2_000) -> None:
    """Sends at a steady pace; the answers, good or none, arrive meanwhile."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for partition in range(PARTITIONS):
            for _ in range(10):
                ledger.send(client, partition, size_bytes)
        client.poll(0.02)


def begin(broker, **config):
    """A ledger with something acknowledged already, and its producer."""
    ledger = Ledger(create_topic(broker.address, unique("fault"), PARTITIONS), PARTITIONS)
    client = producer(broker.address, **config)
    send_for(ledger, client, 0.5)
    ledger.settle(client)
    return ledger, client


def finish(broker, ledger: Ledger, client) -> None:
    """All is well again: more goes in, everything is acknowledged, and the log agrees. After kill -9 too."""
    send_for(ledger, client, 0.5)
    ledger.settle(client)
    assert not ledger.refused, ledger.refused[:3]
    assert ledger.judge(broker.address) == sum(ledger.sent)
    broker.kill()
    broker.start()
    assert ledger.judge(broker.address) == sum(ledger.sent)


@INLINE
@pytest.mark.parametrize("mode", ["503", "stall", "lose_reply"])
def test_uploads_that_fail_hang_or_lose_their_reply_lose_and_double_nothing(new_broker, proxy, flags, mode):
    broker = new_broker("s3", endpoint=proxy.endpoint, **flags)
    ledger, client = begin(broker)
    proxy.fault(mode, "PUT", OBJECTS)
    send_for(ledger, client, 6)
    during = proxy.statuses()
    proxy.heal()
    finish(broker, ledger, client)
    if mode == "503":
        assert during["PUT", "503"] > 0, during
    if mode == "lose_reply":
        assert during["PUT", "lost"] > 0, during


@INLINE
def test_nothing_is_acknowledged_while_large_uploads_hang(new_broker, proxy, flags):
    broker = new_broker("s3", endpoint=proxy.endpoint, **flags)
    ledger, client = begin(broker)
    proxy.fault("stall", "PUT", OBJECTS)
    before = ledger.acknowledged_count()
    # One record far above what may go inline: it must wait, and all behind it.
    ledger.send(client, 0, 200_000)
    for _ in range(200):
        ledger.send(client, 0, 2_000)
    client.flush(5)
    assert ledger.acknowledged_count() == before
    proxy.heal()
    finish(broker, ledger, client)


@INLINE
def test_short_deadlines_during_a_stall_are_retried_without_duplicates(new_broker, proxy, flags):
    """Batches are withdrawn at their deadline (3 s here) and sent again, while old uploads may still land."""
    broker = new_broker("s3", endpoint=proxy.endpoint, **flags)
    ledger, client = begin(broker, request_timeout_ms=4_000)
    proxy.fault("stall", "PUT", OBJECTS)
    send_for(ledger, client, 1)
    client.flush(12)
    proxy.heal()
    finish(broker, ledger, client)


@INLINE
@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_a_store_that_is_killed_or_hangs_is_waited_for(new_broker, own_seaweed, flags, how):
    broker = new_broker("s3", endpoint=own_seaweed.endpoint, **flags)
    ledger, client = begin(broker)
    if how == "killed":
        own_seaweed.kill()
    else:
        own_seaweed.freeze()
    send_for(ledger, client, 5)
    broker.child.require_alive()
    if how == "killed":
        own_seaweed.start()
    else:
        own_seaweed.thaw()
    finish(broker, ledger, client)


def test_memory_stays_within_inflight_bytes_while_the_store_hangs(new_broker, proxy):
    inflight = 32 * MIB
    broker = new_broker("s3", endpoint=proxy.endpoint, inflight_bytes=inflight, inline_bytes=0)
    ledgers = []
    for _ in range(4):
        ledger, client = begin(broker, queue_buffering_max_kbytes=200_000)
        ledgers.append((ledger, client))
    broker.child.reset_rss_peak()
    idle = broker.child.rss_bytes()
    proxy.fault("stall", "PUT", OBJECTS)
    # 160 MiB are offered, five times the budget.
    for _ in range(400):
        for ledger, client in ledgers:
            for _ in range(10):
                ledger.send(client, 0, 10_000)
            client.poll(0)
    time.sleep(5)
    peak = broker.child.rss_peak_bytes()
    proxy.heal()
    for ledger, client in ledgers:
        ledger.settle(client)
        assert not ledger.refused, ledger.refused[:3]
        assert ledger.judge(broker.address) == sum(ledger.sent)
    # Beyond the budget: the sockets' read buffers, what allocation rounds up, the tail kept for readers.
    assert peak - idle <= inflight + 64 * MIB, f"{(peak - idle) // MIB} MiB more than idle"


def test_a_store_that_is_down_at_start_is_waited_for(new_broker, own_seaweed):
    own_seaweed.kill()
    broker = new_broker("s3", endpoint=own_seaweed.endpoint, start=False)
    broker.spawn()

    def ready() -> int:
        with contextlib.suppress(OSError):
            return broker.get("/health/ready")[0]
        return 0

    wait_until(lambda: ready() == 503, 30, "an unready answer on HTTP")
    own_seaweed.start()
    wait_until(lambda: ready() == 200, 60, "readiness once the store is there")
    ledger, client = begin(broker)
    finish(broker, ledger, client)


def test_sigterm_while_the_store_hangs_ends_in_time_and_keeps_what_was_acknowledged(new_broker, proxy):
    broker = new_broker("s3", endpoint=proxy.endpoint, inline_bytes=0, stop_timeout="5s")
    ledger, client = begin(broker)
    proxy.fault("stall", "PUT", OBJECTS)
    send_for(ledger, client, 1)
    assert broker.stop(40) == 1, "what was not stored was given up, and the status says so"
    proxy.heal()
    broker.start()
    finish(broker, ledger, client)


def test_environment_leaves_no_trace(new_broker):
    """Guards the harness: the server's environment carries none of the caller's settings."""
    broker = new_broker()
    with open(f"/proc/{broker.child.pid}/environ", "rb") as environ:
        names = {each.split(b"=")[0].decode() for each in environ.read().split(b"\0") if each}
    assert not {name for name in names if name.startswith(("AWS_", "STREAMHOUSE_"))}
    assert os.getpid() != broker.child.pid
