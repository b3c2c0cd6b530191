"""The scenarios' protocol (tests/clients/README.md) for programs in Python.

Requests are answered one after the other; what goes on in the background (members of groups) reports by
events. Standard output belongs to the protocol; libraries may write what they like to standard error.
"""

import base64
import json
import sys
import threading
import time
import traceback

_out = sys.stdout
sys.stdout = sys.stderr
_lock = threading.Lock()


def say(line: dict) -> None:
    with _lock:
        _out.write(json.dumps(line) + "\n")
        _out.flush()


def event(name: str, **body: object) -> None:
    say({"event": name, "at": time.time(), **body})


def b64(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def unb64(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def row(partition: int, offset: int, timestamp: int, key, value, headers) -> dict:
    """A record as scenarios want it."""
    return {
        "partition": partition, "offset": offset, "timestamp": timestamp, "key": b64(key), "value": b64(value),
        "headers": [[name, b64(content)] for name, content in headers or []],
    }


class Holdings:
    """The partitions a member holds, told as events the moment they change hands."""

    def __init__(self, member: str):
        self.member = member
        self.held: set[int] = set()

    def gain(self, partitions) -> None:
        gained = set(partitions) - self.held
        self.held |= gained
        event("assigned", member=self.member, partitions=sorted(gained))

    def lose(self, partitions) -> None:
        lost = set(partitions) & self.held
        self.held -= lost
        event("revoked", member=self.member, partitions=sorted(lost))

    def records(self, rows: list) -> None:
        """[partition, offset, value] of each record that the application was given."""
        event("records", member=self.member, records=rows)


def stop_at(step: str, wanted: dict | None, transactions: int) -> None:
    """Where the harness wants the process to die: says so and waits for it."""
    if wanted and wanted["step"] == step and transactions >= wanted["after"]:
        event("at", step=step)
        threading.Event().wait()


def serve(commands: dict, code_of) -> None:
    """`code_of(error)` is Kafka's error code of what a library raised, if it has one."""
    for line in sys.stdin:
        request = json.loads(line)
        number, name = request.pop("id"), request.pop("do")
        try:
            say({"id": number, "ok": commands[name](**request)})
        except Exception as error:
            traceback.print_exc()
            say({"id": number, "error": f"{type(error).__name__}: {error}", "code": code_of(error)})
