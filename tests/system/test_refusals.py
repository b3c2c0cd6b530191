"""What Kafka refuses, and with which code: zombies, stale epochs and generations, unknown members, expired
transactions, metadata and names that cannot be.

Spoken by hand, in the last version of each API that is not flexible: clients translate codes, retry or hide
them. The broker that a module shares is asked; a test takes groups, ids and topics of its own.
"""

import struct
import time
from dataclasses import dataclass, field

import pytest

from harness.clients import create_topic, unique
from harness.flexible import call, compact
from harness.process import wait_until
from harness.wire import METADATA, Connection, Reader, batch, string

OFFSET_COMMIT, OFFSET_FETCH, FIND_COORDINATOR, JOIN_GROUP, HEARTBEAT, LEAVE_GROUP, SYNC_GROUP = 8, 9, 10, 11, 12, 13, 14
DESCRIBE_GROUPS, LIST_GROUPS, CREATE_TOPICS, DELETE_GROUPS = 15, 16, 19, 42
INIT_PRODUCER_ID, ADD_PARTITIONS_TO_TXN, ADD_OFFSETS_TO_TXN, END_TXN, TXN_OFFSET_COMMIT = 22, 24, 25, 26, 28

NONE, UNKNOWN_TOPIC, OFFSET_METADATA_TOO_LARGE, INVALID_TOPIC = 0, 3, 12, 17
ILLEGAL_GENERATION, INCONSISTENT_PROTOCOL, INVALID_GROUP_ID, UNKNOWN_MEMBER, INVALID_SESSION_TIMEOUT = 22, 23, 24, 25, 26
INVALID_REQUEST, INVALID_EPOCH, INVALID_TXN_STATE, INVALID_MAPPING, INVALID_TXN_TIMEOUT = 42, 47, 48, 49, 50
COORDINATOR_LOADING, CONCURRENT_TRANSACTIONS = 14, 51
OPERATION_NOT_ATTEMPTED, NON_EMPTY_GROUP, GROUP_ID_NOT_FOUND, MEMBER_ID_REQUIRED = 55, 68, 69, 79
FENCED_INSTANCE, PRODUCER_FENCED = 82, 90

# As the oracle's: a group of one need not wait for others.
BROKER_FLAGS = {"group-initial-rebalance-delay": "0s"}

def subscription(topics: tuple[str, ...]) -> bytes:
    """What a consumer subscribes with: version 0, no user data."""
    return struct.pack(">hi", 0, len(topics)) + b"".join(map(string, topics)) + struct.pack(">i", -1)


def data(content: bytes) -> bytes:
    return struct.pack(">i", len(content)) + content


@dataclass
class Member:
    """A member of a classic group, one request at a time; each returns the code it got."""

    wire: Connection
    group: str
    instance: str | None = None
    id: str = ""
    generation: int = -1
    protocol_type: str = "consumer"
    protocols: tuple[str, ...] = ("range",)
    topics: tuple[str, ...] = ()
    # What it hands out as a leader, and what came with the last SyncGroup.
    gives: bytes = b"assigned"
    assignment: bytes = b""

    def join(self, session_ms: int = 30_000, rebalance_ms: int = 30_000) -> int:
        protocols = b"".join(string(each) + data(subscription(self.topics)) for each in self.protocols)
        answer = self.wire.call(JOIN_GROUP, 5, (
            string(self.group) + struct.pack(">ii", session_ms, rebalance_ms) + string(self.id) + string(self.instance)
            + string(self.protocol_type) + struct.pack(">i", len(self.protocols)) + protocols
        ))
        answer.number("i")
        error, generation = answer.number("h"), answer.number("i")
        answer.string(), answer.string()
        member = answer.string()
        if error in (NONE, MEMBER_ID_REQUIRED):
            self.id = member
        if error == NONE:
            self.generation = generation
        return error

    def enter(self) -> "Member":
        """Becomes the leader of a group of one."""
        code = self.join()
        if code == MEMBER_ID_REQUIRED:
            code = self.join()
        assert code == NONE
        assert self.sync() == NONE
        return self

    def sync(self) -> int:
        answer = self.wire.call(SYNC_GROUP, 3, (
            string(self.group) + struct.pack(">i", self.generation) + string(self.id) + string(self.instance)
            + struct.pack(">i", 1) + string(self.id) + data(self.gives)
        ))
        answer.number("i")
        error = answer.number("h")
        self.assignment = answer.take(answer.number("i"))
        return error

    def assigned(self) -> dict[str, set[int]]:
        """The last assignment, which a consumer can read."""
        reader = Reader(self.assignment)
        reader.number("h")
        return {
            reader.string(): {reader.number("i") for _ in range(reader.number("i"))} for _ in range(reader.number("i"))
        }

    def heartbeat(self) -> int:
        body = string(self.group) + struct.pack(">i", self.generation) + string(self.id) + string(self.instance)
        answer = self.wire.call(HEARTBEAT, 3, body)
        answer.number("i")
        return answer.number("h")

    def leave(self) -> int:
        body = string(self.group) + struct.pack(">i", 1) + string(self.id) + string(self.instance)
        answer = self.wire.call(LEAVE_GROUP, 3, body)
        answer.number("i")
        whole = answer.number("h")
        if whole or answer.number("i") == 0:
            return whole
        answer.string(), answer.string()
        return answer.number("h")

    def commit(self, topic: str, partition: int = 0, offset: int = 1, metadata: str | None = None) -> int:
        answer = self.wire.call(OFFSET_COMMIT, 7, (
            string(self.group) + struct.pack(">i", self.generation) + string(self.id) + string(self.instance)
            + struct.pack(">i", 1) + string(topic)
            + struct.pack(">iiqi", 1, partition, offset, -1) + string(metadata)
        ))
        answer.number("i")
        return only_partition(answer)


def only_partition(answer: Reader) -> int:
    """The code of the one partition of the one topic in an answer."""
    assert answer.number("i") == 1
    answer.string()
    assert answer.number("i") == 1
    answer.number("i")
    return answer.number("h")


def coordinated(broker) -> None:
    """Kafka makes the topics of its coordinators when somebody first looks for one."""
    def found(kind: int) -> bool:
        with Connection(broker.address) as wire:
            answer = wire.call(FIND_COORDINATOR, 1, string("anybody") + struct.pack(">b", kind))
            answer.number("i")
            return answer.number("h") == NONE

    for kind in (0, 1):
        wait_until(lambda: found(kind), 60, "a coordinator", every=0.2)


@pytest.fixture(scope="module")
def topic(module_broker):
    coordinated(module_broker)
    return create_topic(module_broker.address, unique("refusals"), 2)


@pytest.fixture
def wire(broker, topic):
    with Connection(broker.address) as connection:
        yield connection


@pytest.fixture
def alone(wire):
    """The only member of a stable group."""
    return Member(wire, unique("group")).enter()


# --- groups -----------------------------------------------------------------------------------------


def test_a_new_member_is_given_an_id_and_has_to_come_back_with_it(wire):
    new = Member(wire, unique("group"))
    assert new.join() == MEMBER_ID_REQUIRED
    assert new.id and new.join() == NONE


def test_an_unknown_member_is_told_so_by_every_request(alone, topic):
    stranger = Member(alone.wire, alone.group, id="stranger", generation=alone.generation)
    codes = [stranger.join(), stranger.sync(), stranger.heartbeat(), stranger.commit(topic), stranger.leave()]
    assert codes == [UNKNOWN_MEMBER] * 5
    assert alone.heartbeat() == NONE


def test_a_group_that_does_not_exist_has_no_members(wire, topic):
    stranger = Member(wire, unique("nobody"), id="stranger", generation=3)
    codes = [stranger.join(), stranger.sync(), stranger.heartbeat(), stranger.leave()]
    assert codes == [UNKNOWN_MEMBER] * 4
    assert stranger.commit(topic) == ILLEGAL_GENERATION


@pytest.mark.parametrize("member, instance", [("", None), ("stranger", None), ("", "one"), ("stranger", "one")])
def test_who_assigns_itself_commits_under_any_name(wire, topic, member, instance):
    itself = Member(wire, unique("itself"), instance, id=member)
    assert [itself.commit(topic), itself.commit(topic, offset=2)] == [NONE, NONE]
    itself.generation = 0
    assert itself.commit(topic) == UNKNOWN_MEMBER


@pytest.mark.parametrize("by", [-1, 1])
def test_a_stale_or_made_up_generation_is_told_so_by_every_request(alone, topic, by):
    alone.generation += by
    assert [alone.sync(), alone.heartbeat(), alone.commit(topic)] == [ILLEGAL_GENERATION] * 3
    alone.generation -= by
    assert [alone.heartbeat(), alone.commit(topic)] == [NONE, NONE]


def test_a_member_that_was_away_for_its_session_is_unknown(broker, wire, topic):
    member = Member(wire, unique("group"))
    member.join(session_ms=6_000)
    assert member.join(session_ms=6_000) == NONE and member.sync() == NONE
    # Asked through commits by nobody: a heartbeat would keep the member.
    with Connection(broker.address) as other:
        wait_until(lambda: state(other, member.group) == "Empty", 30, "the session ends", every=0.3)
    assert [member.heartbeat(), member.sync(), member.leave()] == [UNKNOWN_MEMBER] * 3


def state(wire: Connection, group: str) -> str:
    answer = wire.call(DESCRIBE_GROUPS, 1, struct.pack(">i", 1) + string(group))
    answer.number("i")
    assert answer.number("i") == 1 and answer.number("h") == NONE
    answer.string()
    return answer.string()


def test_a_static_member_that_was_replaced_is_fenced(broker, wire, topic):
    old = Member(wire, unique("group"), instance="one")
    assert old.join() == NONE and old.sync() == NONE
    with Connection(broker.address) as other:
        new = Member(other, old.group, instance="one")
        assert new.join() == NONE
        assert new.id != old.id
        codes = [old.heartbeat(), old.sync(), old.commit(topic), old.leave(), old.join()]
        assert codes == [FENCED_INSTANCE] * 5
        nobody = Member(other, old.group, instance="two", id=new.id, generation=new.generation)
        assert [nobody.heartbeat(), nobody.leave()] == [UNKNOWN_MEMBER] * 2


def test_members_must_have_a_protocol_in_common(alone):
    for protocol_type, protocols in [("connect", ("range",)), ("consumer", ("other",)), ("", ("range",)), ("consumer", ())]:
        other = Member(alone.wire, alone.group, protocol_type=protocol_type, protocols=protocols)
        code = other.join()
        assert (other.join() if code == MEMBER_ID_REQUIRED else code) == INCONSISTENT_PROTOCOL


@pytest.mark.parametrize("session_ms", [0, 5_999, 1_800_001])
def test_a_session_has_bounds(wire, session_ms):
    assert Member(wire, unique("group")).join(session_ms) == INVALID_SESSION_TIMEOUT


def test_an_empty_group_id_is_illegal(wire, topic):
    nameless = Member(wire, "", id="x", generation=1)
    codes = [nameless.join(), nameless.sync(), nameless.heartbeat(), nameless.leave()]
    assert codes == [INVALID_GROUP_ID] * 4
    assert delete(wire, "") == GROUP_ID_NOT_FOUND


def test_offsets_are_committed_and_read_without_a_group_id_and_it_can_be_deleted(wire, topic):
    answer = wire.call(FIND_COORDINATOR, 1, string("") + b"\0")
    answer.number("i")
    assert answer.number("h") == NONE
    assert Member(wire, "").commit(topic, offset=7, metadata="seven") == NONE
    for version in (1, 2):
        body = string("") + struct.pack(">i", 1) + string(topic) + struct.pack(">ii", 1, 0)
        answer = wire.call(OFFSET_FETCH, version, body)
        assert (answer.number("i"), answer.string(), answer.number("i")) == (1, topic, 1)
        found = (answer.number("i"), answer.number("q"), answer.string(), answer.number("h"))
        assert found == (0, 7, "seven", NONE)
    assert state(wire, "") == "Empty"
    assert listed(wire)[""] == ""
    assert [delete(wire, ""), delete(wire, "")] == [NONE, GROUP_ID_NOT_FOUND]
    assert state(wire, "") == "Dead"


def delete(wire: Connection, group: str) -> int:
    answer = wire.call(DELETE_GROUPS, 0, struct.pack(">i", 1) + string(group))
    answer.number("i")
    assert (answer.number("i"), answer.string()) == (1, group)
    return answer.number("h")


def listed(wire: Connection) -> dict[str, str]:
    """The protocol type of each group that is listed."""
    answer = wire.call(LIST_GROUPS, 2, b"")
    answer.number("i")
    assert answer.number("h") == NONE
    return {answer.string(): answer.string() for _ in range(answer.number("i"))}


def test_a_group_is_listed_while_its_first_generation_is_under_way(wire):
    member = Member(wire, unique("group"))
    assert [member.join(), member.join()] == [MEMBER_ID_REQUIRED, NONE]
    assert state(wire, member.group) == "CompletingRebalance"
    assert listed(wire)[member.group] == "consumer"
    assert member.sync() == NONE
    assert listed(wire)[member.group] == "consumer"


def test_a_group_with_members_or_without_existence_is_not_deleted(alone):
    nobody = unique("nobody")
    answer = alone.wire.call(DELETE_GROUPS, 0, struct.pack(">i", 2) + string(alone.group) + string(nobody))
    answer.number("i")
    codes = dict((answer.string(), answer.number("h")) for _ in range(answer.number("i")))
    assert codes == {alone.group: NON_EMPTY_GROUP, nobody: GROUP_ID_NOT_FOUND}


def test_offsets_are_committed_for_partitions_that_exist_with_metadata_that_fits(alone, topic):
    assert alone.commit(topic, metadata="m" * 4_096) == NONE
    assert alone.commit(topic, metadata="m" * 4_097) == OFFSET_METADATA_TOO_LARGE
    assert alone.commit(topic, partition=2) == UNKNOWN_TOPIC
    assert alone.commit(unique("nowhere")) == UNKNOWN_TOPIC
    outsider = Member(alone.wire, alone.group)
    assert outsider.commit(topic) == UNKNOWN_MEMBER


# --- topics -----------------------------------------------------------------------------------------

ILLEGAL_NAMES = ["", ".", "..", "with space", "slash/ed", "colon:", "x" * 250, "new\nline"]


@pytest.mark.parametrize("name", ILLEGAL_NAMES)
def test_an_illegal_topic_name_is_told_so(wire, name):
    body = struct.pack(">i", 1) + string(name) + struct.pack(">ihii", 1, 1, 0, 0) + struct.pack(">i?", 5_000, False)
    answer = wire.call(CREATE_TOPICS, 2, body)
    answer.number("i")
    assert (answer.number("i"), answer.string(), answer.number("h")) == (1, name, INVALID_TOPIC)
    answer = wire.call(METADATA, 1, struct.pack(">i", 1) + string(name))
    for _ in range(answer.number("i")):
        answer.number("i"), answer.string(), answer.number("i"), answer.string()
    answer.number("i")
    assert (answer.number("i"), answer.number("h")) == (1, INVALID_TOPIC)


# --- transactions -----------------------------------------------------------------------------------


@dataclass
class Transactional:
    """A transactional producer of the first protocol, one request at a time."""

    wire: Connection
    name: str = field(default_factory=lambda: unique("transaction"))
    id: int = -1
    epoch: int = -1

    def start(self, timeout_ms: int = 60_000) -> int:
        deadline = time.monotonic() + 30
        while True:
            answer = self.wire.call(INIT_PRODUCER_ID, 0, string(self.name) + struct.pack(">i", timeout_ms))
            answer.number("i")
            code, identity = answer.number("h"), (answer.number("q"), answer.number("h"))
            # Kafka loads what it coordinates, or is still ending what was left open.
            if code not in (COORDINATOR_LOADING, CONCURRENT_TRANSACTIONS) or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        if code == NONE:
            self.id, self.epoch = identity
        return code

    def recover(self) -> tuple[int, tuple[int, int]]:
        """Asks for a newer epoch in place of its own (KIP-360): the code, and the identity that came with it."""
        own = struct.pack(">iqh", 60_000, self.id, self.epoch)
        answer = call(self.wire, INIT_PRODUCER_ID, 4, compact(self.name) + own)
        answer.number("i")
        return answer.number("h"), (answer.number("q"), answer.number("h"))

    def head(self) -> bytes:
        return string(self.name) + struct.pack(">qh", self.id, self.epoch)

    def add(self, topic: str, *partitions: int, version: int = 2) -> int | dict[int, int]:
        """The codes by partition; the one that all have, if they do."""
        partitions = partitions or (0,)
        body = self.head() + struct.pack(">i", 1) + string(topic) + struct.pack(">i", len(partitions))
        body += b"".join(struct.pack(">i", each) for each in partitions)
        deadline = time.monotonic() + 30
        while True:
            answer = self.wire.call(ADD_PARTITIONS_TO_TXN, version, body)
            answer.number("i")
            assert answer.number("i") == 1
            answer.string()
            codes = {answer.number("i"): answer.number("h") for _ in range(answer.number("i"))}
            # Kafka is still writing markers of the transaction before.
            if set(codes.values()) != {CONCURRENT_TRANSACTIONS} or time.monotonic() > deadline:
                return codes if len(set(codes.values())) > 1 else codes.popitem()[1]
            time.sleep(0.05)

    def add_offsets(self, group: str, version: int = 2) -> int:
        answer = self.wire.call(ADD_OFFSETS_TO_TXN, version, self.head() + string(group))
        answer.number("i")
        return answer.number("h")

    def commit_offsets(self, group: str, topic: str) -> int:
        body = string(self.name) + string(group) + struct.pack(">qh", self.id, self.epoch) + struct.pack(">i", 1)
        body += string(topic) + struct.pack(">iiqi", 1, 0, 1, -1) + string(None)
        answer = self.wire.call(TXN_OFFSET_COMMIT, 2, body)
        answer.number("i")
        return only_partition(answer)

    def end(self, commit: bool = True, version: int = 2) -> int:
        deadline = time.monotonic() + 30
        while True:
            answer = self.wire.call(END_TXN, version, self.head() + struct.pack(">?", commit))
            answer.number("i")
            code = answer.number("h")
            # Kafka is still writing the markers of the end before.
            if code != CONCURRENT_TRANSACTIONS or time.monotonic() > deadline:
                return code
            time.sleep(0.05)

    def produce(self, topic: str, sequence: int, partition: int = 0) -> int:
        stored = batch([b"value"], producer_id=self.id, epoch=self.epoch, sequence=sequence, attributes=16)
        body = string(self.name) + struct.pack(">hii", -1, 20_000, 1) + string(topic)
        body += struct.pack(">ii", 1, partition) + data(stored)
        return only_partition(self.wire.call(0, 3, body))


@pytest.fixture
def zombie(wire):
    """A producer whose name somebody else has started with since."""
    zombie = Transactional(wire)
    assert zombie.start() == NONE
    assert Transactional(wire, zombie.name).start() == NONE
    return zombie


def test_a_zombie_is_fenced_by_every_request(zombie, topic):
    assert zombie.add(topic) == PRODUCER_FENCED
    assert zombie.add_offsets(unique("group")) == PRODUCER_FENCED
    assert zombie.end() == PRODUCER_FENCED
    # Older versions know no such code.
    assert [zombie.add(topic, version=1), zombie.add_offsets("g", version=1), zombie.end(version=1)] == [INVALID_EPOCH] * 3


def test_a_zombie_that_has_written_writes_no_more(broker, wire, topic):
    old = Transactional(wire)
    assert old.start() == NONE
    assert old.add(topic) == NONE and old.produce(topic, 0) == NONE
    with Connection(broker.address) as other:
        new = Transactional(other, old.name)
        assert new.start() == NONE
        assert new.id == old.id and new.epoch > old.epoch
        # What starts anew aborts what was open before it answers; the markers carry the newer epoch.
        assert old.produce(topic, 1) == INVALID_EPOCH
        assert old.end() == PRODUCER_FENCED
        assert new.add(topic) == NONE and new.produce(topic, 0) == NONE and new.end() == NONE


def test_a_zombie_does_not_get_the_identity_of_its_successor(zombie):
    successor = Transactional(zombie.wire, zombie.name)
    assert successor.start() == NONE
    assert [zombie.recover()[0] for _ in range(2)] == [PRODUCER_FENCED] * 2
    last = Transactional(zombie.wire, zombie.name)
    assert last.start() == NONE
    assert [successor.recover()[0], zombie.recover()[0]] == [PRODUCER_FENCED] * 2
    # The one that is no zombie gets a newer epoch, and the same one when it asks again.
    recovered = last.recover()
    assert recovered == (NONE, (last.id, last.epoch + 1)) and last.recover() == recovered


def test_offsets_of_a_zombie_are_not_taken(zombie, topic):
    group = unique("group")
    newer = Transactional(zombie.wire, zombie.name)
    assert newer.start() == NONE
    assert newer.add_offsets(group) == NONE
    assert newer.commit_offsets(group, topic) == NONE
    assert zombie.commit_offsets(group, topic) == INVALID_EPOCH
    assert newer.end() == NONE


def test_who_nobody_knows_begins_and_ends_no_transaction(wire, topic):
    stranger = Transactional(wire, id=4_711, epoch=0)
    assert [stranger.add(topic), stranger.add_offsets("g"), stranger.end()] == [INVALID_MAPPING] * 3
    known = Transactional(wire)
    assert known.start() == NONE
    known.id += 1_000_000
    assert [known.add(topic), known.add_offsets("g"), known.end()] == [INVALID_MAPPING] * 3


def test_without_a_transaction_there_is_nothing_to_end_or_to_write_in(wire, topic):
    producer = Transactional(wire)
    assert producer.start() == NONE
    assert producer.end() == INVALID_TXN_STATE
    assert producer.produce(topic, 0) == INVALID_TXN_STATE
    assert producer.add(topic, 0) == NONE
    assert producer.produce(topic, 0, partition=1) == INVALID_TXN_STATE
    assert producer.end(commit=False) == NONE
    # The same end again is the same answer; the other one is not.
    assert producer.end(commit=False) == NONE
    assert producer.end(commit=True) == INVALID_TXN_STATE


def test_partitions_are_added_all_or_none(wire, topic):
    producer = Transactional(wire)
    assert producer.start() == NONE
    assert producer.add(topic, 0, 7) == {0: OPERATION_NOT_ATTEMPTED, 7: UNKNOWN_TOPIC}
    assert producer.end() == INVALID_TXN_STATE


def test_a_transactional_producer_has_a_name_and_a_timeout_in_bounds(wire):
    assert Transactional(wire, "").start() == INVALID_REQUEST
    for timeout_ms in (0, -1, 900_001):
        assert Transactional(wire).start(timeout_ms) == INVALID_TXN_TIMEOUT


def test_an_expired_transaction_is_over_and_its_producer_a_zombie(new_broker):
    broker = new_broker(kafka={"transaction.abort.timed.out.transaction.cleanup.interval.ms": 200})
    coordinated(broker)
    topic = create_topic(broker.address, unique("expired"))
    with Connection(broker.address) as wire:
        producer = Transactional(wire)
        # Long enough for the record to be written within it.
        assert producer.start(timeout_ms=5_000) == NONE
        assert producer.add(topic) == NONE and producer.produce(topic, 0) == NONE
        # The marker of the abort lies after the record.
        wait_until(lambda: wire.list_offset(topic, 0, -1)[2] == 2, 60, "the transaction is aborted", every=0.1)
        assert producer.produce(topic, 1) == INVALID_EPOCH
        assert [producer.add(topic), producer.end()] == [PRODUCER_FENCED] * 2
        assert producer.end(version=1) == INVALID_EPOCH
