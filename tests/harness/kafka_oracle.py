"""Apache Kafka itself, one broker, from the jars that `cargo xtask oracle` fetches with Maven.

The oracle: a client scenario that fails here is a wrong scenario. It has the same verbs as the server
under test, so that a scenario need not know which of the two it talks to.
"""

import base64
import os
import subprocess
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from . import places
from .ports import free_port
from .process import Child, wait_until
from .wire import answers


def libs() -> Path:
    path = Path(os.environ.get("STREAMHOUSE_TEST_KAFKA_LIBS", places.KAFKA_LIBS))
    if not list(path.glob("kafka_2.13-*.jar")):
        raise RuntimeError(f"no Kafka in {path}: run `cargo xtask oracle`, which fetches it")
    return path


@dataclass
class Kafka:
    directory: Path
    settings: dict = field(default_factory=dict)
    heap: str = "1g"
    child: Child | None = None

    is_kafka = True

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        controller = f"127.0.0.1:{free_port()}"
        self.properties = self.directory / "server.properties"
        settings = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{controller}",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": self.directory / "logs",
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            **self.settings,
        }
        self.properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        # As Kafka's own ids, none begins with a dash: it would be taken for an option.
        cluster = "A" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]
        subprocess.run(
            [*self._java(), "kafka.tools.StorageTool", "format", "-t", cluster, "-c", self.properties],
            check=True,
            capture_output=True,
        )

    def _java(self) -> list:
        return ["java", f"-Xmx{self.heap}", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{libs()}/*"]

    def start(self, seconds: float = 90) -> "Kafka":
        child = Child("kafka", [*self._java(), "kafka.Kafka", self.properties], self.directory / "server.log")
        self.child = child

        def up() -> bool:
            child.require_alive()
            return answers(self.address)

        wait_until(up, seconds, f"Apache Kafka at {self.address}", every=0.2)
        return self

    def kill(self) -> None:
        self.child.kill()

    def stop(self, seconds: float = 60) -> int:
        # A JVM ended by SIGTERM reports 143, whatever its shutdown hooks achieved.
        status = self.child.stop(seconds)
        return 0 if status == 143 else status

    def restart(self) -> "Kafka":
        self.stop()
        return self.start()
