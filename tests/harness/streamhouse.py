"""The server under test: started, killed, stopped and started again on the same data and ports.

Ports are chosen here and stay the same over restarts, as a client that keeps retrying expects. The
environment is emptied of STREAMHOUSE_*, AWS_* and OTEL_*, so that a run never depends on whose shell it is.
"""

import os
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from . import metrics, places
from .ports import free_port
from .process import Child, wait_until
from .wire import answers

# How long one rendering of /metrics serves the scrapes after it, and a little.
RENDERING_LASTS_SECONDS = 0.26


@dataclass
class StreamHouse:
    directory: Path
    flags: dict = field(default_factory=dict)
    env: dict = field(default_factory=dict)
    profile: str = "debug"
    child: Child | None = None
    scraped_at: float = 0.0

    is_kafka = False

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.http_port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.http = f"http://127.0.0.1:{self.http_port}"

    @property
    def data_dir(self) -> Path:
        return self.directory / "data"

    def command(self) -> list:
        flags = {
            "kafka-listen": self.address,
            "http-listen": f"127.0.0.1:{self.http_port}",
            "data-dir": self.data_dir,
            **self.flags,
        }
        command = [places.binary(self.profile), "serve"]
        for name, value in flags.items():
            command += [f"--{name}", value]
        return command

    def spawn(self) -> Child:
        """Starts the process without waiting for anything."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("STREAMHOUSE_", "AWS_", "OTEL_"))}
        env = {**clean, "RUST_BACKTRACE": "1", "HOME": str(self.directory), **self.env}
        # `env -i`, because Child only ever adds to the environment.
        pairs = [f"{name}={value}" for name, value in env.items()]
        self.child = Child("streamhouse", ["env", "-i", *pairs, *self.command()], self.directory / "server.log")
        return self.child

    def start(self, seconds: float = 60) -> "StreamHouse":
        child = self.spawn()

        def up() -> bool:
            child.require_alive()
            return answers(self.address)

        wait_until(up, seconds, f"the Kafka listener at {self.address}\n{child.tail()}")
        return self

    def kill(self) -> None:
        self.child.kill()

    def stop(self, seconds: float = 40) -> int:
        return self.child.stop(seconds)

    def restart(self) -> "StreamHouse":
        self.stop()
        return self.start()

    def get(self, path: str, seconds: float = 30) -> tuple[int, str]:
        """Status and body of an HTTP GET."""
        try:
            with urllib.request.urlopen(self.http + path, timeout=seconds) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()

    def whole_metrics(self) -> metrics.Samples:
        """A scrape with the gauges of the cluster, which are absent where a look at it took too long."""
        def whole() -> metrics.Samples | None:
            samples = self.metrics()
            return samples if samples.get("streamhouse_topics_total") is not None else None

        return wait_until(whole, 60, "a look at the whole cluster", every=0.25)

    def metrics(self) -> metrics.Samples:
        """A scrape that knows of everything before it, where nobody else scrapes as well."""
        time.sleep(max(0.0, self.scraped_at + RENDERING_LASTS_SECONDS - time.monotonic()))
        status, text = self.get("/metrics")
        self.scraped_at = time.monotonic()
        assert status == 200, f"/metrics answered {status}"
        return metrics.parse(text)
