"""One set of scenarios in every client's language: records with all they can carry, time, retries, administration.

What a client library cannot say is written down in `harness.program.CLIENTS`; everything else is expected of
all of them alike. Groups and transactions stand in files of their own.
"""

import time
from collections.abc import Iterator

import pytest

from harness.clients import admin, create_topic, producer, read_all, send_all, unique
from harness.cutter import Cutter
from harness.ports import free_port
from harness.process import wait_until
from harness.program import CLIENTS, CODECS, Client, Program, Record, Refused
from harness.wire import PRODUCE, Connection
from system.client_fixtures import client, program  # noqa: F401

pytestmark = pytest.mark.promise

# Recent, else retention takes the records away; and a while ago, else they would lie ahead of the clock.
NOW_MS = int(time.time()) * 1000 - 600_000
ALREADY_EXISTS, UNKNOWN_TOPIC, NON_EMPTY_GROUP = 36, 3, 68


def carried(client: Client) -> list[Record]:
    """Records that between them carry everything this client can say."""
    def at(number: int) -> int | None:
        return NOW_MS + number if client.timestamps else None

    every_byte = bytes(range(256))
    headers = [
        (("trace", b"abc"), ("tenant", b"7")),
        (("twice", b"first"), ("twice", b"second")),
        (("empty", b""),),
    ]
    if client.null_headers:
        headers.append((("null", None), ("not null", b"x")))
    return [
        Record(b"plain", timestamp=at(0)),
        Record(b"keyed", b"key", timestamp=at(1)),
        Record(every_byte, b"binary", timestamp=at(2)),
        Record(None, b"tombstone", timestamp=at(3)),
        Record(b"tall" * 5_000, b"large", timestamp=at(4)),
        *(Record(b"headed", b"key", each, at(5)) for each in headers),
        Record(b"older", b"key", timestamp=at(-1_000)),
    ]


def without_time(record: Record) -> tuple:
    return (record.partition, record.key, record.value, record.headers)


@pytest.mark.parametrize("codec", CODECS)
def test_records_keep_keys_headers_timestamps_and_codec(client: Client, program: Program, broker, codec):  # noqa: F811
    topic = create_topic(broker.address, unique(f"carried-{codec}"))
    sent = carried(client)
    before = time.time() * 1000
    assert program.produce(topic, sent, codec=codec) in ([*range(len(sent))], [None] * len(sent))
    read = program.read(topic, len(sent))
    assert [without_time(each) for each in read] == [without_time(each) for each in sent]
    if client.timestamps:
        assert [each.timestamp for each in read] == [each.timestamp for each in sent]
    else:
        assert all(before - 1_000 <= each.timestamp <= time.time() * 1000 + 1_000 for each in read)
    # The reference client reads the same, and the broker stored what the client compressed.
    [messages] = read_all(broker.address, topic)
    assert [(each.key(), each.value(), tuple(each.headers() or ())) for each in messages] == [
        (each.key, each.value, each.headers) for each in sent]
    with Connection(broker.address) as connection:
        stored = connection.stored(topic)
    assert all(each.crc_right and each.magic == 2 for each in stored)
    # A client may leave a batch plain that would grow by compression.
    assert codec in {each.codec for each in stored} <= {codec, "none"}


def test_what_others_wrote_is_read(client: Client, program: Program, broker):  # noqa: F811
    """Each codec in turn in one partition, from the reference client: every client decodes all of them."""
    topic = create_topic(broker.address, unique("foreign"))
    values = []
    for codec in CODECS:
        values += [b"%s %d" % (codec.encode(), number) * 20 for number in range(20)]
        send_all(broker.address, topic, values[-20:], compression_type=codec)
    assert [each.value for each in program.read(topic, len(values))] == values
    assert [each.value for each in program.read(topic, 30, {0: 70})] == values[70:]


def test_a_reader_starts_at_a_point_in_time(client: Client, program: Program, broker):  # noqa: F811
    topic = create_topic(broker.address, unique("timed"), 2)
    writer_records = [Record(b"%d" % number, timestamp=NOW_MS + 1_000 * number, partition=1) for number in range(50)]
    if client.timestamps:
        program.produce(topic, writer_records, batch=10)
    else:
        reference = producer(broker.address, batch_num_messages=10)
        for each in writer_records:
            reference.produce(topic, each.value, partition=1, timestamp=each.timestamp)
        assert reference.flush(60) == 0
    for wanted, offset in [(0, 0), (20_000, 20), (20_001, 21), (49_000, 49)]:
        assert program.ask("time", topic=topic, partition=1, timestamp=NOW_MS + wanted) == offset
    assert program.ask("time", topic=topic, partition=1, timestamp=NOW_MS + 49_001) in (None, 50)
    found = program.read(topic, 30, {1: program.ask("time", topic=topic, partition=1, timestamp=NOW_MS + 19_500)})
    assert [each.value for each in found] == [b"%d" % number for number in range(20, 50)]


@pytest.fixture(scope="module")
def cut_broker(request, on_kafka, tmp_path_factory) -> Iterator[tuple]:
    """A broker whose clients all come through a proxy that loses answers when told to."""
    from system.conftest import start_broker

    cutter = Cutter(free_port())
    listeners = {"advertised.listeners": f"PLAINTEXT://{cutter.address}"}
    directory = tmp_path_factory.mktemp("cut")
    broker = start_broker(on_kafka, directory, listeners, {"kafka-advertise": cutter.address}, {})
    cutter.upstream = broker.address
    broker.start()
    yield broker, cutter
    broker.kill()
    cutter.close()


def test_an_idempotent_producer_whose_answers_are_lost_stores_each_record_once(
        client: Client, cut_broker, tmp_path):  # noqa: F811
    broker, cutter = cut_broker
    topic = create_topic(broker.address, unique("cut"), 2)
    program = Program(client, cutter.address, tmp_path / "errors.log")
    try:
        cutter.lose(PRODUCE, 3)
        sent = [Record(b"%d" % number, partition=number % 2) for number in range(200)]
        program.produce(topic, sent, idempotent=True, batch=10)
        assert cutter.cut >= 2, f"only {cutter.cut} answers were lost"
    finally:
        cutter.lose(PRODUCE, 0)
        program.kill()
    partitions = read_all(broker.address, topic, 2)
    for partition, messages in enumerate(partitions):
        assert [each.value() for each in messages] == [each.value for each in sent if each.partition == partition]


ADMINISTRATORS = [each for each in CLIENTS.values() if each.admin]


@pytest.mark.parametrize("client", ADMINISTRATORS, ids=lambda each: each.name, indirect=True)
def test_an_administrator_does_the_daily_work(client: Client, program: Program, broker):  # noqa: F811
    topic, group = unique("kept"), unique("group")

    def refused(code: int, *request: str, **arguments: object) -> None:
        with pytest.raises(Refused) as refusal:
            program.ask(*request, **arguments)
        assert refusal.value.code == code, refusal.value

    program.ask("create", topic=topic, partitions=2, config={"retention.ms": "86400000"})
    wait_until(lambda: topic in admin(broker.address).list_topics(timeout=30).topics, 30, "the topic is known")
    refused(ALREADY_EXISTS, "create", topic=topic, partitions=2, config={})
    assert program.ask("describe", topic=topic) == 2
    program.ask("widen", topic=topic, count=5)
    wait_until(lambda: program.ask("describe", topic=topic) == 5, 30, "five partitions")

    assert program.ask("config", topic=topic)["retention.ms"] == "86400000"
    program.ask("alter", topic=topic, name="max.message.bytes", value="2000000")
    wait_until(lambda: program.ask("config", topic=topic)["max.message.bytes"] == "2000000", 30, "the new size")

    program.produce(topic, [Record(b"%d" % number) for number in range(10)])
    assert program.ask("offsets", topic=topic, partition=0) == [0, 10]
    assert program.ask("delete_records", topic=topic, partition=0, before=4) in (4, None)
    assert program.ask("offsets", topic=topic, partition=0) == [4, 10]
    assert [each.value for each in program.read(topic, 6, {0: 4})] == [b"%d" % number for number in range(4, 10)]

    program.ask("commit", group=group, topic=topic, partition=0, offset=7)
    assert program.ask("committed", group=group, topic=topic, partition=0) == 7
    assert program.ask("committed", group=group, topic=topic, partition=1) is None
    assert group in program.ask("groups")
    program.ask("join", member="m", group=group, topic=topic, protocol="range", instance=None, session_ms=15_000)
    wait_until(lambda: program.ask("group", group=group) == {"state": "stable", "members": 1, "partitions": 5}, 90,
               "a member with all partitions")
    if client.deletes_groups:
        refused(NON_EMPTY_GROUP, "delete_group", group=group)
    program.ask("leave", member="m")
    wait_until(lambda: program.ask("group", group=group)["state"] == "empty", 60, "the group is empty")
    if client.deletes_groups:
        program.ask("delete_group", group=group)
        assert group not in program.ask("groups")

    program.ask("delete", topic=topic)
    wait_until(lambda: topic not in admin(broker.address).list_topics(timeout=30).topics, 30, "the topic is gone")
    refused(UNKNOWN_TOPIC, "delete", topic=topic)
