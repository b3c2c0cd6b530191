"""mitmproxy between the server and its object store: faults by command, and an independent count.

Faults are switched by writing a small control file that proxy_script.py reads before each request;
what passes is appended to a log, one line an attempt, which is what the server's own
`s3_requests_total` is compared with.
"""

import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from . import places
from .ports import free_port
from .process import Child, wait_until

SCRIPT = Path(__file__).with_name("proxy_script.py")


@dataclass
class Proxy:
    directory: Path
    upstream: str
    child: Child | None = None

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.control = self.directory / "fault.json"
        self.requests = self.directory / "requests.log"
        self.requests.touch()
        self.heal()

    def start(self) -> "Proxy":
        self.child = Child(
            "mitmdump",
            [
                places.tool("mitmdump"), "-q", "--mode", f"reverse:{self.upstream}",
                "--listen-host", "127.0.0.1", "--listen-port", self.port,
                "--set", "keep_host_header=true", "--set", f"confdir={self.directory}",
                "--set", "connection_strategy=lazy", "-s", SCRIPT,
            ],
            self.directory / "mitmdump.log",
            env={"PROXY_CONTROL": str(self.control), "PROXY_REQUESTS": str(self.requests)},
        )

        def up() -> bool:
            self.child.require_alive()
            return f":{self.port:04X} ".encode() in self._listeners()

        wait_until(up, 60, f"mitmdump at {self.endpoint}")
        return self

    def _listeners(self) -> bytes:
        # Looked up in the kernel's table: a probing connection would be forwarded and counted.
        lines = Path("/proc/net/tcp").read_bytes().splitlines()
        return b"\n".join(line for line in lines if b" 0A " in line)

    def fault(self, mode: str, method: str = "", key: str = "") -> None:
        """`503`, `stall` (until healed), or `lose_reply` (the store acts, nobody hears of it), for
        requests of this method (any, if empty) whose path contains `key`."""
        staged = self.control.with_suffix(".staged")
        staged.write_text(json.dumps({"mode": mode, "method": method, "key": key}))
        os.replace(staged, self.control)

    def heal(self) -> None:
        self.fault("pass")

    def log(self) -> list[list[str]]:
        """[method, path, status] of every attempt; status `lost` where the reply was swallowed."""
        return [line.split() for line in self.requests.read_text().splitlines()]

    def count(self, method: str | None = None) -> int:
        return sum(1 for line in self.log() if method in (None, line[0]))

    def statuses(self) -> Counter:
        return Counter((line[0], line[2]) for line in self.log())

    def stop(self) -> None:
        if self.child and self.child.alive():
            self.child.kill()
