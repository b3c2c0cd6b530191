"""The log as an operator uses it: its level while the server runs, a produce followed to its object, what is slow."""

import json
import time
import urllib.error
import urllib.request

import pytest
from confluent_kafka import Consumer

from harness.clients import create_topic, send_all, unique
from harness.members import PARTITIONS, settle
from harness.process import wait_until
from harness.wire import PRODUCE, Connection, batch, produce_body, request

pytestmark = pytest.mark.ours


def events(broker) -> list[dict]:
    # The last line may be half written.
    return [json.loads(line) for line in broker.child.output().split("\n")[:-1] if line.startswith("{")]


def lines(broker, message: str) -> list[dict]:
    return [event for event in events(broker) if event["message"] == message]


def put_level(broker, level: str) -> tuple[int, str | None]:
    request = urllib.request.Request(f"{broker.http}/log/level", data=level.encode(), method="PUT")
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, reply.headers["x-correlation-id"]
    except urllib.error.HTTPError as error:
        return error.code, error.headers["x-correlation-id"]


def test_a_produce_is_followed_to_its_object_once_the_level_says_so(new_broker):
    broker = new_broker(inline_bytes=0, log_format="json")
    topic = create_topic(broker.address, unique("followed"))
    send_all(broker.address, topic, [b"before"])
    assert lines(broker, "request") == []
    assert put_level(broker, "nonsense=loud")[0] == 400
    status, correlation = put_level(broker, "debug")
    assert status == 200 and correlation
    assert broker.get("/log/level") == (200, "debug\n")
    send_all(broker.address, topic, [b"after"])

    def produced() -> list[dict]:
        return [each for each in lines(broker, "request") if each["api"] == "Produce"]

    wait_until(produced, 30, "the produce is logged")
    request = produced()[-1]
    assert request["outcome"] == "ok" and request["correlation_id"] and request["duration_ms"] > 0
    for message in ("object uploaded", "object committed"):
        assert request["object_id"] in [each["object_id"] for each in lines(broker, message)], message


def test_a_slow_produce_says_where_its_time_went(new_broker):
    # No S3 server stores an object within this.
    broker = new_broker("s3", inline_bytes=0, log_format="json", slow_request="1ms")
    topic = create_topic(broker.address, unique("slow"))
    send_all(broker.address, topic, [b"x"])

    def slow() -> list[dict]:
        return [each for each in lines(broker, "slow request") if each["api"] == "Produce"]

    wait_until(slow, 30, "the slow produce is logged")
    event = slow()[0]
    stages = ("queue_ms", "buffer_ms", "upload_ms", "commit_wait_ms", "commit_ms", "ack_ms")
    total = sum(event[stage] for stage in stages)
    assert event["level"] == "WARN" and event["upload_ms"] > 0 and event["commit_ms"] > 0
    assert event["topic"] == topic
    assert 0 < total <= event["duration_ms"]


def test_a_clients_mistakes_are_debug_and_once_a_minute_a_warning(new_broker):
    broker = new_broker(log_format="json", log_level="debug", auto_create_topics="false")
    body = produce_body({("nowhere", 0): batch([b"x"])})
    began = time.monotonic()
    for client in ("careless", "hasty"):
        for _ in range(5):
            with Connection(broker.address) as connection:
                connection.socket.sendall(request(PRODUCE, 3, body, client=client))
                connection.receive(4)
    # Who sends no request at all has no name, and is known by its address.
    for _ in range(3):
        with Connection(broker.address) as connection:
            connection.socket.sendall(b"\x00\x00\x00\x08GET / HT")
            with pytest.raises(ConnectionError):
                connection.receive(1)
    # A thread of its own writes what is logged, in its order.
    wait_until(lambda: len(lines(broker, "connection closed")) >= 3, 30, "the end of the last connection is logged")
    refused, closed = lines(broker, "refused"), lines(broker, "connection closed")
    # A stall of the machine is a warning of its own.
    warned = [each for each in events(broker) if each["level"] == "WARN" and each["message"].startswith("a client")]
    assert [each["client_id"] for each in refused] == ["careless"] * 5 + ["hasty"] * 5
    assert {each["level"] for each in refused + closed} == {"DEBUG"} and len(closed) == 3
    if time.monotonic() - began < 60:
        assert [each.get("client_id") for each in warned] == ["careless", "hasty", None], warned


def test_reads_that_fail_are_told_once_in_ten_seconds_for_each_topic(new_broker):
    broker = new_broker(inline_bytes=0, log_format="json")
    topics = [create_topic(broker.address, unique(name)) for name in ("lost", "gone")]
    for topic in topics:
        send_all(broker.address, topic, [b"x"])
    broker.stop()
    for path in (broker.data_dir / "objects").rglob("*"):
        # The store's own mark says whose it is.
        if path.is_file() and "/objects/objects/" in str(path):
            path.unlink()
    broker.start()
    began = time.monotonic()
    with Connection(broker.address) as connection:
        for _ in range(20):
            for topic in topics:
                error, *_ = connection.fetch(topic, 0, 0, max_wait_ms=0)
                assert error == 56, "a store's fault"
    windows = 1 + (time.monotonic() - began) / 10
    found = broker.metrics().get("streamhouse_verify_segments_total", result="missing")
    assert found == 20 * len(topics), "each time that somebody found it missing"
    # A thread of its own writes what is logged.
    missing = "a stored object is missing"
    wait_until(lambda: {each["topic"] for each in lines(broker, missing)} >= set(topics), 30, "both are told")
    told = lines(broker, missing)
    assert not lines(broker, "request failed"), "told once, where it is handled"
    for topic in topics:
        own = [each for each in told if each["topic"] == topic]
        assert 1 <= len(own) <= windows, own
        assert (own[0]["level"], own[0]["partition"], own[0]["error_type"]) == ("ERROR", 0, "missing")
        assert own[0]["correlation_id"]


def test_the_steps_of_a_group_that_comes_together_and_parts_are_no_mistakes(new_broker):
    broker = new_broker(log_format="json")
    topic = create_topic(broker.address, unique("steps"), PARTITIONS)

    def member() -> Consumer:
        consumer = Consumer({"bootstrap.servers": broker.address, "group.id": topic, "heartbeat.interval.ms": 100,
                             "session.timeout.ms": 15_000, "partition.assignment.strategy": "range"})
        consumer.subscribe([topic])
        return consumer

    # The first request to join lacks the member's id; the second member's arrival makes the first one join anew.
    members = [member()]
    settle(members)
    members.append(member())
    settle(members)
    for consumer in members:
        consumer.close()
    samples = broker.metrics()
    assert samples.sum("streamhouse_api_requests_total", api="JoinGroup", outcome="ok") >= 5
    assert samples.get("streamhouse_consumer_rebalances_total", consumer_group=topic) >= 2
    for outcome in ("client_error", "server_error"):
        assert samples.sum("streamhouse_api_requests_total", outcome=outcome) == 0, outcome
    assert [each for each in events(broker) if each["message"].startswith("a client")] == []
