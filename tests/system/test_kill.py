"""kill -9 at random moments, twenty rounds and more, while an idempotent producer keeps sending.

At the end the ledger judges: acknowledged means stored, exactly once, in order. The seed is printed;
STREAMHOUSE_TEST_SEED repeats it, STREAMHOUSE_TEST_KILL_ROUNDS makes it longer.
"""

import os
import random
import time

import pytest

from harness.clients import create_topic, producer, unique
from harness.ledger import Ledger

pytestmark = pytest.mark.promise

ROUNDS = int(os.environ.get("STREAMHOUSE_TEST_KILL_ROUNDS", "20"))
PARTITIONS = 4


def rounds_of(on_kafka: bool) -> int:
    # Kafka takes five seconds to start; the oracle only has to show that the scenario is right.
    return min(ROUNDS, 4) if on_kafka else ROUNDS


@pytest.mark.restarts
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("store", "flags"),
    [("local", {}), ("s3", {}), ("local", {"inline_bytes": 0}), ("s3", {"inline_bytes": 0})],
    ids=["local", "s3", "local-never-inline", "s3-never-inline"],
)
def test_every_acknowledged_record_survives_kill_9_exactly_once_in_order(new_broker, on_kafka, seed, store, flags):
    print(f"STREAMHOUSE_TEST_SEED={seed}")
    draw = random.Random(seed)
    broker = new_broker(store, **flags)
    ledger = Ledger(create_topic(broker.address, unique("kill"), PARTITIONS), PARTITIONS)
    client = producer(broker.address, compression_type=draw.choice(["none", "lz4"]))
    rounds = rounds_of(on_kafka)
    for number in range(rounds):
        before = ledger.acknowledged_count()
        # Mostly into the flow of acknowledgements, sometimes while the broker is still coming up.
        wait_for_answer = draw.random() < 0.75
        give_up = time.monotonic() + 60
        end = time.monotonic() + draw.uniform(0.1, 1.5)
        while time.monotonic() < end:
            # Lone records and bursts in turn: small objects go inline, bursts are uploaded.
            burst, size_bytes = draw.choice([(1, 100), (20, 200), (200, 1_000)])
            for _ in range(burst):
                ledger.send(client, draw.randrange(PARTITIONS), size_bytes)
            client.poll(draw.uniform(0, 0.02))
            if wait_for_answer and ledger.acknowledged_count() > before:
                wait_for_answer = False
                end = time.monotonic() + draw.uniform(0, 1.2)
            elif wait_for_answer:
                assert time.monotonic() < give_up, f"round {number}: nothing acknowledged"
                # Nothing is gained by piling up what waits for the broker to come back.
                end = time.monotonic() + 1
                time.sleep(0.02)
        broker.kill()
        assert not ledger.refused, f"round {number}: {ledger.refused[:3]}"
        broker.start()
    ledger.settle(client)
    assert not ledger.refused, ledger.refused[:3]
    assert ledger.acknowledged_count() == sum(ledger.sent)
    found = ledger.judge(broker.address)
    print(f"{rounds} rounds, {found} records, all acknowledged, each once")
