"""The load: librdkafka's `rdkafka_performance`, in one process or several, and what it reports.

Every load is bounded in records and in time. A rate is what the program itself reports for one process,
and records over wall time for several at once.
"""

import re
import subprocess
import time
from dataclasses import dataclass

MIB = 1 << 20
SECONDS_MAX = 180


class LoadFailed(Exception):
    pass


@dataclass
class Rate:
    records: int
    size_bytes: int
    seconds: float

    @property
    def mb_per_second(self) -> float:
        """Decimal megabytes, as rdkafka_performance counts them."""
        return self.records * self.size_bytes / self.seconds / 1e6

    @property
    def records_per_second(self) -> float:
        return self.records / self.seconds

    @property
    def gib(self) -> float:
        return self.records * self.size_bytes / (1 << 30)


_PRODUCED = re.compile(r"(\d+) messages produced \(\d+ bytes\), (\d+) delivered \(.*?(\d+) failed\) in (\d+)ms")
_CONSUMED = re.compile(r"(\d+) messages \((\d+) bytes\) consumed in (\d+)ms")


def _properties(**properties: object) -> list[str]:
    return [part for name, value in properties.items() for part in ("-X", f"{name.replace('_', '.')}={value}")]


@dataclass
class Load:
    program: str
    address: str

    def _spawn(self, arguments: list) -> subprocess.Popen:
        command = [self.program, "-b", self.address, "-q", *map(str, arguments)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def _finish(self, process: subprocess.Popen) -> str:
        try:
            said, _ = process.communicate(timeout=SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
            raise LoadFailed(f"not done after {SECONDS_MAX} s: {said[-500:]}") from None
        if process.returncode != 0:
            raise LoadFailed(f"status {process.returncode}: {said[-500:]}")
        return said

    def _produce(self, topic: str, partition: int, records: int, size_bytes: int, **properties: object):
        settings = {
            "linger_ms": 5, "batch_size": 1_000_000, "batch_num_messages": 100_000, "message_max_bytes": 1_000_000,
            "queue_buffering_max_messages": 500_000, "queue_buffering_max_kbytes": 500_000,
            **properties,
        }
        arguments = ["-P", "-t", topic, "-p", partition, "-s", size_bytes, "-c", records, "-a", -1]
        return self._spawn([*arguments, *_properties(**settings)])

    def produce(self, topic: str, records: int, size_bytes: int = 1_000, partition: int = 0, processes: int = 1,
                **properties: object) -> Rate:
        """`records` by each process; partition -1 spreads over all."""
        began = time.monotonic()
        running = [
            self._produce(topic, partition, records, size_bytes, **properties) for _ in range(processes)
        ]
        spent = 0.0
        for process in running:
            said = self._finish(process)
            found = _PRODUCED.findall(said)
            if not found:
                raise LoadFailed(f"no report: {said[-500:]}")
            _, delivered, failed, milliseconds = map(int, found[-1])
            if failed or delivered != records:
                raise LoadFailed(f"{delivered} of {records} delivered, {failed} failed")
            spent = max(spent, milliseconds / 1000)
        return Rate(records * processes, size_bytes, spent if processes == 1 else time.monotonic() - began)

    def consume(self, topic: str, records: int, size_bytes: int = 1_000) -> Rate:
        settings = {"fetch_wait_max_ms": 100, "fetch_message_max_bytes": 10 * MIB, "queued_min_messages": 1_000_000,
                    "queued_max_messages_kbytes": 500_000}
        arguments = ["-C", "-t", topic, "-p", 0, "-o", "beginning", "-c", records]
        said = self._finish(self._spawn([*arguments, *_properties(**settings)]))
        found = _CONSUMED.findall(said)
        if not found:
            raise LoadFailed(f"no report: {said[-500:]}")
        read, read_bytes, milliseconds = map(int, found[-1])
        if read < records or read_bytes < records * size_bytes:
            raise LoadFailed(f"{read} of {records} read")
        return Rate(read, size_bytes, milliseconds / 1000)
