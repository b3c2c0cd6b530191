"""Every figure equals an independent count: what the client sent, what Fetch shows stored, what the proxy saw.
"""

import struct
import time
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_INVALID, Consumer, ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition

from harness.clients import admin, create_topic, kcat, producer, read_all, send_all, unique
from harness.process import wait_until
from harness.wire import PRODUCE, Connection, batch, string

pytestmark = pytest.mark.ours

LATENCY = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5]


def settled(broker, name: str, expected: float, **labels: str) -> None:
    """Counters move when the answer is written; the client may be a moment ahead of the scrape."""
    value = None
    try:
        def reached() -> bool:
            nonlocal value
            value = broker.metrics().get(name, **labels)
            return value == expected
        wait_until(reached, 30, name)
    except TimeoutError:
        pytest.fail(f"{name}{labels} is {value}, expected {expected}")


def test_producer_counters_equal_what_was_produced_and_stored(broker):
    topic = create_topic(broker.address, unique("counted"))
    send_all(broker.address, topic, [b"%d" % each for each in range(12_345)], compression_type="lz4")
    with Connection(broker.address) as connection:
        stored = connection.stored(topic)
    settled(broker, "streamhouse_producer_records_total", 12_345, topic=topic)
    settled(broker, "streamhouse_producer_bytes_total", sum(each.size_bytes for each in stored), topic=topic)
    settled(broker, "streamhouse_producer_batch_size_count", len(stored), topic=topic)
    settled(broker, "streamhouse_producer_batch_size_sum", 12_345, topic=topic)


def test_duplicates_are_not_counted_again_and_acks_0_is(broker):
    topic = create_topic(broker.address, unique("again"))
    with Connection(broker.address) as connection:
        producer_id, epoch = connection.init_producer_id()
        data = batch([b"a", b"b"], producer_id=producer_id, epoch=epoch, sequence=0)
        for _ in range(3):
            assert connection.produce({(topic, 0): data})[topic, 0][:2] == (0, 0)
        connection.produce({(topic, 0): batch([b"silent"] * 5)}, acks=0)
        connection.produce({(topic, 0): batch([b"end"])})
    settled(broker, "streamhouse_producer_records_total", 8, topic=topic)


def test_latency_has_one_observation_a_request_and_topic(broker):
    one, two = (create_topic(broker.address, unique("latency"), 3) for _ in range(2))
    with Connection(broker.address) as connection:
        for _ in range(7):
            connection.produce({(one, each): batch([b"x"]) for each in range(3)} | {(two, 0): batch([b"y"])})
    for topic in (one, two):
        settled(broker, "streamhouse_producer_latency_seconds_count", 7, topic=topic)
    samples = broker.metrics()
    bounds = {
        float(dict(labels)["le"]) for name, labels in samples.values
        if name == "streamhouse_producer_latency_seconds_bucket" and ("topic", one) in labels
    }
    assert bounds == {*LATENCY, float("inf")}


def test_a_request_without_an_answer_counts_as_one_by_its_outcome(broker):
    topic = create_topic(broker.address, unique("silent"))

    def counted() -> tuple[float, float]:
        samples = broker.metrics()
        return tuple(samples.get("streamhouse_api_requests_total", api="Produce", outcome=outcome)
                     for outcome in ("ok", "client_error"))

    time.sleep(0.3)
    ok, wrong = counted()
    with Connection(broker.address) as connection:
        for _ in range(5):
            connection.produce({(topic, 0): batch([b"x"])}, acks=0)
        connection.produce({(topic, 0): batch([b"end"])})
        # Nothing but the end of the connection says that it failed.
        connection.produce({(topic, 0): batch([b"x"], crc=7)}, acks=0)
        with pytest.raises(ConnectionError):
            connection.receive(1)
    wait_until(lambda: counted() == (ok + 6, wrong + 1), 30, f"six more and one: {(ok, wrong)}, {counted()}")


def test_a_topic_without_a_batch_in_a_request_has_no_latency(broker):
    topic = create_topic(broker.address, unique("empty"))
    empty = string(None) + struct.pack(">hii", -1, 20_000, 1) + string(topic) + struct.pack(">i", 0)
    with Connection(broker.address) as connection:
        connection.call(PRODUCE, 3, empty)
        connection.produce({(topic, 0): batch([b"x"])})
    settled(broker, "streamhouse_producer_latency_seconds_count", 1, topic=topic)


def test_bytes_fetched_equal_what_was_sent_to_consumers(broker):
    topic = create_topic(broker.address, unique("fetched"))
    send_all(broker.address, topic, [b"%d" % each * 50 for each in range(2_000)])
    with Connection(broker.address) as connection:
        sent = len(connection.fetch(topic, 0, 0)[2])
        for offset in (500, 1_999):
            sent += len(connection.fetch(topic, 0, offset, max_bytes=1)[2])
    assert sent > 100_000

    def counted() -> float:
        return broker.metrics().sum("streamhouse_fetch_bytes_total", topic=topic)

    wait_until(lambda: counted() == sent, 30, f"{sent} bytes, {counted()} are counted")


def test_refused_batches_are_counted_by_their_reason(broker):
    topic = create_topic(broker.address, unique("refused"))
    with Connection(broker.address) as connection:
        for _ in range(3):
            assert connection.produce({(topic, 0): batch([b"x"], crc=7)})[topic, 0][0] != 0
        assert connection.produce({(topic, 0): batch([b"x" * 1_200_000])})[topic, 0][0] != 0
        before = broker.metrics().sum("streamhouse_producer_errors_total", error_type="unknown_topic")
        assert connection.produce({(topic, 99): batch([b"x"])})[topic, 99][0] != 0
    settled(broker, "streamhouse_producer_errors_total", 3, topic=topic, error_type="corrupt")
    settled(broker, "streamhouse_producer_errors_total", 1, topic=topic, error_type="too_large")

    def unknown() -> float:
        return broker.metrics().sum("streamhouse_producer_errors_total", error_type="unknown_topic")

    wait_until(lambda: unknown() == before + 1, 30, "one batch more for an unknown topic")
    settled(broker, "streamhouse_producer_records_total", 0, topic=topic)


def consume(broker, group: str, topic: str, count: int, **config: object) -> None:
    """Reads `count` records as the only member of a group, commits and leaves."""
    client = Consumer({
        "bootstrap.servers": broker.address, "group.id": group, "client.id": group, "log_level": 2,
        "auto.offset.reset": "earliest", "enable.auto.commit": False, **config,
    })
    client.subscribe([topic])
    read = []
    deadline = time.monotonic() + 60
    while len(read) < count:
        assert time.monotonic() < deadline, f"{len(read)} of {count}"
        read += [each for each in client.consume(count - len(read), timeout=0.5) if each.error() is None]
    client.commit(asynchronous=False)
    client.close()


def test_consumed_records_and_rebalances_equal_what_groups_did(broker):
    one, two = unique("orders"), unique("orders1")
    for topic in (one, two):
        create_topic(broker.address, topic, 1)
        send_all(broker.address, topic, [b"%d" % each for each in range(100)])
    first, second = unique("group"), unique("group")
    consume(broker, first, one, 30)
    consume(broker, first, one, 20)
    consume(broker, second, one, 70)
    consume(broker, first, two, 10)
    consumed = "streamhouse_consumer_records_total"
    settled(broker, consumed, 50, topic=one, consumer_group=first)
    settled(broker, consumed, 70, topic=one, consumer_group=second)
    settled(broker, consumed, 10, topic=two, consumer_group=first)
    # A generation for each member that came.
    settled(broker, "streamhouse_consumer_rebalances_total", 3, consumer_group=first)
    settled(broker, "streamhouse_consumer_rebalances_total", 1, consumer_group=second)
    # Who sets offsets without reading has consumed only what lies beyond the last commit.
    setter = Consumer({"bootstrap.servers": broker.address, "group.id": unique("tool"), "log_level": 2})
    setter.commit(offsets=[TopicPartition(one, 0, 90)], asynchronous=False)
    admin(broker.address).alter_consumer_group_offsets(
        [ConsumerGroupTopicPartitions(first, [TopicPartition(one, 0, 40)])])[first].result(30)
    admin(broker.address).alter_consumer_group_offsets(
        [ConsumerGroupTopicPartitions(first, [TopicPartition(one, 0, 45)])])[first].result(30)
    settled(broker, consumed, 55, topic=one, consumer_group=first)
    setter.close()
    admin(broker.address).delete_consumer_groups([second])[second].result(30)
    settled(broker, consumed, None, topic=one, consumer_group=second)
    settled(broker, "streamhouse_consumer_rebalances_total", None, consumer_group=second)
    settled(broker, consumed, 55, topic=one, consumer_group=first)


def test_records_consumed_in_transactions_count_when_their_offsets_are_published(broker):
    topic = create_topic(broker.address, unique("published"))
    send_all(broker.address, topic, [b"%d" % each for each in range(20)])
    group = unique("group")
    consume(broker, group, topic, 5)
    # It only lends its membership: a commit of its own, five seconds after its start, would be counted as well.
    reader = Consumer({
        "bootstrap.servers": broker.address, "group.id": group, "log_level": 2, "enable.auto.commit": False,
    })
    reader.subscribe([topic])
    wait_until(lambda: reader.poll(0.5) is not None, 60, "a record")
    client = Producer({"bootstrap.servers": broker.address, "transactional.id": group, "log_level": 2})
    client.init_transactions(30)
    for offset, ends, total in [(12, client.abort_transaction, 5), (15, client.commit_transaction, 15)]:
        client.begin_transaction()
        client.produce(topic, b"x")
        place = [TopicPartition(topic, 0, offset)]
        client.send_offsets_to_transaction(place, reader.consumer_group_metadata(), 30)
        ends(30)
        settled(broker, "streamhouse_consumer_records_total", total, topic=topic, consumer_group=group)
    reader.close()


def test_what_consumers_are_refused_is_counted_by_its_reason(broker):
    topic = create_topic(broker.address, unique("refused"))
    group = unique("group")
    send_all(broker.address, topic, [b"x"])
    consume(broker, group, topic, 1)
    errors = "streamhouse_consumer_errors_total"
    lost = Consumer({
        "bootstrap.servers": broker.address, "group.id": group, "log_level": 2, "auto.offset.reset": "error",
    })
    lost.assign([TopicPartition(topic, 0, 50)])
    wait_until(lambda: (found := lost.poll(0.5)) is not None and found.error() is not None, 30, "an error")
    labels = {"topic": topic, "consumer_group": "", "error_type": "out_of_range"}
    assert wait_until(lambda: broker.metrics().get(errors, **labels), 30, errors) >= 1
    # A member that nobody knows.
    stranger = Consumer({"bootstrap.servers": broker.address, "group.id": group, "log_level": 2})
    member = Consumer({
        "bootstrap.servers": broker.address, "group.id": group, "log_level": 2, "auto.offset.reset": "earliest",
    })
    member.subscribe([topic])
    wait_until(lambda: member.poll(0.2) or member.assignment(), 60, "an assignment")
    with pytest.raises(KafkaException):
        stranger.commit(offsets=[TopicPartition(topic, 0, 1)], asynchronous=False)
    settled(broker, errors, 1, topic="", consumer_group=group, error_type="unknown_member")
    for client in (lost, stranger, member):
        client.close()


def test_what_a_commit_is_refused_of_one_partition_is_counted_and_the_others_are_consumed(broker):
    topic = create_topic(broker.address, unique("halves"), 2)
    group = unique("group")
    keeper = Consumer({"bootstrap.servers": broker.address, "group.id": group, "log_level": 2})
    keeper.commit(offsets=[TopicPartition(topic, 0, 1)], asynchronous=False)
    halves = [
        TopicPartition(topic, 0, 7), TopicPartition(topic, 1, 7, metadata="m" * 5_000), TopicPartition(topic, 2, 7),
    ]
    with pytest.raises(KafkaException):
        keeper.commit(offsets=halves, asynchronous=False)
    stored = keeper.committed([TopicPartition(topic, 0), TopicPartition(topic, 1)], timeout=30)
    assert [one.offset for one in stored] == [7, OFFSET_INVALID]
    keeper.close()
    errors = "streamhouse_consumer_errors_total"
    settled(broker, errors, 1, topic=topic, consumer_group=group, error_type="invalid")
    settled(broker, errors, 1, topic=topic, consumer_group=group, error_type="unknown_topic")
    settled(broker, "streamhouse_consumer_records_total", 6, topic=topic, consumer_group=group)


def test_an_open_transaction_shows_its_age(broker):
    topic = create_topic(broker.address, unique("open"))
    client = Producer({"bootstrap.servers": broker.address, "transactional.id": topic, "log_level": 2})
    client.init_transactions(30)
    client.begin_transaction()
    client.produce(topic, b"x")
    client.flush(30)
    name = "streamhouse_transaction_oldest_open_seconds"
    age = wait_until(lambda: broker.metrics().get(name, topic=topic), 30, name, every=0.5)
    assert 0 < age < 60
    client.commit_transaction(30)
    wait_until(lambda: broker.metrics().get(name, topic=topic) is None, 30, "it has ended", every=0.5)


def test_series_of_a_topic_are_born_at_0_and_die_with_it(broker):
    topic = create_topic(broker.address, unique("born"))
    kcat(broker.address, "-L", "-t", topic)
    settled(broker, "streamhouse_producer_records_total", 0, topic=topic)
    settled(broker, "streamhouse_producer_errors_total", 0, topic=topic, error_type="agent_error")
    admin(broker.address).delete_topics([topic])[topic].result(30)

    def gone() -> bool:
        return not any(("topic", topic) in labels for _, labels in broker.metrics().values)

    wait_until(gone, 60, "the end of a deleted topic's series", every=0.5)


def test_segments_written_equal_segments_flushed(broker):
    topic = create_topic(broker.address, unique("segments"), 4)
    client = producer(broker.address)
    for number in range(4_000):
        client.produce(topic, b"x" * 200, partition=number % 4)
    assert client.flush(60) == 0

    def counted(name: str) -> list[float | None]:
        samples = broker.metrics()
        return [samples.get(f"streamhouse_segment_{name}_total", topic=topic, partition=each) for each in "0123"]

    wait_until(lambda: all(counted("writes")) and counted("writes") == counted("flushes"), 30, "equal counts")


def test_topics_partitions_and_connections_are_counted(new_broker):
    broker = new_broker()
    for partitions in (1, 3, 5):
        create_topic(broker.address, unique("gauge"), partitions)

    def counted() -> bool:
        samples = broker.metrics()
        return samples.get("streamhouse_topics_total") == 3 and samples.sum("streamhouse_partitions_total") == 9

    wait_until(counted, 30, "3 topics of 9 partitions")

    def shown() -> float | None:
        return broker.metrics().get("streamhouse_connections_active")

    def connections(expected: float) -> None:
        wait_until(lambda: shown() == expected, 30, f"{expected}")

    def established() -> int:
        port = f":{broker.port:04X}"
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(row[1].endswith(port) and row[3] == "01" for row in rows)

    # The admin client of `create_topic` keeps its own; what has ended is forgotten a moment later.
    time.sleep(1)
    wait_until(lambda: shown() == established(), 30, "the kernel's count")
    others = established()
    with Connection(broker.address), Connection(broker.address):
        connections(others + 2)
        with Connection(broker.address):
            connections(others + 3)
        connections(others + 2)
    connections(others)
    assert broker.metrics().get("streamhouse_uptime_seconds") > 0


def test_requests_to_the_object_store_equal_what_the_proxy_saw(new_broker, proxy):
    broker = new_broker("s3", endpoint=proxy.endpoint, inline_bytes=0)
    topic = create_topic(broker.address, unique("puts"), 2)
    client = producer(broker.address)
    for number in range(3_000):
        client.produce(topic, b"x" * 500, partition=number % 2)
        if number % 300 == 0:
            client.flush(30)
    assert client.flush(60) == 0
    read_all(broker.address, topic, 2)

    def equal() -> bool:
        samples = broker.metrics()
        return all(
            samples.get("streamhouse_s3_requests_total", operation=operation) == count
            for operation, count in (("PUT", proxy.count("PUT")), ("HEAD", proxy.count("HEAD")))
        ) and samples.sum("streamhouse_s3_requests_total") == proxy.count()

    assert proxy.count("PUT") >= 10
    try:
        wait_until(equal, 30, "equal counts")
    except TimeoutError:
        ours = {k: v for k, v in broker.metrics().values.items() if k[0] == "streamhouse_s3_requests_total" and v}
        pytest.fail(f"ours {ours}, the proxy's {proxy.statuses()}")


def test_health_and_metrics_answer(broker):
    assert broker.get("/health/live")[0] == 200
    wait_until(lambda: broker.get("/health/ready")[0] == 200, 30, "a server that is ready")
    assert broker.get("/health")[0] == 200
    assert broker.get("/nothing-here")[0] == 404
