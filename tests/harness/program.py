"""A client program of tests/clients: started, asked, listened to, killed.

Each program wraps one client library and speaks the protocol of tests/clients/README.md: a request a line on
its standard input, answers and events a line on its standard output. Scenarios and expectations are here in
Python, once; a program only translates. What it can do is written down in `CLIENTS`, so that a feature which
vanishes from a program fails its scenario instead of skipping it.
"""

import base64
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from . import places
from .process import _die_with_parent, wait_until

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


@dataclass(frozen=True)
class Client:
    """What a client library is able to do, as its scenarios need to know."""

    name: str
    command: list
    # Where xtask leaves the reason if it could not install this client's toolchain.
    toolchain: Path | None = None
    null_headers: bool = True
    timestamps: bool = True
    static: bool = True
    admin: bool = True
    deletes_groups: bool = True
    transactions: bool = True
    # Rebalance protocols beside the eager range assignor.
    protocols: tuple = ("range",)
    # Whether the moments of its events are those of the client's own callbacks.
    exact_times: bool = True

    def require_installed(self) -> None:
        if self.toolchain is None:
            return
        missing = self.toolchain / "missing"
        if missing.exists():
            pytest.skip(f"{self.name} is NOT tested: {missing.read_text().strip()}")
        if not (self.toolchain / "made-from").exists():
            raise RuntimeError(f"{self.name} is not installed: run `cargo xtask tools`")


def _python(name: str) -> list:
    return [sys.executable, places.TESTS / "clients" / "python" / f"{name}.py"]


JAVA = places.TOOLS / "java"
# A short life is all these have: a small heap, one compiler, one collector's thread.
JAVA_COMMAND = [
    "java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{JAVA}/classes:{places.KAFKA_LIBS}/*",
]

CLIENTS = {
    each.name: each
    for each in [
        Client("confluent-kafka", _python("confluent"), protocols=("range", "cooperative", "consumer")),
        Client("kcat", _python("kcat"), timestamps=False, admin=False, transactions=False,
               protocols=("range", "cooperative"), exact_times=False),
        Client("aiokafka", _python("aio"), deletes_groups=False),
        Client("kafka-python", _python("pure"), null_headers=False, protocols=("range", "cooperative")),
        Client("kafkajs", ["node", places.TESTS / "clients" / "node" / "client.js"], places.TOOLS / "node",
               null_headers=False, static=False),
        Client("java", [*JAVA_COMMAND, "Client"], JAVA, protocols=("range", "cooperative", "consumer")),
        Client("franz-go", [places.TOOLS / "go" / "client"], places.TOOLS / "go",
               protocols=("range", "cooperative")),
    ]
}

# Kafka's command line tools, all of them in one process (tests/clients/java/Tools.java).
TOOLS = Client("Kafka's tools", [*JAVA_COMMAND, "Tools"], JAVA)


def b64(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def unb64(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


@dataclass(frozen=True)
class Record:
    value: bytes | None
    key: bytes | None = None
    headers: tuple = ()
    timestamp: int | None = None
    partition: int = 0

    def to_json(self) -> dict:
        return {
            "partition": self.partition, "key": b64(self.key), "value": b64(self.value), "timestamp": self.timestamp,
            "headers": [[name, b64(value)] for name, value in self.headers],
        }

    @classmethod
    def from_json(cls, found: dict) -> "Record":
        headers = tuple((name, unb64(value)) for name, value in found["headers"])
        return cls(unb64(found["value"]), unb64(found["key"]), headers, found["timestamp"], found["partition"])


class Refused(Exception):
    """What the program says its library answered; `code` is Kafka's error code where the library tells it."""

    def __init__(self, program: str, answer: dict):
        super().__init__(f"{program}: {answer['error']}")
        self.code = answer.get("code")


@dataclass
class Event:
    name: str
    at: float
    body: dict


class Program:
    def __init__(self, client: Client, address: str, log: Path):
        client.require_installed()
        self.client = client
        self.name = f"{client.name} program"
        self.address = address
        self.log = log
        self.events: list[Event] = []
        self._answers: dict[int, dict] = {}
        self._ids = itertools.count(1)
        self._changed = threading.Condition()
        env = {**os.environ, "NODE_PATH": str(places.TOOLS / "node" / "node_modules"), "PYTHONDONTWRITEBYTECODE": "1"}
        with open(log, "ab") as errors:
            self.process = subprocess.Popen(
                [str(part) for part in client.command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                env=env, preexec_fn=_die_with_parent,
            )
        self.pid = self.process.pid
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self.process.stdout:
            try:
                said = json.loads(line)
            except ValueError:
                continue  # the last words of a killed one
            with self._changed:
                if "event" in said:
                    self.events.append(Event(said.pop("event"), said.pop("at"), said))
                else:
                    self._answers[said["id"]] = said
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def start(self, do: str, **arguments: object) -> int:
        """Asks without waiting; `answer` takes the answer."""
        number = next(self._ids)
        line = json.dumps({"id": number, "do": do, "bootstrap": self.address, **arguments})
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        return number

    def answer(self, number: int, seconds: float = 90):
        deadline = time.monotonic() + seconds
        with self._changed:
            while number not in self._answers:
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(min(left, 1)) and self.process.poll() is not None:
                    raise AssertionError(f"{self.name}: no answer (waited up to {seconds} s)\n{self.tail()}")
            answer = self._answers.pop(number)
        if "error" in answer:
            raise Refused(f"{self.name}\n{self.tail(15)}\n", answer)
        return answer["ok"]

    def ask(self, do: str, seconds: float = 90, **arguments: object):
        return self.answer(self.start(do, **arguments), seconds)

    def wait_event(self, name: str, seconds: float = 90) -> Event:
        def found():
            if self.process.poll() is not None:
                raise AssertionError(f"{self.name} ended with {self.process.returncode}\n{self.tail()}")
            return next((each for each in list(self.events) if each.name == name), None)

        return wait_until(found, seconds, f"{name} from {self.name}", every=0.02)

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    # What scenarios say often.

    def produce(self, topic: str, records: list[Record], seconds: float = 90, **options: object) -> list[int]:
        """The offsets that were reported, in the order of the records."""
        rows = [each.to_json() for each in records]
        return self.ask("produce", topic=topic, records=rows, seconds=seconds, **options)

    def read(self, topic: str, count: int, start: dict[int, int] | None = None, **options: object) -> list[Record]:
        """The next `count` records from the given offsets (partition 0 from its beginning, if none are)."""
        places_ = {str(partition): offset for partition, offset in (start or {0: 0}).items()}
        found = self.ask("read", topic=topic, start=places_, count=count, **options)
        return [Record.from_json(each) for each in found]


@dataclass
class Programs:
    """The programs that one test started; all of them end with it."""

    directory: Path
    running: list[Program] = field(default_factory=list)

    def start(self, client: Client, address: str) -> Program:
        self.running.append(Program(client, address, self.directory / f"program-{len(self.running)}.log"))
        return self.running[-1]

    def stop(self) -> None:
        for program in self.running:
            program.kill()
