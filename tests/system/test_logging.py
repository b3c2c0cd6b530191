"""The log as an operator uses it: its level while the server runs, a produce followed to its object, what is slow."""

import json
import urllib.error
import urllib.request

import pytest

from harness.clients import create_topic, send_all, unique
from harness.process import wait_until

pytestmark = pytest.mark.ours


def lines(broker, message: str) -> list[dict]:
    found = []
    for line in broker.child.output().splitlines():
        if line.startswith("{") and (event := json.loads(line)).get("message") == message:
            found.append(event)
    return found


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

    wait_until(produced, 20, "the produce is logged")
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

    wait_until(slow, 20, "the slow produce is logged")
    event = slow()[0]
    stages = ("queue_ms", "buffer_ms", "upload_ms", "commit_wait_ms", "commit_ms", "ack_ms")
    total = sum(event[stage] for stage in stages)
    assert event["level"] == "WARN" and event["upload_ms"] > 0 and event["commit_ms"] > 0
    assert 0 < total <= event["duration_ms"]
