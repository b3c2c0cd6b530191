"""Kafka's own command line tools do their everyday jobs, and print what people read off them.

All but one run in one JVM, each through its `main`; expected is what they print against Apache Kafka.
"""

import json
import re
import subprocess
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from harness.clients import create_topic, send_all, unique
from harness.process import wait_until
from harness.program import JAVA_COMMAND, TOOLS, Program

TOPICS = "org.apache.kafka.tools.TopicCommand"
CONFIGS = "kafka.admin.ConfigCommand"
GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
CONSOLE_PRODUCER = "org.apache.kafka.tools.ConsoleProducer"
CONSOLE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
OFFSETS = "org.apache.kafka.tools.GetOffsetShell"
DELETE_RECORDS = "org.apache.kafka.tools.DeleteRecordsCommand"
TRANSACTIONS = "org.apache.kafka.tools.TransactionsCommand"
PRODUCER_PERFORMANCE = "org.apache.kafka.tools.ProducerPerformance"
CONSUMER_PERFORMANCE = "org.apache.kafka.tools.ConsumerPerformance"
VERIFIABLE_PRODUCER = "org.apache.kafka.tools.VerifiableProducer"
VERIFIABLE_CONSUMER = "org.apache.kafka.tools.VerifiableConsumer"


@pytest.fixture(scope="module")
def jvm(module_broker, tmp_path_factory) -> Iterator[Program]:
    program = Program(TOOLS, module_broker.address, tmp_path_factory.mktemp("tools") / "errors.log")
    yield program
    program.kill()


@pytest.fixture
def run(jvm: Program, broker) -> Callable[..., str]:
    """run(TOOL, argument, …, given="", status=0): what the tool printed."""

    def run(tool: str, *arguments: object, given: str = "", status: int = 0) -> str:
        server = ["--bootstrap-server", broker.address]
        if tool == GROUPS:
            # Its own five seconds are short for a JVM that has just started.
            server += ["--timeout", "60000"]
        done = jvm.ask("run", tool=tool, arguments=[*server, *map(str, arguments)], input=given)
        said = f"{tool} {' '.join(map(str, arguments))} → {done['status']}\n{done['out']}\n{done['err'][-3_000:]}"
        assert done["status"] == status, said
        return done["out"] + (done["err"] if status else "")

    return run


def transactional(address: str, name: str) -> Producer:
    # Transactions stay open while the tools are run, one after the other.
    return Producer({
        "bootstrap.servers": address, "transactional.id": name, "log_level": 2, "transaction.timeout.ms": 300_000,
    })


def table(printed: str) -> list[dict[str, str]]:
    """The rows of a table whose first line names its columns; what stands before and after it is left out."""
    lines = [line.split() for line in printed.splitlines() if line.strip()]
    while lines and not all(re.fullmatch(r"[A-Z][A-Za-z\-()]*", word) for word in lines[0]):
        lines.pop(0)
    return [dict(zip(lines[0], line, strict=False)) for line in lines[1:] if len(line) >= len(lines[0]) - 1]


def test_topics_are_created_described_widened_and_deleted(run):
    topic = unique("tools")
    created = run(TOPICS, "--create", "--topic", topic, "--partitions", 3, "--config", "retention.ms=86400000")
    assert f"Created topic {topic}." in created
    assert "already exists" in run(TOPICS, "--create", "--topic", topic, status=1)
    wait_until(lambda: topic in run(TOPICS, "--list").split(), 30, "the topic is listed")
    described = run(TOPICS, "--describe", "--topic", topic)
    for wanted in (f"Topic: {topic}", "PartitionCount: 3", "ReplicationFactor: 1", "retention.ms=86400000"):
        assert wanted in described
    assert len(re.findall(r"Partition: \d+\tLeader: \d+\tReplicas: \d+\tIsr: \d+", described)) == 3
    run(TOPICS, "--alter", "--topic", topic, "--partitions", 5)
    wait_until(lambda: "PartitionCount: 5" in run(TOPICS, "--describe", "--topic", topic), 30, "five partitions")
    for trouble in ("--under-replicated-partitions", "--unavailable-partitions"):
        assert run(TOPICS, "--describe", trouble, "--topic", topic).strip() == ""
    run(TOPICS, "--delete", "--topic", topic)
    wait_until(lambda: topic not in run(TOPICS, "--list").split(), 30, "the topic is gone")
    assert "does not exist" in run(TOPICS, "--describe", "--topic", topic, status=1)


def test_configurations_of_topics_and_clients_are_set_shown_and_taken_back(run, broker):
    topic, client = create_topic(broker.address, unique("configured")), unique("client")
    of_topic = ("--entity-type", "topics", "--entity-name", topic)
    done = run(CONFIGS, *of_topic, "--alter", "--add-config", "max.message.bytes=2000000,retention.ms=1000000000")
    assert f"Completed updating config for topic {topic}." in done
    wait_until(lambda: "max.message.bytes=2000000" in run(CONFIGS, *of_topic, "--describe"), 30, "the new size")
    described = run(CONFIGS, *of_topic, "--describe")
    assert "max.message.bytes=2000000 sensitive=false" in described and "retention.ms=1000000000" in described
    run(CONFIGS, *of_topic, "--alter", "--delete-config", "max.message.bytes")
    wait_until(lambda: "max.message.bytes" not in run(CONFIGS, *of_topic, "--describe"), 30, "the old size")
    assert "max.message.bytes=1048588" in run(CONFIGS, *of_topic, "--describe", "--all")
    refused = run(CONFIGS, *of_topic, "--alter", "--add-config", "no.such.thing=1", status=1)
    assert "no.such.thing" in refused

    of_client = ("--entity-type", "clients", "--entity-name", client)
    run(CONFIGS, *of_client, "--alter", "--add-config", "producer_byte_rate=1000000")
    wait_until(lambda: "producer_byte_rate=1000000.0" in run(CONFIGS, *of_client, "--describe"), 30, "a quota")
    run(CONFIGS, *of_client, "--alter", "--delete-config", "producer_byte_rate")
    wait_until(lambda: "producer_byte_rate" not in run(CONFIGS, *of_client, "--describe"), 30, "no quota")


def test_what_the_console_wrote_the_console_reads_and_its_group_is_looked_after(run, broker):
    topic, group = create_topic(broker.address, unique("console")), unique("console-group")
    lines = ["a:first", "b:second", "c:third"]
    run(CONSOLE_PRODUCER, "--topic", topic, "--reader-property", "parse.key=true", "--reader-property",
        "key.separator=:", given="\n".join(lines) + "\n")
    formatted = ("--formatter-property", "print.key=true", "--formatter-property", "key.separator=:",
                 "--timeout-ms", 30_000)
    read = run(CONSOLE_CONSUMER, "--topic", topic, "--from-beginning", "--group", group, "--max-messages", 2, *formatted)
    assert read.splitlines() == lines[:2]

    assert group in run(GROUPS, "--list").split()
    # The console does not wait for the answer when it leaves.
    wait_until(lambda: "Empty" in run(GROUPS, "--list", "--state").split(group)[1].split()[0:2], 30, "its end")
    [row] = table(run(GROUPS, "--describe", "--group", group))
    assert (row["GROUP"], row["TOPIC"], row["PARTITION"]) == (group, topic, "0")
    assert (row["CURRENT-OFFSET"], row["LOG-END-OFFSET"], row["LAG"]) == ("2", "3", "1")
    assert "Empty" in run(GROUPS, "--describe", "--group", group, "--state")
    [reset] = table(run(GROUPS, "--reset-offsets", "--group", group, "--topic", topic, "--to-earliest", "--execute"))
    assert reset["NEW-OFFSET"] == "0"
    [row] = table(run(GROUPS, "--describe", "--group", group, "--offsets"))
    assert (row["CURRENT-OFFSET"], row["LAG"]) == ("0", "3")
    read = run(CONSOLE_CONSUMER, "--topic", topic, "--group", group, "--max-messages", 3, *formatted)
    assert read.splitlines() == lines
    of_topic = (GROUPS, "--delete-offsets", "--group", group, "--topic", topic)
    # What nobody is subscribed to may go, one by one, whatever it stands beside.
    free = create_topic(broker.address, unique("free"), 3)
    member = Consumer({"bootstrap.servers": broker.address, "group.id": group, "log_level": 2})
    places = [TopicPartition(free, partition, partition + 1) for partition in range(3)]
    member.commit(offsets=places, asynchronous=False)
    member.subscribe([topic])
    wait_until(lambda: member.poll(0.1) or member.assignment(), 60, "a member with partitions")
    said = run(*of_topic, "--topic", f"{free}:1,2")
    status = {(row["TOPIC"], row["PARTITION"]): row["STATUS"] for row in table(said)}
    assert "actively subscribed to it" in said
    assert status == {(topic, "0"): "Error:", (free, "1"): "Successful", (free, "2"): "Successful"}
    rows = table(run(GROUPS, "--describe", "--group", group))
    left = {(row["TOPIC"], row["PARTITION"]): row["CURRENT-OFFSET"] for row in rows}
    assert left == {(topic, "0"): "3", (free, "0"): "1"}
    member.close()
    assert "Successful" in run(*of_topic)
    assert "was successful" in run(GROUPS, "--delete", "--group", group)
    assert group not in run(GROUPS, "--list").split()


def test_offsets_are_shown_and_records_deleted(run, broker, tmp_path):
    topic = create_topic(broker.address, unique("offsets"))
    send_all(broker.address, topic, [b"%d" % number for number in range(10)])
    assert run(OFFSETS, "--topic", topic).split() == [f"{topic}:0:10"]
    wanted = tmp_path / "delete.json"
    wanted.write_text(json.dumps({"version": 1, "partitions": [{"topic": topic, "partition": 0, "offset": 4}]}))
    assert f"partition: {topic}-0\tlow_watermark: 4" in run(DELETE_RECORDS, "--offset-json-file", wanted)
    assert run(OFFSETS, "--topic", topic, "--time", "earliest").split() == [f"{topic}:0:4"]
    assert run(OFFSETS, "--topic", topic, "--time", "latest").split() == [f"{topic}:0:10"]
    read = run(CONSOLE_CONSUMER, "--topic", topic, "--from-beginning", "--max-messages", 6, "--timeout-ms", 30_000)
    assert read.split() == [str(number) for number in range(4, 10)]


def test_transactions_are_listed_described_and_ended(run, broker):
    topic, name = create_topic(broker.address, unique("transacted")), unique("transaction")
    client = transactional(broker.address, name)
    client.init_transactions(60)
    client.begin_transaction()
    client.produce(topic, b"open", partition=0)
    assert client.flush(30) == 0
    rows = {row["TransactionalId"]: row for row in table(run(TRANSACTIONS, "list"))}
    assert rows[name]["TransactionState"] == "Ongoing"
    for pattern, found in [(f"{name[:-1]}.", True), (name[:-1], False), (f"(no|{name})", True)]:
        listed = table(run(TRANSACTIONS, "list", "--transactional-id-pattern", pattern))
        assert (name in [row["TransactionalId"] for row in listed]) == found, pattern
    [row] = table(run(TRANSACTIONS, "describe", "--transactional-id", name))
    assert (row["TransactionalId"], row["TransactionState"]) == (name, "Ongoing")
    assert f"{topic}-0" in row.values()
    [writer] = table(run(TRANSACTIONS, "describe-producers", "--topic", topic, "--partition", 0))
    assert (writer["ProducerId"], writer["LatestCoordinatorEpoch"]) == (rows[name]["ProducerId"], "-1")
    assert writer["CurrentTransactionStartOffset"] == "0"
    client.commit_transaction(30)
    wait_until(lambda: "CompleteCommit" in run(TRANSACTIONS, "describe", "--transactional-id", name), 30, "its end")
    assert table(run(TRANSACTIONS, "find-hanging", "--topic", topic, "--partition", 0)) == []
    # What nobody is going to end an administrator ends.
    client.begin_transaction()
    client.produce(topic, b"forgotten", partition=0)
    assert client.flush(30) == 0
    run(TRANSACTIONS, "forceTerminateTransaction", "--transactionalId", name)
    wait_until(lambda: re.search(r"\b(Empty|CompleteAbort)\b", run(TRANSACTIONS, "describe", "--transactional-id", name)),
               30, "its abort")
    with pytest.raises(KafkaException) as refused:
        client.commit_transaction(30)
    assert refused.value.args[0].code() in (KafkaError._FENCED, KafkaError.PRODUCER_FENCED)


def test_an_open_transaction_is_aborted_by_its_start_offset_and_an_ended_one_is_not_found(run, broker):
    topic, name = create_topic(broker.address, unique("aborted")), unique("transaction")
    client = transactional(broker.address, name)
    client.init_transactions(60)
    client.begin_transaction()
    client.produce(topic, b"committed", partition=0)
    client.commit_transaction(30)
    client.begin_transaction()
    client.produce(topic, b"open", partition=0)
    assert client.flush(30) == 0
    send_all(broker.address, topic, [b"behind it"])
    place = ("--topic", topic, "--partition", 0)
    # The first record and its marker lie before the open one.
    ended = run(TRANSACTIONS, "abort", *place, "--start-offset", 0, status=1)
    assert "Could not find any open transactions starting at offset 0" in ended
    # However long it is open, it does not hang: its coordinator knows it.
    assert table(run(TRANSACTIONS, "find-hanging", *place, "--max-transaction-timeout", 0)) == []
    committed = ("--topic", topic, "--from-beginning", "--isolation-level", "read_committed")
    assert run(CONSOLE_CONSUMER, *committed, "--max-messages", 1, "--timeout-ms", 30_000).split() == ["committed"]
    [described] = table(run(TRANSACTIONS, "describe", "--transactional-id", name))
    run(TRANSACTIONS, "abort", *place, "--start-offset", 2)
    writers = table(run(TRANSACTIONS, "describe-producers", *place))
    assert {each["CurrentTransactionStartOffset"] for each in writers} == {"None"}
    read = run(CONSOLE_CONSUMER, *committed, "--max-messages", 2, "--timeout-ms", 30_000)
    assert read.splitlines() == ["committed", "behind it"]
    again = run(TRANSACTIONS, "abort", *place, "--start-offset", 2, status=1)
    assert "Could not find any open transactions starting at offset 2" in again
    # As brokers before 3.0 are asked, which find nothing to abort either.
    named = ("--producer-id", described["ProducerId"], "--producer-epoch", described["ProducerEpoch"])
    run(TRANSACTIONS, "abort", *place, *named, "--coordinator-epoch", 0)
    assert run(CONSOLE_CONSUMER, *committed, "--max-messages", 2, "--timeout-ms", 30_000) == read


@pytest.mark.ours  # Apache Kafka ends it in one partition, and the producer may commit the rest.
def test_an_aborted_transaction_is_aborted_whole_and_its_producer_learns_of_it(run, broker):
    topic, name = create_topic(broker.address, unique("aborted"), 2), unique("transaction")
    client = transactional(broker.address, name)
    client.init_transactions(60)
    client.begin_transaction()
    for partition in (0, 1):
        client.produce(topic, b"half", partition=partition)
    assert client.flush(30) == 0
    run(TRANSACTIONS, "abort", "--topic", topic, "--partition", 1, "--start-offset", 0)
    assert "CompleteAbort" in run(TRANSACTIONS, "describe", "--transactional-id", name)
    for partition in (0, 1):
        [writer] = table(run(TRANSACTIONS, "describe-producers", "--topic", topic, "--partition", partition))
        assert writer["CurrentTransactionStartOffset"] == "None"
    with pytest.raises(KafkaException) as refused:
        client.commit_transaction(30)
    assert refused.value.args[0].code() in (KafkaError._FENCED, KafkaError.PRODUCER_FENCED)


def test_the_tools_that_measure_say_what_they_sent_and_read(run, broker):
    topic = create_topic(broker.address, unique("measured"))
    sent = run(PRODUCER_PERFORMANCE, "--topic", topic, "--num-records", 500, "--record-size", 100, "--throughput", -1)
    assert re.search(r"^500 records sent, [\d.]+ records/sec", sent, re.MULTILINE), sent
    read = run(CONSUMER_PERFORMANCE, "--topic", topic, "--num-records", 500, "--timeout", 30_000)
    [names, figures] = [line.split(", ") for line in read.splitlines() if ", " in line][-2:]
    assert dict(zip(names, figures, strict=True))["data.consumed.in.nMsg"] == "500", read


def test_the_verifiable_pair_agrees_on_what_was_written(run, broker):
    topic, group = create_topic(broker.address, unique("verified")), unique("verifying")
    # A process of its own: it waits for its answers in the hooks that run at its end.
    arguments = ["--bootstrap-server", broker.address, "--topic", topic, "--max-messages", "50", "--throughput", "-1"]
    done = subprocess.run([*JAVA_COMMAND, VERIFIABLE_PRODUCER, *arguments], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr[-2_000:]
    said = [json.loads(line) for line in done.stdout.splitlines()]
    acknowledged = {each["value"]: each["offset"] for each in said if each["name"] == "producer_send_success"}
    assert acknowledged == {str(number): number for number in range(50)}
    [summary] = [each for each in said if each["name"] == "tool_data"]
    assert (summary["sent"], summary["acked"]) == (50, 50)
    said = [json.loads(line) for line in run(
        VERIFIABLE_CONSUMER, "--topic", topic, "--group-id", group, "--max-messages", 50, "--reset-policy", "earliest",
    ).splitlines()]
    consumed = [each for each in said if each["name"] == "records_consumed"]
    assert sum(each["count"] for each in consumed) == 50
    [last] = consumed[-1]["partitions"]
    assert (last["topic"], last["partition"], last["maxOffset"]) == (topic, 0, 49)
    assert [each["success"] for each in said if each["name"] == "offsets_committed"][-1] is True
