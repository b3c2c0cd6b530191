"""Alerts and recording rules: valid, about series that exist, able to fire, and silent on a healthy day.

promtool plays every case. A case gives each alert the least that has to make it fire; the healthy day
gives all of them a day of ordinary traffic. Which alerts there are is read from the rule files, so that
none can be without a case.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.ours

ROOT = Path(__file__).resolve().parents[2]
RULES = sorted((ROOT / "observability/prometheus/rules").glob("*.yml"))


def groups() -> list[dict]:
    return [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]


def alerts() -> dict:
    return {rule["alert"]: rule for group in groups() for rule in group["rules"] if "alert" in rule}


def promtool(*arguments: object) -> str:
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def play(tmp_path: Path, tests: list, evaluation_interval: str = "1m") -> None:
    file = tmp_path / "test.yml"
    rules = [str(path) for path in RULES]
    content = {
        "rule_files": rules,
        "evaluation_interval": evaluation_interval,
        # Without an order promtool draws one, and an alert before its recorded series reads those of the step
        # before, which in large steps are stale.
        "group_eval_order": [group["name"] for group in groups()],
        "tests": tests,
    }
    file.write_text(yaml.safe_dump(content, width=10_000))
    promtool("test", "rules", file)


AGENT = 'job="streamhouse", instance="a"'


def series(name: str, values: str, labels: str = "") -> dict:
    name = name if name == "up" else f"streamhouse_{name}"
    return {"series": f"{name}{{{', '.join(filter(None, [AGENT, labels]))}}}", "values": values}


PUT = 'operation="PUT"'
BILLING = 'consumer_group="billing"'
PARTITION = 'topic="orders", partition="1"'
FAILED_BATCHES = series("produce_batches_total", "0+5x2250", 'outcome="server_error"')
GOOD_BATCHES = series("produce_batches_total", "0+20x2250", 'outcome="ok"')
FAILED_FETCHES = series("api_requests_total", "0+5x2250", 'api="Fetch", outcome="server_error"')
GOOD_FETCHES = series("api_requests_total", "0+20x2250", 'api="Fetch", outcome="ok"')
ALL_PRODUCED = series("producer_latency_seconds_count", "0+20x2250", 'topic="orders"')
SOON_PRODUCED = series("producer_latency_seconds_bucket", "0+5x2250", 'topic="orders", le="1"')
ALL_WOKEN = series("fetch_wakeup_seconds_count", "0+20x2250")
SOON_WOKEN = series("fetch_wakeup_seconds_bucket", "0+5x2250", 'le="0.25"')

# What has to make each alert fire, and by when.
CASES = {
    "ConsumerLagHigh": (
        [series("consumer_lag", "1001x10", 'topic="orders", partition="1", consumer_group="billing"')], "6m",
    ),
    "S3UploadFailed": ([series("s3_errors_total", "0 1 1 1 1", f'{PUT}, error_type="failed"')], "3m"),
    "CacheHitRateLow": ([series("cache_hits_total", "0+6x30"), series("cache_misses_total", "0+4x30")], "20m"),
    "ProduceStalled": ([series("flush_oldest_seconds", "11x5")], "2m"),
    "UploadGivenUp": ([series("s3_errors_total", "0 1 1 1", f'{PUT}, error_type="failed"')], "2m"),
    "NotReady": ([series("health_component", "0x5", 'component="object_store"')], "2m"),
    "AgentDown": ([series("up", "0x5")], "2m"),
    "ClusterViewMissing": ([series("up", "1x5")], "3m"),
    "StoreThrottling": (
        [series("s3_errors_total", "0+2x20", f'{PUT}, error_type="retry"'), series("s3_requests_total", "0+10x20", PUT)],
        "11m",
    ),
    "MetadataFailing": (
        [series("metadata_errors_total", "0 3 3 3 3", 'operation="commit", error_type="unavailable"')], "3m",
    ),
    "MetadataSlow": (
        [
            series("metadata_operation_seconds_bucket", "0+10x40", f'operation="commit", le="{bound}"')
            for bound in ("0.5", "+Inf")
        ]
        + [series("metadata_operation_seconds_bucket", "0x40", 'operation="commit", le="0.25"')],
        "20m",
    ),
    "InflightNearLimit": (
        [series("inflight_bytes", "91x20"), series("inflight_limit_bytes", "100x20")], "6m",
    ),
    # What is unwell is another component, or another agent's.
    "TaskFailing": (
        [
            series("task_runs_total", "0+1x60", 'task="compaction", result="error"'),
            series("health_component", "1x60", 'component="object_store"'),
            series("health_component", "0x60", 'component="listener"'),
            {"series": 'streamhouse_health_component{job="streamhouse", instance="b", component="disk"}', "values": "0x60"},
        ],
        "20m",
    ),
    "CacheThrash": (
        [
            series("cache_evictions_total", "0+120x60"),
            series("cache_misses_total", "0+90x60"),
            series("cache_hits_total", "0+60x60"),
        ],
        "40m",
    ),
    "DataDamaged": ([series("verify_segments_total", "0 0 1 1 1", 'result="corrupt"')], "4m"),
    "RecordsExpiredUnread": ([series("consumer_expired_records", "7x3", 'topic="orders", consumer_group="billing"')], "2m"),
    # The gauge is gone every third minute, as at failovers.
    "LagTimeHigh": ([series("consumer_lag_seconds", "301 302 _ " * 5, f'{PARTITION}, {BILLING}')], "7m"),
    "ConsumerStopped": (
        [series("consumer_last_commit_timestamp_seconds", "0x30", BILLING), series("consumer_lag_seconds", "60x30", f"{PARTITION}, {BILLING}")],
        "22m",
    ),
    "RebalanceStorm": ([series("consumer_rebalances_total", "0+2x30", BILLING)], "20m"),
    "OpenTransactionOld": ([series("transaction_oldest_open_seconds", "301+60x5", 'topic="orders"')], "2m"),
    "OrphansGrow": ([series("object_store_stored_bytes", f"{1 << 30}+1048576x600", 'state="orphan"')], "2h"),
    "InlineBacklog": ([series("task_backlog", "20001x60", 'task="compaction"')], "31m"),
    "TaskOverdue": (
        [series("task_backlog", "3x200", 'task="trim"'), series("task_last_success_timestamp_seconds", "0x200", 'task="trim"')], "2h",
    ),
    "SeriesFolded": ([series("metrics_folded_series", "1x20", 'metric="segment_writes_total"')], "6m"),
}
# Seven days at a dollar and a half, one at twice as much and more: in steps of an hour.
COST_DOUBLES = [series("object_store_cost_usd_total", "0+0.0625x168 10.5+0.2x40", PUT)]
# Budgets burn for days: one play for all of them, in larger steps.
BURNING = [
    FAILED_BATCHES, GOOD_BATCHES, FAILED_FETCHES, GOOD_FETCHES, ALL_PRODUCED, SOON_PRODUCED, ALL_WOKEN, SOON_WOKEN,
]
BURNS = {
    f"{indicator}Burn{speed}": f"{hours}h"
    for indicator in ("ProduceAvailability", "FetchAvailability", "ProduceLatency", "Freshness")
    for speed, hours in (("Fast", 2), ("Steady", 7), ("Slow", 25), ("Creeping", 73))
}


def fires(name: str, at: str) -> dict:
    # Whatever labels the alert has, it is there: `ALERTS` says so without repeating its texts.
    expression = f'count(ALERTS{{alertname="{name}", alertstate="firing"}}) > bool 0'
    return {"expr": expression, "eval_time": at, "exp_samples": [{"labels": "{}", "value": 1}]}


def silent(name: str, lasting: str) -> dict:
    # All the time from the beginning, not only at its end. The name is an expression.
    expression = f'count_over_time(ALERTS{{alertname=~"{name}", alertstate="firing"}}[{lasting}])'
    return {"expr": expression, "eval_time": lasting, "exp_samples": []}


def test_every_rule_is_valid():
    assert promtool("check", "rules", *RULES).count("SUCCESS") == len(RULES)


def test_the_alerts_that_were_asked_for_stand_as_they_were_asked_for():
    asked_for = {
        "ConsumerLagHigh": ("streamhouse_consumer_lag > 1000", "5m", "critical"),
        "S3UploadFailed": ('rate(streamhouse_s3_errors_total{error_type="failed"}[5m]) > 0', "1m", "critical"),
        "CacheHitRateLow": (
            "rate(streamhouse_cache_hits_total[5m]) / (rate(streamhouse_cache_hits_total[5m])"
            " + rate(streamhouse_cache_misses_total[5m])) < 0.7",
            "10m",
            "warning",
        ),
    }
    for name, expected in asked_for.items():
        rule = alerts()[name]
        assert (rule["expr"], rule["for"], rule["labels"]["severity"]) == expected


def test_every_alert_says_what_to_do():
    runbooks = (ROOT / "docs/runbooks.md").read_text()
    sections = {"#" + re.sub(r"[^a-z0-9-]", "", line[3:].strip().lower().replace(" ", "-"))
                for line in runbooks.splitlines() if line.startswith("## ")}
    for name, rule in alerts().items():
        assert rule["labels"]["severity"] in ("critical", "warning"), name
        assert all(rule["annotations"].get(key) for key in ("summary", "description")), name
        page, anchor = rule["annotations"]["runbook"].split("#")
        assert page == "docs/runbooks.md" and f"#{anchor}" in sections, f"{name}: no section {anchor}"


def test_rules_name_only_series_that_a_server_has():
    known = set(re.findall(r"`(streamhouse_\w+)`", (ROOT / "docs/metrics.md").read_text()))
    for path in RULES:
        for name in re.findall(r"streamhouse_\w+", re.sub(r"(?m)^\s*#.*$", "", path.read_text())):
            family = re.sub(r"_(bucket|count|sum)$", "", name)
            assert name in known or family in known, f"{path.name}: nothing feeds {name}"


def test_the_slo_rules_are_those_of_their_source():
    source = ROOT / "observability/source/slo.py"
    written = subprocess.run([sys.executable, source], capture_output=True, text=True, check=True).stdout
    assert (ROOT / "observability/prometheus/rules/slo.yml").read_text() == written


def test_every_alert_fires_when_its_fault_is_there(tmp_path):
    assert {*CASES, *BURNS, "CostDoubled"} == set(alerts())
    tests = [
        {"name": name, "interval": "1m", "input_series": inputs, "promql_expr_test": [fires(name, at)]}
        for name, (inputs, at) in CASES.items()
    ]
    play(tmp_path, tests)
    burns = [fires(name, at) for name, at in BURNS.items()]
    play(tmp_path, [{"interval": "2m", "input_series": BURNING, "promql_expr_test": burns}], "20m")
    cost = fires("CostDoubled", "196h")
    play(tmp_path, [{"interval": "1h", "input_series": COST_DOUBLES, "promql_expr_test": [cost]}], "1h")


def test_of_several_clusters_the_one_that_nobody_reports_is_named(tmp_path):
    inputs = [
        {"series": f'{name}{{job="streamhouse-{job}", instance="{instance}"}}', "values": "1x10"}
        for name, job, instance in (
            ("up", "north", "a"), ("up", "south", "b"), ("up", "south", "c"), ("streamhouse_agents_active", "north", "a"),
        )
    ]
    firing = 'ALERTS{alertname="ClusterViewMissing", alertstate="firing"}'

    def of_job(job: str) -> list[dict]:
        return [{"labels": firing.replace("{", f'{{job="{job}", severity="warning", '), "value": 1}]

    alone = [series for series in inputs if "north" in series["series"] and series["series"].startswith("up")]
    nobody = [{"labels": firing.replace("{", '{severity="warning", '), "value": 1}]
    cases = [(inputs, of_job("streamhouse-south")), (alone, of_job("streamhouse-north")), ([], nobody)]
    tests = [
        {"interval": "1m", "input_series": there,
         "promql_expr_test": [{"expr": firing, "eval_time": "3m", "exp_samples": found}]}
        for there, found in cases
    ]
    play(tmp_path, tests)


def test_batches_wait_too_long_also_when_each_is_given_up_and_the_next_begins_anew(tmp_path):
    # A store that hangs, a few producers that wait for their answers: one upload after the other is given up after
    # 25 s, and the gauge is above 10 for 15 s at most. Beside it one that stores what it is given, slowly.
    tests = [
        {"interval": "5s", "input_series": [series("flush_oldest_seconds", tooth * 40)],
         "promql_expr_test": [fires("ProduceStalled", "2m")] if stalled else [silent("ProduceStalled", "15m")]}
        for tooth, stalled in (("0 5 10 15 20 25 ", True), ("0 5 10 5 ", False))
    ]
    play(tmp_path, tests, "5s")


def test_upkeep_that_failed_while_the_store_did_is_not_called_failing_once_the_store_is_well(tmp_path):
    # Three minutes, as they are seen: a task is tried again after 1 s, 2 s, 4 s …, a component fails with the third.
    errors = series("task_runs_total", "0x10 3 6 7 8 8x80", 'task="compaction", result="error"')
    health = [
        series("health_component", f"1x10 {store} 1x80", f'component="{component}"')
        for component, store in (("object_store", "0 0 0"), ("metadata", "1 1 1"))
    ]
    nothing = {"interval": "1m", "input_series": [errors, *health], "promql_expr_test": [silent("TaskFailing", "90m")]}
    # The store was away, and what fails since then fails for another reason.
    later = series("task_runs_total", "0x10 3 6 7 8 8+1x80", 'task="compaction", result="error"')
    failing = {"interval": "1m", "input_series": [later, *health], "promql_expr_test": [fires("TaskFailing", "60m")]}
    play(tmp_path, [nothing, failing])


def test_an_upload_that_was_given_up_is_not_called_a_refused_batch_unless_it_was_the_writers():
    described = alerts()["UploadGivenUp"]["annotations"]["description"]
    runbook = (ROOT / "docs/runbooks.md").read_text().split("## UploadGivenUp")[1].split("## ")[0]
    for text in (described, runbook):
        # What tells one from the other.
        assert 'produce_batches_total{outcome="server_error"}' in text
        assert all(word in text for word in ("the writer's", "compaction", "probe", "nothing was refused"))


def test_no_alert_fires_on_a_healthy_day(tmp_path):
    day = 24 * 60
    inputs = [
        series("up", f"1x{day}"),
        series("agents_active", f"1x{day}"),
        series("consumer_lag", f"{'0 40 200 10 ' * (day // 4)}", 'topic="orders", partition="1", consumer_group="billing"'),
        series("s3_requests_total", f"0+240x{day}", PUT),
        series("s3_errors_total", f"0+1x{day}", f'{PUT}, error_type="retry"'),
        series("s3_errors_total", f"0x{day}", f'{PUT}, error_type="failed"'),
        series("cache_hits_total", f"0+95x{day}"),
        series("cache_misses_total", f"0+5x{day}"),
        series("cache_evictions_total", f"0+2x{day}"),
        series("flush_oldest_seconds", f"{'0 0.2 0.1 ' * (day // 3)}"),
        series("health_component", f"1x{day}", 'component="object_store"'),
        series("metadata_errors_total", f"0x{day}", 'operation="commit", error_type="unavailable"'),
        series("metadata_operation_seconds_bucket", f"0+240x{day}", 'operation="commit", le="0.005"'),
        series("metadata_operation_seconds_bucket", f"0+240x{day}", 'operation="commit", le="+Inf"'),
        series("inflight_bytes", f"{'8 30 12 ' * (day // 3)}"),
        series("inflight_limit_bytes", f"64x{day}"),
        series("task_runs_total", f"0x{day}", 'task="compaction", result="error"'),
        series("produce_batches_total", f"0+6000x{day}", 'outcome="ok"'),
        # One failure an hour or so: within the budget.
        series("produce_batches_total", f"{'0 ' * 700}{'1 ' * 741}", 'outcome="server_error"'),
        series("api_requests_total", f"0+6000x{day}", 'api="Fetch", outcome="ok"'),
        series("api_requests_total", f"0x{day}", 'api="Fetch", outcome="server_error"'),
        series("producer_latency_seconds_count", f"0+6000x{day}", 'topic="orders"'),
        series("producer_latency_seconds_bucket", f"0+5999x{day}", 'topic="orders", le="1"'),
        series("verify_segments_total", f"0+9x{day}", 'result="ok"'),
        series("verify_segments_total", f"0x{day}", 'result="missing"'),
        series("consumer_expired_records", f"0x{day}", f'topic="orders", {BILLING}'),
        series("consumer_lag_seconds", f"{'0 0.4 2 0.1 ' * (day // 4)}", f"{PARTITION}, {BILLING}"),
        series("consumer_last_commit_timestamp_seconds", f"0+60x{day}", BILLING),
        # A deployment every two hours: three members go and come.
        series("consumer_rebalances_total", " ".join(str(6 * (minute // 120)) for minute in range(day)), BILLING),
        series("transaction_oldest_open_seconds", f"{'0.2 12 _ ' * (day // 3)}", 'topic="orders"'),
        series("object_store_stored_bytes", f"{'0 8388608 16777216 0 ' * (day // 4)}", 'state="orphan"'),
        series("task_backlog", f"{'3 40 200 0 ' * (day // 4)}", 'task="compaction"'),
        series("task_last_success_timestamp_seconds", f"0+60x{day}", 'task="compaction"'),
        # Always something to delete, and it is deleted.
        series("task_backlog", f"{'5 9 ' * (day // 2)}", 'task="deleting"'),
        series("task_last_success_timestamp_seconds", f"0+60x{day}", 'task="deleting"'),
        # Started a minute ago: what died then is swept when its PUTs cannot land any more, what died the day before
        # when its own day is over.
        series("task_backlog", f"1 0x{14 * 60} 1 0x{day}", 'task="orphans"'),
        series("task_last_success_timestamp_seconds", f"_ 60x{14 * 60} {14 * 3_600 + 60}x{day}", 'task="orphans"'),
        series("object_store_cost_usd_total", f"0+0.001x{day}", PUT),
        series("metrics_folded_series", f"0x{day}", 'metric="segment_writes_total"'),
        series("fetch_wakeup_seconds_count", f"0+6000x{day}"),
        series("fetch_wakeup_seconds_bucket", f"0+5990x{day}", 'le="0.25"'),
    ]
    play(tmp_path, [{"interval": "1m", "input_series": inputs, "promql_expr_test": [silent(".*", "24h")]}])
