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


def fsync_ms(folder: Path, count: int = 500, size_bytes: int = 4096) -> Percentiles:
    """Append and fsync, one at a time: what one flush of this disk costs."""
    target = folder / "fsync"
    took = []
    with open(target, "wb", buffering=0) as out:
        block = os.urandom(size_bytes)
        for _ in range(count):
            began = time.perf_counter()
            out.write(block)
            os.fsync(out.fileno())
            took.append((time.perf_counter() - began) * 1000)
    target.unlink()
    return Percentiles.of(took)


def name() -> str:
    """The processor and its count, for the table's head."""
    text = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", text)
    return f"{os.cpu_count()} cores, {model.group(1) if model else 'unknown processor'}"
