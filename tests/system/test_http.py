"""The HTTP side under clients that lie, dawdle, come in crowds or never come to an end.

Spoken by hand, because no client library would. Whatever one of them does costs it an answer that says why, or
its connection; probes are answered, produce goes on and memory stays.
"""

import contextlib
import gzip
import os
import socket
import struct
import threading
import time
from dataclasses import dataclass

import pytest
from confluent_kafka.admin import NewTopic

from harness import metrics as text
from harness.clients import admin, create_topic, unique
from harness.process import wait_until
from harness.wire import METADATA, PRODUCE, Connection, batch, produce_body, request, string

pytestmark = pytest.mark.ours

# More in a measurement: what it may cost does not grow with it.
NAMES = int(os.environ.get("STREAMHOUSE_TEST_NAMES", "20000"))
MIB = 1 << 20


def connect(broker, receive_bytes: int | None = None) -> socket.socket:
    link = socket.socket()
    if receive_bytes:
        # Before it connects: the window is offered then.
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    link.settimeout(60)
    link.connect(("127.0.0.1", broker.http_port))
    return link


@dataclass
class Answer:
    status: int
    version: str
    headers: dict[str, str]
    body: bytes


class Asking:
    """One connection, read answer by answer."""

    def __init__(self, broker, data: bytes = b""):
        self.link = connect(broker)
        self.file = self.link.makefile("rb")
        self.send(data)

    def __enter__(self) -> "Asking":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.link.close()

    def send(self, data: bytes) -> None:
        # The server may have answered and closed before the last byte.
        with contextlib.suppress(ConnectionError):
            self.link.sendall(data)

    def answer(self, has_body: bool = True) -> Answer | None:
        """The next one; None when the server has closed instead."""
        try:
            first = self.file.readline().decode()
            if not first:
                return None
            version, status, *_ = first.split(" ", 2)
            headers = {}
            while line := self.file.readline().decode().rstrip("\r\n"):
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            body = b""
            if has_body:
                length = headers.get("content-length")
                body = self.file.read(int(length)) if length is not None else self.file.read()
            return Answer(int(status), version, headers, body)
        except ConnectionError:
            return None

    def closed(self) -> bool:
        try:
            return self.file.read(1) == b""
        except ConnectionError:
            return True


def ask(broker, request_line: str, headers: str = "", has_body: bool = True) -> Answer:
    with Asking(broker, f"{request_line}\r\nhost: test\r\n{headers}\r\n".encode()) as asking:
        answer = asking.answer(has_body)
        assert answer is not None, f"no answer to {request_line}"
        return answer


@pytest.mark.parametrize("lie", [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET\r\n\r\n",
    b"GET  HTTP/1.1\r\n\r\n",
    b"GET / HTTP/9.9\r\nhost: x\r\n\r\n",
    b"GET / FTP/1.1\r\nhost: x\r\n\r\n",
    b"G\0T / HTTP/1.1\r\nhost: x\r\n\r\n",
    b"GET /metr ics HTTP/1.1\r\nhost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nho st: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: \x01\x02\r\n\r\n",
    b"PUT /log/level HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
    b"PUT /log/level HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    b"PUT /log/level HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    b"\r\n" * 5_000,
    struct.pack(">i", 40) + b"\0\x12\0\0" + b"\0" * 36,
], ids=repr)
def test_what_is_no_http_costs_the_connection_and_says_so(broker, lie):
    with Asking(broker, lie) as asking:
        with contextlib.suppress(OSError):
            asking.link.shutdown(socket.SHUT_WR)
        answer = asking.answer()
        assert answer is None or 400 <= answer.status < 500, answer
        assert asking.closed()
    assert ask(broker, "GET /health/live HTTP/1.1").status == 200


def test_a_head_that_is_too_large_is_answered_with_431(broker):
    for head in [
        f"x-long: {'y' * 1_000_000}\r\n",
        "".join(f"x-{n}: y\r\n" for n in range(5_000)),
    ]:
        with Asking(broker, f"GET / HTTP/1.1\r\nhost: x\r\n{head}\r\n".encode()) as asking:
            answer = asking.answer()
            assert answer is None or answer.status == 431, answer
    assert ask(broker, f"GET /{'y' * 20_000} HTTP/1.1").status in (414, 431)
    assert ask(broker, "GET /health/live HTTP/1.1").status == 200


def test_unknown_paths_and_methods_are_told_what_there_is(broker):
    for path in ("/nothing", "/metrics/", "/Metrics", "//metrics", "/health/live/x", "/%00", "/metrics%2f", "*"):
        answer = ask(broker, f"GET {path} HTTP/1.1")
        assert answer.status == 404, path
        assert answer.headers["content-type"] == "application/json"
        assert b"/metrics /health /health/live /health/ready /log/level" in answer.body
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"):
        answer = ask(broker, f"{method} /metrics HTTP/1.1", "content-length: 0\r\n")
        assert (answer.status, answer.headers["allow"]) == (405, "GET,HEAD"), method
    answer = ask(broker, "POST /log/level HTTP/1.1", "content-length: 0\r\n")
    assert answer.status == 405 and set(answer.headers["allow"].split(",")) == {"GET", "HEAD", "PUT"}
    index = ask(broker, "GET / HTTP/1.1")
    assert index.headers["content-type"].startswith("text/html") and b'href="/metrics"' in index.body


def test_head_is_get_without_the_body(broker):
    for path in ("/", "/metrics", "/health", "/health/live", "/health/ready", "/log/level", "/nothing"):
        with Asking(broker, f"HEAD {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode()) as asking:
            head = asking.answer(has_body=False)
            # The next answer begins right behind it.
            asking.send(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            got = asking.answer()
        assert (head.status, head.headers["content-type"]) == (got.status, got.headers["content-type"])
        assert int(head.headers["content-length"]) > 0 < len(got.body)


def test_http_1_0_ends_after_its_answer_unless_it_asks_to_stay(broker):
    with Asking(broker, b"GET /metrics HTTP/1.0\r\n\r\n") as asking:
        answer = asking.answer()
        assert answer.status == 200 and asking.closed()
        assert text.parse(answer.body.decode()).get("streamhouse_uptime_seconds") > 0
    with Asking(broker, b"GET /health/live HTTP/1.0\r\nconnection: keep-alive\r\n\r\n") as asking:
        assert asking.answer().status == 200
        asking.send(b"GET /health/live HTTP/1.0\r\n\r\n")
        assert asking.answer().status == 200 and asking.closed()


def test_requests_sent_ahead_are_answered_in_their_order(broker):
    paths = ["/health/live", "/nothing", "/metrics", "/log/level", "/"] * 40
    ahead = "".join(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n" for path in paths)
    with Asking(broker, ahead.encode()) as asking:
        answers = [asking.answer() for _ in paths]
    assert [each.status for each in answers] == [200, 404, 200, 200, 200] * 40
    numbers = [int(each.headers["x-correlation-id"].rsplit("-", 1)[1]) for each in answers]
    assert numbers == sorted(numbers)


def test_who_asks_and_says_no_more_is_answered(broker):
    """As `printf 'GET …' | nc` does."""
    with Asking(broker, b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n") as asking:
        asking.link.shutdown(socket.SHUT_WR)
        answer = asking.answer()
        assert answer.status == 200 and text.parse(answer.body.decode()).values and asking.closed()


def test_a_scrape_is_compressed_when_asked(broker):
    answer = ask(broker, "GET /metrics HTTP/1.1", "accept-encoding: br, gzip;q=0.1\r\n")
    assert answer.headers["content-encoding"] == "gzip"
    assert text.parse(gzip.decompress(answer.body).decode()).get("streamhouse_uptime_seconds") > 0


class Producing:
    """Produces one record after the other in the background, and must never be refused."""

    def __init__(self, broker):
        self.broker = broker
        self.topic = create_topic(broker.address, unique("meanwhile"))
        self.acknowledged = 0
        self.failure: str | None = None
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        try:
            with Connection(self.broker.address, seconds=60) as connection:
                while not self.stop.is_set():
                    code = connection.produce({(self.topic, 0): batch([b"x"])})[self.topic, 0][0]
                    assert code == 0, f"error {code}"
                    self.acknowledged += 1
        except Exception as error:  # noqa: BLE001 - told by the test
            self.failure = repr(error)

    def __enter__(self) -> "Producing":
        self.thread.start()
        wait_until(lambda: self.acknowledged or self.failure, 60, "a first record")
        return self

    def goes_on(self) -> None:
        before = self.acknowledged
        wait_until(lambda: self.acknowledged > before or self.failure, 60, "one record more")
        assert self.failure is None, self.failure

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()


def many_topics(broker, count: int) -> None:
    """Topics with all their series, so that a rendering is large."""
    client = admin(broker.address)
    names = [f"wide-{n:05}" for n in range(count)]
    new = [NewTopic(name, num_partitions=1, replication_factor=1) for name in names]
    for created in client.create_topics(new, operation_timeout=60, request_timeout=60).values():
        created.result(120)
    # Seen by name, they are born.
    with Connection(broker.address) as connection:
        connection.call(METADATA, 1, struct.pack(">i", count) + b"".join(map(string, names)))


def moved(broker, before: int) -> int:
    return broker.child.rss_peak_bytes() - before


def test_a_thousand_scrapes_at_once_agree_and_produce_goes_on(new_broker):
    broker = new_broker()
    create_topic(broker.address, "orders")
    ask(broker, "GET /metrics HTTP/1.1")
    broker.child.reset_rss_peak()
    before = broker.child.rss_bytes()
    with Producing(broker) as producing, contextlib.ExitStack() as stack:
        # A rendering from before its first record may still be served.
        wait_until(lambda: broker.metrics().get("streamhouse_producer_records_total", topic=producing.topic), 30, "its series")
        askings = [stack.enter_context(Asking(broker)) for _ in range(1_000)]
        for asking in askings:
            asking.send(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answers = [asking.answer() for asking in askings]
        producing.goes_on()
        assert [each.status for each in answers if each] == [200] * 1_000
        counted = []
        for body in {each.body for each in answers}:
            samples = text.parse(body.decode())
            count, records = (samples.get(f"streamhouse_producer_{name}", topic=producing.topic)
                              for name in ("batch_size_count", "records_total"))
            assert samples.get("streamhouse_producer_batch_size_bucket", topic=producing.topic, le="+Inf") == count
            counted.append(records)
        assert max(counted) <= producing.acknowledged + 1
    assert moved(broker, before) < 64 * MIB, f"{moved(broker, before) / MIB:.0f} MiB"


def test_who_reads_a_byte_a_second_keeps_neither_memory_nor_others(new_broker):
    broker = new_broker(topics_max=5_000)
    many_topics(broker, 2_000)
    size = len(ask(broker, "GET /metrics HTTP/1.1").body)
    assert size > 4 * MIB
    broker.child.reset_rss_peak()
    before = broker.child.rss_bytes()
    with Producing(broker) as producing, contextlib.ExitStack() as stack:
        slow = []
        for number in range(60):
            # One rendering serves all who come together.
            time.sleep(0.3)
            link = stack.enter_context(connect(broker, receive_bytes=4_096))
            link.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
            # Of each answer a byte; then of all a byte a second.
            assert link.recv(1) == b"H"
            slow.append(link)
            if number % 10 == 0:
                for each in slow:
                    with contextlib.suppress(OSError):
                        each.recv(1)
                assert ask(broker, "GET /health/live HTTP/1.1").status == 200

        def whole() -> bool:
            answer = ask(broker, "GET /metrics HTTP/1.1")
            assert answer.status == 200
            return text.parse(answer.body.decode()).get("streamhouse_topics_total") == 2_001

        # A snapshot that takes too long leaves its gauges out until the next one.
        wait_until(whole, 60, "a scrape with all topics", every=2)
        producing.goes_on()
        held = moved(broker, before)
    # Of past renderings 64 MiB, and what is being made, plain and parts of it; all of them would be 60 times size.
    print(f"{held / MIB:.0f} MiB moved, {size / MIB:.0f} MiB a rendering")
    assert held < 64 * MIB + 12 * size < 50 * size, f"{held / MIB:.0f} MiB of renderings of {size / MIB:.0f} MiB"


def test_who_sends_scrapes_ahead_and_never_reads_keeps_no_memory(new_broker):
    broker = new_broker(topics_max=5_000)
    many_topics(broker, 1_000)
    size = len(ask(broker, "GET /metrics HTTP/1.1").body)
    broker.child.reset_rss_peak()
    before = broker.child.rss_bytes()
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            link = stack.enter_context(connect(broker, receive_bytes=4_096))
            link.settimeout(0.2)
            with contextlib.suppress(TimeoutError, ConnectionError):
                link.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n" * 20_000)
        assert ask(broker, "GET /health/live HTTP/1.1").status == 200
        held = moved(broker, before)
    assert held < 64 * MIB + 8 * size, f"{held / MIB:.0f} MiB of renderings of {size / MIB:.0f} MiB"


def test_connections_that_ask_nothing_or_half_do_not_keep_probes_waiting(new_broker):
    broker = new_broker()
    with contextlib.ExitStack() as stack:
        for number in range(1_500):
            link = stack.enter_context(connect(broker))
            if number % 2:
                with contextlib.suppress(ConnectionError):
                    link.sendall(b"GET /metrics HTTP/1.1\r\nhost: te")
        for path in ("/health/live", "/health/ready", "/metrics"):
            assert ask(broker, f"GET {path} HTTP/1.1").status == 200


def test_a_client_of_many_ids_and_names_leaves_neither_series_nor_memory(new_broker):
    """Names are the client's to choose: they must never become series, however many there are."""
    broker = new_broker(auto_create_topics="false")
    topic = create_topic(broker.address, unique("known"))
    padding = "x" * 200
    # As many records however many names there are: those are kept, in memory as well.
    every = max(10, NAMES // 2_000)

    def frames(numbers: range) -> tuple[bytes, int]:
        out, answers = bytearray(), 0
        for number in numbers:
            name, client = f"name-{number}-{padding}", f"client-{number}-{padding}"
            out += request(METADATA, 1, struct.pack(">i", 1) + string(name), number, client)
            bad, good = batch([b"x"]), batch([b"y"])
            out += request(PRODUCE, 3, produce_body({(name, 0): bad}), number, client)
            # Heartbeat 0: a group that does not exist, by a member that nobody knows.
            out += request(12, 0, string(name) + struct.pack(">i", 1) + string("m"), number, client)
            answers += 3
            if number % every == 0:
                out += request(PRODUCE, 3, produce_body({(topic, 0): good}), number, client)
                answers += 1
        return bytes(out), answers

    def talk(numbers: range) -> None:
        with Connection(broker.address, seconds=120) as connection:
            for first in range(numbers.start, numbers.stop, 100):
                data, answers = frames(range(first, min(first + 100, numbers.stop)))
                connection.socket.sendall(data)
                for _ in range(answers):
                    connection.receive(struct.unpack(">i", connection.receive(4))[0])

    # The tables that remember clients for a while have filled by then.
    talk(range(0, 6_000))
    time.sleep(0.3)
    series = set(broker.whole_metrics().values)
    broker.child.reset_rss_peak()
    before = broker.child.rss_bytes()
    talk(range(6_000, 6_000 + NAMES))
    total = 6_000 + NAMES
    records = -(-total // every)
    known = {"name": "streamhouse_producer_records_total", "topic": topic}
    # Counters move with the answers, and a scrape may show a rendering of a quarter of a second ago.
    wait_until(lambda: broker.metrics().get(**known) == records, 30, "every record")
    time.sleep(0.3)
    samples = broker.whole_metrics()
    # Upkeep may have ended a first run meanwhile.
    more = {each for each in set(samples.values) - series if not each[0].startswith("streamhouse_task_")}
    assert not more
    errors = {"streamhouse_producer_errors_total": {"topic": "~unknown", "error_type": "unknown_topic"},
              "streamhouse_consumer_errors_total":
                  {"topic": "", "consumer_group": "", "error_type": "unknown_member"}}
    for name, labels in errors.items():
        assert samples.get(name, **labels) == total, name
    assert samples.get(**known) == records
    print(f"{NAMES} names: memory moved by {moved(broker, before) / MIB:.1f} MiB, {len(series)} series")
    assert moved(broker, before) < 48 * MIB


def test_topics_beyond_the_limit_of_series_share_one_and_every_sum_stays_right(new_broker):
    broker = new_broker(metrics_max_series=200, topics_max=2_000)
    names = [f"many-{n}" for n in range(600)]
    many = [NewTopic(name, num_partitions=1, replication_factor=1) for name in names]
    for created in admin(broker.address).create_topics(many, operation_timeout=60, request_timeout=60).values():
        created.result(120)
    with Connection(broker.address) as connection:
        for name in names:
            assert connection.produce({(name, 0): batch([b"x"] * 2)})[name, 0][0] == 0
    time.sleep(0.3)
    wait_until(lambda: broker.metrics().sum("streamhouse_producer_records_total") == 1_200, 20, "every record")
    samples = broker.whole_metrics()
    by_name: dict[str, int] = {}
    for name, labels in samples.values:
        # What has no topic has closed sets of labels, which need no limit.
        if name.endswith("_bucket") or "topic" not in dict(labels):
            continue
        by_name[name] = by_name.get(name, 0) + 1
    assert max(by_name.values()) <= 210, {name: count for name, count in by_name.items() if count > 200}
    assert samples.get("streamhouse_producer_records_total", topic="~other") > 0
    assert samples.sum("streamhouse_segment_writes_total") >= 600
    folded = "streamhouse_metrics_folded_series"
    for metric in ("producer_records_total", "producer_errors_total", "segment_writes_total", "partitions_total"):
        assert samples.get(folded, metric=f"streamhouse_{metric}") > 0, metric
