"""What administrators set and ask, as Kafka answers it: configurations of topics and brokers, sizes, deleted
records, epochs, quotas."""

import struct

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType

from harness.clients import admin, create_topic, send_all, unique, watermarks
from harness.java import java
from harness.process import wait_until
from harness.wire import Connection, batch, produce_body, string

PRODUCE, OFFSET_FOR_LEADER_EPOCH, DESCRIBE_LOG_DIRS, ALTER_CLIENT_QUOTAS = 0, 23, 35, 49


def topic_config(broker, topic: str) -> dict[str, ConfigEntry]:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    return admin(broker.address).describe_configs([resource])[resource].result(30)


def alter(broker, topic: str, *entries: tuple[str, str | None, AlterConfigOpType], **options):
    changes = [ConfigEntry(name, value, incremental_operation=op) for name, value, op in entries]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=changes)
    return admin(broker.address).incremental_alter_configs([resource], **options)[resource].result(30)


def becomes(broker, topic: str, name: str, value: str) -> None:
    """Kafka's brokers follow the controller a moment later."""
    wait_until(lambda: topic_config(broker, topic)[name].value == value, 30, f"{name}={value}", every=0.1)


def test_entries_are_set_and_deleted_one_by_one(broker):
    topic = create_topic(broker.address, unique("configured"), **{"retention.bytes": "1000"})
    alter(broker, topic, ("retention.ms", "60000", AlterConfigOpType.SET))
    becomes(broker, topic, "retention.ms", "60000")
    found = topic_config(broker, topic)
    assert found["retention.bytes"].value == "1000"
    assert not found["retention.ms"].is_default and found["max.message.bytes"].is_default
    alter(broker, topic, ("retention.ms", None, AlterConfigOpType.DELETE))
    becomes(broker, topic, "retention.ms", "604800000")
    assert topic_config(broker, topic)["retention.bytes"].value == "1000"


def test_lists_grow_and_shrink(broker):
    topic = create_topic(broker.address, unique("list"))
    alter(broker, topic, ("cleanup.policy", "delete", AlterConfigOpType.APPEND))
    becomes(broker, topic, "cleanup.policy", "delete")
    alter(broker, topic, ("cleanup.policy", "compact", AlterConfigOpType.SUBTRACT))
    becomes(broker, topic, "cleanup.policy", "delete")
    with pytest.raises(KafkaException) as refused:
        alter(broker, topic, ("retention.ms", "1", AlterConfigOpType.APPEND))
    assert refused.value.args[0].code() == KafkaError.INVALID_CONFIG


@pytest.mark.parametrize(("name", "value"), [
    ("no.such.config", "1"),
    ("retention.ms", "soon"),
    ("retention.ms", "-2"),
    ("cleanup.policy", "forget"),
    ("message.timestamp.type", "SomeTime"),
    ("max.message.bytes", "-1"),
])
def test_what_cannot_be_configured_is_refused_by_name(broker, name, value):
    topic = create_topic(broker.address, unique("refused"))
    with pytest.raises(KafkaException) as refused:
        alter(broker, topic, ("retention.bytes", "7", AlterConfigOpType.SET), (name, value, AlterConfigOpType.SET))
    assert refused.value.args[0].code() == KafkaError.INVALID_CONFIG
    assert name in refused.value.args[0].str()
    # All of it or nothing.
    assert topic_config(broker, topic)["retention.bytes"].value == "-1"
    new = NewTopic(unique("refused"), num_partitions=1, replication_factor=1, config={name: value})
    with pytest.raises(KafkaException) as refused:
        admin(broker.address).create_topics([new])[new.topic].result(30)
    assert refused.value.args[0].code() == KafkaError.INVALID_CONFIG


def test_validate_only_changes_nothing_and_still_refuses(broker):
    topic = create_topic(broker.address, unique("validated"))
    alter(broker, topic, ("retention.ms", "5", AlterConfigOpType.SET), validate_only=True)
    with pytest.raises(KafkaException) as refused:
        alter(broker, topic, ("no.such.config", "5", AlterConfigOpType.SET), validate_only=True)
    assert refused.value.args[0].code() == KafkaError.INVALID_CONFIG
    assert topic_config(broker, topic)["retention.ms"].value == "604800000"


@pytest.mark.ours
def test_compaction_is_refused_by_name_until_there_is_some(broker):
    topic = create_topic(broker.address, unique("compacted"))
    for op in (AlterConfigOpType.SET, AlterConfigOpType.APPEND):
        with pytest.raises(KafkaException) as refused:
            alter(broker, topic, ("cleanup.policy", "compact", op))
        assert refused.value.args[0].code() == KafkaError.INVALID_CONFIG
        assert "compact" in refused.value.args[0].str()


def test_a_broker_shows_its_settings_and_a_topic_that_is_not_there_none(broker):
    client = admin(broker.address)
    [node] = client.list_topics(timeout=30).brokers
    resource = ConfigResource(ResourceType.BROKER, str(node))
    found = client.describe_configs([resource])[resource].result(30)
    assert found["node.id"].value == str(node)
    assert found["node.id"].is_read_only
    assert broker.address in found["advertised.listeners"].value
    assert {"num.partitions", "log.retention.ms", "message.max.bytes", "auto.create.topics.enable"} <= set(found)
    for kind, name, code in [
        (ResourceType.TOPIC, unique("nowhere"), KafkaError.UNKNOWN_TOPIC_OR_PART),
        (ResourceType.TOPIC, "not a name", KafkaError.TOPIC_EXCEPTION),
        # librdkafka asks the broker of this name, which is none.
        (ResourceType.BROKER, "4711", KafkaError._UNKNOWN_BROKER),
    ]:
        resource = ConfigResource(kind, name)
        with pytest.raises(KafkaException) as refused:
            client.describe_configs([resource], request_timeout=5)[resource].result(30)
        assert refused.value.args[0].code() in (code, KafkaError._TIMED_OUT), name


def test_deleted_records_are_gone_and_the_log_begins_later(broker):
    topic = create_topic(broker.address, unique("deleted"))
    send_all(broker.address, topic, [b"%d" % each for each in range(10)])
    client = admin(broker.address)
    for offset, start in [(4, 4), (2, 4), (-1, 10)]:
        place = TopicPartition(topic, 0, offset)
        assert client.delete_records([place])[place].result(30).low_watermark == start
        assert watermarks(broker.address, topic) == (start, 10)
    place = TopicPartition(topic, 0, 11)
    with pytest.raises(KafkaException) as refused:
        client.delete_records([place])[place].result(30)
    assert refused.value.args[0].code() == KafkaError.OFFSET_OUT_OF_RANGE


def test_log_dirs_say_how_large_a_partition_is(broker):
    topic = create_topic(broker.address, unique("sized"))
    with Connection(broker.address) as wire:
        wire.produce({(topic, 0): batch([b"x" * 1_000] * 10)})
        expected = sum(each.size_bytes for each in wire.stored(topic))
        body = struct.pack(">i", 1) + string(topic) + struct.pack(">ii", 1, 0)
        answer = wire.call(DESCRIBE_LOG_DIRS, 1, body)
        answer.number("i")
        assert answer.number("i") == 1 and answer.number("h") == 0
        answer.string()
        assert (answer.number("i"), answer.string(), answer.number("i")) == (1, topic, 1)
        assert (answer.number("i"), answer.number("q"), answer.number("q")) == (0, expected, 0)


def test_the_current_epoch_ends_at_the_end_of_the_log_and_a_later_one_is_unknown(broker):
    topic = create_topic(broker.address, unique("epochs"))
    send_all(broker.address, topic, [b"value"] * 3)
    with Connection(broker.address) as wire:
        def end_of(epoch: int, partition: int = 0) -> tuple[int, int]:
            body = struct.pack(">i", 1) + string(topic) + struct.pack(">iiii", 1, partition, -1, epoch)
            answer = wire.call(OFFSET_FOR_LEADER_EPOCH, 2, body)
            answer.number("i")
            assert (answer.number("i"), answer.string(), answer.number("i")) == (1, topic, 1)
            error, _, _, end = (answer.number(each) for each in "hiiq")
            return error, end

        assert end_of(0) == (0, 3)
        assert end_of(5) == (0, -1)
        assert end_of(0, partition=9)[0] == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_kafkas_own_tool_shows_quotas_of_users(broker):
    user = unique("user")
    tool = ("kafka.admin.ConfigCommand", "--bootstrap-server", broker.address, "--entity-type", "users")
    java(*tool, "--alter", "--entity-name", user, "--add-config", "producer_byte_rate=12345")
    shown = wait_until(lambda: java(*tool, "--describe").stdout, 30, "the quota is there")
    assert f"'{user}'" in shown and "12345" in shown


def quota(wire: Connection, client: str, rate: float | None, key: str = "producer_byte_rate") -> int:
    """AlterClientQuotas v0 of a client id: the code of its one answer."""
    body = struct.pack(">ii", 1, 1) + string("client-id") + string(client)
    body += struct.pack(">i", 1) + string(key) + struct.pack(">d?", rate or 0, rate is None) + b"\0"
    answer = wire.call(ALTER_CLIENT_QUOTAS, 0, body)
    answer.number("i")
    assert answer.number("i") == 1
    return answer.number("h")


def test_a_client_over_its_quota_is_told_for_how_long_it_is_throttled(broker):
    topic = create_topic(broker.address, unique("throttled"))
    # What the wire says it is: the id of every connection of these tests.
    with Connection(broker.address) as wire, Connection(broker.address) as other:
        assert quota(wire, "wire", 20_000) == 0
        assert quota(wire, "wire", 1, key="no_such_rate") == 42

        def throttled() -> int:
            answer = other.call(PRODUCE, 3, produce_body({(topic, 0): batch([b"x" * 100_000] * 6)}))
            answer.number("i"), answer.string(), answer.number("i"), answer.number("i")
            assert answer.number("h") == 0
            answer.number("q"), answer.number("q")
            return answer.number("i")

        try:
            # Ten seconds' worth is free; what goes beyond is waited for. Kafka's brokers learn of a quota a moment
            # later.
            throttle_ms = wait_until(throttled, 30, "the quota holds")
        finally:
            with Connection(broker.address) as third:
                assert quota(third, "wire", None) == 0
        assert 10_000 <= throttle_ms <= 60_000
