"""kafka-python speaks the scenarios' protocol."""

import threading
import time

from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition, errors
from kafka.admin import ConfigResource, KafkaAdminClient
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import KafkaError
from protocol import Holdings, row, serve, stop_at, unb64

ASSIGNORS = {"range": RangePartitionAssignor, "cooperative": CooperativeStickyAssignor}


def produce(bootstrap, topic, records, codec="none", idempotent=True, batch=100):
    client = KafkaProducer(
        bootstrap_servers=bootstrap, compression_type=None if codec == "none" else codec, acks="all",
        enable_idempotence=idempotent, linger_ms=20, batch_size=1_000_000 if batch >= 100 else 300,
        retry_backoff_ms=50, reconnect_backoff_ms=50,
    )
    answers = []
    for each in records:
        headers = [(name, unb64(value)) for name, value in each["headers"]]
        answers.append(client.send(
            topic, unb64(each["value"]), unb64(each["key"]), headers, each["partition"], each["timestamp"]))
    client.flush(60)
    offsets = [each.get(30).offset for each in answers]
    client.close()
    return offsets


def reader(bootstrap, **config):
    return KafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest", fetch_max_wait_ms=100,
        retry_backoff_ms=50, reconnect_backoff_ms=50, **config)


def read(bootstrap, topic, start, count, committed=False):
    client = reader(bootstrap, isolation_level="read_committed" if committed else "read_uncommitted")
    client.assign([TopicPartition(topic, int(each)) for each in start])
    for partition, offset in start.items():
        client.seek(TopicPartition(topic, int(partition)), offset)
    found, deadline = [], time.monotonic() + 60
    while len(found) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} records"
        for records in client.poll(200, max_records=count - len(found)).values():
            found += [row(each.partition, each.offset, each.timestamp, each.key, each.value, each.headers)
                      for each in records]
    client.close()
    return found


def time_(bootstrap, topic, partition, timestamp):
    client = reader(bootstrap)
    place = TopicPartition(topic, partition)
    found = client.offsets_for_times({place: timestamp})[place]
    client.close()
    return found.offset if found and found.offset >= 0 else None


members: dict = {}


class Member(threading.Thread, ConsumerRebalanceListener):
    def __init__(self, bootstrap, member, group, topic, protocol, instance, session_ms):
        super().__init__(daemon=True)
        self.holdings, self.leaving = Holdings(member), threading.Event()
        self.client = reader(
            bootstrap, client_id=member, group_id=group, group_instance_id=instance, session_timeout_ms=session_ms,
            heartbeat_interval_ms=500, partition_assignment_strategy=[ASSIGNORS[protocol]])
        self.client.subscribe([topic], listener=self)

    def on_partitions_assigned(self, assigned):
        self.holdings.gain(each.partition for each in assigned)

    def on_partitions_revoked(self, revoked):
        self.holdings.lose(each.partition for each in revoked)

    def on_partitions_lost(self, lost):
        self.holdings.lose(each.partition for each in lost)

    def run(self):
        while not self.leaving.is_set():
            found = self.client.poll(100, max_records=100)
            rows = [[each.partition, each.offset, each.value.decode()] for some in found.values() for each in some]
            if not rows:
                continue
            self.holdings.records(rows)
            try:
                self.client.commit()
            except KafkaError as refused:
                print("commit:", refused)
        self.holdings.lose(self.holdings.held)
        self.client.close(autocommit=False)


def join(member, **arguments):
    members[member] = Member(member=member, **arguments)
    members[member].start()


def leave(member, **_):
    members[member].leaving.set()
    members[member].join(60)


def transform(bootstrap, group, source, target, transactional_id, ends, instance=None, stop=None):
    consumer = reader(
        bootstrap, group_id=group, group_instance_id=instance, isolation_level="read_committed",
        session_timeout_ms=15_000, heartbeat_interval_ms=500)
    producer = KafkaProducer(
        bootstrap_servers=bootstrap, transactional_id=transactional_id, transaction_timeout_ms=30_000)
    producer.init_transactions()
    consumer.subscribe([source])
    transactions = 0
    while True:
        found = consumer.poll(300, max_records=20)
        if not found:
            places = {each: consumer.committed(TopicPartition(source, int(each))) for each in ends}
            if consumer.assignment() and all((places[each] or 0) >= end for each, end in ends.items()):
                consumer.close()
                producer.close()
                return transactions
            continue
        transactions += 1
        producer.begin_transaction()
        stop_at("begin", stop, transactions)
        answers = [producer.send(target, each.value + b"!", partition=each.partition)
                   for some in found.values() for each in some]
        producer.flush(60)
        for each in answers:
            each.get(30)
        stop_at("produced", stop, transactions)
        offsets = {place: OffsetAndMetadata(some[-1].offset + 1) for place, some in found.items()}
        producer.send_offsets_to_transaction(offsets, consumer.group_metadata())
        stop_at("offsets", stop, transactions)
        producer.commit_transaction()
        stop_at("committed", stop, transactions)


def admin(bootstrap):
    if bootstrap not in admins:
        admins[bootstrap] = KafkaAdminClient(bootstrap_servers=bootstrap)
    return admins[bootstrap]


admins: dict = {}


def create(bootstrap, topic, partitions, config):
    admin(bootstrap).create_topics({topic: {"num_partitions": partitions, "replication_factor": 1, "configs": config}})


def describe(bootstrap, topic):
    [found] = admin(bootstrap).describe_topics([topic])
    return len(found["partitions"])


def widen(bootstrap, topic, count):
    admin(bootstrap).create_partitions({topic: count})


def config(bootstrap, topic):
    found = admin(bootstrap).describe_configs([ConfigResource("topic", topic)], config_filter="all")
    return {name: entry["value"] for name, entry in found["topic"][topic].items()}


def alter(bootstrap, topic, name, value):
    admin(bootstrap).alter_configs([ConfigResource("topic", topic, {name: value})])


def delete_records(bootstrap, topic, partition, before):
    place = TopicPartition(topic, partition)
    return admin(bootstrap).delete_records({place: before})[place]["low_watermark"]


def offsets(bootstrap, topic, partition):
    place = TopicPartition(topic, partition)
    return [admin(bootstrap).list_partition_offsets({place: each})[place].offset for each in (-2, -1)]


def commit(bootstrap, group, topic, partition, offset):
    client = reader(bootstrap, group_id=group)
    client.assign([TopicPartition(topic, partition)])
    client.commit({TopicPartition(topic, partition): OffsetAndMetadata(offset)})
    client.close()


def committed(bootstrap, group, topic, partition):
    place = TopicPartition(topic, partition)
    found = admin(bootstrap).list_group_offsets({group: [place]})[group].get(place)
    return found.offset if found and found.offset >= 0 else None


def groups(bootstrap):
    return [each["group_id"] for each in admin(bootstrap).list_groups()]


def group(bootstrap, group):
    found = admin(bootstrap).describe_groups([group])[group]
    assignments = [each["member_assignment"] for each in found["members"]]
    partitions = sum(
        len(topic["partitions"]) for each in assignments if each for topic in each["assigned_partitions"])
    return {"state": found["group_state"].lower(), "members": len(found["members"]), "partitions": partitions}


def delete_group(bootstrap, group):
    answer = admin(bootstrap).delete_groups([group])[group]
    if answer != "OK":
        raise getattr(errors, answer)


def delete(bootstrap, topic):
    admin(bootstrap).delete_topics([topic])


COMMANDS = {
    each.__name__.rstrip("_"): each
    for each in (produce, read, time_, join, leave, transform, create, describe, widen, config, alter, delete_records,
                 offsets, commit, committed, groups, group, delete_group, delete)
}

if __name__ == "__main__":
    serve(COMMANDS, lambda error: getattr(error, "errno", None))
