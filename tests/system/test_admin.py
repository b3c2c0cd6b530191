"""Topics as administrators handle them: created, widened, deleted, created again, refused by name."""

import time

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import NewPartitions, NewTopic

from harness.clients import admin, create_topic, producer, read_all, send_all, unique, watermarks


def refusal(future) -> int:
    with pytest.raises(KafkaException) as raised:
        future.result(30)
    return raised.value.args[0].code()


def test_a_topic_is_created_with_its_partitions_and_refused_twice(broker):
    topic = create_topic(broker.address, unique("created"), 7)
    client = admin(broker.address)
    again = client.create_topics([NewTopic(topic, num_partitions=7, replication_factor=1)])[topic]
    assert refusal(again) == KafkaError.TOPIC_ALREADY_EXISTS
    assert sorted(client.list_topics(topic, timeout=30).topics[topic].partitions) == list(range(7))


@pytest.mark.parametrize("name", ["", ".", "..", "with space", "slash/ed", "x" * 250, "täglich"])
def test_illegal_names_are_refused(broker, name):
    created = admin(broker.address).create_topics([NewTopic(name, num_partitions=1, replication_factor=1)])
    assert refusal(created[name]) in (KafkaError.TOPIC_EXCEPTION, KafkaError._INVALID_ARG)


def test_impossible_partition_counts_are_refused(broker):
    topic = unique("impossible")
    created = admin(broker.address).create_topics([NewTopic(topic, num_partitions=0, replication_factor=1)])
    assert refusal(created[topic]) in (KafkaError.INVALID_PARTITIONS, KafkaError._INVALID_ARG)


def test_validate_only_creates_nothing(broker):
    topic = unique("validated")
    client = admin(broker.address)
    new = NewTopic(topic, num_partitions=1, replication_factor=1)
    client.create_topics([new], validate_only=True)[topic].result(30)
    assert topic not in client.list_topics(timeout=30).topics


@pytest.mark.ours
def test_any_replication_factor_is_accepted_and_one_replica_reported(broker):
    topic = unique("replicated")
    client = admin(broker.address)
    client.create_topics([NewTopic(topic, num_partitions=1, replication_factor=3)])[topic].result(30)
    [partition] = client.list_topics(topic, timeout=30).topics[topic].partitions.values()
    assert len(partition.replicas) == len(partition.isrs) == 1


def test_partitions_are_added_and_written_and_never_taken_away(broker):
    topic = create_topic(broker.address, unique("widened"), 2)
    send_all(broker.address, topic, [b"before"])
    client = admin(broker.address)
    client.create_partitions([NewPartitions(topic, 5)])[topic].result(30)
    deadline = time.monotonic() + 30
    while len(client.list_topics(topic, timeout=30).topics[topic].partitions) != 5:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    writer = producer(broker.address)
    for partition in range(5):
        writer.produce(topic, b"after", partition=partition)
    assert writer.flush(60) == 0
    assert [len(each) for each in read_all(broker.address, topic, 5)] == [2, 1, 1, 1, 1]
    assert refusal(client.create_partitions([NewPartitions(topic, 3)])[topic]) == KafkaError.INVALID_PARTITIONS


def test_a_deleted_topic_is_gone_and_its_name_starts_anew(broker):
    topic = create_topic(broker.address, unique("deleted"))
    send_all(broker.address, topic, [b"old"] * 10)
    client = admin(broker.address)
    client.delete_topics([topic])[topic].result(30)
    deadline = time.monotonic() + 30
    while topic in client.list_topics(timeout=30).topics:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    create_topic(broker.address, topic)
    assert watermarks(broker.address, topic) == (0, 0)
    send_all(broker.address, topic, [b"new"])
    assert [each.value() for each in read_all(broker.address, topic)[0]] == [b"new"]


def test_an_unknown_topic_cannot_be_deleted(broker):
    topic = unique("nowhere")
    assert refusal(admin(broker.address).delete_topics([topic])[topic]) == KafkaError.UNKNOWN_TOPIC_OR_PART


@pytest.mark.restarts
def test_topics_survive_a_restart_with_the_broker_id_and_cluster_id(new_broker):
    broker = new_broker()
    topic = create_topic(broker.address, unique("lasting"), 3)
    before = admin(broker.address).list_topics(topic, timeout=30)
    broker.restart()
    after = admin(broker.address).list_topics(topic, timeout=30)
    assert sorted(after.topics[topic].partitions) == [0, 1, 2]
    assert set(after.brokers) == set(before.brokers)
    assert after.cluster_id == before.cluster_id
