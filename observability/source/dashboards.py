"""Writes the five Grafana dashboards: what each shows, in which order, and what its figures mean.

    .test-tools/venv/bin/python observability/source/dashboards.py observability/grafana/dashboards

Read each from the top: first whether promises are kept, then what flows, then what is the cause. Limits are
those of the alerts where there is one. Panels that list topics show the twenty largest at each moment.
"""

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from panels import (
    BLUE, GREEN, GREY, GROUP, OPERATION, RED, TOPIC, YELLOW, Query, board, buckets, by, falling, lines, mean, number,
    of_agents, of_cluster, quantile, rate, ratio, rising, states, worst,
)

GIB = "1073741824"
DAY = "86400"
LATENCY = rising(0.5, 1)


def percentiles(name: str, *selectors: str) -> list[Query]:
    return [Query(quantile(q, name, *selectors), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)]


def largest(expression: str) -> str:
    return f"topk(20, {expression})"


def newest(name: str, *selectors: str, per: str) -> str:
    """The age of the newest of these timestamps, in seconds."""
    return f"time() - max{by(per)}({of_cluster('streamhouse_' + name, *selectors)})"


def highest(name: str, *selectors: str, per: str = "") -> str:
    return f"max{by(per)}({of_cluster('streamhouse_' + name, *selectors)})"


def system_overview():
    judged = 'outcome=~"ok|duplicate|server_error"'
    broken = 'outcome="server_error"'
    limit = of_agents("streamhouse_inflight_bytes") + " / " + of_agents("streamhouse_inflight_limit_bytes")
    return board("overview", "System Overview", "Are promises kept, what flows, what is near its limit, who is there.", [], [
        number(
            "Produce availability", "Batches that were stored, of all that were not the client's own mistake. Objective: 99.9 % over 30 days.",
            "percentunit", [Query(f"1 - {ratio(rate('produce_batches_total', broken), rate('produce_batches_total', judged))}")],
            falling(0.99, 0.999), decimals=3,
        ),
        number(
            "Produce latency, p99", "From request read to acknowledgement written. Objective: 99 % within 1 s.", "s",
            [Query(quantile(0.99, "producer_latency_seconds") + " >= 0")], LATENCY,
        ),
        number(
            "Worst time lag", "Age of the oldest record that some group has not consumed. Grows while a consumer is dead.", "s",
            [Query(highest("consumer_lag_seconds"))], rising(60, 300),
        ),
        number(
            "Oldest unacknowledged", "Age of the oldest batch that is accepted and not yet stored. Above 10 s producing has stalled.", "s",
            [Query(f"max({of_agents('streamhouse_flush_oldest_seconds')})")], rising(2, 10),
        ),
        lines(
            "Bytes in and out", "Committed bytes of producers, and bytes of record batches sent to consumers.", "Bps",
            [Query(rate("producer_bytes_total"), "in"), Query(rate("fetch_bytes_total"), "out")],
        ),
        lines(
            "Requests by API", "Kafka requests answered, of the APIs that were used.", "reqps",
            [Query(largest(rate("api_requests_total", per="api")) + " > 0", "{{api}}")],
        ),
        lines(
            "Our errors", "What failed by a fault of ours or of our stores; clients' mistakes are not in it. Anything above 0 deserves a look.", "ops",
            [
                Query(rate("api_requests_total", broken), "requests"),
                Query(rate("produce_batches_total", broken), "batches"),
                Query(rate("s3_errors_total", 'error_type="failed"'), "object store, given up"),
                Query(rate("metadata_errors_total"), "metadata store"),
                Query(rate("log_events_total", 'level="error"'), "log lines"),
            ], rising(0.01, 1),
        ),
        lines(
            "In-flight budget", "Bytes accepted and not yet answered, as a share of --inflight-bytes. Near 1, producers are held back.", "percentunit",
            [Query(limit, "{{instance}}")], rising(0.7, 0.9), width=6, most=1,
        ),
        lines(
            "Metadata store, p99", "Every acknowledgement waits for one commit.", "s",
            [
                Query(quantile(0.99, "metadata_operation_seconds", 'operation="commit"'), "commit"),
                Query(quantile(0.99, "metadata_operation_seconds"), "all operations"),
            ], rising(0.1, 0.25), width=6,
        ),
        lines(
            "CPU", "Cores in use by each agent.", "short",
            [Query(f"sum by (instance) (rate({of_agents('process_cpu_seconds_total')}[$__rate_interval]))", "{{instance}}")], width=6,
        ),
        number(
            "Agents", "Agents that the cluster counts as alive, and those that answer a scrape. They should agree.", "short",
            [Query(highest("agents_active"), "alive"), Query(f"count({of_cluster('streamhouse_build_info')})", "scraped")],
            [(None, RED), (1, GREEN)], height=8,
        ),
        states(
            "Components", "Health of every component of every agent; /health names the last error of a failed one.",
            [Query(f"min by (instance, component) ({of_agents('streamhouse_health_component')})", "{{instance}} {{component}}")],
            {0: ("failed", RED), 1: ("healthy", GREEN)}, width=24,
        ),
    ])


def producer_performance():
    duplicate = 'outcome="duplicate"'
    return board("producers", "Producer Performance", "How much is produced, how long it takes and in which stage.", ["topic"], [
        lines("Records", "Records committed, each counted once.", "cps", [Query(largest(rate("producer_records_total", TOPIC, per="topic")), "{{topic}}")]),
        lines("Bytes", "Bytes of committed record batches, as stored.", "Bps", [Query(largest(rate("producer_bytes_total", TOPIC, per="topic")), "{{topic}}")]),
        lines(
            "Batch size", "Records of each acknowledged batch. Small batches cost requests and metadata: raise the producers' linger.ms.", "short",
            [Query(mean("producer_batch_size", TOPIC), "mean"), *percentiles("producer_batch_size", TOPIC)],
        ),
        lines(
            "Latency", "Successful requests, one observation a request and topic, from request read to acknowledgement written.", "s",
            percentiles("producer_latency_seconds", TOPIC), LATENCY,
        ),
        buckets("Latency, spread", "Requests by how long they took. Two bands mean two causes: compare with the stages.", "s", "producer_latency_seconds", TOPIC),
        lines(
            "Stages, mean", "Mean time in each stage of the write path, stacked. All topics of an agent share its writer.", "s",
            [Query(mean("produce_stage_seconds", per="stage"), "{{stage}}")], stacked=True,
        ),
        lines(
            "Stages, p99", "upload is the object store, commit the metadata store, queue and buffer are ours.", "s",
            [Query(quantile(0.99, "produce_stage_seconds", per="stage"), "{{stage}}")], LATENCY,
        ),
        lines(
            "Object size by reason", "Mean size of sealed objects by why they were sealed. Small ones cost requests: raise --flush-interval.", "bytes",
            [Query(mean("flush_object_bytes", per="reason"), "{{reason}}")],
        ),
        lines(
            "Oldest unacknowledged", "Age of the oldest batch that is accepted and not yet stored.", "s",
            [Query(f"max by (instance) ({of_agents('streamhouse_flush_oldest_seconds')})", "{{instance}}")], rising(2, 10),
        ),
        lines(
            "Backpressure", "Requests that wait for room in the in-flight budget, on average.", "short",
            [Query(rate("backpressure_seconds_total", per="instance"), "{{instance}}")], rising(1, 10),
        ),
        lines(
            "Errors by type", "Batches refused. agent_error is ours, time-outs included; all others are the client's.", "ops",
            [Query(rate("producer_errors_total", TOPIC, per="error_type"), "{{error_type}}")], rising(0.01, 1),
        ),
        lines(
            "Duplicates", "Batches that were sent again and are stored once: replies got lost or came too late.", "ops",
            [Query(rate("produce_batches_total", duplicate), "duplicates")], rising(1, 10),
        ),
    ])


def consumer_health():
    lag = of_cluster("streamhouse_consumer_lag", TOPIC, GROUP)
    shrinks = f"-sum by (consumer_group) (deriv({lag}[$__rate_interval]))"
    phases = ["Empty", "PreparingRebalance", "CompletingRebalance", "Assigning", "Reconciling", "Stable"]
    state = " or ".join(
        f"{of_cluster('streamhouse_consumer_group_state', GROUP, f'state={chr(34)}{phase}{chr(34)}')} * {number}"
        for number, phase in enumerate(phases)
    )
    # A request may lack the topic.
    asked = 'topic=~"$topic|"'
    return board("consumers", "Consumer Health", "How late groups are, whether they move, and what disturbs them.", ["topic", "consumer_group"], [
        lines(
            "Time lag", "Age of the oldest record that a group has not consumed; right also while its consumers are dead.", "s",
            [Query(highest("consumer_lag_seconds", TOPIC, GROUP, per="consumer_group"), "{{consumer_group}}")], rising(60, 300),
        ),
        lines(
            "Lag, worst partition", "Records between the committed offset and the high watermark.", "short",
            [Query(f"max({lag}) by (topic, consumer_group)", "{{consumer_group}} {{topic}}")], rising(500, 1000),
        ),
        worst(
            "20 worst partitions", "Records behind, now. One partition far ahead of the others is a key that is too common.", "short",
            f"topk(20, max by (topic, partition, consumer_group) ({lag}))", rising(500, 1000),
        ),
        lines(
            "Time to catch up", "The lag divided by how fast it shrinks. Nothing is shown while it does not shrink.", "s",
            [Query(ratio(f"sum by (consumer_group) ({lag})", shrinks), "{{consumer_group}}")], rising(600, 3600),
        ),
        lines(
            "Consumed", "Records by which committed offsets moved forward.", "cps",
            [Query(rate("consumer_records_total", TOPIC, GROUP, per="consumer_group"), "{{consumer_group}}")],
        ),
        lines(
            "Time since commit", "How long ago each group last committed. With lag, it has stopped; without, there is nothing to do.", "s",
            [Query(newest("consumer_last_commit_timestamp_seconds", GROUP, per="consumer_group"), "{{consumer_group}}")], rising(300, 900),
        ),
        lines(
            "Expired unread", "Records that retention deleted before the group consumed them, since its last commit. Those are lost to it.", "short",
            [Query(f"sum by (topic, consumer_group) ({of_cluster('streamhouse_consumer_expired_records', TOPIC, GROUP)})", "{{consumer_group}} {{topic}}")],
            [(None, GREEN), (1, RED)],
        ),
        lines("Members", "Members of each group.", "short", [Query(highest("consumer_group_members", GROUP, per="consumer_group"), "{{consumer_group}}")]),
        states(
            "States", "What each group did. Long bars of anything between Empty and Stable are groups that do not come to rest.",
            [Query(f"max by (consumer_group) ({state})", "{{consumer_group}}")],
            dict(enumerate(zip(phases, [GREY, YELLOW, YELLOW, BLUE, BLUE, GREEN]))),
        ),
        lines(
            "Rebalances", "Generations completed, per minute. Members that come and go, or poll too rarely, cause them.", "opm",
            [Query(rate("consumer_rebalances_total", GROUP, per="consumer_group") + " * 60", "{{consumer_group}}")], rising(1, 3),
        ),
        lines(
            "Errors by type", "Fetches, commits, joins and heartbeats that were refused. agent_error is ours.", "ops",
            [Query(rate("consumer_errors_total", asked, 'consumer_group=~"$consumer_group|"', per="error_type"), "{{error_type}}")], rising(0.1, 1),
        ),
        lines(
            "Wake-up, p99", "From a commit to the response of a fetch that waited for it. Objective: 99 % within 250 ms.", "s",
            [Query(quantile(0.99, "fetch_wakeup_seconds"), "p99")], rising(0.1, 0.25),
        ),
    ])


def storage():
    put = 'operation="PUT"'
    bad = 'result!="ok"'
    gib = f"({rate('producer_bytes_total')} / {GIB})"
    return board("storage", "Storage & S3", "What the object store is asked, how it answers, what it costs, and whether upkeep keeps up.", ["operation"], [
        lines("Requests", "Attempts on the wire, retries included.", "reqps", [Query(rate("s3_requests_total", OPERATION, per="operation"), "{{operation}}")], width=6),
        lines(
            "Retries and failures", "retry: tried again, only slower. failed: given up, somebody got an error.", "ops",
            [Query(rate("s3_errors_total", OPERATION, per="operation, error_type") + " > 0", "{{operation}} {{error_type}}"),
             Query(rate("s3_errors_total", OPERATION), "all")], rising(0.1, 1), width=6,
        ),
        lines(
            "Latency, p95", "Each attempt, to the last byte.", "s",
            [Query(quantile(0.95, "s3_latency_seconds", OPERATION, per="operation"), "{{operation}}")], rising(0.5, 2.5), width=6,
        ),
        lines(
            "Upload success", "Segments whose fate is committed, of those that the writer sealed; inline ones are in both. Below 1 for long: uploads are given up.", "percentunit",
            [Query(ratio(rate("segment_flushes_total"), rate("segment_writes_total")), "flushed of written")], falling(0.9, 0.99), width=6,
        ),
        lines(
            "PUTs per GiB", "Uploads for each GiB produced. Many are small objects: raise --flush-interval or --flush-bytes.", "short",
            [Query(ratio(rate("s3_requests_total", put), gib), "PUTs per GiB")], rising(2000, 10000), width=6,
        ),
        lines(
            "Traffic", "Object bytes received and sent, repeated attempts included.", "Bps",
            [Query(rate("object_store_bytes_total", per="direction"), "{{direction}}")], width=6,
        ),
        lines(
            "USD per day", "What requests cost at this rate, by the table of prices; storage and traffic are not in it.", "currencyUSD",
            [Query(rate("object_store_cost_usd_total", OPERATION, per="operation") + f" * {DAY}", "{{operation}}")], width=6, stacked=True,
        ),
        lines(
            "USD per GiB", "What requests cost for each GiB produced.", "currencyUSD",
            [Query(ratio(rate("object_store_cost_usd_total"), gib), "USD per GiB")], rising(0.05, 0.5), width=6,
        ),
        lines(
            "Stored bytes", "live: what segments name. inline: small ones in the metadata store. orphan: named by nothing. deleting: waits for its time.", "bytes",
            [Query(highest("object_store_stored_bytes", per="state"), "{{state}}")], width=6, stacked=True,
        ),
        lines(
            "Upkeep, time since success", "How long ago each task last ended well. A task without work does not run: compare with the backlog.", "s",
            [Query(newest("task_last_success_timestamp_seconds", per="task"), "{{task}}")], rising(3600, 21600), width=6,
        ),
        lines(
            "Upkeep, backlog", "What waits for each task. It should fall back to where it was.", "short",
            [Query(highest("task_backlog", per="task"), "{{task}}")], rising(10000, 100000), width=6,
        ),
        lines(
            "Damage", "Stored segments that were read back and are missing, or are not what was written. Anything here is lost data.", "short",
            [Query(f"sum by (result) (increase({of_agents('streamhouse_verify_segments_total', bad)}[$__rate_interval]))", "{{result}}")],
            [(None, GREEN), (1, RED)], width=6,
        ),
    ])


def cache_performance():
    hits, misses = rate("cache_hits_total"), rate("cache_misses_total")
    hit = 'result="hit"'
    get = 'operation="GET"'
    full = of_agents("streamhouse_cache_size_bytes") + " / " + of_agents("streamhouse_cache_limit_bytes")
    return board("cache", "Cache Performance", "Where reads are answered from, and what the misses cost.", [], [
        number("Hit ratio", "Look-ups of stored bytes that the cache answered. Tail reads are no look-ups.", "percentunit", [Query(ratio(hits, f"({hits} + {misses})"))], falling(0.5, 0.7)),
        number("Byte hit ratio", "The same by bytes: large misses weigh more.", "percentunit", [Query(ratio(rate("cache_bytes_total", hit), rate("cache_bytes_total")))], falling(0.5, 0.7)),
        number("Size of limit", "Bytes held, as a share of --cache-bytes. Full is normal; full with evictions and misses is too small.", "percentunit", [Query(full, "{{instance}}")], [(None, BLUE)]),
        number("GETs, USD per day", "What the reads that missed cost at this rate, by the table of prices.", "currencyUSD", [Query(rate("object_store_cost_usd_total", get) + f" * {DAY}")], rising(1, 10)),
        lines("Look-ups", "Hits and misses; a look-up that joined the loading of another is a miss.", "ops", [Query(hits, "hits"), Query(misses, "misses")]),
        lines("Evictions", "Entries that made room for others.", "ops", [Query(rate("cache_evictions_total", per="instance"), "{{instance}}")], rising(1, 10)),
        lines("Bytes by source", "Bytes sent to consumers by where they were read. object_store is what costs.", "Bps", [Query(rate("fetch_bytes_total", per="source"), "{{source}}")], stacked=True),
        lines("Fetch by source, p99", "Reading one partition's records, look-up included, long-poll wait not.", "s", [Query(quantile(0.99, "fetch_seconds", per="source"), "{{source}}")], rising(0.25, 1)),
        lines(
            "Read amplification", "Bytes read from the object store for each byte sent to consumers; compaction reads as well. Above 1 the same bytes are read again and again.", "short",
            [Query(ratio(rate("object_store_bytes_total", 'direction="in"'), rate("fetch_bytes_total")), "read of sent")], rising(1.5, 3),
        ),
        lines("GETs", "Reads of the object store, by agent.", "reqps", [Query(rate("s3_requests_total", get, per="instance"), "{{instance}}")]),
    ])


BOARDS = {
    "system-overview": system_overview,
    "producer-performance": producer_performance,
    "consumer-health": consumer_health,
    "storage-s3": storage,
    "cache-performance": cache_performance,
}

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for name, make in BOARDS.items():
        text = json.dumps(make(), cls=JSONEncoder, indent=2, ensure_ascii=False)
        (folder / f"{name}.json").write_text(text + "\n")
