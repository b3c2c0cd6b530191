"""A consume–transform–produce program with exactly-once semantics, that can be made to die in each step.

    python -m harness.transformer BROKER GROUP SOURCE TARGET TRANSACTIONAL_ID STEP AFTER

Reads SOURCE as a member of GROUP, writes every value with a `!` to TARGET and commits the offsets in the
same transaction. At the AFTERth transaction it kills itself (SIGKILL) in STEP: begin, produced, offsets,
committed; or, with `none`, runs until it has read to the end of SOURCE. What a dead one left open, the next
one with its transactional id aborts.
"""

import os
import signal
import sys

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

BATCH = 20


def main(broker: str, group: str, source: str, target: str, transactional_id: str, step: str, after: int) -> None:
    transactions = 0

    def die(here: str) -> None:
        if here == step and transactions >= after:
            os.kill(os.getpid(), signal.SIGKILL)

    consumer = Consumer({
        "bootstrap.servers": broker, "group.id": group, "auto.offset.reset": "earliest", "log_level": 2,
        "enable.auto.commit": False, "isolation.level": "read_committed", "session.timeout.ms": 6_000,
        # A static member: who comes after a dead one need not wait until its session is over.
        "group.instance.id": transactional_id,
    })
    producer = Producer({
        "bootstrap.servers": broker, "transactional.id": transactional_id, "log_level": 2,
        "transaction.timeout.ms": 30_000,
    })
    producer.init_transactions(60)
    partitions = range(len(consumer.list_topics(source, timeout=30).topics[source].partitions))
    consumer.subscribe([source])

    def done() -> bool:
        places = consumer.committed([TopicPartition(source, each) for each in partitions], timeout=30)
        return all(place.offset >= consumer.get_watermark_offsets(place, timeout=30)[1] for place in places)

    while True:
        messages = [each for each in consumer.consume(BATCH, timeout=0.5) if each.error() is None]
        if not messages:
            if consumer.assignment() and done():
                break
            continue
        transactions += 1
        producer.begin_transaction()
        die("begin")
        for message in messages:
            producer.produce(target, message.value() + b"!", partition=message.partition())
        producer.flush(60)
        die("produced")
        ends = {message.partition(): message.offset() + 1 for message in messages}
        offsets = [TopicPartition(source, partition, offset) for partition, offset in ends.items()]
        try:
            producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), 60)
            die("offsets")
            producer.commit_transaction(60)
        except KafkaException as refused:
            if not refused.args[0].txn_requires_abort():
                raise
            producer.abort_transaction(60)
            rewind(consumer, messages)
            continue
        die("committed")
    consumer.close()


def rewind(consumer: Consumer, messages: list) -> None:
    """Goes back to where the aborted transaction began."""
    firsts: dict[int, int] = {}
    for message in messages:
        firsts.setdefault(message.partition(), message.offset())
    for partition, offset in firsts.items():
        consumer.seek(TopicPartition(messages[0].topic(), partition, offset))


if __name__ == "__main__":
    main(*sys.argv[1:7], int(sys.argv[7]))
