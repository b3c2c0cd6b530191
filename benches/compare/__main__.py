"""`cargo xtask bench`: every system through the same loads, one after the other, and a Markdown table.

Systems: `disk` (dd and fsync), `kafka`, `local` (fsync, the default), `memory` (no store at all), `s3`
(SeaweedFS) and `s3raw` (the same S3 server without us). Nothing here asserts: it reports, also what failed.
"""

import argparse
import dataclasses
import shutil
import tempfile
from pathlib import Path

from harness.kafka_oracle import Kafka
from harness.places import TOOLS
from harness.seaweedfs import ACCESS_KEY, BUCKET, SECRET_KEY, SeaweedFS
from harness.streamhouse import StreamHouse

from . import disk, s3raw
from .figures import STORE_READS, STORE_WRITES, Measured, table
from .measure import Plan, measure

SYSTEMS = ["disk", "kafka", "local", "memory", "s3raw", "s3"]
SMALL = Plan(records=200_000, spread_records=20_000, small_records=2_000, lone_records=200, repeats=1,
             cached_records=10_000, cached_reads=2)


def main() -> None:
    parser = argparse.ArgumentParser(prog="cargo xtask bench --", description=__doc__)
    parser.add_argument("--performance", required=True, help="the rdkafka_performance program")
    parser.add_argument("--only", default=",".join(SYSTEMS), help="systems, separated by commas")
    parser.add_argument("--quick", action="store_true", help="small loads: does it run? not: how fast?")
    parser.add_argument("--repeats", type=int, help="runs of which the median counts")
    parser.add_argument("--profile", default="release", help="the build of the server")
    options = parser.parse_args()
    wanted = options.only.split(",")
    unknown = set(wanted) - set(SYSTEMS)
    if unknown:
        parser.error(f"unknown systems: {', '.join(sorted(unknown))}")
    plan = SMALL if options.quick else Plan()
    if options.repeats:
        plan = dataclasses.replace(plan, repeats=options.repeats)
    # On the disk of the work tree: /tmp may be memory.
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=TOOLS))
    try:
        found = [each for each in (run(system, folder / system, options, plan) for system in SYSTEMS
                                   if system in wanted) if each]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{disk.name()}. {plan.records:,} records of 1,000 bytes, median of {plan.repeats}; "
          "(…×) is the ratio to Apache Kafka, which does not fsync.\n")
    print(table(found))


def run(system: str, folder: Path, options: argparse.Namespace, plan: Plan) -> Measured:
    folder.mkdir(parents=True)
    print(f"{system}:", flush=True)
    if system == "disk":
        return Measured("disk", {
            "dd bs=8M oflag=dsync, MB/s": disk.dd_mb_per_second(folder),
            "one fsync, p50 / p99 ms": disk.fsync_ms(folder),
        })
    if system == "s3raw":
        store = SeaweedFS(folder).start()
        try:
            host = store.endpoint.removeprefix("http://")
            (put, written), (get, read) = s3raw.rates(host, BUCKET, ACCESS_KEY, SECRET_KEY, store.child.cpu_seconds)
        finally:
            store.stop()
        return Measured("SeaweedFS alone", {
            "PUT 8 MiB × 8 at once, MB/s": put,
            "GET 8 MiB × 8 at once, MB/s": get,
            STORE_WRITES: written,
            STORE_READS: read,
        })
    store = SeaweedFS(folder / "seaweed").start() if system == "s3" else None
    server, name = build(system, folder / "server", options, store)
    try:
        return measure(name, server.start(), options.performance, plan, folder, store)
    finally:
        server.kill()
        if store:
            store.stop()
        shutil.rmtree(folder, ignore_errors=True)


def build(system: str, folder: Path, options: argparse.Namespace, store: SeaweedFS | None):
    if system == "kafka":
        return Kafka(folder), "Apache Kafka 4.3"
    if system == "memory":
        flags = {"object-store": "memory:", "metadata": "memory:"}
        return StreamHouse(folder, flags=flags, profile=options.profile), "StreamHouse memory:"
    if store:
        server = StreamHouse(folder, flags=store.flags("bench"), env=store.env(), profile=options.profile)
        return server, "StreamHouse on SeaweedFS"
    return StreamHouse(folder, profile=options.profile), "StreamHouse local, fsync"


main()
