"""Consumer groups of the classic protocol: sharing, joining, leaving, crashing, and who is refused.

Timeouts are short so that the tests are, and the broker lets them be. Every scenario runs on Apache Kafka
as well.
"""

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from harness.clients import admin, create_topic, unique
from harness.members import PARTITIONS, drain, fill, settle
from harness.process import wait_until

# A busy machine may stand still for a while, and no member is to be taken for dead by that.
SESSION_MS = 15_000


def member(broker, group: str, topic: str, **config: object) -> Consumer:
    consumer = Consumer({
        "bootstrap.servers": broker.address, "group.id": group, "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": 500,
        "partition.assignment.strategy": "range", **config,
    })
    consumer.subscribe([topic])
    return consumer


def test_members_share_partitions_and_each_record_reaches_the_group_once(broker):
    topic = create_topic(broker.address, unique("shared"), PARTITIONS)
    consumers = [member(broker, topic, topic) for _ in range(3)]
    assert sorted(map(len, settle(consumers))) == [4, 4, 4]
    values = fill(broker, topic, 600)
    assert sorted(drain(consumers, len(values))) == sorted(values)
    assert drain(consumers, 1, seconds=1) == []
    for consumer in consumers:
        consumer.close()


def test_a_joining_and_a_leaving_member_move_partitions(broker):
    topic = create_topic(broker.address, unique("moving"), PARTITIONS)
    first = member(broker, topic, topic)
    assert settle([first]) == [set(range(PARTITIONS))]
    second = member(broker, topic, topic)
    assert sorted(map(len, settle([first, second]))) == [6, 6]
    second.close()
    assert settle([first]) == [set(range(PARTITIONS))]
    first.close()


def test_cooperative_members_keep_what_they_have(broker):
    topic = create_topic(broker.address, unique("cooperative"), PARTITIONS)
    strategy = {"partition.assignment.strategy": "cooperative-sticky"}
    first = member(broker, topic, topic, **strategy)
    settle([first])
    second = member(broker, topic, topic, **strategy)
    shares = settle([first, second])
    assert sorted(map(len, shares)) == [6, 6]
    for consumer in (first, second):
        consumer.close()


def test_committed_offsets_outlive_the_broker_and_the_group_goes_on(new_broker):
    broker = new_broker(kafka={"group.initial.rebalance.delay.ms": 0})
    topic = create_topic(broker.address, unique("resumed"), PARTITIONS)
    fill(broker, topic, 120)
    consumer = member(broker, topic, topic)
    seen = drain([consumer], 120)
    assert len(seen) == 120
    consumer.commit(asynchronous=False)
    generation = consumer.consumer_group_metadata()
    broker.kill()
    broker.start()
    fill(broker, topic, 24)
    # The same member goes on; nothing that was committed comes again.
    assert len(drain([consumer], 24)) == 24
    assert drain([consumer], 1, seconds=1) == []
    assert generation is not None
    consumer.close()
    later = member(broker, topic, topic)
    assert len(drain([later], 24)) == 24, "only what was not committed comes again"
    later.close()


def test_a_static_member_comes_back_to_its_partitions_without_a_rebalance(broker):
    topic = create_topic(broker.address, unique("static"), PARTITIONS)
    first = member(broker, topic, topic, **{"group.instance.id": "one"})
    second = member(broker, topic, topic, **{"group.instance.id": "two"})
    shares = settle([first, second])
    # A static member that closes does not leave.
    second.close()
    again = member(broker, topic, topic, **{"group.instance.id": "two"})
    assert settle([first, again]) == shares
    for consumer in (first, again):
        consumer.close()


def test_groups_are_listed_described_and_deleted(broker):
    topic = create_topic(broker.address, unique("described"), PARTITIONS)
    fill(broker, topic, 24)
    consumer = member(broker, topic, topic)
    seen: list[bytes] = []
    settle([consumer], seen=seen)
    seen += drain([consumer], 24 - len(seen))
    assert len(seen) == 24
    consumer.commit(asynchronous=False)
    client: AdminClient = admin(broker.address)
    listed = client.list_consumer_groups().result(20)
    assert topic in [group.group_id for group in listed.valid]
    described = client.describe_consumer_groups([topic])[topic].result(20)
    assert described.state.name == "STABLE"
    assert [len(each.assignment.topic_partitions) for each in described.members] == [PARTITIONS]
    with pytest.raises(KafkaException) as refused:
        client.delete_consumer_groups([topic])[topic].result(20)
    assert refused.value.args[0].code() == KafkaError.NON_EMPTY_GROUP
    asked = [ConsumerGroupTopicPartitions(topic)]
    offsets = client.list_consumer_group_offsets(asked)[topic].result(20).topic_partitions
    assert sum(partition.offset for partition in offsets) == 24
    consumer.close()
    client.delete_consumer_groups([topic])[topic].result(20)
    with pytest.raises(KafkaException) as refused:
        client.delete_consumer_groups([topic])[topic].result(20)
    assert refused.value.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND


def test_offsets_are_committed_without_being_a_member(broker):
    topic = create_topic(broker.address, unique("simple"), 2)
    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": topic, "enable.auto.commit": False})
    consumer.commit(offsets=[TopicPartition(topic, 1, 7, "a note")], asynchronous=False)
    found = consumer.committed([TopicPartition(topic, 0), TopicPartition(topic, 1)], timeout=20)
    assert [partition.offset for partition in found] == [-1001, 7]
    assert found[1].metadata == "a note"
    with pytest.raises(KafkaException) as refused:
        consumer.commit(offsets=[TopicPartition(topic, 0, 1, "x" * 5_000)], asynchronous=False)
    assert refused.value.args[0].code() == KafkaError.OFFSET_METADATA_TOO_LARGE
    consumer.close()


@pytest.mark.ours
def test_lag_is_what_the_group_has_not_consumed_also_while_nobody_consumes(new_broker):
    broker = new_broker()
    # Names that would meet in a registry that runs label values together.
    for topic in ("orders", "orders1"):
        create_topic(broker.address, topic, PARTITIONS)
        fill(broker, topic, 24)
    simple = Consumer({"bootstrap.servers": broker.address, "group.id": "billing", "enable.auto.commit": False})
    simple.commit(offsets=[TopicPartition("orders", 11, 2), TopicPartition("orders1", 1, 0)], asynchronous=False)
    simple.close()
    fill(broker, "orders", 24)

    def lag(topic: str, partition: int, name: str = "consumer_lag") -> float | None:
        labels = {"topic": topic, "partition": str(partition), "consumer_group": "billing"}
        return broker.metrics().get(f"streamhouse_{name}", **labels)

    # A scrape shows no lag where the snapshot took too long.
    wait_until(lambda: lag("orders", 11) is not None, 60, "a snapshot")
    assert (lag("orders", 11), lag("orders1", 1)) == (2, 2)
    assert lag("orders", 1) is None, "nothing was committed there"
    assert lag("orders", 11, "consumer_lag_seconds") > 0
    client = admin(broker.address)
    client.delete_topics(["orders1"])["orders1"].result(20)
    wait_until(lambda: lag("orders1", 1) is None, 60, "a deleted topic's lag goes")
    client.delete_consumer_groups(["billing"])["billing"].result(20)
    wait_until(lambda: lag("orders", 11) is None, 60, "a deleted group's lag goes")
