"""aiokafka speaks the scenarios' protocol. Its event loop runs in a thread of its own."""

import asyncio
import threading
import time

from aiokafka import (
    AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition, errors,
)
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.protocol.group import MemberAssignment
from protocol import Holdings, row, serve, stop_at, unb64

loop = asyncio.new_event_loop()


async def produce(bootstrap, topic, records, codec="none", idempotent=True, batch=100):
    client = AIOKafkaProducer(
        bootstrap_servers=bootstrap, compression_type=None if codec == "none" else codec, acks="all",
        enable_idempotence=idempotent, linger_ms=20, max_batch_size=1_000_000 if batch >= 100 else 300,
        retry_backoff_ms=50,
    )
    await client.start()
    answers = []
    for each in records:
        headers = [(name, unb64(value)) for name, value in each["headers"]]
        answers.append(await client.send(
            topic, unb64(each["value"]), unb64(each["key"]), partition=each["partition"], headers=headers,
            timestamp_ms=each["timestamp"]))
    offsets = [each.offset for each in await asyncio.gather(*answers)]
    await client.stop()
    return offsets


async def reader(bootstrap, **config):
    client = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest", fetch_max_wait_ms=100,
        retry_backoff_ms=50, **config)
    await client.start()
    return client


async def read(bootstrap, topic, start, count, committed=False):
    client = await reader(bootstrap, isolation_level="read_committed" if committed else "read_uncommitted")
    client.assign([TopicPartition(topic, int(each)) for each in start])
    for partition, offset in start.items():
        client.seek(TopicPartition(topic, int(partition)), offset)
    found, deadline = [], time.monotonic() + 60
    while len(found) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} records"
        for records in (await client.getmany(timeout_ms=200, max_records=count - len(found))).values():
            found += [row(each.partition, each.offset, each.timestamp, each.key, each.value, each.headers)
                      for each in records]
    await client.stop()
    return found


async def time_(bootstrap, topic, partition, timestamp):
    client = await reader(bootstrap)
    place = TopicPartition(topic, partition)
    found = (await client.offsets_for_times({place: timestamp}))[place]
    await client.stop()
    return found.offset if found else None


members: dict = {}


class Member(ConsumerRebalanceListener):
    def __init__(self, member):
        self.holdings, self.leaving = Holdings(member), False

    async def on_partitions_revoked(self, revoked):
        self.holdings.lose(each.partition for each in revoked)

    async def on_partitions_assigned(self, assigned):
        # It may have been about to join again when it was told to leave.
        if not self.leaving:
            self.holdings.gain(each.partition for each in assigned)

    async def run(self, bootstrap, group, topic, protocol, instance, session_ms):
        assert protocol == "range"
        client = await reader(
            bootstrap, group_id=group, group_instance_id=instance, session_timeout_ms=session_ms,
            heartbeat_interval_ms=500, partition_assignment_strategy=[RangePartitionAssignor])
        client.subscribe([topic], listener=self)
        while not self.leaving:
            found = await client.getmany(timeout_ms=100, max_records=100)
            rows = [[each.partition, each.offset, each.value.decode()] for records in found.values()
                    for each in records if each.partition in self.holdings.held]
            if not rows:
                continue
            self.holdings.records(rows)
            try:
                await client.commit()
            except errors.KafkaError as refused:
                print("commit:", refused)
        self.holdings.lose(self.holdings.held)
        await client.stop()


async def join(member, **arguments):
    one = Member(member)
    members[member] = (one, asyncio.create_task(one.run(**arguments)))


async def leave(member, **_):
    one, task = members[member]
    one.leaving = True
    await task


async def transform(bootstrap, group, source, target, transactional_id, ends, instance=None, stop=None):
    consumer = await reader(
        bootstrap, group_id=group, group_instance_id=instance, isolation_level="read_committed",
        session_timeout_ms=15_000, heartbeat_interval_ms=500)
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, transactional_id=transactional_id, transaction_timeout_ms=30_000)
    await producer.start()
    consumer.subscribe([source])
    transactions = 0

    async def pause(step):
        await asyncio.to_thread(stop_at, step, stop, transactions)

    while True:
        found = await consumer.getmany(timeout_ms=300, max_records=20)
        records = [each for some in found.values() for each in some]
        if not records:
            places = {each: await consumer.committed(TopicPartition(source, int(each))) for each in ends}
            if consumer.assignment() and all((places[each] or 0) >= end for each, end in ends.items()):
                await consumer.stop()
                await producer.stop()
                return transactions
            continue
        transactions += 1
        await producer.begin_transaction()
        await pause("begin")
        for each in records:
            await producer.send_and_wait(target, each.value + b"!", partition=each.partition)
        await pause("produced")
        offsets = {place: some[-1].offset + 1 for place, some in found.items()}
        await producer.send_offsets_to_transaction(offsets, group)
        await pause("offsets")
        await producer.commit_transaction()
        await pause("committed")


async def admin(bootstrap):
    if bootstrap not in admins:
        admins[bootstrap] = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admins[bootstrap].start()
    return admins[bootstrap]


admins: dict = {}


def require(code, message=""):
    if code:
        raise errors.for_code(code)(message)


async def create(bootstrap, topic, partitions, config):
    new = NewTopic(topic, partitions, 1, topic_configs=config)
    for each in (await (await admin(bootstrap)).create_topics([new])).topic_errors:
        require(each[1], each[2])


async def describe(bootstrap, topic):
    [found] = await (await admin(bootstrap)).describe_topics([topic])
    require(found["error_code"])
    return len(found["partitions"])


async def widen(bootstrap, topic, count):
    await (await admin(bootstrap)).create_partitions({topic: NewPartitions(count)})


async def config(bootstrap, topic):
    [answer] = await (await admin(bootstrap)).describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    [[code, message, _, _, entries]] = answer.resources
    require(code, message)
    return {each[0]: each[1] for each in entries}


async def alter(bootstrap, topic, name, value):
    # It knows AlterConfigs alone, which sets a topic's whole configuration.
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs={name: value})
    for answer in await (await admin(bootstrap)).alter_configs([resource]):
        for each in answer.resources:
            require(each[0], each[1])


async def delete_records(bootstrap, topic, partition, before):
    place = TopicPartition(topic, partition)
    return (await (await admin(bootstrap)).delete_records({place: RecordsToDelete(before)}))[place]


async def offsets(bootstrap, topic, partition):
    client = await reader(bootstrap)
    place = TopicPartition(topic, partition)
    found = [(await client.beginning_offsets([place]))[place], (await client.end_offsets([place]))[place]]
    await client.stop()
    return found


async def commit(bootstrap, group, topic, partition, offset):
    client = await reader(bootstrap, group_id=group)
    client.assign([TopicPartition(topic, partition)])
    await client.commit({TopicPartition(topic, partition): offset})
    await client.stop()


async def committed(bootstrap, group, topic, partition):
    place = TopicPartition(topic, partition)
    found = (await (await admin(bootstrap)).list_consumer_group_offsets(group, partitions=[place]))[place]
    return found.offset if found.offset >= 0 else None


async def groups(bootstrap):
    return [each[0] for each in await (await admin(bootstrap)).list_consumer_groups()]


async def group(bootstrap, group):
    [answer] = await (await admin(bootstrap)).describe_consumer_groups([group])
    [[code, _, state, _, _, members, *_]] = answer.groups
    require(code)
    shares = [MemberAssignment.decode(each[-1]) for each in members if each[-1]]
    partitions = sum(len(part) for each in shares for _, part in each.assignment)
    return {"state": state.lower(), "members": len(members), "partitions": partitions}


async def delete(bootstrap, topic):
    for each in (await (await admin(bootstrap)).delete_topics([topic])).topic_error_codes:
        require(each[1])


def blocking(command):
    def call(**arguments):
        return asyncio.run_coroutine_threadsafe(command(**arguments), loop).result()
    return call


COMMANDS = {
    each.__name__.rstrip("_"): blocking(each)
    for each in (produce, read, time_, join, leave, transform, create, describe, widen, config, alter, delete_records,
                 offsets, commit, committed, groups, group, delete)
}

if __name__ == "__main__":
    threading.Thread(target=loop.run_forever, daemon=True).start()
    serve(COMMANDS, lambda error: getattr(error, "errno", None))
