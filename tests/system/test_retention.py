"""Nothing is left behind: after retention, DeleteRecords, topic deletion and twenty kills, bucket and metadata
agree byte for byte.

The stated bound: a deleted or expired record's object is gone one `retention_check_interval`, one
`delete_grace` and some seconds of upkeep later; what a killed process left half done, 31 s after the next
start. STREAMHOUSE_TEST_SEED repeats a run.
"""

import random
import sqlite3
import time
import uuid

import pytest
from confluent_kafka import TopicPartition

from harness.clients import admin, create_topic, producer, unique, watermarks

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
    assert one("SELECT count(*) FROM inline_objects WHERE id NOT IN (SELECT id FROM objects WHERE inline = 1)") == 0


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
    for _ in range(ROUNDS):
        doomed.append(create_topic(broker.address, unique("doomed"), 1))
        end = time.monotonic() + draw.uniform(0.2, 0.8)
        while time.monotonic() < end:
            for topic in (kept, short, small, doomed[-1]):
                for _ in range(draw.choice([1, 20])):
                    value = draw.randbytes(draw.choice([50, 900]))
                    client.produce(topic, value, partition=0 if topic == doomed[-1] else draw.randrange(2))
            client.poll(0.02)
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
    for topic in [*(set(client_admin.list_topics(timeout=30).topics) - {kept})]:
        client_admin.delete_topics([topic])[topic].result(30)
    assert watermarks(broker.address, kept, 0)[0] == raised
    time.sleep(BOUND_SECONDS)
    assert broker.stop() == 0
    database = sqlite3.connect(broker.data_dir / "metadata.db")
    check_metadata(database, kept)
    assert stored(broker.data_dir) == named(database)
    assert sum(stored(broker.data_dir).values()) > 0, "what was kept is still there"
