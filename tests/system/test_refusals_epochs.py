"""What Kafka refuses of members of the newer group protocol (KIP-848), and with which code: offsets committed and
read in a wrong epoch or a version that knows none, heartbeats without a name.

Spoken by hand, as in `test_refusals`.
"""

import struct

import pytest

from harness.clients import create_topic, unique
from harness.flexible import TAGS, EpochMember, array, call, compact, take_compact, take_unsigned
from harness.members import QUICK_KAFKA
from harness.wire import Connection, string
from system.test_refusals import (
    FENCED_INSTANCE, GROUP_ID_NOT_FOUND, ILLEGAL_GENERATION, INVALID_REQUEST, NONE, OFFSET_COMMIT, OFFSET_FETCH,
    TXN_OFFSET_COMMIT, UNKNOWN_MEMBER, Transactional, coordinated, only_partition,
)

UNSUPPORTED_VERSION, UNSUPPORTED_ASSIGNOR, STALE_EPOCH = 35, 112, 113

KAFKA_SETTINGS = QUICK_KAFKA


@pytest.fixture(scope="module")
def topic(module_broker):
    coordinated(module_broker)
    return create_topic(module_broker.address, unique("epochs"), 2)


@pytest.fixture
def wire(broker, topic):
    with Connection(broker.address) as connection:
        yield connection


@pytest.fixture
def alone(wire, topic):
    """The only member of its group."""
    return EpochMember(wire, unique("group"), (topic,)).enter()


def commit(member: EpochMember, topic: str, version: int, by: int = 0, id: str | None = None) -> int:
    """OffsetCommit with the member's epoch, or another."""
    epoch, id = member.epoch + by, member.id if id is None else id
    if version < 8:
        answer = member.wire.call(OFFSET_COMMIT, version, (
            string(member.group) + struct.pack(">i", epoch) + string(id) + string(member.instance)
            + struct.pack(">i", 1) + string(topic) + struct.pack(">iiqi", 1, 0, 1, -1) + string(None)
        ))
        answer.number("i")
        return only_partition(answer)
    partition = struct.pack(">iqi", 0, 1, -1) + compact(None) + TAGS
    answer = call(member.wire, OFFSET_COMMIT, version, (
        compact(member.group) + struct.pack(">i", epoch) + compact(id) + compact(member.instance)
        + array([compact(topic) + array([partition]) + TAGS])
    ))
    answer.number("i")
    return only_compact(answer)


def only_compact(answer) -> int:
    """The code of the one partition of the one topic in a flexible answer."""
    assert take_unsigned(answer) == 2
    take_compact(answer)
    assert take_unsigned(answer) == 2
    answer.number("i")
    return answer.number("h")


def read(member: EpochMember, topic: str, by: int = 0, id: str | None = None) -> int:
    """OffsetFetch v9 with the member's epoch, or another; the code of the group."""
    id = member.id if id is None else id
    wanted = compact(topic) + array([struct.pack(">i", 0)]) + TAGS
    group = compact(member.group) + compact(id) + struct.pack(">i", member.epoch + by) + array([wanted]) + TAGS
    answer = call(member.wire, OFFSET_FETCH, 9, array([group]) + b"\0")
    answer.number("i")
    assert take_unsigned(answer) == 2 and take_compact(answer) == member.group
    for _ in range(take_unsigned(answer) - 1):
        take_compact(answer)
        for _ in range(take_unsigned(answer) - 1):
            answer.number("i"), answer.number("q"), answer.number("i"), take_compact(answer), answer.number("h")
            answer.take(1)
        answer.take(1)
    return answer.number("h")


@pytest.mark.parametrize("version", [7, 8])
def test_members_with_epochs_commit_in_no_version_that_does_not_know_them(alone, topic, version):
    assert [commit(alone, topic, version, by) for by in (0, -1, 1)] == [UNSUPPORTED_VERSION] * 3
    assert commit(alone, topic, version, id="stranger") == UNKNOWN_MEMBER
    assert commit(alone, topic, 9) == NONE


def test_an_epoch_that_is_not_the_member_s_commits_and_reads_nothing(alone, topic):
    assert [commit(alone, topic, 9, by) for by in (-1, 1)] == [STALE_EPOCH] * 2
    assert [read(alone, topic, by) for by in (-1, 0, 1)] == [STALE_EPOCH, NONE, STALE_EPOCH]
    assert [commit(alone, topic, 9, id="stranger"), read(alone, topic, id="stranger")] == [UNKNOWN_MEMBER] * 2


def test_a_group_that_does_not_exist_is_missed_by_name_where_the_version_knows_epochs(wire, topic):
    nobody = EpochMember(wire, unique("nobody"), (topic,), id="stranger", epoch=3)
    codes = [commit(nobody, topic, version) for version in (7, 8, 9)]
    assert codes == [ILLEGAL_GENERATION, ILLEGAL_GENERATION, GROUP_ID_NOT_FOUND]


def test_a_transaction_takes_offsets_of_the_member_s_epoch_and_calls_others_generations(alone, topic):
    producer = Transactional(alone.wire)
    assert [producer.start(), producer.add_offsets(alone.group)] == [NONE, NONE]

    def add(by: int, id: str) -> int:
        partition = struct.pack(">iqi", 0, 1, -1) + compact(None) + TAGS
        answer = call(alone.wire, TXN_OFFSET_COMMIT, 3, (
            compact(producer.name) + compact(alone.group)
            + struct.pack(">qhi", producer.id, producer.epoch, alone.epoch + by) + compact(id)
            + compact(None) + array([compact(topic) + array([partition]) + TAGS])
        ))
        answer.number("i")
        return only_compact(answer)

    codes = [add(-1, alone.id), add(1, alone.id), add(0, "stranger"), add(0, alone.id)]
    assert codes == [ILLEGAL_GENERATION, ILLEGAL_GENERATION, UNKNOWN_MEMBER, NONE]


def test_who_leaves_says_who_it_is(wire, topic):
    fixed = EpochMember(wire, unique("group"), (topic,), instance="one").enter()
    # In version 0 only who goes for good is asked for its name at once.
    assert [fixed.beat(version, epoch=-1, member="") for version in (0, 1)] == [INVALID_REQUEST] * 2
    assert [fixed.beat(version, epoch=-2, member="") for version in (0, 1)] == [FENCED_INSTANCE, INVALID_REQUEST]
    assert [fixed.beat(epoch=epoch, member="") for epoch in (-3, 1)] == [INVALID_REQUEST] * 2
    assert fixed.beat() == NONE, "it has not left"
    other = EpochMember(wire, fixed.group, (topic,), instance="two")
    assert other.beat(epoch=-2, member="") == UNKNOWN_MEMBER
    nameless = EpochMember(wire, fixed.group, (topic,))
    assert nameless.beat(epoch=-2, member="") == INVALID_REQUEST
    nowhere = EpochMember(wire, unique("nobody"), (topic,), instance="one")
    assert nowhere.beat(epoch=-2, member="") == GROUP_ID_NOT_FOUND
    assert fixed.beat(epoch=-1, assignor="nonesuch") == UNSUPPORTED_ASSIGNOR
    assert fixed.beat(epoch=-2) == NONE
