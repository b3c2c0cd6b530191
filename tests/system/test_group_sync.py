"""Members of a classic group that are told of a generation and never ask what they have in it.

Spoken by hand: a client that is stopped between JoinGroup and SyncGroup while another of its threads goes on with
heartbeats. Runs on Apache Kafka as well.
"""

from concurrent.futures import ThreadPoolExecutor

from harness.clients import unique
from harness.process import wait_until
from harness.wire import Connection
from system.test_refusals import BROKER_FLAGS as AT_ONCE
from system.test_refusals import MEMBER_ID_REQUIRED, NONE, UNKNOWN_MEMBER, Member, coordinated

BROKER_FLAGS = AT_ONCE

REBALANCING = 27
REBALANCE_MS = 5_000


def test_who_joins_and_never_syncs_is_out_of_the_group_when_the_time_for_it_is_over(broker):
    coordinated(broker)
    with Connection(broker.address) as one, Connection(broker.address) as two, ThreadPoolExecutor() as pool:
        leader = Member(one, unique("group"))
        assert leader.join(rebalance_ms=REBALANCE_MS) == MEMBER_ID_REQUIRED
        assert [leader.join(rebalance_ms=REBALANCE_MS), leader.sync()] == [NONE, NONE]
        silent = Member(two, leader.group)
        assert silent.join(rebalance_ms=REBALANCE_MS) == MEMBER_ID_REQUIRED
        joining = pool.submit(silent.join, rebalance_ms=REBALANCE_MS)
        wait_until(lambda: leader.heartbeat() == REBALANCING, 60, "the leader hears of the other", every=0.05)
        assert leader.join(rebalance_ms=REBALANCE_MS) == NONE
        assert joining.result(60) == NONE
        assert silent.generation == leader.generation
        # The group is stable, and both live.
        assert leader.sync() == NONE
        assert silent.heartbeat() == NONE

        def is_out() -> bool:
            assert leader.heartbeat() in (NONE, REBALANCING)
            return silent.heartbeat() == UNKNOWN_MEMBER

        wait_until(is_out, 60, "who does not sync is out", every=0.1)
        assert silent.sync() == UNKNOWN_MEMBER
        assert leader.heartbeat() == REBALANCING
        before = leader.generation
        assert [leader.join(rebalance_ms=REBALANCE_MS), leader.sync(), leader.heartbeat()] == [NONE] * 3
        assert leader.generation == before + 1
