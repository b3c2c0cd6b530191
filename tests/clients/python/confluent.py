"""confluent-kafka (librdkafka) speaks the scenarios' protocol."""

import threading
import time

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, OffsetSpec, ResourceType,
)
from protocol import Holdings, row, serve, stop_at, unb64

QUIET = {"log_level": 3, "reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 300}


def produce(bootstrap, topic, records, codec="none", idempotent=True, batch=100):
    client = Producer({
        "bootstrap.servers": bootstrap, "compression.type": codec, "enable.idempotence": idempotent, "acks": "all",
        "linger.ms": 20, "batch.num.messages": batch, "retry.backoff.ms": 50, **QUIET,
    })
    offsets = [None] * len(records)

    def report(at):
        def done(error, message):
            if error is not None:
                raise KafkaException(error)
            offsets[at] = message.offset()
        return done

    for at, each in enumerate(records):
        headers = [(name, unb64(value)) for name, value in each["headers"]]
        when = {} if each["timestamp"] is None else {"timestamp": each["timestamp"]}
        client.produce(topic, unb64(each["value"]), unb64(each["key"]), each["partition"], report(at),
                       headers=headers, **when)
    assert client.flush(60) == 0, "records without an answer"
    return offsets


def reader(bootstrap, **config):
    return Consumer({
        "bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False, "check.crcs": True,
        "auto.offset.reset": "earliest", "fetch.wait.max.ms": 100, **QUIET, **config,
    })


def read(bootstrap, topic, start, count, committed=False):
    isolation = "read_committed" if committed else "read_uncommitted"
    client = reader(bootstrap, **{"isolation.level": isolation})
    client.assign([TopicPartition(topic, int(partition), offset) for partition, offset in start.items()])
    found, deadline = [], time.monotonic() + 60
    while len(found) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} records"
        for each in client.consume(count - len(found), 0.2):
            if each.error() is not None:
                raise KafkaException(each.error())
            found.append(row(each.partition(), each.offset(), each.timestamp()[1], each.key(), each.value(),
                             each.headers()))
    client.close()
    return found


def time_(bootstrap, topic, partition, timestamp):
    client = reader(bootstrap)
    [found] = client.offsets_for_times([TopicPartition(topic, partition, timestamp)], timeout=30)
    client.close()
    # librdkafka answers the end where no record is that late.
    return found.offset if found.offset >= 0 else None


members: dict = {}


class Member(threading.Thread):
    def __init__(self, bootstrap, member, group, topic, protocol, instance, session_ms):
        super().__init__(daemon=True)
        self.holdings, self.leaving = Holdings(member), threading.Event()
        config = {"group.id": group, "client.id": member}
        if protocol == "consumer":
            config |= {"group.protocol": "consumer"}
        else:
            config |= {
                "session.timeout.ms": session_ms, "heartbeat.interval.ms": 500,
                "partition.assignment.strategy": {"cooperative": "cooperative-sticky"}.get(protocol, protocol),
            }
        if instance:
            config["group.instance.id"] = instance
        self.client = reader(bootstrap, **config)
        self.client.subscribe(
            [topic],
            on_assign=lambda _, given: self.holdings.gain(each.partition for each in given),
            on_revoke=lambda _, taken: self.holdings.lose(each.partition for each in taken),
        )

    def run(self):
        while not self.leaving.is_set():
            messages = [each for each in self.client.consume(100, 0.1) if each.error() is None]
            if not messages:
                continue
            self.holdings.records([[each.partition(), each.offset(), each.value().decode()] for each in messages])
            try:
                self.client.commit(asynchronous=False)
            except KafkaException as refused:
                print("commit:", refused)
        self.client.close()


def join(member, **arguments):
    members[member] = Member(member=member, **arguments)
    members[member].start()


def leave(member, **_):
    members[member].leaving.set()
    members[member].join(60)


def transform(bootstrap, group, source, target, transactional_id, ends, instance=None, stop=None):
    consumer = reader(bootstrap, **{
        "group.id": group, "isolation.level": "read_committed", "session.timeout.ms": 15_000,
        **({"group.instance.id": instance} if instance else {}),
    })
    producer = Producer({
        "bootstrap.servers": bootstrap, "transactional.id": transactional_id, "transaction.timeout.ms": 30_000, **QUIET,
    })
    producer.init_transactions(60)
    consumer.subscribe([source])
    transactions = 0
    while True:
        messages = [each for each in consumer.consume(20, 0.3) if each.error() is None]
        if not messages:
            places = consumer.committed([TopicPartition(source, int(each)) for each in ends], timeout=30)
            if consumer.assignment() and all(each.offset >= ends[str(each.partition)] for each in places):
                consumer.close()
                return transactions
            continue
        transactions += 1
        producer.begin_transaction()
        stop_at("begin", stop, transactions)
        for each in messages:
            producer.produce(target, each.value() + b"!", partition=each.partition())
        assert producer.flush(60) == 0
        stop_at("produced", stop, transactions)
        last = {each.partition(): each.offset() + 1 for each in messages}
        try:
            producer.send_offsets_to_transaction(
                [TopicPartition(source, *place) for place in last.items()], consumer.consumer_group_metadata(), 60)
            stop_at("offsets", stop, transactions)
            producer.commit_transaction(60)
        except KafkaException as refused:
            if not refused.args[0].txn_requires_abort():
                raise
            producer.abort_transaction(60)
            first = {}
            for each in messages:
                first.setdefault(each.partition(), each.offset())
            for place in first.items():
                consumer.seek(TopicPartition(source, *place))
            continue
        stop_at("committed", stop, transactions)


def admin(bootstrap):
    if bootstrap not in admins:
        admins[bootstrap] = AdminClient({"bootstrap.servers": bootstrap, **QUIET})
    return admins[bootstrap]


admins: dict = {}


def create(bootstrap, topic, partitions, config):
    new = NewTopic(topic, num_partitions=partitions, replication_factor=1, config=config)
    admin(bootstrap).create_topics([new])[topic].result(30)


def describe(bootstrap, topic):
    found = admin(bootstrap).list_topics(topic, timeout=30).topics[topic]
    if found.error is not None:
        raise KafkaException(found.error)
    return len(found.partitions)


def widen(bootstrap, topic, count):
    admin(bootstrap).create_partitions([NewPartitions(topic, count)])[topic].result(30)


def config(bootstrap, topic):
    [found] = admin(bootstrap).describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
    return {name: entry.value for name, entry in found.result(30).items()}


def alter(bootstrap, topic, name, value):
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    [done] = admin(bootstrap).incremental_alter_configs([resource]).values()
    done.result(30)


def delete_records(bootstrap, topic, partition, before):
    place = TopicPartition(topic, partition, before)
    return admin(bootstrap).delete_records([place])[place].result(30).low_watermark


def offsets(bootstrap, topic, partition):
    place = TopicPartition(topic, partition)
    asked = [OffsetSpec.earliest(), OffsetSpec.latest()]
    return [admin(bootstrap).list_offsets({place: each})[place].result(30).offset for each in asked]


def commit(bootstrap, group, topic, partition, offset):
    client = reader(bootstrap, **{"group.id": group})
    client.commit(offsets=[TopicPartition(topic, partition, offset)], asynchronous=False)
    client.close()


def committed(bootstrap, group, topic, partition):
    asked = [ConsumerGroupTopicPartitions(group, [TopicPartition(topic, partition)])]
    [place] = admin(bootstrap).list_consumer_group_offsets(asked)[group].result(30).topic_partitions
    return place.offset if place.offset >= 0 else None


def groups(bootstrap):
    return [each.group_id for each in admin(bootstrap).list_consumer_groups().result(30).valid]


def group(bootstrap, group):
    found = admin(bootstrap).describe_consumer_groups([group])[group].result(30)
    partitions = sum(len(each.assignment.topic_partitions) for each in found.members)
    return {"state": found.state.name.lower(), "members": len(found.members), "partitions": partitions}


def delete_group(bootstrap, group):
    admin(bootstrap).delete_consumer_groups([group])[group].result(30)


def delete(bootstrap, topic):
    admin(bootstrap).delete_topics([topic])[topic].result(30)


COMMANDS = {
    each.__name__.rstrip("_"): each
    for each in (produce, read, time_, join, leave, transform, create, describe, widen, config, alter, delete_records,
                 offsets, commit, committed, groups, group, delete_group, delete)
}

if __name__ == "__main__":
    serve(COMMANDS, lambda error: error.args[0].code() if isinstance(error, KafkaException) else None)
