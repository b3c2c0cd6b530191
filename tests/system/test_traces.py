"""Traces, as an OpenTelemetry collector gets them; and a collector that does not take them harms nobody."""

import contextlib
import json
import time
from pathlib import Path

import pytest

from harness.clients import create_topic, read_all, send_all, unique
from harness.otlp import Collector, Span
from harness.ports import free_port
from harness.process import wait_until
from harness.wire import PRODUCE, Connection, batch, produce_body

pytestmark = pytest.mark.ours

SERVER, CLIENT = 2, 3
EXPORTER = "OpenTelemetry.T"  # as the kernel cuts the thread's name


@pytest.fixture
def collector():
    collector = Collector()
    yield collector
    collector.close()


def the_child(collector: Collector, parent: Span, name: str) -> Span:
    children = wait_until(
        lambda: [each for each in collector.children(parent) if each.name == name], 30, f"{name} below {parent.name}",
    )
    assert len(children) == 1, children
    return children[0]


def lines(broker, message: str) -> list[dict]:
    # The last line may be half written.
    events = [json.loads(line) for line in broker.child.output().split("\n")[:-1] if line.startswith("{")]
    return [event for event in events if event["message"] == message]


def threads(broker) -> list[str]:
    names = []
    for path in Path(f"/proc/{broker.child.pid}/task").glob("*/comm"):
        # One may end while the others are read.
        with contextlib.suppress(OSError):
            names.append(path.read_text().strip())
    return names


def test_a_produce_is_one_trace_from_its_request_to_the_object(new_broker, collector):
    broker = new_broker("s3", env=collector.env(), inline_bytes=0, log_format="json", log_level="debug")
    topic = create_topic(broker.address, unique("traced"))
    with Connection(broker.address) as connection:
        assert connection.produce({(topic, 0): batch([b"x"])})[(topic, 0)][0] == 0
    request = wait_until(lambda: collector.named("Produce"), 30, "the request's span")[0]
    assert request.kind == SERVER and request.parent == b"" and not request.failed
    attributes = request.attributes
    assert attributes["messaging.system"] == "kafka" and attributes["messaging.destination.name"] == topic
    assert attributes["messaging.client.id"] == "wire" and attributes["network.peer.address"] == "127.0.0.1"
    assert attributes["streamhouse.outcome"] == "ok"

    flush = the_child(collector, the_child(collector, request, "append"), "flush")
    put = the_child(collector, flush, "object_store PUT")
    attempt = the_child(collector, put, "attempt")
    committed = the_child(collector, the_child(collector, flush, "commit"), "metadata commit")
    assert put.kind == committed.kind == CLIENT
    assert attempt.attributes["http.response.status_code"] == 200 and attempt.attributes["http.request.resend_count"] == 0
    assert attempt.attributes["aws.request_id"]
    object_id = flush.attributes["aws.s3.key"]
    assert attributes["aws.s3.key"] == object_id and object_id in put.attributes["aws.s3.key"]
    assert 0 < attempt.nanoseconds <= put.nanoseconds <= flush.nanoseconds <= request.nanoseconds

    # The same id names the request in its trace, in its own line and in that of its PUT.
    correlation = attributes["streamhouse.correlation_id"]
    def of_request(message: str) -> list[dict]:
        # A thread of its own writes what is logged.
        return wait_until(
            lambda: [each for each in lines(broker, message) if each.get("correlation_id") == correlation], 30, message,
        )

    assert [each["object_id"] for each in of_request("request")] == [object_id]
    answered = of_request("the object store answered")
    assert [each["store_request_id"] for each in answered] == [attempt.attributes["aws.request_id"]]


def test_an_object_of_many_requests_and_its_requests_link_to_each_other(new_broker, collector):
    broker = new_broker(env=collector.env(), inline_bytes=0, flush_interval="2s")
    topic = create_topic(broker.address, unique("shared"))
    with Connection(broker.address) as connection:
        # The first leaves at once, the others gather until the interval is over.
        numbers = [connection.send(PRODUCE, 3, produce_body({(topic, 0): batch([b"x"])})) for _ in range(6)]
        for number in numbers:
            connection.produced(number)

    def shared() -> list[Span]:
        return [each for each in collector.named("flush") if len(each.links) > 1]

    flush = wait_until(shared, 30, "an object of several requests")[0]
    assert flush.parent == b"", "it belongs to none of them"
    wait_until(lambda: set(flush.links) <= {(each.trace, each.id) for each in collector.named("append")}, 30, "the requests")
    appends = {(each.trace, each.id): each for each in collector.named("append")}
    for link in flush.links:
        assert (flush.trace, flush.id) in appends[link].links
    assert len({trace for trace, _ in flush.links}) == len(flush.links), "one trace a request"


def test_reads_groups_and_http_have_spans(new_broker, collector):
    broker = new_broker(env=collector.env(), inline_bytes=0)
    topic = create_topic(broker.address, unique("read"))
    send_all(broker.address, topic, [b"x"])
    broker.restart()
    assert len(read_all(broker.address, topic)[0]) == 1
    assert broker.get("/log/level")[0] == 200
    for name in ("Fetch", "fetch", "object_store GET", "ListOffsets", "list_offset", "CreateTopics", "metadata create_topic", "http"):
        wait_until(lambda name=name: collector.named(name), 30, f"a span {name}; there are { {s.name for s in collector.spans} }")

    def belongs() -> bool:
        gets = collector.named("object_store GET")
        requests = {span.trace for span in collector.named("Fetch")}
        return any(span.trace in requests for span in gets if "objects/" in span.attributes.get("aws.s3.key", ""))

    # The fetch ends, and so is exported, after the read.
    wait_until(belongs, 30, "a read of the store belongs to the fetch that caused it")


def test_who_exports_is_named_by_the_usual_variables_and_the_last_spans_leave_at_the_end(new_broker, collector):
    env = collector.env(
        OTEL_BSP_SCHEDULE_DELAY="600000",
        OTEL_EXPORTER_OTLP_HEADERS="api-key=one",
        OTEL_SERVICE_NAME="orders-log",
        OTEL_RESOURCE_ATTRIBUTES="deployment.environment=test",
    )
    broker = new_broker(env=env)
    topic = create_topic(broker.address, unique("last"))
    send_all(broker.address, topic, [b"x"])
    assert broker.stop() == 0
    assert collector.named("Produce") and collector.headers[0]["api-key"] == "one"
    resource = collector.spans[0].resource
    assert resource["service.name"] == "orders-log" and resource["deployment.environment"] == "test"
    assert resource["service.version"]


def test_a_sampler_that_takes_nothing_exports_nothing(new_broker, collector):
    broker = new_broker(env=collector.env(OTEL_TRACES_SAMPLER="always_off"))
    create_topic(broker.address, unique("unsampled"))
    assert broker.stop() == 0
    assert collector.spans == []


@pytest.mark.parametrize("mode", ["refuses", "503", "hang"])
def test_a_collector_that_takes_nothing_is_told_of_once_in_ten_seconds_and_harms_nobody(new_broker, collector, mode):
    env = collector.env(OTEL_EXPORTER_OTLP_TIMEOUT="1000", OTEL_BSP_MAX_QUEUE_SIZE="64", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="16")
    if mode == "refuses":
        env["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{free_port()}"
    collector.mode = mode
    # Before its start, which has spans as well.
    began = time.monotonic()
    broker = new_broker(env=env, log_format="json")
    topic = create_topic(broker.address, unique("dead"))
    told = "traces were not taken by the collector and are lost"
    # Many times more spans than the queue holds, over several exports.
    count = 0
    while not lines(broker, told) or count < 200:
        with Connection(broker.address) as connection:
            assert connection.produce({(topic, 0): batch([b"x"])})[(topic, 0)][0] == 0
        count += 1
        assert time.monotonic() - began < 120, "a failure is told"
    assert len(lines(broker, told)) <= 1 + (time.monotonic() - began) / 10
    assert broker.stop() == 0
    assert collector.spans == []


def test_nothing_of_it_exists_where_no_collector_is_named(new_broker, collector):
    broker = new_broker()
    assert EXPORTER not in threads(broker)
    create_topic(broker.address, unique("untraced"))
    # The check can fail: with a collector the thread is there.
    traced = new_broker(env=collector.env())
    wait_until(lambda: EXPORTER in threads(traced), 30, "it has its name")


@pytest.mark.parametrize(("name", "value"), [
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ("OTEL_TRACES_SAMPLER", "xray"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:hidden@127.0.0.1:1"),
])
def test_what_is_not_here_is_refused_at_start(new_broker, collector, name, value):
    broker = new_broker(env=collector.env(**{name: value}), start=False)
    child = broker.spawn()
    assert child.process.wait(60) == 2
    assert name in child.output() and "hidden" not in child.output()
