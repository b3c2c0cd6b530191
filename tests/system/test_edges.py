"""Single requests and their edges, as Kafka answers them: offsets, acks, time, sizes, unknown names,
idempotent sequences.

Spoken by hand (wire.py) where a client would hide the answer. Deviations of StreamHouse that its
design names are asked for as such.
"""

import struct
import time

import pytest
from confluent_kafka import KafkaError, TopicPartition
from confluent_kafka.admin import OffsetSpec

from harness.clients import admin, consumer, create_topic, kcat, producer, read_all, send_all, unique, watermarks
from harness.wire import LIST_OFFSETS, METADATA, PRODUCE, Connection, batch, produce_body, string

OFFSET_OUT_OF_RANGE, CORRUPT, UNKNOWN_TOPIC, MESSAGE_TOO_LARGE = 1, 2, 3, 10
NOT_ENOUGH_REPLICAS, INVALID_REQUEST, OUT_OF_ORDER, INVALID_EPOCH = 19, 42, 45, 47
DESCRIBE_LOG_DIRS, DELETE_GROUPS = 35, 42
EARLIEST, LATEST = -2, -1


@pytest.fixture
def wire(broker):
    with Connection(broker.address) as connection:
        yield connection


def test_offsets_earliest_latest_and_by_timestamp_to_the_exact_record(broker, wire):
    topic = create_topic(broker.address, unique("offsets"))
    assert wire.list_offset(topic, 0, EARLIEST)[::2] == (0, 0)
    assert wire.list_offset(topic, 0, LATEST)[::2] == (0, 0)
    client = producer(broker.address)
    for number in range(1_000):
        client.produce(topic, b"%d" % number, partition=0, timestamp=1_000_000 + number * 10)
        if number % 100 == 50:
            client.flush()
    assert client.flush(60) == 0
    assert wire.list_offset(topic, 0, LATEST)[::2] == (0, 1_000)
    assert wire.list_offset(topic, 0, 0) == (0, 1_000_000, 0)
    assert wire.list_offset(topic, 0, 1_000_000 + 4_321) == (0, 1_004_330, 433)
    assert wire.list_offset(topic, 0, 1_000_000 + 4_330) == (0, 1_004_330, 433)
    assert wire.list_offset(topic, 0, 9_999_999) == (0, -1, -1)


def test_the_maximum_timestamp_is_found_wherever_it_stands(broker):
    topic = create_topic(broker.address, unique("maximum"))
    client = producer(broker.address)
    for number, timestamp in enumerate([5_000, 9_000, 7_000, 1_000]):
        client.produce(topic, b"%d" % number, partition=0, timestamp=timestamp)
        assert client.flush(60) == 0
    place = TopicPartition(topic, 0)
    found = admin(broker.address).list_offsets({place: OffsetSpec.max_timestamp()})[place].result(30)
    assert (found.offset, found.timestamp) == (1, 9_000)


def test_a_fetch_begins_anywhere_inside_a_batch(broker, wire):
    topic = create_topic(broker.address, unique("inside"))
    assert wire.produce({(topic, 0): batch([b"%d" % each for each in range(10)])})[topic, 0][:2] == (0, 0)
    client = consumer(broker.address)
    for offset in (0, 1, 5, 9):
        client.assign([TopicPartition(topic, 0, offset)])
        message = client.poll(30)
        assert message is not None and message.error() is None
        assert (message.offset(), message.value()) == (offset, b"%d" % offset)
    client.close()


def test_out_of_range_offsets_are_named(broker, wire):
    topic = create_topic(broker.address, unique("range"))
    send_all(broker.address, topic, [b"value"] * 5)
    assert wire.fetch(topic, 0, 5)[0] == 0
    assert wire.fetch(topic, 0, 6)[0] == OFFSET_OUT_OF_RANGE
    assert wire.fetch(topic, 0, 1 << 40)[0] == OFFSET_OUT_OF_RANGE
    assert wire.fetch(unique("nowhere"), 0, 0)[0] == UNKNOWN_TOPIC
    assert wire.fetch(topic, 1, 0)[0] == UNKNOWN_TOPIC


def test_names_given_twice_are_answered_once(broker, wire):
    topic = create_topic(broker.address, unique("twice"), 3)
    answer = wire.call(METADATA, 1, struct.pack(">i", 3) + string(topic) * 3)
    for _ in range(answer.number("i")):
        answer.number("i"), answer.string(), answer.number("i"), answer.string()
    answer.number("i")
    assert (answer.number("i"), answer.number("h"), answer.string()) == (1, 0, topic)
    nobody = unique("nobody")
    answer = wire.call(DELETE_GROUPS, 0, struct.pack(">i", 2) + string(nobody) * 2)
    answer.number("i")
    # Kafka may have no coordinator yet: the code is another scenario's.
    assert (answer.number("i"), answer.string()) == (1, nobody)
    answer.number("h")
    assert answer.at == len(answer.data)
    answer = wire.call(DESCRIBE_LOG_DIRS, 1, struct.pack(">i", 2) + (string(topic) + struct.pack(">iii", 2, 1, 1)) * 2)
    answer.number("i")
    assert (answer.number("i"), answer.number("h")) == (1, 0)
    answer.string()
    assert (answer.number("i"), answer.string(), answer.number("i"), answer.number("i")) == (1, topic, 1, 1)


def test_a_partition_whose_offset_is_asked_for_twice_is_told_neither(broker, wire):
    topic = create_topic(broker.address, unique("twice"), 2)
    once, twice = (struct.pack(">iq", partition, LATEST) for partition in (1, 0))
    asked = string(topic) + struct.pack(">i", 2) + twice + once + string(topic) + struct.pack(">i", 1) + twice
    answer = wire.call(LIST_OFFSETS, 1, struct.pack(">ii", -1, 2) + asked)
    codes = set()
    for _ in range(answer.number("i")):
        assert answer.string() == topic
        for _ in range(answer.number("i")):
            codes.add((answer.number("i"), answer.number("h")))
            answer.number("q"), answer.number("q")
    assert codes == {(0, INVALID_REQUEST), (1, 0)}


def test_a_fetch_that_waits_is_woken_by_the_next_record(broker, wire):
    topic = create_topic(broker.address, unique("wait"))
    client = consumer(broker.address, fetch_wait_max_ms=20_000)
    # The end by its number: however late its fetch comes, it asks for the record that is still to be written.
    client.assign([TopicPartition(topic, 0, 0)])
    assert client.poll(1) is None
    began = time.monotonic()
    assert wire.produce({(topic, 0): batch([b"wake"])})[topic, 0][0] == 0
    message = client.poll(15)
    assert message is not None and message.value() == b"wake"
    # Far below the wait that was asked for: it was woken, it did not run out.
    assert time.monotonic() - began < 10
    client.close()


@pytest.mark.parametrize("acks", [-1, 0, 1])
def test_records_arrive_with_every_acks(broker, acks):
    topic = create_topic(broker.address, unique("acks"))
    values = [b"%d" % each for each in range(2_000)]
    send_all(broker.address, topic, values, enable_idempotence=False, acks=acks)
    deadline = time.monotonic() + 30
    while watermarks(broker.address, topic)[1] < len(values) and time.monotonic() < deadline:
        time.sleep(0.05)
    [messages] = read_all(broker.address, topic)
    assert [each.value() for each in messages] == values


def test_acks_0_is_never_answered(broker, wire):
    topic = create_topic(broker.address, unique("silent"))
    assert wire.produce({(topic, 0): batch([b"silent"])}, acks=0) is None
    # The next answer on the connection belongs to the next request.
    error, base, _ = wire.produce({(topic, 0): batch([b"loud"])})[topic, 0]
    assert (error, base) == (0, 1)


def test_a_log_append_time_topic_carries_the_brokers_clock(broker, wire):
    topic = create_topic(broker.address, unique("clock"), **{"message.timestamp.type": "LogAppendTime"})
    before = int(time.time() * 1000)
    error, base, told = wire.produce({(topic, 0): batch([b"a", b"b"], timestamp=1)})[topic, 0]
    after = int(time.time() * 1000)
    assert (error, base) == (0, 0)
    assert before <= told <= after
    [stored] = wire.stored(topic)
    assert stored.log_append_time and stored.crc_right and stored.max_timestamp == told
    [messages] = read_all(broker.address, topic)
    assert {each.timestamp()[1] for each in messages} == {told}


def test_a_message_above_the_limit_is_refused_and_the_rest_goes_on(broker):
    topic = create_topic(broker.address, unique("large"), **{"max.message.bytes": "10000"})
    client = producer(broker.address, enable_idempotence=False)
    told = []
    for size_bytes in (100, 20_000, 200):
        client.produce(topic, b"x" * size_bytes, partition=0, on_delivery=lambda error, _: told.append(error))
        client.flush(60)
    assert [error and error.code() for error in told] == [None, KafkaError.MSG_SIZE_TOO_LARGE, None]
    assert [len(each.value()) for each in read_all(broker.address, topic)[0]] == [100, 200]


def test_a_batch_above_the_default_limit_is_refused(broker, wire):
    topic = create_topic(broker.address, unique("larger"))
    error, _, _ = wire.produce({(topic, 0): batch([b"x" * 1_200_000])})[topic, 0]
    assert error == MESSAGE_TOO_LARGE


def test_a_duplicate_batch_is_answered_with_its_first_offset(broker, wire):
    topic = create_topic(broker.address, unique("duplicate"))
    producer_id, epoch = wire.init_producer_id()
    sent = [batch([b"%d" % n, b"x"], producer_id=producer_id, epoch=epoch, sequence=n * 2) for n in range(5)]
    assert [wire.produce({(topic, 0): each})[topic, 0][:2] for each in sent] == [(0, n * 2) for n in range(5)]
    for n in (4, 0, 2):
        assert wire.produce({(topic, 0): sent[n]})[topic, 0][:2] == (0, n * 2)
    assert wire.list_offset(topic, 0, LATEST)[2] == 10


def test_pipelined_batches_take_effect_in_order(broker, wire):
    topic = create_topic(broker.address, unique("pipelined"))
    producer_id, epoch = wire.init_producer_id()
    sent = [
        wire.send(
            PRODUCE, 3,
            produce_body({(topic, 0): batch([b"%d" % n], producer_id=producer_id, epoch=epoch, sequence=n)}),
        )
        for n in range(5)
    ]
    assert [wire.produced(each)[topic, 0][:2] for each in sent] == [(0, n) for n in range(5)]


def test_a_sequence_gap_is_refused(broker, wire, on_kafka):
    topic = create_topic(broker.address, unique("gap"))
    producer_id, epoch = wire.init_producer_id()
    first = batch([b"a"], producer_id=producer_id, epoch=epoch, sequence=0)
    third = batch([b"c"], producer_id=producer_id, epoch=epoch, sequence=2)
    assert wire.produce({(topic, 0): first})[topic, 0][0] == 0
    # Named deviation: a gap may still close, so StreamHouse first asks for a retry.
    assert wire.produce({(topic, 0): third})[topic, 0][0] == (OUT_OF_ORDER if on_kafka else NOT_ENOUGH_REPLICAS)
    second = batch([b"b"], producer_id=producer_id, epoch=epoch, sequence=1)
    assert wire.produce({(topic, 0): second})[topic, 0][:2] == (0, 1)
    assert wire.produce({(topic, 0): third})[topic, 0][:2] == (0, 2)


def test_an_older_epoch_is_fenced_and_a_newer_one_starts_at_0(broker, wire):
    topic = create_topic(broker.address, unique("epoch"))
    producer_id, epoch = wire.init_producer_id()
    newer = batch([b"new"], producer_id=producer_id, epoch=epoch + 1, sequence=0)
    older = batch([b"old"], producer_id=producer_id, epoch=epoch, sequence=0)
    assert wire.produce({(topic, 0): older})[topic, 0][0] == 0
    assert wire.produce({(topic, 0): newer})[topic, 0][0] == 0
    late = batch([b"late"], producer_id=producer_id, epoch=epoch, sequence=1)
    assert wire.produce({(topic, 0): late})[topic, 0][0] == INVALID_EPOCH
    assert wire.list_offset(topic, 0, LATEST)[2] == 2


def test_an_unknown_topic_is_created_by_its_first_producer(broker):
    topic = unique("automatic")
    send_all(broker.address, topic, [b"first"])
    assert [each.value() for each in read_all(broker.address, topic)[0]] == [b"first"]


@pytest.mark.restarts
def test_without_auto_creation_an_unknown_topic_stays_unknown(new_broker):
    broker = new_broker(kafka={"auto.create.topics.enable": "false"}, auto_create_topics="false")
    topic = unique("never")
    client = producer(broker.address, message_timeout_ms=6_000, topic_metadata_propagation_max_ms=1_000)
    told = []
    client.produce(topic, b"value", on_delivery=lambda error, _: told.append(error.code()))
    client.flush(30)
    assert told and told[0] in (KafkaError._UNKNOWN_TOPIC, KafkaError._MSG_TIMED_OUT, KafkaError.UNKNOWN_TOPIC_OR_PART)
    assert topic not in admin(broker.address).list_topics(timeout=30).topics


def test_kcat_reads_by_offset_and_from_the_end(broker):
    topic = create_topic(broker.address, unique("kcat"))
    send_all(broker.address, topic, [b"%d" % each for each in range(100)])
    tail = kcat(broker.address, "-C", "-t", topic, "-p", 0, "-o", "-3", "-e", "-q").stdout
    assert tail == b"97\n98\n99\n"
    middle = kcat(broker.address, "-C", "-t", topic, "-p", 0, "-o", 40, "-c", 2, "-q").stdout
    assert middle == b"40\n41\n"
    listed = kcat(broker.address, "-L", "-t", topic).stdout.decode()
    assert f'topic "{topic}" with 1 partitions' in listed


def test_many_partitions_are_read_fairly(broker):
    topic = create_topic(broker.address, unique("fair"), 20)
    client = producer(broker.address)
    for partition in range(20):
        for _ in range(200):
            client.produce(topic, b"x" * 1_000, partition=partition)
    assert client.flush(60) == 0
    found = read_all(broker.address, topic, 20)
    assert [len(each) for each in found] == [200] * 20
