"""Nothing is left behind: after retention, DeleteRecords, topic deletion and twenty kills, bucket and metadata
agree byte for byte, also where groups and transactions were at work.

The stated bound: a deleted or expired record's object is gone one `retention_check_interval`, one
`delete_grace` and some seconds of upkeep later; what a killed process left half done, 31 s after the next
start. STREAMHOUSE_TEST_SEED repeats a run.
"""

import random
import sqlite3
import time
import uuid

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from harness.clients import admin, create_topic, producer, unique, watermarks
from harness.process import wait_until

pytestmark = pytest.mark.promise

ROUNDS = 20
BOUND_SECONDS = 45


def stored(directory) -> dict[str, int]:
    """Every object in the bucket with its length."""
    root = directory / "objects"
    files = (path for path in root.glob("objects/*/*") if path.is_file())
    return {f"{path.parent.name}/{path.name}": path.stat().st_size for path in files}


def named(database: sqlite3.Connection) -> dict[str, int]:
    """Every object that the metadata names outside of itself."""
    rows = database.execute("SELECT incarnation, counter, length FROM objects WHERE inline = 0")
    return {f"{uuid.UUID(bytes=incarnation)}/{counter:020}": length for incarnation, counter, length in rows}


def check_metadata(database: sqlite3.Connection, kept: str) -> None:
    def one(question: str):
        return database.execute(question).fetchone()[0]

    assert [name for (name,) in database.execute("SELECT name FROM topics")] == [kept]
    assert one("SELECT count(*) FROM partitions") == 2
    assert one("SELECT count(*) FROM objects WHERE deleting_since IS NOT NULL OR live_segments = 0") == 0
    assert one(
        "SELECT count(*) FROM objects o WHERE live_segments != (SELECT count(*) FROM segments WHERE object = o.id)"
    ) == 0
    assert one("SELECT count(*) FROM segments WHERE object NOT IN (SELECT id FROM objects)") == 0
    assert one("SELECT count(*) FROM segments WHERE partition_id NOT IN (SELECT id FROM partitions)") == 0
    assert one(
        "SELECT count(*) FROM segments s JOIN partitions p ON p.id = s.partition_id "
        "WHERE s.last_offset < p.log_start_offset"
    ) == 0
    assert one(
        "SELECT count(*) FROM partitions p WHERE size_bytes != "
        "(SELECT coalesce(sum(length), 0) FROM segments WHERE partition_id = p.id)"
    ) == 0
    for table in ("committed_offsets", "pending_offsets", "aborted_transactions", "producers"):
        assert one(f"SELECT count(*) FROM {table} WHERE partition_id NOT IN (SELECT id FROM partitions)") == 0, table
    assert one("SELECT count(*) FROM pending_offsets") == 0, "no transaction is open"
    assert one("SELECT count(*) FROM committed_offsets") > 0, "offsets of the topic that was kept are still there"
    assert one("SELECT count(*) FROM aborted_transactions") > 0
    assert one(
        "SELECT count(*) FROM aborted_transactions a JOIN partitions p ON p.id = a.partition_id "
        "WHERE a.last_offset < p.log_start_offset"
    ) == 0
    assert one("SELECT count(*) FROM inline_objects WHERE id NOT IN (SELECT id FROM objects WHERE inline = 1)") == 0


def transact(broker, topics: list[str], reader: Consumer, end: str, draw: random.Random) -> Producer:
    """One transaction with records and a group's offsets, which ends so or is left to the kill. The next start
    of the same name aborts what was left."""
    client = Producer({
        "bootstrap.servers": broker.address, "transactional.id": "lasting", "log_level": 2, "linger.ms": 0,
    })
    client.init_transactions(30)
    client.begin_transaction()
    for topic in topics:
        for _ in range(10):
            client.produce(topic, draw.randbytes(300), partition=1 if topic != topics[-1] else 0)
    client.flush(30)
    offsets = [TopicPartition(topics[0], 1, draw.randrange(10)), TopicPartition(topics[-1], 0, 1)]
    client.send_offsets_to_transaction(offsets, reader.consumer_group_metadata(), 30)
    if end == "commit":
        client.commit_transaction(30)
    elif end == "abort":
        client.abort_transaction(30)
    return client


@pytest.mark.ours
@pytest.mark.restarts
@pytest.mark.timeout(600)
def test_bucket_and_metadata_agree_byte_for_byte_after_retention_deletion_and_kills(new_broker, seed):
    print(f"STREAMHOUSE_TEST_SEED={seed}")
    draw = random.Random(seed)
    broker = new_broker(retention_check_interval="300ms", delete_grace="500ms", inline_bytes=2_000,
                        auto_create_topics="false")
    kept = create_topic(broker.address, unique("kept"), 2)
    short = create_topic(broker.address, unique("short"), 2, **{"retention.ms": "800"})
    small = create_topic(broker.address, unique("small"), 2, **{"retention.bytes": "20000"})
    client = producer(broker.address)
    client_admin = admin(broker.address)
    doomed: list[str] = []
    raised = 0
    # A member that lives through all kills, and a group without members.
    member = Consumer({
        "bootstrap.servers": broker.address, "group.id": "living", "log_level": 2, "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
    })
    member.subscribe([kept, short])
    reader = Consumer({"bootstrap.servers": broker.address, "group.id": "reading", "log_level": 2})
    left_open: list[Producer] = []
    for _ in range(ROUNDS):
        doomed.append(create_topic(broker.address, unique("doomed"), 1))
        end = time.monotonic() + draw.uniform(0.2, 0.8)
        while time.monotonic() < end:
            for topic in (kept, short, small, doomed[-1]):
                for _ in range(draw.choice([1, 20])):
                    value = draw.randbytes(draw.choice([50, 900]))
                    client.produce(topic, value, partition=0 if topic == doomed[-1] else draw.randrange(2))
            client.poll(0.02)
        if member.consume(50, 0.05):
            try:
                member.commit(asynchronous=False)
            except KafkaException:
                pass  # its generation went with the broker
        reader.commit(offsets=[TopicPartition(doomed[-1], 0, 1)], asynchronous=False)
        end = draw.choice(["commit", "abort", "neither"])
        left_open.append(transact(broker, [kept, short, small, doomed[-1]], reader, end, draw))
        if draw.random() < 0.6:
            client.flush(60)
            upto = watermarks(broker.address, kept, 0)[1] - 1
            client_admin.delete_records([TopicPartition(kept, 0, upto)])[
                TopicPartition(kept, 0)
            ].result(30)
            raised = upto
        if len(doomed) > 2:
            # Unanswered as often as not: the kill comes right behind it.
            client_admin.delete_topics([doomed.pop(0)])
            time.sleep(draw.uniform(0, 0.1))
        broker.kill()
        broker.start()
    assert client.flush(120) == 0
    transact(broker, [kept, doomed[-1]], reader, "commit", draw)
    del left_open
    member.close()
    reader.close()
    for topic in [*(set(client_admin.list_topics(timeout=30).topics) - {kept})]:
        client_admin.delete_topics([topic])[topic].result(30)
    assert watermarks(broker.address, kept, 0)[0] == raised
    time.sleep(BOUND_SECONDS)

    def all_is_done() -> bool:
        samples = broker.metrics()
        tasks = ("purge", "trim", "deleting", "orphans")
        return all(samples.get("streamhouse_task_backlog", task=each) == 0 for each in tasks)

    # On a machine that stood still meanwhile, some of it may be under way.
    wait_until(all_is_done, 60, "nothing waits for upkeep", every=1)
    assert broker.stop() == 0
    database = sqlite3.connect(broker.data_dir / "metadata.db")
    check_metadata(database, kept)
    assert stored(broker.data_dir) == named(database)
    assert sum(stored(broker.data_dir).values()) > 0, "what was kept is still there"
