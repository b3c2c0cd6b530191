"""The two librdkafka clients that scenarios use: confluent-kafka (newest) and Debian's kcat (2.0.2).

Consumers here assign partitions themselves: nothing depends on consumer groups.
"""

import functools
import subprocess
import time
import uuid
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from .wire import Connection


def unique(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


@functools.lru_cache(maxsize=4)
def admin(address: str) -> AdminClient:
    # Kept: an AdminClient that is collected cancels what it was asked.
    return AdminClient({"bootstrap.servers": address, "log_level": 2})


def create_topic(address: str, name: str, partitions: int = 1, **config: str) -> str:
    """Creates it and waits until every partition has a leader and answers."""
    client = admin(address)
    new = NewTopic(name, num_partitions=partitions, replication_factor=1, config=config)
    client.create_topics([new], operation_timeout=30)[name].result(60)
    deadline = time.monotonic() + 30
    while True:
        topic = client.list_topics(name, timeout=30).topics[name]
        if topic.error is None and len(topic.partitions) == partitions:
            if all(each.leader >= 0 for each in topic.partitions.values()):
                break
        assert time.monotonic() < deadline, f"{name} has no leaders: {topic.error}, {len(topic.partitions)}"
        time.sleep(0.05)
    # Kafka names a leader before that leader knows.
    with Connection(address) as connection:
        while any(connection.list_offset(name, each, -1)[0] for each in range(partitions)):
            assert time.monotonic() < deadline, f"{name} does not answer"
            time.sleep(0.05)
    return name


def producer(address: str, **config: object) -> Producer:
    return Producer({
        "bootstrap.servers": address,
        # A broker that is away is what these tests do on purpose; failures show as errors, not as lines.
        "log_level": 2,
        "enable.idempotence": True,
        "linger.ms": 5,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 500,
        "retry.backoff.ms": 50,
        "retry.backoff.max.ms": 500,
        "message.timeout.ms": 300_000,
        "queue.buffering.max.messages": 1_000_000,
        "message.max.bytes": 1_000_000,
        **{name.replace("_", "."): value for name, value in config.items()},
    })


def send_all(address: str, topic: str, values, seconds: float = 120, **config: object) -> None:
    """Produces every value to partition 0 and requires every acknowledgement."""
    client = producer(address, **config)
    refused: list = []

    def report(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            refused.append(error)

    for value in values:
        while True:
            try:
                client.produce(topic, value=value, partition=0, on_delivery=report)
                break
            except BufferError:
                client.poll(0.1)
    left = client.flush(seconds)
    assert left == 0, f"{left} records unacknowledged after {seconds} s"
    assert not refused, f"{len(refused)} records refused, first: {refused[0]}"


def consumer(address: str, **config: object) -> Consumer:
    return Consumer({
        "bootstrap.servers": address,
        "log_level": 2,
        "group.id": unique("reader"),
        "enable.auto.commit": False,
        "enable.partition.eof": False,
        "auto.offset.reset": "error",
        "check.crcs": True,
        "fetch.wait.max.ms": 100,
        **{name.replace("_", "."): value for name, value in config.items()},
    })


def watermarks(address: str, topic: str, partition: int = 0) -> tuple[int, int]:
    client = consumer(address)
    try:
        return client.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
    finally:
        client.close()


def read_all(address: str, topic: str, partitions: int = 1, seconds: float = 120) -> list[list[Message]]:
    """Every record of every partition up to the high watermarks, per partition in order of delivery."""
    client = consumer(address)
    try:
        places = [TopicPartition(topic, each, OFFSET_BEGINNING) for each in range(partitions)]
        ends = {each.partition: client.get_watermark_offsets(each, timeout=30) for each in places}
        left = {partition for partition, (low, high) in ends.items() if high > low}
        client.assign(places)
        found: list[list[Message]] = [[] for _ in places]
        deadline = time.monotonic() + seconds
        while left:
            for message in client.consume(10_000, timeout=0.5):
                assert message.error() is None, message.error()
                found[message.partition()].append(message)
                if message.offset() >= ends[message.partition()][1] - 1:
                    left.discard(message.partition())
            assert time.monotonic() < deadline, f"partitions {left} incomplete, high watermarks {ends}"
        return found
    finally:
        client.close()


def kcat(address: str, *arguments: object, seconds: float = 180, **options) -> subprocess.CompletedProcess:
    command = ["kcat", "-b", address, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, timeout=seconds, **options)
    assert done.returncode == 0, f"{command} → {done.returncode}: {done.stderr.decode(errors='replace')[-2000:]}"
    return done


def kcat_send(address: str, topic: str, lines: Path, codec: str = "none") -> None:
    """One record a line, in order. (kcat without idempotence could reorder when it retries.)"""
    kcat(address, "-P", "-t", topic, "-p", 0, "-z", codec, "-X", "enable.idempotence=true", "-l", lines)


def kcat_read(address: str, topic: str) -> bytes:
    return kcat(address, "-C", "-t", topic, "-p", 0, "-o", "beginning", "-e", "-q").stdout
