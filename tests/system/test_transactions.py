"""Transactions: what readers of committed records see, and who is fenced.

Every scenario but those that kill the broker runs on Apache Kafka as well.
"""

import time

import pytest
from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import OffsetSpec

from harness.clients import admin, create_topic, producer, unique
from harness.process import wait_until

pytestmark = pytest.mark.promise

ABORTS_SOON = {"transaction.abort.timed.out.transaction.cleanup.interval.ms": 500}


def transactional(broker, name: str, **config: object) -> Producer:
    client = Producer({
        "bootstrap.servers": broker.address, "transactional.id": name, "log_level": 2, "linger.ms": 0,
        **{key.replace("_", "."): value for key, value in config.items()},
    })
    client.init_transactions(60)
    return client


def write(client: Producer, topic: str, *values: str, partition: int = 0) -> None:
    for value in values:
        client.produce(topic, value, partition=partition)
    assert client.flush(60) == 0


def read(broker, topic: str, isolation: str = "read_committed", partitions: int = 1) -> list[str]:
    """Everything a new reader gets until it stands at the end."""
    client = Consumer({
        "bootstrap.servers": broker.address, "group.id": unique("reader"), "isolation.level": isolation,
        "enable.partition.eof": True, "enable.auto.commit": False, "log_level": 2,
    })
    client.assign([TopicPartition(topic, each, 0) for each in range(partitions)])
    values, left = [], set(range(partitions))
    deadline = time.monotonic() + 60
    while left:
        assert time.monotonic() < deadline, f"partitions {left} do not end; so far {len(values)}"
        message = client.poll(1)
        if message is None:
            continue
        if message.error() is None:
            values.append(message.value().decode())
        else:
            assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
            left.discard(message.partition())
    client.close()
    return values


def latest(broker, topic: str, isolation: IsolationLevel) -> int:
    place = TopicPartition(topic, 0)
    found = admin(broker.address).list_offsets({place: OffsetSpec.latest()}, isolation_level=isolation)
    return found[place].result(30).offset


def test_committed_records_are_seen_and_aborted_ones_are_not(broker):
    topic = create_topic(broker.address, unique("ledger"), 2)
    client = transactional(broker, topic)
    client.begin_transaction()
    write(client, topic, "a", "b")
    write(client, topic, "c", partition=1)
    client.commit_transaction(30)
    client.begin_transaction()
    write(client, topic, "dropped")
    write(client, topic, "dropped too", partition=1)
    client.abort_transaction(30)
    client.begin_transaction()
    write(client, topic, "d")
    client.commit_transaction(30)
    assert sorted(read(broker, topic, partitions=2)) == ["a", "b", "c", "d"]
    everything = sorted(read(broker, topic, "read_uncommitted", partitions=2))
    assert everything == ["a", "b", "c", "d", "dropped", "dropped too"]
    # Markers take offsets: a, b, COMMIT, dropped, ABORT, d, COMMIT.
    assert latest(broker, topic, IsolationLevel.READ_COMMITTED) == 7


def test_an_open_transaction_holds_readers_of_committed_records_back(broker):
    topic = create_topic(broker.address, unique("open"))
    client = transactional(broker, topic)
    client.begin_transaction()
    write(client, topic, "open")
    plain = producer(broker.address)
    write(plain, topic, "behind")
    assert read(broker, topic) == []
    assert read(broker, topic, "read_uncommitted") == ["open", "behind"]
    assert latest(broker, topic, IsolationLevel.READ_COMMITTED) == 0
    assert latest(broker, topic, IsolationLevel.READ_UNCOMMITTED) == 2
    client.commit_transaction(30)
    assert read(broker, topic) == ["open", "behind"]
    assert latest(broker, topic, IsolationLevel.READ_COMMITTED) == 3


def test_a_waiting_reader_gets_the_records_when_their_transaction_commits(broker):
    topic = create_topic(broker.address, unique("wakes"))
    client = transactional(broker, topic)
    client.begin_transaction()
    write(client, topic, "now")
    reader = Consumer({
        "bootstrap.servers": broker.address, "group.id": topic, "isolation.level": "read_committed",
        "fetch.wait.max.ms": 20_000, "log_level": 2, "socket.timeout.ms": 60_000,
    })
    reader.assign([TopicPartition(topic, 0, 0)])
    assert reader.poll(2) is None
    client.commit_transaction(30)
    message = reader.poll(15)
    assert message is not None and message.value() == b"now"
    reader.close()


def test_a_second_start_of_a_producer_fences_the_first_and_aborts_what_it_left(broker):
    topic = create_topic(broker.address, unique("fenced"))
    first = transactional(broker, topic)
    first.begin_transaction()
    write(first, topic, "lost")
    second = transactional(broker, topic)
    with pytest.raises(KafkaException) as refused:
        first.produce(topic, "zombie", partition=0)
        first.commit_transaction(30)
    assert refused.value.args[0].code() in (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError._STATE)
    second.begin_transaction()
    write(second, topic, "kept")
    second.commit_transaction(30)
    assert read(broker, topic) == ["kept"]
    assert "zombie" not in read(broker, topic, "read_uncommitted")


def test_a_transaction_that_nobody_ends_is_aborted_after_its_timeout(new_broker):
    broker = new_broker(kafka=ABORTS_SOON)
    topic = create_topic(broker.address, unique("forgotten"))
    # Long enough for the record to be written within it.
    client = transactional(broker, topic, transaction_timeout_ms=6_000)
    client.begin_transaction()
    write(client, topic, "forgotten")
    wait_until(lambda: latest(broker, topic, IsolationLevel.READ_COMMITTED) == 2, 60, "the abort's marker")
    with pytest.raises(KafkaException) as refused:
        client.commit_transaction(30)
    assert refused.value.args[0].code() in (KafkaError._FENCED, KafkaError.PRODUCER_FENCED)
    assert read(broker, topic) == []


def committed(broker, group: str, topic: str) -> int:
    client = Consumer({"bootstrap.servers": broker.address, "group.id": group, "log_level": 2})
    [place] = client.committed([TopicPartition(topic, 0)], timeout=30)
    client.close()
    return place.offset


def test_offsets_are_committed_with_their_transaction_or_not_at_all(broker):
    topic = create_topic(broker.address, unique("offsets"))
    write(producer(broker.address), topic, *map(str, range(10)))
    reader = Consumer({
        "bootstrap.servers": broker.address, "group.id": topic, "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "log_level": 2,
    })
    reader.subscribe([topic])
    wait_until(lambda: reader.poll(0.5) is not None, 60, "a first record")
    client = transactional(broker, topic)
    for offset, ends, expected in [(4, "abort", -1001), (6, "commit", 6), (9, "abort", 6)]:
        client.begin_transaction()
        write(client, topic, f"up to {offset}")
        place = [TopicPartition(topic, 0, offset)]
        client.send_offsets_to_transaction(place, reader.consumer_group_metadata(), 30)
        client.commit_transaction(30) if ends == "commit" else client.abort_transaction(30)
        assert committed(broker, topic, topic) == expected
    reader.close()


def test_a_member_of_an_old_generation_commits_nothing_in_a_transaction(broker):
    topic = create_topic(broker.address, unique("generations"))
    write(producer(broker.address), topic, "one")
    config = {
        "bootstrap.servers": broker.address, "group.id": topic, "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "log_level": 2,
    }
    reader = Consumer(config)
    reader.subscribe([topic])
    wait_until(lambda: reader.poll(0.5) is not None, 60, "a first record")
    old = reader.consumer_group_metadata()
    reader.close()
    again = Consumer(config)
    again.subscribe([topic])
    wait_until(lambda: again.poll(0.5) is not None, 60, "the record again")
    client = transactional(broker, topic)
    client.begin_transaction()
    write(client, topic, "out")
    with pytest.raises(KafkaException) as refused:
        client.send_offsets_to_transaction([TopicPartition(topic, 0, 1)], old, 30)
    assert refused.value.args[0].code() in (KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION)
    assert refused.value.args[0].txn_requires_abort()
    client.abort_transaction(30)
    assert committed(broker, topic, topic) == -1001
    again.close()


@pytest.mark.ours
@pytest.mark.parametrize("store", ["local", "s3"])
def test_a_transaction_goes_on_over_a_killed_broker(new_broker, store):
    broker = new_broker(store)
    topic = create_topic(broker.address, unique("killed"))
    client = transactional(broker, topic)
    for number in range(6):
        client.begin_transaction()
        write(client, topic, f"{number} before")
        broker.kill()
        broker.start()
        write(client, topic, f"{number} after")
        client.commit_transaction(60) if number % 2 else client.abort_transaction(60)
    expected = [f"{number} {when}" for number in (1, 3, 5) for when in ("before", "after")]
    assert read(broker, topic) == expected
    # Nothing was stored twice either, in what was aborted.
    everything = [f"{number} {when}" for number in range(6) for when in ("before", "after")]
    assert read(broker, topic, "read_uncommitted") == everything
