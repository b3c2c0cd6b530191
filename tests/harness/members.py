"""Members of a group and what they own: what scenarios of both group protocols share."""

import time

from confluent_kafka import Consumer, Producer

PARTITIONS = 12

# Short sessions of the newer protocol, where the server says how long they are: for Kafka, and as our flags. No
# shorter than a busy machine may stand still, because who is silent for longer loses what it has.
QUICK_KAFKA = {
    "group.consumer.min.session.timeout.ms": 1_000,
    "group.consumer.session.timeout.ms": 15_000,
    "group.consumer.min.heartbeat.interval.ms": 100,
    "group.consumer.heartbeat.interval.ms": 300,
    "group.consumer.assignors": "uniform,range",
}
QUICK_FLAGS = {"group-consumer-session-timeout": "15s", "group-consumer-heartbeat-interval": "300ms"}


def owned(consumer: Consumer) -> set[int]:
    return {partition.partition for partition in consumer.assignment()}


def settle(consumers: list[Consumer], seconds: float = 60, seen: list | None = None,
           partitions: int = PARTITIONS) -> list[set[int]]:
    """Polls until the members own every partition between them, each exactly once; what comes goes to `seen`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for consumer in consumers:
            message = consumer.poll(0.05)
            if seen is not None and message is not None and message.error() is None:
                seen.append(message.value())
        shares = [owned(consumer) for consumer in consumers]
        everything = set().union(*shares) == set(range(partitions))
        if sum(map(len, shares)) == partitions and everything and all(shares):
            return shares
    raise AssertionError(f"not settled: {[owned(consumer) for consumer in consumers]}")


def drain(consumers: list[Consumer], count: int, seconds: float = 60) -> list[bytes]:
    """The values of the next `count` records, or of fewer when time runs out."""
    values: list[bytes] = []
    end = time.monotonic() + seconds
    while len(values) < count and time.monotonic() < end:
        for consumer in consumers:
            message = consumer.poll(0.02)
            if message is not None and message.error() is None:
                values.append(message.value())
    return values


def fill(broker, topic: str, count: int) -> list[bytes]:
    """Sends `count` records to all partitions in turn; their values."""
    values = [f"record {n}".encode() for n in range(count)]
    producer = Producer({"bootstrap.servers": broker.address, "acks": "all"})
    for n, value in enumerate(values):
        producer.produce(topic, value, partition=n % PARTITIONS)
    assert producer.flush(60) == 0
    return values
