"""The Rust client's three examples, as a user runs them, against StreamHouse and against Apache Kafka.

What the client's metrics say is held against what lies in the log: records, bytes, and the batches as the broker
stored them.
"""

import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, TopicPartition

from harness.clients import admin, consumer, create_topic, read_all, send_all, unique
from harness.metrics import Samples
from harness.process import wait_until
from harness.rust_client import Program, produce
from harness.wire import Connection, batch, varint

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
BATCH_SIZES = [1, 10, 50, 100, 500, 1000, 5000, 10000]
SECONDS = 60
CONSUMER_GROUP_HEARTBEAT = 68


@pytest.fixture
def start(broker, tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """start(name, …): one of the running examples; none of them outlives its test."""
    programs: list[Program] = []

    def run(name: str, *arguments: object, env: dict | None = None) -> Program:
        programs.append(Program(name, tmp_path / f"{name}-{len(programs)}", broker.address, *arguments, env=env))
        return programs[-1]

    yield run
    for program in programs:
        program.child.kill()


def committed(address: str, group: str, topic: str, partition: int = 0) -> int:
    asked = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, partition)])
    [answer] = admin(address).list_consumer_group_offsets([asked])[group].result(30).topic_partitions
    return answer.offset


def stored(address: str, topic: str, partitions: int = 1) -> list:
    with Connection(address) as connection:
        return [each for partition in range(partitions) for each in connection.stored(topic, partition)]


def read_committed(address: str, topic: str, partitions: int) -> list[str]:
    """Every committed value, up to the ends, where markers lie."""
    client = consumer(address, enable_partition_eof=True, isolation_level="read_committed")
    client.assign([TopicPartition(topic, each, 0) for each in range(partitions)])
    values, left = [], set(range(partitions))
    deadline = time.monotonic() + SECONDS
    while left:
        assert time.monotonic() < deadline, f"partitions {left} of {topic} do not end"
        message = client.poll(0.5)
        if message is not None and message.error() is None:
            values.append(message.value().decode())
        elif message is not None:
            assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
            left.discard(message.partition())
    client.close()
    return values


def errors(metrics: Samples, side: str, **labels: str) -> dict[str, float]:
    """The error counters that are not zero, by type."""
    name = f"streamhouse_{side}_errors_total"
    found = {}
    for (each, have), value in metrics.values.items():
        if each == name and set(labels.items()) <= have and value:
            found[dict(have)["error_type"]] = value
    return found


def lags(metrics: Samples) -> dict[str, float]:
    """Of a consumer of one topic, by partition."""
    return {
        dict(labels)["partition"]: value
        for (name, labels), value in metrics.values.items() if name == "streamhouse_consumer_lag"
    }


def test_what_is_produced_arrives_and_every_producer_metric_says_so(broker):
    topic = create_topic(broker.address, unique("rust-produce"), 3)
    lines = [f"key-{number % 7}\tvalue {number}" for number in range(2_000)] + ["no key", ""]
    status, metrics, said = produce(broker.address, topic, lines, "--traceparent", TRACE)
    assert status == 0, said
    assert "2002 records acknowledged, 0 failed" in said

    partitions = read_all(broker.address, topic, 3)
    messages = [message for partition in partitions for message in partition]
    found = {int(dict(message.headers())["line"]): message for message in messages}
    assert sorted(found) == list(range(len(lines)))
    for number, line in enumerate(lines):
        key, value = line.split("\t") if "\t" in line else (None, line)
        assert found[number].key() == (key.encode() if key else None)
        assert found[number].value() == value.encode()
        assert dict(found[number].headers())["traceparent"] == TRACE.encode()
    # One key, one partition, in the order in which it was sent.
    for partition in partitions:
        keyed = [message for message in partition if message.key()]
        for key in {message.key() for message in keyed}:
            numbers = [int(dict(message.headers())["line"]) for message in keyed if message.key() == key]
            assert numbers == sorted(numbers) and len(numbers) == sum(1 for each in messages if each.key() == key)

    batches = stored(broker.address, topic, 3)
    assert metrics.get("streamhouse_producer_records_total", topic=topic) == len(lines)
    size_bytes = sum(len(message.key() or b"") + len(message.value()) for message in messages)
    assert metrics.get("streamhouse_producer_bytes_total", topic=topic) == size_bytes
    assert metrics.get("streamhouse_producer_batch_size_count", topic=topic) == len(batches)
    assert metrics.get("streamhouse_producer_batch_size_sum", topic=topic) == len(lines)
    for bound in BATCH_SIZES:
        below = sum(1 for each in batches if each.records <= bound)
        assert metrics.get("streamhouse_producer_batch_size_bucket", topic=topic, le=str(bound)) == below
    assert metrics.get("streamhouse_producer_latency_seconds_count", topic=topic) == len(batches)
    assert metrics.get("streamhouse_producer_latency_seconds_sum", topic=topic) > 0
    assert errors(metrics, "producer") == {}


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_every_codec_is_built_in(broker, codec):
    topic = create_topic(broker.address, unique(f"rust-{codec}"))
    lines = [f"{number:04} and always the same text, so that it shrinks" for number in range(500)]
    status, _, said = produce(broker.address, topic, lines, "--compression", codec, "--linger-ms", "200")
    assert status == 0, said
    batches = stored(broker.address, topic)
    # A batch that would grow by compression is left plain: one of a few records may be.
    assert {each.codec for each in batches if each.records >= 20} == {codec}
    assert {each.codec for each in batches} <= {codec, "none"}
    [messages] = read_all(broker.address, topic)
    assert [message.value().decode() for message in messages] == lines


def test_what_the_broker_refuses_is_said_and_counted_for_each_record(broker):
    topic = create_topic(broker.address, unique("rust-refused"), **{"max.message.bytes": "2000"})
    # Each alone is too much, and so is their batch, if they share one: what fits must not stand beside them.
    status, metrics, said = produce(broker.address, topic, ["x" * 3_000, "y" * 4_000])
    assert status != 0
    assert "2 records were not acknowledged" in said
    assert said.count("refused: MessageSizeTooLarge") == 2, said
    assert metrics.get("streamhouse_producer_records_total", topic=topic) == 0
    assert errors(metrics, "producer", topic=topic) == {"too_large": 2}
    status, metrics, said = produce(broker.address, topic, ["fits"])
    assert status == 0, said
    assert metrics.get("streamhouse_producer_records_total", topic=topic) == 1


@pytest.mark.parametrize("assigns", ["member", "broker"])
def test_members_share_a_topic_and_every_consumer_metric_says_so(broker, start, assigns):
    with Connection(broker.address) as connection:
        if assigns == "broker" and CONSUMER_GROUP_HEARTBEAT not in connection.api_versions():
            pytest.skip("the broker does not serve KIP-848")
    topic = create_topic(broker.address, unique("rust-shared"), 4)
    group = unique("rust-group")
    how = ["--broker-assigns"] if assigns == "broker" else []
    members = [start("consume", "--group", group, "--topic", topic, *how) for _ in range(2)]

    def owned(member: Program) -> set[str]:
        mine: set[str] = set()
        for kind, places in re.findall(r"^(Assigned|Revoked|Lost): ?(.*)$", member.said(), re.MULTILINE):
            mine = mine | set(places.split()) if kind == "Assigned" else mine - set(places.split())
        return mine

    wait_until(lambda: [len(owned(member)) for member in members] == [2, 2], SECONDS, "two partitions each")
    lines = [f"{number}" for number in range(900)]
    for partition in range(4):
        status, _, said = produce(broker.address, topic, [f"k{partition}\t{line}" for line in lines])
        assert status == 0, said
    total = 4 * len(lines)
    wait_until(lambda: sum(len(member.lines()) for member in members) == total, SECONDS, "every record")
    seen = Counter(tuple(line[:2]) for member in members for line in member.lines())
    assert len(seen) == total and set(seen.values()) == {1}

    wanted = {"topic": topic, "consumer_group": group}
    for member in members:
        # A record counts as processed a moment after it is shown.
        wait_until(lambda member=member: not any(lags(member.metrics()).values()), 30, "no lag is left")
        metrics = member.metrics()
        assert metrics.get("streamhouse_consumer_records_total", **wanted) == len(member.lines())
        rebalances = len(re.findall("^Assigned", member.said(), re.MULTILINE))
        assert metrics.get("streamhouse_consumer_rebalances_total", consumer_group=group) == rebalances
        assert errors(metrics, "consumer") == {}
        used = {line[0] for line in member.lines()}
        lag = lags(metrics)
        assert {partition: lag[partition] for partition in used} == dict.fromkeys(used, 0)
        assert set(lag) <= {place.rsplit("/", 1)[1] for place in owned(member)}

    for member in members:
        assert member.child.stop() == 0
    ends = {partition: sum(1 for at, _ in seen if int(at) == partition) for partition in range(4)}
    for partition, end in ends.items():
        if end:
            assert committed(broker.address, group, topic, partition) == end


def test_lag_is_what_is_not_processed_and_the_next_member_goes_on_there(broker, start):
    topic = create_topic(broker.address, unique("rust-lag"))
    group = unique("rust-group")
    send_all(broker.address, topic, [b"%d" % number for number in range(100)])
    first = start("consume", "--group", group, "--topic", topic, "--count", 40, "--hold")
    labels = {"topic": topic, "consumer_group": group}
    wait_until(lambda: len(first.lines()) == 40, SECONDS, "40 records")
    # The last one counts as processed once it is shown.
    lag = {"name": "streamhouse_consumer_lag", "partition": "0", **labels}
    wait_until(lambda: first.metrics().get(**lag) == 60, 30, "a lag of 60")
    assert first.metrics().get("streamhouse_consumer_records_total", **labels) == 40
    assert first.child.stop() == 0
    assert committed(broker.address, group, topic) == 40

    second = start("consume", "--group", group, "--topic", topic, "--count", 60, "--print-metrics")
    wait_until(lambda: not second.child.alive(), SECONDS, "the rest")
    assert [line[1] for line in second.lines()] == [str(offset) for offset in range(40, 100)]
    assert committed(broker.address, group, topic) == 100
    assert f'streamhouse_consumer_records_total{{topic="{topic}",consumer_group="{group}"}} 60\n' in second.said()


def test_a_member_that_is_killed_loses_nothing_and_repeats_only_what_it_had_not_committed(broker, start):
    topic = create_topic(broker.address, unique("rust-killed"))
    group = unique("rust-group")
    send_all(broker.address, topic, [b"%d" % number for number in range(3_000)])
    # A static member: who comes after it need not wait until its session is over.
    arguments = ["--group", group, "--topic", topic, "--instance-id", "one"]
    first = start("consume", *arguments, "--count", 2_000, "--hold")
    wait_until(lambda: len(first.lines()) == 2_000, SECONDS, "2,000 records")
    # Commits come every second by themselves.
    wait_until(lambda: committed(broker.address, group, topic) == 2_000, 30, "a commit that nobody asked for")
    first.child.send(signal.SIGKILL)
    second = start("consume", *arguments, "--count", 1_000)
    wait_until(lambda: not second.child.alive(), SECONDS, "the rest")
    assert [int(line[1]) for line in second.lines()] == list(range(2_000, 3_000))


def test_a_topic_that_does_not_exist_is_said_and_counted(broker, start):
    topic = unique("rust-nowhere")
    group = unique("rust-group")
    program = start("consume", "--group", group, "--topic", topic)

    def said_errors() -> list[str]:
        # Whole lines: they are written piece by piece.
        return re.findall("^error: .*\n", program.said(), re.MULTILINE)

    said = wait_until(said_errors, SECONDS, "an error")
    assert topic in said[0]
    # librdkafka says it of the group, and names the topic in the text only.
    labels = {"topic": "", "consumer_group": group, "error_type": "unknown_topic"}
    wait_until(
        lambda: program.metrics().get("streamhouse_consumer_errors_total", **labels) == len(said_errors()), 30,
        "as many counted as said",
    )
    assert program.child.stop() == 0


def test_a_commit_that_is_refused_for_a_deleted_topic_is_said_and_holds_for_the_others(broker, start):
    group = unique("rust-group")
    kept, deleted = (create_topic(broker.address, unique(name)) for name in ("rust-kept", "rust-deleted"))
    for topic in (kept, deleted):
        send_all(broker.address, topic, [b"%d" % number for number in range(10)])
    both = ["--topic", kept, "--topic", deleted]
    # Nothing is committed before it stops, and while it holds nothing moves: what it has processed of the deleted
    # topic is still to be committed then.
    program = start(
        "consume", "--group", group, *both, "--count", 20, "--hold", "--commit-seconds", 3600, "--print-metrics"
    )
    lag = {"name": "streamhouse_consumer_lag", "partition": "0", "consumer_group": group}

    def processed() -> bool:
        metrics = program.metrics()
        return len(program.lines()) == 20 and all(metrics.get(topic=each, **lag) == 0 for each in (kept, deleted))

    wait_until(processed, SECONDS, "20 records")
    admin(broker.address).delete_topics([deleted])[deleted].result(30)
    assert program.child.stop() == 1
    said = program.said()
    [error] = re.findall("^Error: Commit .*$", said, re.MULTILINE)
    assert f'topic: "{deleted}", partition: 0, offset: 10' in error and kept not in error
    counted = re.findall(r"^streamhouse_consumer_errors_total\{(.*)\} ([1-9]\d*)$", said, re.MULTILINE)
    assert counted == [(f'topic="{deleted}",consumer_group="{group}",error_type="unknown_topic"', "1")]
    assert committed(broker.address, group, kept) == 10


def test_headers_that_anybody_may_send_are_read_and_a_trace_among_them_is_passed_on(broker, start):
    topic = create_topic(broker.address, unique("rust-headers"))

    def header(name: bytes, value: bytes | None) -> bytes:
        return varint(len(name)) + name + (varint(-1) if value is None else varint(len(value)) + value)

    hostile = [
        [(b"\xff\xfe", b"\x00\xff")], [(b"", b"")], [(b"a\x00b", None)], [(b"traceparent", b"\xff" * 55)],
        [(b"traceparent", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01")], [(b"traceparent", TRACE.encode())] * 2,
        [(b"h", b"x")] * 300, [(b"traceparent", None)],
    ]
    with Connection(broker.address) as connection:
        for headers in [*hostile, [(b"traceparent", TRACE.encode())]]:
            encoded = varint(len(headers)) + b"".join(header(name, value) for name, value in headers)
            answer = connection.produce({(topic, 0): batch([b"v"], headers=encoded)})
            assert answer[topic, 0][0] == 0
    count = len(hostile) + 1
    program = start("consume", "--group", topic, "--topic", topic, "--count", count, env={"RUST_LOG": "consume=info"})
    wait_until(lambda: not program.child.alive(), SECONDS, "every record")
    assert [line[1] for line in program.lines()] == [str(offset) for offset in range(count)]
    # One of them has a trace that holds.
    assert program.said().count("traced") == 1 and TRACE in program.said(), program.said()


def test_a_transformation_that_is_killed_has_each_result_once(broker, start):
    source, target = (create_topic(broker.address, unique(name), 2) for name in ("rust-from", "rust-to"))
    transformer = unique("rust-transformer")
    arguments = ["--from", source, "--to", target, "--id", transformer, "--batch", 10, "--session-seconds", 30]
    values = [f"record {number}" for number in range(3_000)]
    status, _, said = produce(broker.address, source, [f"k{each}\t{each}" for each in values])
    assert status == 0, said

    def results() -> list[str]:
        return read_committed(broker.address, target, 2)

    for _ in range(3):
        program = start("transform", *arguments)
        wait_until(lambda program=program: program.said().count("committed") >= 3, SECONDS, "three transactions")
        program.child.kill()
    last = start("transform", *arguments, "--print-metrics")

    def ends() -> int:
        return sum(committed(broker.address, f"{transformer}-group", source, each) for each in range(2))

    wait_until(lambda: ends() == len(values), 3 * SECONDS, "all of them", every=0.25)
    assert Counter(results()) == Counter(value.upper() for value in values)

    # What was killed had not done it all: the last one has something to count.
    def copied() -> int:
        return sum(int(count) for count in re.findall(r"(\d+) records committed", last.said()))

    group = f"{transformer}-group"
    # The broker knows of the last commit before it says so.
    name = "streamhouse_producer_records_total"
    wait_until(lambda: last.metrics().get(name, topic=target) == copied() > 0, 30, "what it committed is counted")
    metrics = last.metrics()
    assert metrics.get("streamhouse_consumer_records_total", topic=source, consumer_group=group) == copied()
    assert errors(metrics, "producer") == errors(metrics, "consumer") == {}

    # A second one with its id takes over, and the first says so at its next transaction.
    newer = start("transform", *arguments)
    wait_until(lambda: newer.said().count("metrics on"), SECONDS, "the newer one")
    status, _, said = produce(broker.address, source, ["k\tone more"])
    assert status == 0, said
    wait_until(lambda: not last.child.alive() or ends() == len(values) + 1, SECONDS, "one of them does it", every=0.25)
    wait_until(lambda: ends() == len(values) + 1, SECONDS, "the newer one does it", every=0.25)
    assert Counter(results()) == Counter(value.upper() for value in [*values, "one more"])
    assert newer.child.stop() == 0
