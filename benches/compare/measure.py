"""One server through all loads: rates, its CPU time per GiB, its memory, its latency.

CPU and memory come from /proc of the server alone; the load generator shares the cores with it, for every
server alike. A load that fails leaves its reason in the table instead of a figure.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.clients import create_topic, unique

from . import lone
from .figures import STORE_READS, STORE_WRITES, Measured
from .load import Load, LoadFailed, Rate

MIB = 1 << 20


@dataclass
class Plan:
    """How much is sent: bounded, and the same for every server."""

    records: int = 1_500_000
    # What fits the default cache (64 MiB), and the page cache all the more.
    cached_records: int = 50_000
    cached_reads: int = 20
    spread_records: int = 150_000
    small_records: int = 20_000
    small_producers: int = 8
    lone_records: int = 1_000
    repeats: int = 3


def _timed(server, load: Callable[[], Rate]) -> tuple[Rate, float]:
    before = server.child.cpu_seconds()
    rate = load()
    return rate, server.child.cpu_seconds() - before


def _median(runs: list[tuple[Rate, float]]) -> tuple[float, float]:
    """Medians of MB/s and of CPU-s/GiB."""
    return (
        statistics.median(rate.mb_per_second for rate, _ in runs),
        statistics.median(cpu / rate.gib for rate, cpu in runs),
    )


def measure(system: str, server, program: str, plan: Plan, folder: Path, store=None) -> Measured:
    """`store`: the object store's process, if it is one of its own, whose CPU time is told as well."""
    result = Measured(system)
    values = result.values
    load = Load(program, server.address)
    stored: dict[str, list[float]] = {STORE_WRITES: [], STORE_READS: []}

    def beside(name: str, take: Callable[[], Rate]) -> Rate:
        before = store.child.cpu_seconds() if store else 0.0
        rate = take()
        if store:
            stored[name].append((store.child.cpu_seconds() - before) / rate.gib)
        return rate

    def step(name: str, take: Callable[[], None]) -> None:
        began = time.monotonic()
        try:
            take()
        except (LoadFailed, AssertionError, OSError) as failure:
            values[name] = f"failed: {str(failure).strip().splitlines()[-1][:120] if str(failure) else type(failure).__name__}"
        print(f"  {system}: {name} ({time.monotonic() - began:.0f} s): {values.get(name)}", flush=True)

    def idle() -> None:
        time.sleep(2)
        values["resident idle, MiB"] = server.child.rss_bytes() / MIB

    def single() -> None:
        produced, consumed = [], []
        for _ in range(plan.repeats):
            topic = create_topic(server.address, unique("single"))
            produced.append(_timed(server, lambda topic=topic: beside(
                STORE_WRITES, lambda: load.produce(topic, plan.records))))
            consumed.append(_timed(server, lambda topic=topic: beside(
                STORE_READS, lambda: load.consume(topic, plan.records))))
        values["produce 1 partition, MB/s"], values["produce 1 partition, CPU-s/GiB"] = _median(produced)
        values["consume, MB/s"], values["consume, CPU-s/GiB"] = _median(consumed)
        values.update({name: statistics.median(each) for name, each in stored.items() if each})

    def cached() -> None:
        topic = create_topic(server.address, unique("cached"))
        load.produce(topic, plan.cached_records)
        load.consume(topic, plan.cached_records)
        runs = [_timed(server, lambda: load.consume(topic, plan.cached_records)) for _ in range(plan.cached_reads)]
        values["consume what is cached, MB/s"] = statistics.median(rate.mb_per_second for rate, _ in runs)
        # One run takes a few ticks of the clock by which the kernel counts: all together, then.
        values["consume what is cached, CPU-s/GiB"] = sum(cpu for _, cpu in runs) / sum(rate.gib for rate, _ in runs)

    def spread() -> None:
        topic = create_topic(server.address, unique("spread"), 100)
        run = _timed(server, lambda: load.produce(topic, plan.spread_records, partition=-1, processes=10,
                                                  queue_buffering_max_kbytes=100_000))
        name = "produce 100 partitions × 10 producers"
        values[f"{name}, MB/s"], values[f"{name}, CPU-s/GiB"] = _median([run])

    def small() -> None:
        topic = create_topic(server.address, unique("small"), plan.small_producers)
        rate, cpu = _timed(server, lambda: load.produce(
            topic, plan.small_records, size_bytes=100, partition=-1, processes=plan.small_producers,
            batch_num_messages=1, linger_ms=0))
        values["one-record requests, 1/s"] = rate.records_per_second
        values["one-record requests, CPU-µs each"] = cpu / rate.records * 1e6

    def alone() -> None:
        topic = create_topic(server.address, unique("lone"))
        produced, flushed = lone.produce_ms(server.address, topic, folder, plan.lone_records)
        values["lone 1 KB produce, p50 / p99 ms"] = produced
        values["one fsync between those, p50 / p99 ms"] = flushed

    def peak() -> None:
        values["resident peak, MiB"] = server.child.rss_peak_bytes() / MIB

    step("resident idle, MiB", idle)
    step("lone 1 KB produce, p50 / p99 ms", alone)
    step("produce 1 partition, MB/s", single)
    step("consume what is cached, MB/s", cached)
    step("produce 100 partitions × 10 producers, MB/s", spread)
    step("one-record requests, 1/s", small)
    step("resident peak, MiB", peak)
    return result
