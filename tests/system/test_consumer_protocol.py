"""Consumer groups of the newer protocol (KIP-848): the server assigns, members follow step by step.

Timeouts are short so that the tests are. Every scenario runs on Apache Kafka as well.
"""

import struct
import subprocess
import sys
import time

import pytest
from confluent_kafka import Consumer, ConsumerGroupType, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from harness.clients import admin, create_topic, unique
from harness.flexible import TAGS, EpochMember, array, call, compact, take_compact, take_unsigned
from harness.members import PARTITIONS, QUICK_FLAGS, QUICK_KAFKA, drain, fill, owned, settle
from harness.process import wait_until
from harness.wire import Connection, Reader
from system.test_refusals import (
    ILLEGAL_GENERATION, NONE, OFFSET_COMMIT, TXN_OFFSET_COMMIT, Transactional, coordinated,
)
from system.test_refusals_epochs import STALE_EPOCH, read

KAFKA_SETTINGS, BROKER_FLAGS = QUICK_KAFKA, QUICK_FLAGS

# A member that owns something, says so, and goes on until it is killed.
MEMBER = """
import sys
from confluent_kafka import Consumer
address, topic = sys.argv[1:]
consumer = Consumer({"bootstrap.servers": address, "group.id": topic, "group.protocol": "consumer"})
consumer.subscribe([topic])
while True:
    consumer.poll(0.1)
    print(len(consumer.assignment()), flush=True)
"""


def member(broker, group: str, *topics: str, **config: object) -> Consumer:
    consumer = Consumer({
        "bootstrap.servers": broker.address, "group.id": group, "group.protocol": "consumer",
        "auto.offset.reset": "earliest", "enable.auto.commit": False, "topic.metadata.refresh.interval.ms": 1_000,
        **config,
    })
    consumer.subscribe(list(topics))
    return consumer


def classic(broker, group: str, topic: str) -> Consumer:
    return member(broker, group, topic, **{"group.protocol": "classic", "session.timeout.ms": 15_000})


def even(consumers: list[Consumer], seen: list) -> None:
    """Waits until the members share evenly; on their way there they may own everything, and be uneven still."""
    end = time.monotonic() + 60
    while True:
        sizes = sorted(map(len, settle(consumers, seen=seen)))
        if sizes[-1] - sizes[0] <= 1:
            return
        assert time.monotonic() < end, sizes


def close(*consumers: Consumer) -> None:
    for consumer in consumers:
        consumer.close()


@pytest.mark.parametrize("assignor", ["uniform", "range"])
def test_up_to_five_members_share_partitions_and_each_record_reaches_the_group_once(broker, assignor):
    topic = create_topic(broker.address, unique(f"shared-{assignor}"), PARTITIONS)
    consumers = []
    sent, got = [], []
    for _ in range(5):
        consumers.append(member(broker, topic, topic, **{"group.remote.assignor": assignor}))
        even(consumers, got)
        sent += fill(broker, topic, 60)
        got += drain(consumers, len(sent) - len(got))
        for consumer in consumers:
            consumer.commit(asynchronous=False)
    close(consumers.pop(), consumers.pop(0))
    even(consumers, got)
    sent += fill(broker, topic, 60)
    got += drain(consumers, len(sent) - len(got))
    assert drain(consumers, 1, seconds=1) == []
    # Everybody committed before anything moved: nothing came twice.
    assert sorted(got) == sorted(sent)
    close(*consumers)


def test_a_member_that_is_killed_loses_its_partitions_when_its_session_ends(broker):
    topic = create_topic(broker.address, unique("crash"), PARTITIONS)
    survivor = member(broker, topic, topic)
    settle([survivor])
    victim = subprocess.Popen([sys.executable, "-c", MEMBER, broker.address, topic], stdout=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + 60
        # Both are needed: the survivor gives up only while it polls.
        while len(owned(survivor)) != PARTITIONS // 2 and time.monotonic() < end:
            survivor.poll(0.05)
        assert len(owned(survivor)) == PARTITIONS // 2
        while int(victim.stdout.readline()) != PARTITIONS // 2:
            survivor.poll(0)
            assert time.monotonic() < end
    finally:
        victim.kill()
        victim.wait()
    assert settle([survivor]) == [set(range(PARTITIONS))]
    close(survivor)


def test_a_static_member_comes_back_to_its_partitions(broker):
    topic = create_topic(broker.address, unique("static"), PARTITIONS)
    other = member(broker, topic, topic)
    fixed = member(broker, topic, topic, **{"group.instance.id": "fixed"})
    shares = settle([other, fixed])
    close(fixed)
    back = member(broker, topic, topic, **{"group.instance.id": "fixed"})
    assert settle([other, back]) == shares
    close(other, back)


def test_partitions_that_are_added_and_topics_that_match_later_are_assigned(broker):
    prefix = unique("log")
    first = create_topic(broker.address, f"{prefix}-a", 2)
    consumer = member(broker, prefix, f"^{prefix}-.*")

    def assigned() -> set[tuple[str, int]]:
        consumer.poll(0.05)
        return {(each.topic, each.partition) for each in consumer.assignment()}

    def wait(wanted: set[tuple[str, int]]) -> None:
        end = time.monotonic() + 60
        while (now := assigned()) != wanted:
            assert time.monotonic() < end, f"{now} is not {wanted}"

    wait({(first, 0), (first, 1)})
    client: AdminClient = admin(broker.address)
    client.create_partitions([NewPartitions(first, 3)])[first].result(20)
    wait({(first, 0), (first, 1), (first, 2)})
    second = create_topic(broker.address, f"{prefix}-b", 1)
    create_topic(broker.address, f"not-{prefix}-c", 1)
    wait({(first, 0), (first, 1), (first, 2), (second, 0)})
    client.delete_topics([second])[second].result(20)
    wait({(first, 0), (first, 1), (first, 2)})
    close(consumer)


def test_a_group_goes_on_where_it_was_after_the_broker_was_killed(new_broker):
    broker = new_broker(kafka=QUICK_KAFKA, **QUICK_FLAGS)
    topic = create_topic(broker.address, unique("resumed"), PARTITIONS)
    consumers = [member(broker, topic, topic) for _ in range(2)]
    even(consumers, [])
    fill(broker, topic, 120)
    assert len(drain(consumers, 120)) == 120
    for consumer in consumers:
        consumer.commit(asynchronous=False)
    broker.kill()
    broker.start()
    sent, got = set(fill(broker, topic, 24)), set()
    end = time.monotonic() + 60
    # A record may come twice around the restart; none may be left out.
    while not got >= sent and time.monotonic() < end:
        got |= set(drain(consumers, 1, seconds=1))
    assert got >= sent
    even(consumers, [])
    close(*consumers)


def test_an_empty_group_goes_over_to_the_other_protocol_and_back_with_its_offsets(broker):
    topic = create_topic(broker.address, unique("over"), PARTITIONS)
    client: AdminClient = admin(broker.address)

    def kind() -> str:
        listed = client.list_consumer_groups(types={ConsumerGroupType.CLASSIC, ConsumerGroupType.CONSUMER}).result(20)
        return next(group.type.name for group in listed.valid if group.group_id == topic)

    for join, name in [(classic, "CLASSIC"), (member, "CONSUMER"), (classic, "CLASSIC")]:
        consumer = join(broker, topic, topic)
        settle([consumer])
        fill(broker, topic, 24)
        assert len(drain([consumer], 24)) == 24
        assert drain([consumer], 1, seconds=0.5) == [], "what was committed before does not come again"
        consumer.commit(asynchronous=False)
        assert kind() == name
        with pytest.raises(KafkaException):
            client.delete_consumer_groups([topic])[topic].result(20)
        close(consumer)
    client.delete_consumer_groups([topic])[topic].result(20)


def test_offsets_of_a_member_are_committed_in_its_own_epoch_only(broker):
    topic = create_topic(broker.address, unique("epochs"), 1)
    consumer = member(broker, topic, topic)
    settle([consumer], partitions=1)
    fill_one = Consumer({"bootstrap.servers": broker.address, "group.id": topic, "enable.auto.commit": False})
    # Who is no member commits nothing while there are members.
    with pytest.raises(KafkaException):
        fill_one.commit(offsets=[TopicPartition(topic, 0, 5)], asynchronous=False)
    consumer.commit(offsets=[TopicPartition(topic, 0, 0)], asynchronous=False)
    found = consumer.committed([TopicPartition(topic, 0)], timeout=20)
    assert [each.offset for each in found] == [0]
    close(fill_one, consumer)


def wanted(topic: str, partitions: set[int]) -> bytes:
    each = [struct.pack(">iqi", partition, 1, -1) + compact(None) + TAGS for partition in sorted(partitions)]
    return array([compact(topic) + array(each) + TAGS])


def codes(answer: Reader) -> set[int]:
    """The codes of the partitions of the one topic."""
    answer.number("i")
    assert take_unsigned(answer) == 2
    take_compact(answer)
    found = set()
    for _ in range(take_unsigned(answer) - 1):
        answer.number("i")
        found.add(answer.number("h"))
        answer.take(1)
    return found


def commit(member: EpochMember, epoch: int, topic: str, partitions: set[int]) -> set[int]:
    """OffsetCommit v9."""
    return codes(call(member.wire, OFFSET_COMMIT, 9, (
        compact(member.group) + struct.pack(">i", epoch) + compact(member.id) + compact(member.instance)
        + wanted(topic, partitions)
    )))


def commit_in(producer: Transactional, member: EpochMember, epoch: int, topic: str, partitions: set[int]) -> set[int]:
    """TxnOffsetCommit v3."""
    return codes(call(member.wire, TXN_OFFSET_COMMIT, 3, (
        compact(producer.name) + compact(member.group) + struct.pack(">qhi", producer.id, producer.epoch, epoch)
        + compact(member.id) + compact(member.instance) + wanted(topic, partitions)
    )))


def held(member: EpochMember) -> set[int]:
    return set().union(*member.assigned.values())


def with_all_four(wire: Connection, topic: str) -> EpochMember:
    """The only member of a new group, once it has the topic's four partitions."""
    member = EpochMember(wire, unique("group"), (topic,)).enter()
    wait_until(lambda: member.beat() == NONE and held(member) == {0, 1, 2, 3}, 60, "it has everything", every=0.1)
    return member


def told_to_keep(member: EpochMember, count: int) -> set[int]:
    """Heartbeats until the member shall have so many partitions; what it has to give up for that, and has not yet."""
    before = held(member)

    def told() -> bool:
        assert member.beat() == NONE
        return len(held(member)) == count

    wait_until(told, 60, f"the member is told to keep {count}", every=0.1)
    return before - held(member)


def given_up(member: EpochMember, epoch: int) -> None:
    """Says that it has what it shall have, until it is in a newer epoch."""

    def moved() -> bool:
        assert member.beat(owned=member.assigned) == NONE
        return member.epoch > epoch

    wait_until(moved, 60, "the member moves on", every=0.1)


def test_a_member_commits_in_an_older_epoch_what_it_has_had_since_then(broker):
    # KIP-1251: a client commits in the epoch of which it has heard, while the coordinator is ahead of it already.
    topic = create_topic(broker.address, unique("older"), 4)
    coordinated(broker)
    with Connection(broker.address) as wire:
        member = with_all_four(wire, topic)
        first = member.epoch
        others = [EpochMember(wire, member.group, (topic,)).enter()]
        gone = told_to_keep(member, 2)
        assert member.epoch == first
        given_up(member, first)
        kept, second = held(member), member.epoch
        assert commit(member, first, topic, kept) == {NONE}
        assert commit(member, first, topic, gone) == {STALE_EPOCH}
        assert commit(member, first, topic, kept | gone) == {STALE_EPOCH}
        assert commit(member, first - 1, topic, kept) == {STALE_EPOCH}
        assert commit(member, second + 1, topic, kept) == {STALE_EPOCH}
        # In its own epoch nobody asks what it has.
        assert commit(member, second, topic, gone) == {NONE}
        # Only in its own epoch does it read.
        assert [read(member, topic, by) for by in (first - second, 0)] == [STALE_EPOCH, NONE]
        producer = Transactional(wire)
        assert [producer.start(), producer.add_offsets(member.group)] == [NONE, NONE]
        assert commit_in(producer, member, first, topic, kept) == {NONE}
        assert commit_in(producer, member, first, topic, gone) == {ILLEGAL_GENERATION}
        # What it gives up is still its own.
        others += [EpochMember(wire, member.group, (topic,)).enter() for _ in range(2)]
        going = told_to_keep(member, 1)
        assert member.epoch == second
        assert commit(member, first, topic, kept) == {NONE}
        given_up(member, second)
        for epoch in (first, second):
            assert commit(member, epoch, topic, held(member)) == {NONE}
            assert commit(member, epoch, topic, going) == {STALE_EPOCH}


def test_who_has_still_more_to_give_up_stays_in_its_epoch(broker):
    topic = create_topic(broker.address, unique("more"), 4)
    coordinated(broker)
    with Connection(broker.address) as wire:
        member = with_all_four(wire, topic)
        first = member.epoch
        others = [EpochMember(wire, member.group, (topic,)).enter()]
        told_to_keep(member, 2)
        others += [EpochMember(wire, member.group, (topic,)).enter() for _ in range(2)]

        def all_know() -> bool:
            assert [other.beat() for other in others] == [NONE] * 3
            # Kafka assigns once for several that come soon after each other, and later.
            return len({other.epoch for other in others}) == 1 and others[0].epoch >= first + 2

        wait_until(all_know, 60, "the others are in the newest epoch", every=0.1)
        # It says that it is rid of the two, and is told of another one; that is no newer epoch yet.
        assert member.beat(owned=member.assigned) == NONE
        assert (len(held(member)), member.epoch) == (1, first)
        given_up(member, first)
        assert member.epoch == others[0].epoch


def test_what_a_member_has_had_since_when_outlives_the_coordinator(new_broker):
    broker = new_broker(kafka=QUICK_KAFKA, **QUICK_FLAGS)
    topic = create_topic(broker.address, unique("older"), 2)
    coordinated(broker)
    with Connection(broker.address) as wire:
        member = EpochMember(wire, unique("group"), (topic,)).enter()
        wait_until(lambda: member.beat() == NONE and held(member) == {0, 1}, 60, "it has everything", every=0.1)
        first = member.epoch
        EpochMember(wire, member.group, (topic,)).enter()
        gone = told_to_keep(member, 1)
        given_up(member, first)
    broker.kill()
    broker.start()
    coordinated(broker)
    with Connection(broker.address) as member.wire:
        # Kafka reads its groups first.
        wait_until(lambda: commit(member, member.epoch, topic, held(member)) == {NONE}, 60, "the group is back")
        assert commit(member, first, topic, held(member)) == {NONE}
        assert commit(member, first, topic, gone) == {STALE_EPOCH}
