"""Dashboards: as their source writes them, free of the usual lies, and every expression shows something.

A real Prometheus scrapes a server while real clients do a little of everything, with faults; then every
expression of every dashboard and rule is asked. No Grafana runs here: the JSON comes from Grafana's own
library, and what it draws is not looked at.
"""

import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from harness import dashboards
from harness.clients import create_topic, producer, read_all, unique
from harness.process import wait_until
from harness.prometheus import Prometheus
from harness.wire import Connection, batch

pytestmark = pytest.mark.ours

ROOT = Path(__file__).resolve().parents[2]
OBSERVABILITY = ROOT / "observability"
FILES = sorted((OBSERVABILITY / "grafana/dashboards").glob("*.json"))
RULES = sorted((OBSERVABILITY / "prometheus/rules").glob("*.yml"))
TYPES = dashboards.families((ROOT / "docs/metrics.md").read_text())
VARIABLES = {
    "system-overview": set(),
    "producer-performance": {"topic"},
    "consumer-health": {"topic", "consumer_group"},
    "storage-s3": {"operation"},
    "cache-performance": set(),
}
# There only while series are folded, which test_rules.py plays.
ONLY_IN_NEED = {"streamhouse_metrics_folded_series"}
ASKED_FOR = [
    "rate(streamhouse_producer_records_total[1m])",
    "max(streamhouse_consumer_lag) by (topic, consumer_group)",
    "rate(streamhouse_cache_hits_total[5m]) / (rate(streamhouse_cache_hits_total[5m]) + rate(streamhouse_cache_misses_total[5m]))",
    "rate(streamhouse_segment_flushes_total[5m]) / rate(streamhouse_segment_writes_total[5m])",
    'histogram_quantile(0.95, rate(streamhouse_s3_latency_seconds_bucket{operation="PUT"}[5m]))',
]
# The rate interval of a fast Prometheus; long enough for machines that are busy with other tests.
WINDOW = "30s"


def test_the_dashboards_are_those_of_their_source(tmp_path):
    subprocess.run([sys.executable, OBSERVABILITY / "source/dashboards.py", tmp_path], check=True,
                   env={"PYTHONDONTWRITEBYTECODE": "1"})
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert {path.name: path.read_text() for path in FILES} == written


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_dashboard_says_what_it_shows_and_hides_nothing(path):
    board = dashboards.read(path)
    assert set(board.variables) == {"datasource", "job", "instance", *VARIABLES[board.name]}
    assert 8 <= len(board.panels) <= 12
    found = [fault for panel in board.panels for fault in dashboards.faults_of_panel(panel, TYPES, set(board.variables))]
    assert not found, "\n".join(found)
    ids = [panel["id"] for panel in json.loads(path.read_text())["panels"]]
    assert len(set(ids)) == len(ids)
    for name, query in board.variables.items():
        if name != "datasource":
            assert not dashboards.faults(query, TYPES, set(board.variables)), query
    used = {name for panel in board.panels for each in panel.expressions for name in re.findall(r"\$(\w+)", each)}
    assert set(board.variables) - {"datasource"} <= used, "a variable that narrows nothing"


def test_kinds_of_panels_fit_what_they_show():
    kinds = {str(panel): panel.kind for path in FILES for panel in dashboards.read(path).panels}
    assert kinds["system-overview: Components"] == "state-timeline"
    assert kinds["consumer-health: States"] == "state-timeline"
    assert kinds["producer-performance: Latency, spread"] == "heatmap"
    assert kinds["consumer-health: 20 worst partitions"] == "table"


@pytest.mark.parametrize("expression, fault", [
    ("rate(streamhouse_consumer_lag[$__rate_interval])", "rate of"),
    ("deriv(streamhouse_producer_records_total[$__rate_interval])", "slope of"),
    ("rate(streamhouse_producer_records_total[5m])", "fixed window"),
    ("rate(streamhouse_producer_records_total[$__interval])", "fixed window"),
    ("streamhouse_consumer_lag{job=~\"$cluster\"}", "undefined variable"),
    ("sum(streamhouse_consumer_lag) or vector(0)", "vector(0)"),
    ("sum(streamhouse_consumer_lag) or on() vector(0)", "vector(0)"),
    ("avg(histogram_quantile(0.9, sum by (le, topic) (rate(streamhouse_producer_latency_seconds_bucket[$__rate_interval]))))", "aggregated"),
    ("histogram_quantile(0.9, rate(streamhouse_producer_latency_seconds_bucket[$__rate_interval]))", "not summed"),
    ("histogram_quantile(0.9, avg by (le) (rate(streamhouse_producer_latency_seconds_bucket[$__rate_interval])))", "not summed"),
    ("sum(streamhouse_invented_total)", "no series"),
])
def test_an_expression_that_lies_is_refused(expression, fault):
    [found] = dashboards.faults(expression, TYPES, {"job"})
    assert fault in found


def test_a_panel_that_lacks_something_is_refused():
    bare = dashboards.Panel("board", "bare", "stat", "", "", [], ())
    assert [each.rsplit(" ", 1)[1] for each in dashboards.faults_of_panel(bare, TYPES, set())] == [
        "unit", "description", "thresholds", "expressions",
    ]


def test_provisioning_finds_what_compose_mounts():
    compose = yaml.safe_load((OBSERVABILITY / "compose.yml").read_text())
    grafana, prometheus = compose["services"]["grafana"], compose["services"]["prometheus"]

    def mounts(service: dict) -> dict[str, Path]:
        """Where in the container → what of ours; everything is there and read-only."""
        found = {}
        for volume in service["volumes"]:
            if volume.startswith("./"):
                here, there, mode = volume.split(":")
                assert mode == "ro"
                found[there] = OBSERVABILITY / here
                assert found[there].exists(), here
        return found

    config = mounts(prometheus)["/etc/prometheus/prometheus.yml"]
    assert mounts(prometheus)["/etc/prometheus/rules"] == OBSERVABILITY / "prometheus/rules"
    # promtool finds the rules beside the file, as Prometheus does in the container.
    done = subprocess.run(["promtool", "check", "config", config], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and f"SUCCESS: {len(RULES)} rule files found" in done.stdout, done.stdout + done.stderr
    settings = mounts(grafana)["/etc/grafana/provisioning"]
    [source] = yaml.safe_load((settings / "datasources/prometheus.yml").read_text())["datasources"]
    assert source["type"] == "prometheus" and source["url"] == "http://prometheus:9090"
    # Grafana computes $__rate_interval from it.
    scrapes = yaml.safe_load(config.read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scrapes
    [provider] = yaml.safe_load((settings / "dashboards/streamhouse.yml").read_text())["providers"]
    assert mounts(grafana)[provider["options"]["path"]] == OBSERVABILITY / "grafana/dashboards"
    for service in compose["services"].values():
        # Pinned, and reachable from this machine only.
        assert not service["image"].endswith(":latest") and ":" in service["image"]
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def send(client: Producer, topic: str, count: int, partition: int = 0, size: int = 400) -> None:
    for number in range(count):
        client.produce(topic, b"%0*d" % (size, number), partition=partition)
    client.flush(30)


def transactional(broker, name: str) -> Producer:
    # Time enough for one that is held open while everything else goes on.
    client = Producer({
        "bootstrap.servers": broker.address, "transactional.id": name, "log_level": 2,
        "transaction.timeout.ms": 600_000,
    })
    client.init_transactions(60)
    return client


def group_reads(broker, group: str, topic: str, count: int) -> None:
    client = Consumer({
        "bootstrap.servers": broker.address, "group.id": group, "auto.offset.reset": "earliest", "log_level": 2,
        "enable.auto.commit": False,
    })
    client.subscribe([topic])
    read = 0
    deadline = time.monotonic() + 60
    while read < count:
        assert time.monotonic() < deadline, f"{read} of {count}"
        came = sum(1 for each in client.consume(200, timeout=0.5) if each.error() is None)
        read += came
        # A commit of nothing new is refused.
        if came:
            client.commit(asynchronous=False)
    client.close()


def a_little_of_everything(broker, proxy, prometheus) -> dict[str, str]:
    """Clients at work, clients' mistakes, and a store that fails; what was used, by label."""
    topic, group = create_topic(broker.address, unique("orders"), 2), unique("billing")
    client = producer(broker.address, message_timeout_ms=8_000)
    # Elsewhere, so that it holds nobody back.
    hanging = transactional(broker, unique("hanging"))
    hanging.begin_transaction()
    hanging.produce(create_topic(broker.address, unique("held")), b"open")
    hanging.flush(30)
    send(client, topic, 5_000)
    send(client, topic, 100, partition=1)
    # Two groups: one follows, the other stops behind. More than the smaller partition holds, so that it is behind
    # in the larger one, whichever comes first.
    group_reads(broker, group, topic, 500)
    group_reads(broker, f"{group}-late", topic, 110)
    # A fetch that waits, and is woken.
    reader = threading.Thread(target=group_reads, args=(broker, f"{group}-awake", topic, 5_600))
    reader.start()
    for _ in range(20):
        send(client, topic, 25)
        time.sleep(0.1)
    reader.join(60)
    with Connection(broker.address) as connection:
        identity, epoch = connection.init_producer_id()
        same = batch([b"again"], producer_id=identity, epoch=epoch, sequence=0)
        for _ in range(2):
            connection.produce({(topic, 0): same})
        connection.produce({(topic, 0): batch([b"x"], crc=7)})
    # Old data, far behind what is kept in memory: look-ups, GETs, evictions, hits.
    for _ in range(2):
        read_all(broker.address, topic, 2)
    transactions = transactional(broker, topic)
    for end in (transactions.commit_transaction, transactions.abort_transaction):
        transactions.begin_transaction()
        transactions.produce(topic, b"in a transaction", partition=0)
        end(30)
    # Refused by the store: tried again, then given up.
    proxy.fault("503", "PUT", "/objects/")
    send(client, topic, 200, size=2_000)
    proxy.heal()
    # The consumer that is behind comes nearer, seen by two snapshots of the cluster.
    lag = f'sum(streamhouse_consumer_lag{{consumer_group="{group}-late"}})'
    behind = wait_until(lambda: prometheus.value(lag), 90, lag, every=0.5)
    group_reads(broker, f"{group}-late", topic, 2_000)
    # None while a snapshot took too long.
    wait_until(lambda: (now := prometheus.value(lag)) is not None and now < behind, 90, "a smaller lag", every=0.5)
    stranger = Consumer({"bootstrap.servers": broker.address, "group.id": group, "log_level": 2})
    with pytest.raises(KafkaException):
        stranger.commit(offsets=[TopicPartition("no-such-topic", 0, 1)], asynchronous=False)
    stranger.close()
    hanging.abort_transaction(30)
    return {"topic": topic, "consumer_group": group}


def parts(expression: str) -> list[str]:
    """What an alert's expression is made of: each selector with its range and its functions cut away."""
    return re.findall(r"(?:streamhouse_\w+|sli:\w+:\w+|\bup\b)(?:\{[^}]*\})?", expression)


def test_every_expression_shows_something_under_a_load_of_everything(new_broker, proxy, tmp_path):
    broker = new_broker(
        "s3", endpoint=proxy.endpoint, inline_bytes="1KiB", flush_bytes="64KiB", cache_bytes="1MiB", tail_bytes="1MiB",
        group_initial_rebalance_delay="0s", verify_rate="8MiB", delete_grace="1s",
    )
    prometheus = Prometheus(tmp_path / "prometheus", [broker.http.removeprefix("http://")], RULES).start()
    began = time.time()
    try:
        prometheus.wait_for_scrapes(2)
        used = a_little_of_everything(broker, proxy, prometheus)
        prometheus.wait_for_scrapes(3)
        silent = []

        def ask(expression: str, what: str) -> None:
            points = [value for series in prometheus.query_range(expression, began) for _, value in series.points]
            if not any(value == value and abs(value) != float("inf") for value in points):
                silent.append(f"{what}: {expression}")

        for board in map(dashboards.read, FILES):
            for panel in board.panels:
                for expression in panel.expressions:
                    ask(dashboards.asked(expression, WINDOW), str(panel))
            for name, query in board.variables.items():
                if match := re.fullmatch(r"label_values\((.+), (\w+)\)", query):
                    offered = dashboards.asked(match[1], WINDOW)
                    series = wait_until(lambda: prometheus.query(offered), 30, offered, every=0.5)
                    found = {each.labels[match[2]] for each in series}
                    assert used.get(name, min(found)) in found, f"{board.name}: {name} offers {found}"
        # Chosen values narrow; none is All under another name.
        lag = dashboards.asked('max by (topic) (streamhouse_consumer_lag{topic=~"$topic"})', WINDOW, topic=used["topic"])
        narrowed = wait_until(lambda: prometheus.query(lag), 30, lag, every=0.5)
        assert [series.labels["topic"] for series in narrowed] == [used["topic"]]
        for path in RULES:
            for group in yaml.safe_load(path.read_text())["groups"]:
                for rule in group["rules"]:
                    if "record" in rule:
                        ask(rule["expr"], rule["record"])
                        ask(rule["record"], "recorded")
                    for part in parts(rule["expr"]):
                        if not part.startswith("sli:") and part not in ONLY_IN_NEED:
                            ask(part, rule.get("alert", rule.get("record")))
        for query in ASKED_FOR:
            ask(query, "asked for")
        assert not silent, "\n".join(silent)
        assert not prometheus.broken_rules()
    finally:
        prometheus.stop()
