"""What the disk itself allows, measured in the same run and folder: `dd oflag=dsync`, and single flushes."""

import os
import re
import subprocess
import time
from pathlib import Path

from .figures import Percentiles

MIB = 1 << 20


def dd_mb_per_second(folder: Path, blocks: int = 128) -> float:
    """`dd bs=8M oflag=dsync` to a new file, in decimal megabytes a second."""
    target = folder / "dd"
    command = ["dd", "if=/dev/zero", f"of={target}", "bs=8M", f"count={blocks}", "oflag=dsync"]
    began = time.monotonic()
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    seconds = time.monotonic() - began
    target.unlink()
    return blocks * 8 * MIB / seconds / 1e6


class Flushes:
    """Append and fsync, one at a time: what one flush of this disk costs, ms each in `took`."""

    def __init__(self, folder: Path, size_bytes: int = 4096):
        self.target = folder / "fsync"
        self.block = os.urandom(size_bytes)
        self.took: list[float] = []

    def __enter__(self) -> "Flushes":
        self.out = open(self.target, "wb", buffering=0)
        return self

    def __exit__(self, *_) -> None:
        self.out.close()
        self.target.unlink()

    def one(self) -> None:
        began = time.perf_counter()
        self.out.write(self.block)
        os.fsync(self.out.fileno())
        self.took.append((time.perf_counter() - began) * 1000)


def fsync_ms(folder: Path, count: int = 500) -> Percentiles:
    with Flushes(folder) as flushes:
        for _ in range(count):
            flushes.one()
        return Percentiles.of(flushes.took)


def name() -> str:
    """The processor and its count, for the table's head."""
    text = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", text)
    return f"{os.cpu_count()} cores, {model.group(1) if model else 'unknown processor'}"
