"""What the object store and the metadata store are asked for: by time and bytes, never by partitions; and
nothing at all when idle.
"""

import time

import pytest

from harness.clients import create_topic, unique
from harness.process import wait_until
from harness.wire import Connection, batch

pytestmark = pytest.mark.ours

ROUNDS = 10


def costs_of(broker, topic: str, partitions: int) -> tuple[float, float]:
    """PUTs and commits asked of the metadata store in ROUNDS produces, each to that many partitions at once."""
    def read() -> tuple[float, float]:
        samples = broker.metrics()
        commits = samples.get("streamhouse_metadata_operation_seconds_count", operation="commit")
        return samples.get("streamhouse_s3_requests_total", operation="PUT"), commits

    with Connection(broker.address) as connection:
        records = {(topic, each): batch([b"x" * 100]) for each in range(partitions)}
        # The first touches whatever is learnt once.
        assert {error for error, _, _ in connection.produce(records).values()} == {0}
        time.sleep(0.5)
        before = read()
        for _ in range(ROUNDS):
            assert {error for error, _, _ in connection.produce(records).values()} == {0}
            # Longer than the flush interval, so that each leaves at once.
            time.sleep(0.3)
    after = read()
    return after[0] - before[0], after[1] - before[1]


@pytest.mark.parametrize("store", ["local", "s3"])
def test_1_or_1000_partitions_cost_the_same_puts_and_commits(new_broker, store):
    broker = new_broker(store, inline_bytes=0)
    narrow = costs_of(broker, create_topic(broker.address, unique("narrow"), 1), 1)
    wide = costs_of(broker, create_topic(broker.address, unique("wide"), 1_000), 1_000)
    assert narrow == wide == (ROUNDS, ROUNDS)


def test_an_idle_server_asks_neither_store(new_broker, proxy):
    broker = new_broker("s3", endpoint=proxy.endpoint, inline_bytes=0)
    topic = create_topic(broker.address, unique("idle"))
    with Connection(broker.address) as connection:
        for _ in range(5):
            assert connection.produce({(topic, 0): batch([b"x"] * 10)})[topic, 0][0] == 0
    database = list(broker.data_dir.glob("*.db*"))
    assert database, "the metadata's files are not where they are looked for"

    def state() -> tuple:
        return proxy.count(), sorted((each.name, each.stat().st_mtime_ns) for each in broker.data_dir.glob("*.db*"))

    since, last = time.monotonic(), state()

    def quiet() -> bool:
        nonlocal since, last
        if state() != last:
            since, last = time.monotonic(), state()
        return time.monotonic() - since > 8

    wait_until(quiet, 90, "8 s without a request", every=0.5)
    time.sleep(20)
    assert state() == last, "an idle server was at work"


def test_a_small_record_goes_inline_without_a_put(new_broker, proxy):
    broker = new_broker("s3", endpoint=proxy.endpoint)
    topic = create_topic(broker.address, unique("inline"))
    before = proxy.count("PUT")
    with Connection(broker.address) as connection:
        for offset in range(20):
            assert connection.produce({(topic, 0): batch([b"small"])})[topic, 0][:2] == (0, offset)
        assert len(connection.stored(topic)) == 20
    assert proxy.count("PUT") == before
