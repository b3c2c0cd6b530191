"""Clients' own metrics (KIP-714): subscribed to as with Kafka, pushed by real clients, shown on /metrics."""

import struct

import pytest
from confluent_kafka import Consumer, Producer

from harness.clients import create_topic, unique
from harness.java import java
from harness.process import wait_until
from harness.wire import Connection, string

INCREMENTAL_ALTER_CONFIGS, DESCRIBE_CONFIGS = 44, 32
CLIENT_METRICS = 16
SET, DELETE, APPEND, SUBTRACT = range(4)
INVALID_CONFIG, INVALID_REQUEST = 40, 42
DYNAMIC_CLIENT_METRICS, DEFAULT = 7, 5


def alter(broker, name: str, *entries: tuple[str, int, str | None], validate_only: bool = False) -> int:
    """IncrementalAlterConfigs v0 of one subscription: its error code."""
    body = struct.pack(">ib", 1, CLIENT_METRICS) + string(name) + struct.pack(">i", len(entries))
    for entry, operation, value in entries:
        body += string(entry) + struct.pack(">b", operation) + string(value)
    with Connection(broker.address) as wire:
        answer = wire.call(INCREMENTAL_ALTER_CONFIGS, 0, body + struct.pack(">?", validate_only))
    answer.number("i")
    assert answer.number("i") == 1
    return answer.number("h")


def describe(broker, name: str) -> dict[str, tuple[str, int]] | int:
    """DescribeConfigs v1: every entry's value and where it comes from; else the error code."""
    body = struct.pack(">ib", 1, CLIENT_METRICS) + string(name) + struct.pack(">i?", -1, False)
    with Connection(broker.address) as wire:
        answer = wire.call(DESCRIBE_CONFIGS, 1, body)
    answer.number("i")
    assert answer.number("i") == 1
    error = answer.number("h")
    answer.string(), answer.number("b"), answer.string()
    found = {}
    for _ in range(answer.number("i")):
        entry, value = answer.string(), answer.string()
        _, source, _, synonyms = (answer.number(each) for each in "?b?i")
        assert synonyms == 0
        found[entry] = (value, source)
    return error or found


def settled(broker, name: str, seconds: float = 30):
    """A subscription changes a moment later in Kafka, whose brokers follow the controller."""
    return lambda expected: wait_until(lambda: describe(broker, name) == expected, seconds, f"{name}: {expected}")


def test_subscriptions_are_set_changed_and_removed(broker):
    name = unique("subscription")
    defaults = {"interval.ms": ("300000", DEFAULT), "match": ("", DEFAULT), "metrics": ("", DEFAULT)}
    becomes = settled(broker, name)
    assert alter(broker, name, ("metrics", SET, "a"), validate_only=True) == 0
    becomes(defaults)
    assert alter(broker, name, ("metrics", SET, "a,b"), ("interval.ms", SET, "1000")) == 0
    becomes({**defaults, "metrics": ("a,b", DYNAMIC_CLIENT_METRICS), "interval.ms": ("1000", DYNAMIC_CLIENT_METRICS)})
    assert alter(broker, name, ("match", SET, "client_id=nobody-[0-9]+")) == 0
    becomes({
        "metrics": ("a,b", DYNAMIC_CLIENT_METRICS),
        "interval.ms": ("1000", DYNAMIC_CLIENT_METRICS),
        "match": ("client_id=nobody-[0-9]+", DYNAMIC_CLIENT_METRICS),
    })
    assert alter(broker, name, *[(each, DELETE, None) for each in defaults]) == 0
    becomes(defaults)


@pytest.mark.parametrize(("entry", "operation", "value", "error"), [
    ("interval.ms", SET, "99", INVALID_REQUEST),
    ("interval.ms", SET, "3600001", INVALID_REQUEST),
    ("no.such", SET, "1", INVALID_REQUEST),
    ("match", SET, "client_id", INVALID_CONFIG),
    ("match", SET, "nobody=x", INVALID_CONFIG),
    ("match", SET, "client_id=(", INVALID_CONFIG),
    ("interval.ms", APPEND, "1", INVALID_CONFIG),
    ("metrics", APPEND, "b", INVALID_CONFIG),
    ("match", SUBTRACT, "client_id=x", INVALID_CONFIG),
])
def test_what_a_subscription_cannot_say_is_refused(broker, entry, operation, value, error):
    assert alter(broker, unique("refused"), (entry, operation, value)) == error


def test_a_subscription_needs_a_name(broker):
    assert alter(broker, "", ("metrics", SET, "*")) == INVALID_REQUEST
    assert describe(broker, "") == INVALID_REQUEST


def test_kafkas_own_tool_sets_and_lists_subscriptions(broker):
    name = unique("tool")
    tool, to = "org.apache.kafka.tools.ClientMetricsCommand", ("--bootstrap-server", broker.address)
    metrics, interval = ("--metrics", "org.apache.kafka.producer."), ("--interval", 60_000)
    assert "Altered" in java(tool, *to, "--alter", "--name", name, *metrics, *interval).stdout
    settled(broker, name)({
        "interval.ms": ("60000", DYNAMIC_CLIENT_METRICS),
        "metrics": ("org.apache.kafka.producer.", DYNAMIC_CLIENT_METRICS),
        "match": ("", DEFAULT),
    })
    assert name in java(tool, *to, "--list").stdout.splitlines()


@pytest.fixture
def pushing(broker):
    """Clients with the id "pushing" are asked for everything, twice a second."""
    set_to = {"metrics": "*", "interval.ms": "500", "match": "client_id=pushing"}
    assert alter(broker, "everything", *[(entry, SET, value) for entry, value in set_to.items()]) == 0
    yield broker
    assert alter(broker, "everything", *[(entry, DELETE, None) for entry in set_to]) == 0


def shown(broker, metric: str, **labels: str) -> float | None:
    return broker.metrics().get(f"streamhouse_client_{metric}", **labels)


@pytest.mark.ours
def test_librdkafka_tells_of_itself_until_it_closes(pushing):
    broker = pushing
    topic = create_topic(broker.address, unique("told"), 3)
    writer = Producer({"bootstrap.servers": broker.address, "client.id": "pushing"})
    reader = Consumer({
        "bootstrap.servers": broker.address, "client.id": "pushing", "group.id": unique("told"),
        "auto.offset.reset": "earliest", "auto.commit.interval.ms": 200,
    })
    reader.subscribe([topic])
    software = "confluent-kafka-python"
    of_writer = {"client_kind": "producer", "client_software": software}
    of_reader = {"client_kind": "consumer", "client_software": software}

    def told() -> float | None:
        writer.produce(topic, b"value")
        writer.flush(10)
        reader.consume(100, 0.1)
        # Of one scrape: the next push may bring other figures, or none.
        samples = broker.metrics()
        expected = [
            ("instances", of_writer), ("instances", of_reader),
            ("request_latency_seconds", {**of_writer, "statistic": "max"}),
            ("record_queue_seconds", {**of_writer, "statistic": "max"}),
            ("request_latency_seconds", {**of_reader, "statistic": "avg"}),
            ("commit_latency_seconds", {**of_reader, "statistic": "max"}),
        ]
        all_there = all((samples.get(f"streamhouse_client_{name}", **labels) or 0) > 0 for name, labels in expected)
        assigned = samples.get("streamhouse_client_assigned_partitions", **of_reader, statistic="avg")
        latency = samples.get("streamhouse_client_request_latency_seconds", **of_writer, statistic="max")
        return latency if all_there and assigned == 3 else None

    latency = wait_until(told, 120, "the families show what the clients push")
    # Seconds, not milliseconds: a request to this machine does not take minutes, nor no time at all.
    assert 1e-6 < latency < 30
    assert shown(broker, "pushes_total", result="invalid") == 0
    reader.close()
    del writer
    wait_until(
        lambda: shown(broker, "instances", **of_writer) is None and shown(broker, "instances", **of_reader) is None,
        30, "clients that said goodbye are shown no more",
    )


@pytest.mark.ours
def test_the_java_client_tells_of_itself(pushing):
    broker = pushing
    topic = create_topic(broker.address, unique("java"))
    arguments = ("--topic", topic, "--num-records", 30, "--record-size", 100, "--throughput", 10)
    properties = f"bootstrap.servers={broker.address}", "client.id=pushing"
    java("org.apache.kafka.tools.ProducerPerformance", *arguments, "--producer-props", *properties)
    of_java = {"client_kind": "producer", "client_software": "apache-kafka-java"}
    assert shown(broker, "connections_total", **of_java) >= 1
    assert shown(broker, "metrics_ignored_total") > 0
    assert shown(broker, "pushes_total", result="invalid") == 0
