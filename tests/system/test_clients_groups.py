"""Groups of one to five members over twelve partitions, in every client's language.

Members join, leave, crash and come back while records keep arriving. Each record reaches the group, and at
no moment do two members hold one partition.
"""

import threading
import time
from collections.abc import Iterator

import pytest
from confluent_kafka.admin import AdminClient

from harness.clients import create_topic, producer, unique
from harness.members import QUICK_FLAGS, QUICK_KAFKA
from harness.membership import Membership
from harness.process import wait_until
from harness.program import CLIENTS, Client, Programs
from system.client_fixtures import programs  # noqa: F401

PARTITIONS = 12
SESSION_MS = 15_000
KAFKA_SETTINGS, BROKER_FLAGS = QUICK_KAFKA, QUICK_FLAGS


class Feed(threading.Thread):
    """A record every 20 ms, partition after partition, until it is stopped."""

    def __init__(self, address: str, topic: str):
        super().__init__(daemon=True)
        self.address, self.topic = address, topic
        self.values: list[str] = []
        self.refused: list[str] = []
        self.stopped = threading.Event()
        self.start()

    def run(self) -> None:
        client = producer(self.address)
        while not self.stopped.wait(0.02):
            self.values.append(f"record {len(self.values)}")
            client.produce(self.topic, self.values[-1], partition=len(self.values) % PARTITIONS, on_delivery=self.report)
            client.poll(0)
        assert client.flush(60) == 0

    def report(self, error, message) -> None:
        if error is not None:
            self.refused.append(f"{message.value()}: {error}")

    def stop(self) -> set[str]:
        self.stopped.set()
        self.join(90)
        assert not self.refused, self.refused
        return set(self.values)


@pytest.fixture
def topic(broker) -> Iterator[str]:
    yield create_topic(broker.address, unique("grouped"), PARTITIONS)


def having(protocol: str) -> list:
    return [pytest.param(each, protocol, id=f"{each.name}-{protocol}")
            for each in CLIENTS.values() if protocol in each.protocols]


@pytest.mark.parametrize("client, protocol", [*having("range"), *having("cooperative"), *having("consumer")])
def test_members_come_go_and_crash_and_each_record_reaches_one_of_them(
        client: Client, protocol, broker, topic, programs: Programs):  # noqa: F811
    lasting, dying = (programs.start(client, broker.address) for _ in range(2))
    members = Membership(PARTITIONS, [lasting, dying])
    config = {"group": topic, "topic": topic, "protocol": protocol, "instance": None, "session_ms": SESSION_MS}
    feed = Feed(broker.address, topic)
    lasting.ask("join", member="1", **config)
    members.settle({"1"})
    # Three more at once, and one whose process is going to die.
    for member in ("2", "3", "4"):
        lasting.ask("join", member=member, **config)
    dying.ask("join", member="5", **config)
    shares = members.settle({"1", "2", "3", "4", "5"}, even=True)
    assert sorted(map(len, shares.values())) == [2, 2, 2, 3, 3], shares
    lasting.ask("leave", member="2")
    members.settle({"1", "3", "4", "5"})
    dying.kill()
    # Not before: it may be given a record until then. Who comes after it waits for the end of its session.
    members.deaths["5"] = time.time()
    members.settle({"1", "3", "4"})
    wanted = feed.stop()
    members.complete(wanted)
    for member in ("1", "3", "4"):
        lasting.ask("leave", member=member)
    assert members.shares() == {}
    members.judge(client)


def moving(protocol: str) -> list:
    """Clients that speak both group protocols."""
    return [each for each in having(protocol) if "consumer" in each.values[0].protocols]


@pytest.mark.parametrize("client, protocol", [*moving("range"), *moving("cooperative")])
def test_members_are_replaced_one_by_one_by_such_of_the_newer_protocol_and_back(
        client: Client, protocol, broker, topic, programs: Programs):  # noqa: F811
    program = programs.start(client, broker.address)
    members = Membership(PARTITIONS, [program])

    def join(member: int, protocol: str) -> None:
        program.ask("join", member=str(member), group=topic, topic=topic, protocol=protocol, instance=None,
                    session_ms=SESSION_MS)

    feed = Feed(broker.address, topic)
    for member in range(3):
        join(member, protocol)
    members.settle({"0", "1", "2"})
    # Kafka does not know a group, for this purpose, of which a member has no assignment yet; and cooperative members
    # may begin another round right after one.
    admin = AdminClient({"bootstrap.servers": broker.address})
    looks: list[str] = []

    def stays_stable() -> bool:
        looks.append(admin.describe_consumer_groups([topic])[topic].result(30).state.name)
        return looks[-5:] == ["STABLE"] * 5

    wait_until(stays_stable, 60, "all have their assignment and keep it", every=0.2)
    for newest, into in enumerate(["consumer"] * 3 + [protocol] * 3, start=3):
        join(newest, into)
        members.settle({str(member) for member in range(newest - 3, newest + 1)})
        program.ask("leave", member=str(newest - 3))
        members.settle({str(member) for member in range(newest - 2, newest + 1)})
    wanted = feed.stop()
    members.complete(wanted)
    for member in range(6, 9):
        program.ask("leave", member=str(member))
    members.judge(client)


@pytest.mark.parametrize("client", [each for each in CLIENTS.values() if each.static], ids=lambda each: each.name)
def test_a_static_member_that_crashed_comes_back_to_its_partitions_and_disturbs_nobody(
        client: Client, broker, topic, programs: Programs):  # noqa: F811
    staying, dying = (programs.start(client, broker.address) for _ in range(2))
    members = Membership(PARTITIONS, [staying, dying])
    config = {"group": topic, "topic": topic, "protocol": "range", "session_ms": 45_000}
    staying.ask("join", member="1", instance="one", **config)
    members.settle({"1"})
    dying.ask("join", member="2", instance="two", **config)
    before = members.settle({"1", "2"})
    moved = len([each for each in staying.events if each.name == "revoked"])
    dying.kill()
    members.deaths["2"] = time.time()
    feed = Feed(broker.address, topic)
    again = programs.start(client, broker.address)
    members.programs.append(again)
    again.ask("join", member="2 again", instance="two", **config)
    after = members.settle({"1", "2 again"})
    assert (after["1"], after["2 again"]) == (before["1"], before["2"])
    assert len([each for each in staying.events if each.name == "revoked"]) == moved, "the other one was disturbed"
    wanted = feed.stop()
    members.complete(wanted)
    members.judge(client)
