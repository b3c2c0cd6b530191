"""Flexible versions of the Kafka protocol (KIP-482) by hand, and a member of the newer group protocol (KIP-848)
that speaks them, one request at a time. What is not flexible is in `wire`.
"""

import struct
from dataclasses import dataclass, field

from harness.wire import Connection, Reader

TAGS = b"\0"
CONSUMER_GROUP_HEARTBEAT = 68


def unsigned(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def compact(text: str | None) -> bytes:
    if text is None:
        return b"\0"
    return unsigned(len(text.encode()) + 1) + text.encode()


def array(items: list[bytes] | None) -> bytes:
    return b"\0" if items is None else unsigned(len(items) + 1) + b"".join(items)


def call(wire: Connection, api: int, version: int, body: bytes) -> Reader:
    """One request with flexible headers; the answer from behind its header on."""
    answer = wire.call(api, version, TAGS + body + TAGS)
    assert answer.take(1) == TAGS
    return answer


def take_unsigned(answer: Reader) -> int:
    value, shift = 0, 0
    while True:
        byte = answer.number("B")
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value


def take_compact(answer: Reader) -> str | None:
    length = take_unsigned(answer)
    return None if length == 0 else answer.take(length - 1).decode()


@dataclass
class EpochMember:
    """A member of a consumer group; each heartbeat returns the code it got."""

    wire: Connection
    group: str
    topics: tuple[str, ...]
    id: str = ""
    instance: str | None = None
    epoch: int = 0
    # Topic id → partitions, of the last answer that named any.
    assigned: dict[bytes, set[int]] = field(default_factory=dict)

    def beat(self, version: int = 0, epoch: int | None = None, member: str | None = None,
             assignor: str | None = None, owned: dict[bytes, set[int]] | None = None) -> int:
        epoch = self.epoch if epoch is None else epoch
        joins = epoch == 0
        owned = {} if joins else owned
        partitions = None if owned is None else [
            topic + array([struct.pack(">i", each) for each in sorted(held)]) + TAGS for topic, held in owned.items()
        ]
        answer = call(self.wire, CONSUMER_GROUP_HEARTBEAT, version, (
            compact(self.group) + compact(self.id if member is None else member) + struct.pack(">i", epoch)
            + compact(self.instance) + compact(None) + struct.pack(">i", 30_000 if joins else -1)
            + array([compact(topic) for topic in self.topics] if joins else None)
            + (compact(None) if version >= 1 else b"") + compact(assignor) + array(partitions)
        ))
        answer.number("i")
        error = answer.number("h")
        take_compact(answer)
        member_id, member_epoch, _interval = take_compact(answer), answer.number("i"), answer.number("i")
        if error == 0 and epoch >= 0:
            self.id, self.epoch = member_id, member_epoch
            if answer.number("b") >= 0:
                self.assigned = {}
                for _ in range(take_unsigned(answer) - 1):
                    topic = answer.take(16)
                    self.assigned[topic] = {answer.number("i") for _ in range(take_unsigned(answer) - 1)}
                    answer.take(1)
        return error

    def enter(self) -> "EpochMember":
        assert self.beat() == 0
        return self
