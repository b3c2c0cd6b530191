"""All 22 metrics against what a scripted load really did, read through a real Prometheus.

One server on a real S3 server is put under one load (`did`): real clients, injected faults, duplicates, an
aborted transaction, a dead consumer, a deleted topic and a deleted group, names that run together. Whoever
caused an event counts it: the clients what they sent and consumed, Kafka's own tool the lag, the proxy and the
S3 server the requests, the kernel the connections, the objects in the bucket the segments.
"""

import base64
import http.client
import re
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicCollection, TopicPartition

from harness import metrics as text
from harness import places
from harness.clients import admin, create_topic, producer
from harness.kafka_oracle import libs
from harness.process import wait_until
from harness.prometheus import Prometheus, Series
from harness.proxy import Proxy
from harness.seaweedfs import BUCKET, SeaweedFS
from harness.streamhouse import StreamHouse
from harness.wire import Connection, batch

pytestmark = pytest.mark.ours

PREFIX = "exact"
SENT = {("orders", 1): 300, ("orders", 11): 500, ("orders1", 1): 700, ("orders1", 11): 1100}
AFTER_THE_DEATH = 77


def operation(method: str, path: str) -> str:
    """What a request on the wire is to the store's bill."""
    query = path.partition("?")[2]
    if method == "GET":
        return "LIST" if "list-type" in query else "GET"
    if method == "POST" and "delete" in query:
        return "DELETE_BATCH"
    return method


@dataclass
class Did:
    """What the load did, as those who did it counted."""

    broker: StreamHouse
    proxy: Proxy
    seaweed: SeaweedFS
    prometheus: Prometheus
    # (topic, error type) → batches, as provoked.
    refused: Counter = field(default_factory=Counter)
    records: Counter = field(default_factory=Counter)
    # Produce requests on the wire that were acknowledged, by topic.
    requests: Counter = field(default_factory=Counter)
    consumed: Counter = field(default_factory=Counter)
    rebalances: Counter = field(default_factory=Counter)
    consumer_errors: Counter = field(default_factory=Counter)
    # Look-ups of the cold reads: (hits, misses).
    cold: dict = field(default_factory=dict)
    cold_bytes: int = 0
    # Segments sealed whose upload was given up, by (topic, partition).
    given_up: Counter = field(default_factory=Counter)
    proxy_before: int = 0
    seaweed_before: Counter = field(default_factory=Counter)
    topic_ids: dict = field(default_factory=dict)

    def value(self, expression: str) -> float | None:
        return self.prometheus.value(expression)

    def found(self, expression: str) -> list[Series]:
        """The series that the expression has: some at least, but a scrape that failed leaves none until the next."""
        return wait_until(lambda: self.prometheus.query(expression), 60, expression, every=0.5)

    def becomes(self, look: Callable[[], object], expected: object, seconds: float = 60) -> None:
        """What one sees there, at latest after `seconds`."""
        seen = None

        def equal() -> bool:
            nonlocal seen
            seen = look()
            return seen == expected

        try:
            wait_until(equal, seconds, "equal figures", every=0.5)
        except TimeoutError:
            pytest.fail(f"{seen}, expected {expected}")

    def equals(self, expected: dict[str, float | None], seconds: float = 60) -> None:
        """Each expression's one value, at latest in a scrape after `seconds`."""
        def wrong() -> dict:
            found = {expression: self.value(expression) for expression in expected}
            return {e: (found[e], "expected", expected[e]) for e in expected if found[e] != expected[e]}

        try:
            wait_until(lambda: not wrong(), seconds, "equal figures", every=0.5)
        except TimeoutError:
            pytest.fail(f"{wrong()}")

    def attempts(self) -> list[tuple[str, str]]:
        """(operation, status) of every attempt since the server under load was started."""
        return [(operation(method, path), status) for method, path, status in self.proxy.log()[self.proxy_before:]]


def own(series: str, **labels: str) -> str:
    inside = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return f"streamhouse_{series}{{{inside}}}"


def send(did: Did, topic: str, partition: int, count: int, name: str = "x") -> None:
    """Produces with librdkafka; what it says is acknowledged is counted."""
    client = producer(did.broker.address, linger_ms=20)

    def acknowledged(error, _message) -> None:
        assert error is None, error
        did.records[topic] += 1

    for number in range(count):
        client.produce(topic, f"{name}{number}".encode() * 20, partition=partition, on_delivery=acknowledged)
    assert client.flush(90) == 0


def consume(did: Did, group: str, topic: str, count: int) -> None:
    """Reads `count` records as a group's only member, commits and leaves."""
    client = Consumer({
        "bootstrap.servers": did.broker.address, "group.id": group, "client.id": group, "log_level": 2,
        "auto.offset.reset": "earliest", "enable.auto.commit": False,
    })
    client.subscribe([topic])
    read = 0
    deadline = time.monotonic() + 60
    while read < count:
        assert time.monotonic() < deadline, f"{read} of {count}"
        read += sum(each.error() is None for each in client.consume(count - read, timeout=0.5))
    client.commit(asynchronous=False)
    client.close()
    did.consumed[group, topic] += read
    did.rebalances[group] += 1


def cold_reads(did: Did) -> None:
    """Reads each batch that lies in a stored object twice, one at a time: first from the store, then not."""
    def read() -> None:
        with Connection(did.broker.address) as connection:
            # Backwards: nothing is read ahead.
            for offset in range(50, -1, -10):
                error, _, data = connection.fetch("cold", 0, offset, max_bytes=1)
                assert error == 0 and data

    def counts() -> tuple[float, float, int]:
        # One rendering serves all scrapes of 250 ms.
        time.sleep(0.3)
        samples = did.broker.metrics()
        gets = sum(1 for each, _ in did.attempts() if each == "GET")
        return samples.get("streamhouse_cache_hits_total"), samples.get("streamhouse_cache_misses_total"), gets

    hits, misses, gets = counts()
    read()
    first = counts()
    read()
    second = counts()
    did.cold = {"before": (hits, misses, gets), "first": first, "second": second}
    with Connection(did.broker.address) as connection:
        did.cold_bytes = sum(each.size_bytes for each in connection.stored("cold"))


def lies_and_repeats(did: Did) -> None:
    """What only the raw wire can say: duplicates, lies, acks 0; each batch's fate is known beforehand."""
    with Connection(did.broker.address) as connection:
        def put(topic: str, data: bytes, partition: int = 0, ok: bool = True, error: str = "") -> None:
            code = connection.produce({(topic, partition): data})[topic, partition][0]
            assert (code == 0) == ok, f"{error or 'a good batch'}: code {code}"
            if ok:
                did.requests[topic] += 1
            else:
                did.refused[topic, error] += 1

        good = batch([b"a", b"b"])
        put("wired", good)
        did.records["wired"] += 2
        first, epoch = connection.init_producer_id()
        again = batch([b"c"] * 3, producer_id=first, epoch=epoch, sequence=0)
        for _ in range(4):
            put("wired", again)
        did.records["wired"] += 3
        for _ in range(3):
            put("wired", batch([b"x"], crc=7), ok=False, error="corrupt")
        put("wired", batch([b"x" * 1_200_000]), ok=False, error="too_large")
        put("wired", batch([b"x"], count=5), ok=False, error="invalid")
        for _ in range(2):
            put("wired", batch([b"x"], producer_id=first, epoch=epoch, sequence=40), ok=False, error="sequence")
        put("wired", batch([b"y"], producer_id=first, epoch=epoch + 1, sequence=0))
        did.records["wired"] += 1
        put("wired", batch([b"x"], producer_id=first, epoch=epoch, sequence=3), ok=False, error="fenced")
        put("wired", batch([b"x"], producer_id=first, epoch=epoch + 1, sequence=1, attributes=16), ok=False,
            error="transaction")
        code = connection.produce({("nowhere", 0): good})["nowhere", 0][0]
        assert code == 3
        did.refused["~unknown", "unknown_topic"] += 1
        connection.produce({("silent", 0): batch([b"s"] * 5)}, acks=0)
        connection.produce({("silent", 0): batch([b"t"] * 6)})
        did.records["silent"] += 11


def faults(did: Did) -> None:
    # Throttled for a moment: every attempt meets it and is tried again.
    did.proxy.fault("503", "PUT", "objects/")
    client = producer(did.broker.address, linger_ms=0)
    client.produce("orders", b"late" * 5, partition=1, on_delivery=lambda e, _: did.records.update(orders=int(e is None)))
    client.poll(0)
    wait_until(lambda: ("PUT", "503") in did.attempts(), 60, "a throttled upload")
    did.proxy.heal()
    assert client.flush(60) == 0
    # Refused for good: given up at once, and the batch with it.
    did.proxy.fault("no_bucket", "PUT", "objects/")
    with Connection(did.broker.address) as connection:
        code = connection.produce({("wired", 0): batch([b"lost"])})["wired", 0][0]
    did.proxy.heal()
    assert code != 0
    did.refused["wired", "agent_error"] += 1
    did.given_up["wired", 0] += 1


DEAD = """
import sys, time
from confluent_kafka import Consumer
address, group, topic, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
client = Consumer({"bootstrap.servers": address, "group.id": group, "client.id": group, "log_level": 2,
                   "auto.offset.reset": "earliest", "enable.auto.commit": False})
client.subscribe([topic])
read = 0
while read < count:
    read += sum(each.error() is None for each in client.consume(count - read, timeout=0.5))
client.commit(asynchronous=False)
print(read, flush=True)
time.sleep(600)
"""


def dead_consumer(did: Did) -> None:
    """A member that commits and is then killed without a word."""
    child = subprocess.Popen([sys.executable, "-c", DEAD, did.broker.address, "dead", "orders", "200"],
                             stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "200\n"
    child.kill()
    child.wait()
    did.consumed["dead", "orders"] += 200
    did.rebalances["dead"] += 1


def transactions(did: Did) -> None:
    client = Producer({"bootstrap.servers": did.broker.address, "transactional.id": "exact", "log_level": 2})
    client.init_transactions(30)
    for count, end in [(10, client.commit_transaction), (20, client.abort_transaction)]:
        client.begin_transaction()
        for number in range(count):
            client.produce("ended", b"%d" % number, partition=0)
        assert client.flush(30) == 0
        end(30)
        # Aborted records are stored all the same; the markers are no records.
        did.records["ended"] += count


def consumer_errors(did: Did) -> None:
    with Connection(did.broker.address) as connection:
        for _ in range(4):
            assert connection.fetch("orders", 2, 9_999)[0] == 1
    did.consumer_errors["orders", "", "out_of_range"] += 4
    stranger = Consumer({"bootstrap.servers": did.broker.address, "group.id": "busy", "log_level": 2})
    member = Consumer({"bootstrap.servers": did.broker.address, "group.id": "busy", "log_level": 2})
    member.subscribe(["orders"])
    wait_until(lambda: member.poll(0.2) or member.assignment(), 60, "an assignment")
    with pytest.raises(KafkaException):
        stranger.commit(offsets=[TopicPartition("orders", 0, 0)], asynchronous=False)
    did.consumer_errors["", "busy", "unknown_member"] += 1
    did.rebalances["busy"] += 1
    for client in (member, stranger):
        client.close()


@pytest.fixture(scope="module")
def did(tmp_path_factory: pytest.TempPathFactory, shared_seaweed: SeaweedFS) -> Iterator[Did]:
    directory: Path = tmp_path_factory.mktemp("exact")
    prefix = f"{PREFIX}-{directory.parent.parent.name}-{directory.name}"
    proxy = Proxy(directory / "proxy", shared_seaweed.endpoint).start()
    broker = StreamHouse(
        directory / "broker",
        flags={
            **shared_seaweed.flags(prefix, proxy.endpoint), "inline-bytes": 0, "flush-interval": "20ms",
            "group-initial-rebalance-delay": "0s", "auto-create-topics": "false",
        },
        env=shared_seaweed.env(),
    ).start()
    prometheus = Prometheus(directory / "prometheus", [f"127.0.0.1:{broker.http_port}"])
    try:
        create_topic(broker.address, "cold")
        with Connection(broker.address) as connection:
            for number in range(6):
                connection.produce({("cold", 0): batch([b"%d" % number * 3_000] * 10)})
        # What was written is cold after a restart, and every counter stands at 0.
        broker.stop()
        # The store counts a request a moment after it has answered it.
        time.sleep(1)
        load = Did(broker, proxy, shared_seaweed, prometheus, proxy_before=len(proxy.log()),
                   seaweed_before=shared_seaweed.requests())
        broker.start()
        prometheus.start()
        run(load)
        prometheus.wait_for_scrapes(2)
        yield load
    finally:
        prometheus.stop()
        broker.kill()
        proxy.stop()


def run(did: Did) -> None:
    address = did.broker.address
    for topic in ("orders", "orders1"):
        create_topic(address, topic, 12)
    for topic in ("wired", "silent", "ended", "gone"):
        create_topic(address, topic)
    described = admin(address).describe_topics(TopicCollection(["orders", "orders1", "wired"]))
    for topic, found in described.items():
        identity = str(found.result(30).topic_id)
        did.topic_ids[topic] = base64.b64decode(identity + "==").hex()
    cold_reads(did)
    for (topic, partition), count in SENT.items():
        send(did, topic, partition, count)
    lies_and_repeats(did)
    faults(did)
    transactions(did)
    consume(did, "readers", "orders", 450)
    consume(did, "readers", "orders1", 1_000)
    consume(did, "readers", "orders", 50)
    consume(did, "leaving", "orders1", 10)
    dead_consumer(did)
    consumer_errors(did)
    send(did, "orders", 1, AFTER_THE_DEATH)
    send(did, "gone", 0, 5)
    consume(did, "readers", "gone", 5)
    client = admin(address)
    wait_until(lambda: did.broker.metrics().get("streamhouse_producer_records_total", topic="gone") == 5, 60, "gone")
    # The last fetch of a consumer that has left may still wait, and would be refused.
    time.sleep(2)
    client.delete_topics(["gone"])["gone"].result(30)
    client.delete_consumer_groups(["leaving"])["leaving"].result(30)
    del did.records["gone"]


def test_producer_metrics_equal_what_producers_did(did):
    expected = {}
    for topic, count in did.records.items():
        with Connection(did.broker.address) as connection:
            partitions = range(12) if topic.startswith("orders") else range(1)
            stored = [each for p in partitions for each in connection.stored(topic, p) if topic != "ended" or not
                      each.size_bytes == 78]
        expected[own("producer_records_total", topic=topic)] = count
        expected[own("producer_bytes_total", topic=topic)] = sum(each.size_bytes for each in stored)
        assert sum(each.records for each in stored) == count, "the client's count and the log's"
        acknowledged = len(stored) + (3 if topic == "wired" else 0)  # duplicates are acknowledged, too
        expected[own("producer_batch_size_count", topic=topic)] = acknowledged
        if topic.startswith("orders"):
            # librdkafka sends one batch a request.
            expected[own("producer_latency_seconds_count", topic=topic)] = len(stored)
            largest = max(each.records for each in stored)
            for bound in (1, 10, 50, 100, 500, 1000, 5000, 10000):
                counted = sum(each.records <= bound for each in stored)
                expected[own("producer_batch_size_bucket", topic=topic, le=str(bound))] = counted
            assert largest > 1
    expected[own("producer_latency_seconds_count", topic="wired")] = did.requests["wired"]
    did.equals(expected)


def test_refused_batches_equal_those_that_were_made_to_be_refused(did):
    def found() -> dict[tuple[str, str], float]:
        return {
            (one.labels["topic"], one.labels["error_type"]): one.value
            for one in did.prometheus.query("streamhouse_producer_errors_total > 0")
        }

    did.becomes(found, {key: float(count) for key, count in did.refused.items()})
    did.equals({
        own("produce_batches_total", outcome="duplicate"): 3,
        own("produce_batches_total", outcome="server_error"): 1,
        own("produce_batches_total", outcome="client_error"): sum(did.refused.values()) - 1,
    })


def kafkas_lag(did: Did) -> dict[tuple[str, str, str], float]:
    """As `kafka-consumer-groups --describe` prints it."""
    done = subprocess.run(
        ["java", "-Xmx256m", "-cp", f"{libs()}/*", "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
         # Its own five seconds are short for a JVM that has just started.
         "--bootstrap-server", did.broker.address, "--describe", "--all-groups", "--timeout", "60000"],
        capture_output=True, text=True, timeout=120,
    )
    lag = {}
    for line in done.stdout.splitlines():
        words = line.split()
        if len(words) >= 6 and words[0] not in ("GROUP", "Consumer") and words[5].isdigit():
            lag[words[1], words[2], words[0]] = float(words[5])
    assert lag, done.stdout + done.stderr
    return lag


def test_consumer_metrics_equal_what_groups_did_and_lag_is_what_kafkas_tool_shows(did):
    expected = {own("consumer_records_total", topic=topic, consumer_group=group): count
                for (group, topic), count in did.consumed.items() if group != "leaving" and topic != "gone"}
    expected |= {own("consumer_rebalances_total", consumer_group=group): count
                 for group, count in did.rebalances.items() if group != "leaving"}
    did.equals(expected)

    def found() -> dict[tuple[str, str, str], float]:
        return {
            # An empty label is no label to Prometheus.
            (one.labels.get("topic", ""), one.labels.get("consumer_group", ""), one.labels["error_type"]): one.value
            for one in did.prometheus.query("streamhouse_consumer_errors_total > 0")
        }

    did.becomes(found, {key: float(count) for key, count in did.consumer_errors.items()})

    def ours() -> dict[tuple[str, str, str], float]:
        return {(one.labels["topic"], one.labels["partition"], one.labels["consumer_group"]): one.value
                for one in did.prometheus.query("streamhouse_consumer_lag")}

    theirs = kafkas_lag(did)
    did.becomes(ours, theirs)
    # What came after the consumer was killed is lag, too; partitions without a commit have no series.
    there = {"1": SENT["orders", 1] + 1 + AFTER_THE_DEATH, "11": SENT["orders", 11]}
    dead = {partition: lag for (_, partition, group), lag in theirs.items() if group == "dead"}
    assert sum(dead.values()) == sum(there[partition] for partition in dead) - 200


def test_requests_errors_and_latencies_equal_the_proxys_count(did):
    def proxys() -> Counter:
        return Counter(each for each, _ in did.attempts())

    def ours(series: str) -> dict[str, float]:
        return {one.labels["operation"]: one.value for one in did.prometheus.query(f"{series} > 0")}

    # Upkeep may ask at any moment: equal within one scrape.
    for series in ("streamhouse_s3_requests_total", "streamhouse_s3_latency_seconds_count"):
        wait_until(lambda: ours(series) == dict(proxys()), 60, f"{series}: {ours(series)}, {proxys()}", every=0.5)
    statuses = Counter(did.attempts())
    assert statuses["PUT", "503"] >= 1 and statuses["PUT", "404"] == 1

    def errors() -> dict[tuple[str, str], float]:
        return {
            (one.labels["operation"], one.labels["error_type"]): one.value
            for one in did.prometheus.query("streamhouse_s3_errors_total > 0")
        }

    did.becomes(errors, {("PUT", "retry"): float(statuses["PUT", "503"]), ("PUT", "failed"): 1.0})


def test_requests_equal_the_s3_servers_own_count(did):
    # What the proxy answered itself, the store never saw.
    def forwarded() -> int:
        return sum(status not in ("503",) and (each, status) != ("PUT", "404") for each, status in did.attempts())

    def theirs() -> int:
        return sum((did.seaweed.requests() - did.seaweed_before).values())

    wait_until(lambda: forwarded() == theirs(), 60, f"{forwarded()} requests, the store saw {theirs()}", every=0.5)


def segments(did: Did) -> Counter:
    """(topic id, partition) → segments, from the footers of all objects in the bucket."""
    counted: Counter = Counter()
    for method, path, status in did.proxy.log()[did.proxy_before:]:
        if method != "PUT" or status != "200" or "/objects/" not in path:
            continue
        url = f"http://127.0.0.1:{did.seaweed.ports['filer']}/buckets{path}"
        try:
            with urllib.request.urlopen(url, timeout=60) as reply:
                data = reply.read()
        except urllib.error.HTTPError as error:
            # Of the topic that was deleted, and after its grace its object.
            assert error.code == 404, error
            continue
        count = struct.unpack_from(">I", data, len(data) - 20)[0]
        for at in range(len(data) - 20 - 44 * count, len(data) - 20, 44):
            counted[data[at:at + 16].hex(), struct.unpack_from(">i", data, at + 16)[0]] += 1
    return counted


def test_segments_equal_those_in_the_footers_of_the_objects(did):
    stored = segments(did)
    expected = {}
    for topic, partition in [*SENT, ("wired", 0)]:
        count = stored[did.topic_ids[topic], partition]
        assert count > 0, (topic, partition, stored, did.topic_ids)
        labels = {"topic": topic, "partition": str(partition)}
        expected[own("segment_flushes_total", **labels)] = count
        expected[own("segment_writes_total", **labels)] = count + did.given_up[topic, partition]
    did.equals(expected)


def test_look_ups_of_cold_reads_are_misses_once_and_hits_then(did):
    before, first, second = (did.cold[each] for each in ("before", "first", "second"))

    def grown(earlier: tuple, later: tuple) -> tuple:
        return tuple(b - a for a, b in zip(earlier, later))

    # Hits, misses, and GETs as the proxy saw them.
    assert grown(before, first) == (0, 6, 6), did.cold
    assert grown(first, second) == (6, 0, 0), did.cold
    [misses], [size] = did.found("streamhouse_cache_misses_total"), did.found("streamhouse_cache_size_bytes")
    assert misses.value >= second[1]
    size = size.value
    assert did.cold_bytes <= size <= did.cold_bytes + 1_024 * 6, f"{size} for {did.cold_bytes}"


def test_gauges_equal_what_there_is(did):
    expected = {own("partitions_total", topic=topic): 12 for topic in ("orders", "orders1")}
    expected |= {own("partitions_total", topic=topic): 1 for topic in ("cold", "wired", "silent", "ended")}
    expected |= {"streamhouse_topics_total": 6, "streamhouse_agents_active": 1}
    expected[own("partitions_total", topic="gone")] = None
    did.equals(expected)

    def established() -> int:
        port = f":{did.broker.port:04X}"
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(row[1].endswith(port) and row[3] == "01" for row in rows)

    held = [Connection(did.broker.address) for _ in range(3)]
    wait_until(lambda: did.value("streamhouse_connections_active") == established(), 60, "the kernel's count")
    assert established() >= len(held)
    # Prometheus notes when it asked; the answer was computed up to a scrape's duration later.
    asked_at = "timestamp(streamhouse_uptime_seconds)"
    [late] = did.found(f"process_start_time_seconds + streamhouse_uptime_seconds - {asked_at}")
    [slowest] = did.found("max(max_over_time(scrape_duration_seconds[10m]))")
    assert -1 < late.value < 1 + slowest.value


def test_series_of_a_deleted_topic_and_group_have_left(did):
    def left(selector: str) -> bool:
        return not any(selector in dict(labels).values() for _, labels in did.broker.metrics().values)

    for name in ("gone", "leaving"):
        wait_until(lambda: left(name), 60, f"the end of the series of {name}", every=1)


def test_the_five_queries_answer_and_are_true(did):
    for (topic, partition) in SENT:
        did.equals({f'sum(streamhouse_producer_records_total{{topic="{topic}"}})': did.records[topic]})
    rates = did.found("rate(streamhouse_producer_records_total[1m])")
    assert {one.labels["topic"] for one in rates} >= set(did.records)
    theirs = max(lag for (topic, _, group), lag in kafkas_lag(did).items() if (topic, group) == ("orders1", "readers"))

    def ours() -> float | None:
        return {
            (one.labels["topic"], one.labels["consumer_group"]): one.value
            for one in did.prometheus.query("max(streamhouse_consumer_lag) by (topic, consumer_group)")
        }.get(("orders1", "readers"))

    did.becomes(ours, theirs)

    def ratio_is_of_its_parts() -> bool:
        # Three questions: a scrape may come between them.
        hits, misses = did.value("streamhouse_cache_hits_total"), did.value("streamhouse_cache_misses_total")
        ratio = did.value(
            "streamhouse_cache_hits_total / (streamhouse_cache_hits_total + streamhouse_cache_misses_total)")
        return None not in (hits, misses) and hits >= 6 <= misses and ratio == hits / (hits + misses)

    wait_until(ratio_is_of_its_parts, 60, "the ratio of hits", every=0.5)
    flushes, writes = "streamhouse_segment_flushes_total[1h]", "streamhouse_segment_writes_total[1h]"
    assert did.found(f"rate({flushes}) / rate({writes})")
    # Over a window that holds all of the load, however slow the machine: the store took what the writer gave it. What
    # they grew to, not by: the first scrape that shows a partition may fall between a write and its flush.
    success = did.found(f"max_over_time({flushes}) / (max_over_time({writes}) > 0)")
    assert {(one.labels["topic"], int(one.labels["partition"])) for one in success} >= set(did.given_up)
    for one in success:
        assert (one.value < 1) == ((one.labels["topic"], int(one.labels["partition"])) in did.given_up), one
    [quantile] = did.found('histogram_quantile(0.95, rate(streamhouse_s3_latency_seconds_bucket{operation="PUT"}[5m]))')
    assert 0 < quantile.value < 10


def test_promtool_finds_the_two_known_names_and_nothing_else(did):
    status, scraped = did.broker.get("/metrics")
    assert status == 200
    done = subprocess.run([places.tool("promtool"), "check", "metrics"], input=scraped, capture_output=True, text=True)
    said = sorted(line for line in (done.stdout + done.stderr).splitlines() if line)
    assert said == [
        'streamhouse_partitions_total non-counter metrics should not have "_total" suffix',
        'streamhouse_topics_total non-counter metrics should not have "_total" suffix',
    ], said
    assert not re.search(r'[{,](job|instance)="', scraped)
    text.parse(scraped)


def test_a_client_of_many_names_leaves_no_series_behind(did):
    """Names are the client's to choose: they must never become series, however many there are."""
    def series() -> int:
        # Upkeep may end a first run meanwhile.
        return sum(not name.startswith("streamhouse_task_") for name, _ in did.broker.whole_metrics().values)

    before = series()
    with Connection(did.broker.address) as connection:
        for number in range(3_000):
            connection.correlation += 1
            body = struct.pack(">i", 1) + struct.pack(">h", len(f"n{number}")) + f"n{number}".encode()
            message = struct.pack(">hhi", 3, 1, connection.correlation)
            name = f"client-{number}".encode()
            framed = message + struct.pack(">h", len(name)) + name + body
            connection.socket.sendall(struct.pack(">i", len(framed)) + framed)
            connection.answer(connection.correlation)
            if number % 10 == 0:
                connection.produce({(f"n{number}", 0): batch([b"x"])})
    key = ("streamhouse_producer_errors_total", frozenset({("topic", "~unknown"), ("error_type", "unknown_topic")}))
    # A scrape may show a rendering of a quarter of a second ago.
    wait_until(lambda: did.broker.metrics().values[key] >= 300, 60, "every refusal")
    assert series() <= before + 5
    did.refused["~unknown", "unknown_topic"] += 300


def test_scrapes_together_are_all_answered_and_slow_readers_do_no_harm(did):
    slow = []
    for _ in range(40):
        reader = http.client.HTTPConnection("127.0.0.1", did.broker.http_port, timeout=30)
        reader.request("GET", "/metrics")
        slow.append(reader)
    connections = [http.client.HTTPConnection("127.0.0.1", did.broker.http_port, timeout=60) for _ in range(1_000)]
    answered = Counter()
    for start in range(0, 1_000, 250):
        part = connections[start:start + 250]
        for each in part:
            each.request("GET", "/metrics")
        for each in part:
            reply = each.getresponse()
            body = reply.read().decode()
            answered[reply.status] += 1
            if reply.status == 200:
                # Whole, and with a figure that no snapshot can be late for.
                told = text.parse(body).get("streamhouse_producer_records_total", topic="wired")
                assert told == did.records["wired"]
            each.close()
    assert answered == {200: 1_000}
    assert did.broker.get("/health/live")[0] == 200
    for reader in slow:
        assert reader.getresponse().status == 200
        reader.close()
