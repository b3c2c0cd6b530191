"""Exactly once in every client that has transactions: consume, transform, produce, and a crash in each step.

Each process is killed (kill -9) where it stands: after a transaction began, after its records were stored,
after its offsets were handed in, and after it was committed. The next one with the same transactional id goes
on. In the end each record was transformed once, as readers of committed records see it.
"""

import pytest
from confluent_kafka import KafkaError, TopicPartition

from harness.clients import consumer, create_topic, producer, unique
from harness.program import CLIENTS, Client, Programs
from system.client_fixtures import programs  # noqa: F401

pytestmark = pytest.mark.promise

STEPS = ["begin", "produced", "offsets", "committed"]
PARTITIONS = 3
RECORDS = 150


@pytest.mark.parametrize("client", [each for each in CLIENTS.values() if each.transactions], ids=lambda each: each.name)
def test_a_transformation_that_dies_in_every_step_is_exactly_once(
        client: Client, broker, programs: Programs):  # noqa: F811
    name = unique("dies")
    source = create_topic(broker.address, f"{name}-in", PARTITIONS)
    target = create_topic(broker.address, f"{name}-out", PARTITIONS)
    feed = producer(broker.address)
    values = [f"{number}" for number in range(RECORDS)]
    for number, value in enumerate(values):
        feed.produce(source, value, partition=number % PARTITIONS)
    assert feed.flush(60) == 0
    arguments = {
        "group": name, "source": source, "target": target, "transactional_id": name,
        "ends": {str(each): RECORDS // PARTITIONS for each in range(PARTITIONS)},
        # A static member: who comes after a dead one need not wait until its session is over.
        "instance": name if client.static else None,
    }
    for round_, step in enumerate(STEPS):
        program = programs.start(client, broker.address)
        program.start("transform", stop={"step": step, "after": 1 + round_ % 2}, **arguments)
        assert program.wait_event("at").body["step"] == step
        program.kill()
    program = programs.start(client, broker.address)
    assert program.ask("transform", stop=None, seconds=120, **arguments) > 0
    for partition in range(PARTITIONS):
        mine = [f"{value}!".encode() for number, value in enumerate(values) if number % PARTITIONS == partition]
        found = program.read(target, len(mine), {partition: 0}, committed=True)
        assert [each.value for each in found] == mine
    reread = committed_count(broker.address, target)
    assert reread == RECORDS, f"{reread} committed records of {RECORDS}"


def committed_count(address: str, topic: str) -> int:
    """How many records a reader of committed ones sees in all, up to the very end."""
    reader = consumer(address, isolation_level="read_committed", enable_partition_eof=True)
    reader.assign([TopicPartition(topic, each, 0) for each in range(PARTITIONS)])
    count, left = 0, set(range(PARTITIONS))
    while left:
        message = reader.poll(30)
        assert message is not None, f"partitions {left} do not end"
        if message.error() is None:
            count += 1
        else:
            assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
            left.discard(message.partition())
    reader.close()
    return count
