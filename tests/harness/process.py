"""One child process: its log, its signals, and what the kernel says it costs.

Every child dies with the thread that started it (PR_SET_PDEATHSIG), so that an interrupted test run
leaves nothing behind: start children from the main thread. Readings come from /proc, never from the
process itself.
"""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

_PR_SET_PDEATHSIG = 1
# Looked up here: between fork and exec another thread's lock of the loader would stay taken for ever.
_PRCTL = ctypes.CDLL(None, use_errno=True).prctl


def _die_with_parent() -> None:
    _PRCTL(_PR_SET_PDEATHSIG, signal.SIGKILL)


def wait_until(condition: Callable[[], object], seconds: float, what: str, every: float = 0.05):
    """Polls until `condition` is truthy and returns its value; TimeoutError names `what` else."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(every)


class Child:
    def __init__(self, name: str, command: list, log: Path, env: dict | None = None, cwd: Path | None = None):
        self.name = name
        self.log = log
        self._out = open(log, "ab")
        self._offset = self._out.tell()
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            preexec_fn=_die_with_parent,
        )
        self.pid = self.process.pid

    def alive(self) -> bool:
        return self.process.poll() is None

    def output(self) -> str:
        """What this run has printed so far, both streams."""
        with open(self.log, "rb") as log:
            log.seek(self._offset)
            return log.read().decode(errors="replace")

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.output().splitlines()[-lines:])

    def require_alive(self) -> None:
        if not self.alive():
            raise AssertionError(f"{self.name} ended with status {self.process.returncode}:\n{self.tail()}")

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9, and wait until the kernel has released everything."""
        if self.alive():
            self.process.kill()
        self.process.wait()
        self._out.close()

    def stop(self, seconds: float = 30) -> int:
        """SIGTERM; the exit status. A child that ignores it is a failed test, not a hung one."""
        if self.alive():
            self.process.terminate()
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not stop within {seconds} s:\n{self.tail()}") from None
        self._out.close()
        return status

    def _status_bytes(self, field: str) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"{self.name} has no {field}: it is gone\n{self.tail()}")

    def rss_bytes(self) -> int:
        return self._status_bytes("VmRSS")

    def rss_peak_bytes(self) -> int:
        """The highest resident size since the start or the last `reset_rss_peak`."""
        return self._status_bytes("VmHWM")

    def reset_rss_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def cpu_seconds(self) -> float:
        """CPU time of the process, all its threads, those that ended included: to the nanosecond, not in ticks."""
        scheduler = 2
        return time.clock_gettime((~self.pid << 3) | scheduler)
