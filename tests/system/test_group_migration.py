"""Groups with members go over from the classic group protocol to the newer one and back (KIP-848, live migration),
as in a rolling restart of an application: under load, and without a partition ever being with two members.

Every scenario runs on Apache Kafka as well.
"""

import struct
import threading
import time

import pytest
from confluent_kafka import Consumer, ConsumerGroupType, KafkaException, Producer, TopicPartition

from harness.clients import admin, create_topic, unique
from harness.flexible import EpochMember
from harness.members import PARTITIONS, QUICK_FLAGS, QUICK_KAFKA
from harness.process import wait_until
from harness.wire import Connection
from system.test_refusals import (
    BROKER_FLAGS as AT_ONCE, GROUP_ID_NOT_FOUND, ILLEGAL_GENERATION, INCONSISTENT_PROTOCOL, MEMBER_ID_REQUIRED, NONE,
    Member, coordinated,
)

KAFKA_SETTINGS, BROKER_FLAGS = QUICK_KAFKA, QUICK_FLAGS | AT_ONCE

REBALANCING = 27

NEWER = {"group.protocol": "consumer"}
CLASSIC = {"group.protocol": "classic", "session.timeout.ms": 15_000, "heartbeat.interval.ms": 300}


class Ledger:
    """Who had which partition from when to when, and what came to whom."""

    def __init__(self):
        self.lock = threading.Lock()
        self.spans: list[dict] = []
        self.seen: set[bytes] = set()
        self.strays: list = []

    def begin(self, worker: "Worker", partitions: list[TopicPartition]) -> None:
        with self.lock:
            for each in partitions:
                self.spans.append({"of": each.partition, "by": worker.name, "from": time.monotonic(), "to": None})

    def end(self, worker: "Worker", partitions: list[TopicPartition]) -> None:
        gone = {each.partition for each in partitions}
        with self.lock:
            for span in self.spans:
                if span["by"] == worker.name and span["to"] is None and span["of"] in gone:
                    span["to"] = time.monotonic()

    def take(self, worker: "Worker", partition: int, value: bytes) -> None:
        with self.lock:
            self.seen.add(value)
            if partition not in self.owned(worker):
                self.strays.append((worker.name, partition))

    def owned(self, worker: "Worker") -> set[int]:
        return {span["of"] for span in self.spans if span["by"] == worker.name and span["to"] is None}

    def overlaps(self) -> list:
        with self.lock:
            spans = sorted(self.spans, key=lambda span: (span["of"], span["from"]))
        pairs = zip(spans, spans[1:], strict=False)
        return [
            (one, other) for one, other in pairs
            if one["of"] == other["of"] and (one["to"] is None or one["to"] > other["from"])
        ]


class Worker:
    """A member that polls in a thread of its own and commits what it has taken, also when it has to give it up."""

    def __init__(self, broker, topic: str, ledger: Ledger, **config: object):
        self.name = unique("worker")
        self.ledger = ledger
        self.consumer = Consumer({
            "bootstrap.servers": broker.address, "group.id": topic, "client.id": self.name,
            "auto.offset.reset": "earliest", "enable.auto.commit": False, **config,
        })
        self.topic = topic
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        self.consumer.subscribe(
            [self.topic], on_assign=lambda _, partitions: self.ledger.begin(self, partitions),
            on_revoke=self.give_up, on_lost=lambda _, partitions: self.ledger.end(self, partitions),
        )
        committed = time.monotonic()
        while not self.stopping.is_set():
            message = self.consumer.poll(0.05)
            if message is not None and message.error() is None:
                self.ledger.take(self, message.partition(), message.value())
            if time.monotonic() - committed > 0.5:
                self.commit()
                committed = time.monotonic()
        self.consumer.close()

    def give_up(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.commit()
        self.ledger.end(self, partitions)

    def commit(self) -> None:
        try:
            self.consumer.commit(asynchronous=False)
        except KafkaException:
            # Nothing to commit, or the group moves on: whoever has the partition next begins a little earlier.
            pass

    def stop(self) -> None:
        self.stopping.set()
        self.thread.join(60)
        assert not self.thread.is_alive()


class Load:
    """Numbered records to all partitions in turn, until it is stopped."""

    def __init__(self, broker, topic: str):
        self.producer = Producer({"bootstrap.servers": broker.address, "acks": "all", "linger.ms": 5})
        self.topic, self.sent = topic, 0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        while not self.stopping.is_set():
            self.producer.produce(self.topic, str(self.sent).encode(), partition=self.sent % PARTITIONS)
            self.sent += 1
            self.producer.poll(0)
            time.sleep(0.005)

    def stop(self) -> set[bytes]:
        self.stopping.set()
        self.thread.join(60)
        assert self.producer.flush(60) == 0
        return {str(n).encode() for n in range(self.sent)}


def settle(ledger: Ledger, workers: list[Worker], seconds: float = 90) -> None:
    """Waits until the workers have all partitions between them, each of them some, and that lasts for a moment."""
    end, since = time.monotonic() + seconds, None
    while True:
        with ledger.lock:
            shares = [ledger.owned(worker) for worker in workers]
        is_whole = sum(map(len, shares)) == PARTITIONS and set().union(*shares) == set(range(PARTITIONS)) and all(shares)
        since = (since or time.monotonic()) if is_whole else None
        if since is not None and time.monotonic() - since > 0.5:
            return
        assert time.monotonic() < end, f"not settled: {shares}"
        time.sleep(0.05)


def kind(broker, group: str) -> str:
    listed = admin(broker.address).list_consumer_groups(
        types={ConsumerGroupType.CLASSIC, ConsumerGroupType.CONSUMER}).result(20)
    return next(each.type.name for each in listed.valid if each.group_id == group)


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_members_are_replaced_one_by_one_by_such_of_the_newer_protocol_and_back(broker, strategy):
    topic = create_topic(broker.address, unique(strategy), PARTITIONS)
    ledger, load = Ledger(), Load(broker, topic)
    classic = CLASSIC | {"partition.assignment.strategy": strategy}
    workers = [Worker(broker, topic, ledger, **classic) for _ in range(3)]
    settle(ledger, workers)
    assert kind(broker, topic) == "CLASSIC"
    for config in (NEWER, classic):
        for nth in range(3):
            workers.append(Worker(broker, topic, ledger, **config))
            settle(ledger, workers)
            assert kind(broker, topic) == "CONSUMER"
            workers.pop(0).stop()
            settle(ledger, workers)
            is_back = config is classic and nth == 2
            assert kind(broker, topic) == ("CLASSIC" if is_back else "CONSUMER")
    sent = load.stop()
    end = time.monotonic() + 60
    while not ledger.seen >= sent and time.monotonic() < end:
        time.sleep(0.1)
    missing = sent - ledger.seen
    for worker in workers:
        worker.stop()
    assert not missing, f"{len(missing)} of {len(sent)} never came"
    assert ledger.overlaps() == []
    assert ledger.strays == []


def test_a_group_of_both_goes_on_where_it_was_after_the_broker_was_killed(new_broker):
    broker = new_broker(kafka=QUICK_KAFKA, **{name.replace("-", "_"): value for name, value in BROKER_FLAGS.items()})
    topic = create_topic(broker.address, unique("resumed"), PARTITIONS)
    ledger, load = Ledger(), Load(broker, topic)
    workers = [Worker(broker, topic, ledger, **CLASSIC), Worker(broker, topic, ledger, **NEWER)]
    settle(ledger, workers)
    assert kind(broker, topic) == "CONSUMER"
    broker.kill()
    broker.start()
    workers.append(Worker(broker, topic, ledger, **NEWER))
    settle(ledger, workers)
    sent = load.stop()
    end = time.monotonic() + 60
    while not ledger.seen >= sent and time.monotonic() < end:
        time.sleep(0.1)
    missing = sent - ledger.seen
    for worker in workers:
        worker.stop()
    assert not missing, f"{len(missing)} of {len(sent)} never came"
    assert ledger.strays == []


def test_groups_that_are_not_of_consumers_do_not_go_over(broker):
    topic = create_topic(broker.address, unique("refused"), 1)
    coordinated(broker)
    with Connection(broker.address) as wire:
        # Of another type; and of consumers whose assignor tells them more than their partitions.
        telling = struct.pack(">hii", 0, 0, 4) + b"more"
        for protocol_type, protocol in [("connect", "range"), ("consumer", "of-its-own")]:
            alone = Member(wire, unique("group"), protocol_type=protocol_type, protocols=(protocol,), gives=telling)
            alone.enter()
            newer = EpochMember(wire, alone.group, (topic,))
            assert newer.beat() == GROUP_ID_NOT_FOUND
            assert alone.heartbeat() == NONE
        newer = EpochMember(wire, unique("group"), (topic,)).enter()
        other = Member(wire, newer.group, protocol_type="connect")
        assert other.join() == INCONSISTENT_PROTOCOL
        other = Member(wire, newer.group)
        assert [other.join(), other.join()] == [MEMBER_ID_REQUIRED, NONE]


def test_classic_members_are_assigned_and_described_by_the_server(broker):
    topic = create_topic(broker.address, unique("mixed"), 2)
    coordinated(broker)
    with Connection(broker.address) as wire:
        newer = EpochMember(wire, unique("group"), (topic,)).enter()
        [(topic_id, both)] = newer.assigned.items()
        assert both == {0, 1}
        classic = Member(wire, newer.group, topics=(topic,))
        assert [classic.join(), classic.join()] == [MEMBER_ID_REQUIRED, NONE]

        def shared() -> bool:
            """Both do what they are told; whether each has one partition."""
            assert newer.beat(owned=newer.assigned) == NONE
            if classic.heartbeat() == REBALANCING:
                assert classic.join() == NONE
            if classic.sync() == REBALANCING:
                return False
            has, gives = classic.assigned().get(topic, set()), newer.assigned.get(topic_id, set())
            assert not has & gives
            return len(has) == len(gives) == 1 and classic.heartbeat() == NONE

        wait_until(shared, 60, "each has one", every=0.1)
        # Offsets are committed in either's own epoch; the newer one's version does not matter to the classic one.
        assert classic.commit(topic) == NONE
        classic.generation -= 1
        assert classic.commit(topic) == ILLEGAL_GENERATION
