"""The Kafka protocol by hand, as far as tests must say what no client would: raw Fetch answers (which
codec did the broker store?), batches with lies in them, and frames that are no requests at all.

Only non-flexible versions are spoken, which Apache Kafka 4 and StreamHouse both serve: Produce 3 to 7,
Fetch 4, ListOffsets 1, Metadata 1, InitProducerId 0, ApiVersions 0. Record batches are built and walked here,
independently of the server's code.
"""

import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

PRODUCE, FETCH, LIST_OFFSETS, METADATA = 0, 1, 2, 3
API_VERSIONS, INIT_PRODUCER_ID = 18, 22
COORDINATOR_LOADING = 14
CODECS = {0: "none", 1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}

_CRC_TABLE = []
for _byte in range(256):
    for _ in range(8):
        _byte = (_byte >> 1) ^ (0x82F63B78 if _byte & 1 else 0)
    _CRC_TABLE.append(_byte)


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def string(text: str | None) -> bytes:
    if text is None:
        return struct.pack(">h", -1)
    return struct.pack(">h", len(text)) + text.encode()


def varint(value: int) -> bytes:
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


class Reader:
    def __init__(self, data: bytes):
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        assert self.at + count <= len(self.data), "the answer is shorter than it says"
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, code: str) -> int:
        return struct.unpack(">" + code, self.take(struct.calcsize(code)))[0]

    def string(self) -> str | None:
        length = self.number("h")
        return None if length < 0 else self.take(length).decode()


@dataclass
class Batch:
    """The header of one stored record batch (v2)."""

    base_offset: int
    leader_epoch: int
    magic: int
    codec: str
    log_append_time: bool
    last_offset: int
    max_timestamp: int
    producer_id: int
    records: int
    size_bytes: int
    crc_right: bool


def batches(data: bytes) -> list[Batch]:
    """Walks whole batches; an incomplete one at the end, which a broker may send, is left out."""
    found = []
    while len(data) >= 61:
        base_offset, length = struct.unpack_from(">qi", data)
        if len(data) < 12 + length:
            break
        epoch, magic, crc = struct.unpack_from(">ibI", data, 12)
        attributes, last_delta = struct.unpack_from(">hi", data, 21)
        max_timestamp, producer_id = struct.unpack_from(">qq", data, 35)
        count = struct.unpack_from(">i", data, 57)[0]
        found.append(
            Batch(
                base_offset, epoch, magic, CODECS[attributes & 7], bool(attributes & 8), base_offset + last_delta,
                max_timestamp, producer_id, count, 12 + length,
                # In pure Python a large checksum costs seconds: only small batches are checked.
                length > 65_536 or crc == crc32c(data[21 : 12 + length]),
            )
        )
        data = data[12 + length :]
    return found


def batch(
    values: list[bytes], producer_id: int = -1, epoch: int = -1, sequence: int = -1, attributes: int = 0,
    timestamp: int | None = None, magic: int = 2, count: int | None = None, last_delta: int | None = None,
    crc: int | None = None, leader_epoch: int = -1, headers: bytes = b"\0", step_ms: int = 0,
    compress: Callable[[bytes], bytes] = bytes,
) -> bytes:
    """One batch; every field of the header can be made a lie. `headers` are each record's, encoded; `compress` has
    to be what `attributes` say."""
    timestamp = int(time.time() * 1000) if timestamp is None else timestamp
    body = b""
    for delta, value in enumerate(values):
        record = b"\0" + varint(step_ms * delta) + varint(delta) + varint(-1) + varint(len(value)) + value + headers
        body += varint(len(record)) + record
    count = len(values) if count is None else count
    last_delta = len(values) - 1 if last_delta is None else last_delta
    covered = struct.pack(
        ">hiqqqhii", attributes, last_delta, timestamp, timestamp + step_ms * (len(values) - 1), producer_id, epoch,
        sequence, count,
    ) + compress(body)
    crc = crc32c(covered) if crc is None else crc
    rest = struct.pack(">ibI", leader_epoch, magic, crc) + covered
    return struct.pack(">qi", 0, len(rest)) + rest


def request(api: int, version: int, body: bytes, correlation: int = 1, client: str | None = "wire") -> bytes:
    """A framed request with the non-flexible header (v1)."""
    message = struct.pack(">hhi", api, version, correlation) + string(client) + body
    return struct.pack(">i", len(message)) + message


class Connection:
    def __init__(self, address: str, seconds: float = 30):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.correlation = 0

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def receive(self, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            part = self.socket.recv(min(count - len(parts), 1 << 20))
            if not part:
                raise ConnectionError("closed by the broker")
            parts += part
        return bytes(parts)

    def send(self, api: int, version: int, body: bytes) -> int:
        self.correlation += 1
        self.socket.sendall(request(api, version, body, self.correlation))
        return self.correlation

    def answer(self, correlation: int) -> Reader:
        reader = Reader(self.receive(struct.unpack(">i", self.receive(4))[0]))
        assert reader.number("i") == correlation, "answers out of order"
        return reader

    def call(self, api: int, version: int, body: bytes) -> Reader:
        return self.answer(self.send(api, version, body))

    def api_versions(self) -> dict[int, tuple[int, int]]:
        answer = self.call(API_VERSIONS, 0, b"")
        assert answer.number("h") == 0
        return {answer.number("h"): (answer.number("h"), answer.number("h")) for _ in range(answer.number("i"))}

    def produce(self, records: dict[tuple[str, int], bytes], acks: int = -1, timeout_ms: int = 20_000,
                version: int = 3):
        """One Produce v3–v7. (topic, partition) → (error code, base offset, log append time); none for acks 0."""
        correlation = self.send(PRODUCE, version, produce_body(records, acks, timeout_ms))
        return self.produced(correlation, version) if acks else None

    def produced(self, correlation: int, version: int = 3) -> dict[tuple[str, int], tuple[int, int, int]]:
        answer = self.answer(correlation)
        result = {}
        for _ in range(answer.number("i")):
            topic = answer.string()
            for _ in range(answer.number("i")):
                partition = answer.number("i")
                result[topic, partition] = (answer.number("h"), answer.number("q"), answer.number("q"))
                if version >= 5:
                    answer.number("q")
        return result

    def fetch(self, topic: str, partition: int, offset: int, max_wait_ms: int = 500, max_bytes: int = 50 << 20,
              min_bytes: int = 1) -> tuple[int, int, bytes]:
        """One Fetch v4 of one partition: error code, high watermark, stored bytes."""
        body = struct.pack(">iiiib", -1, max_wait_ms, min_bytes, max_bytes, 0)
        body += struct.pack(">i", 1) + string(topic) + struct.pack(">iiqi", 1, partition, offset, max_bytes)
        answer = self.call(FETCH, 4, body)
        answer.number("i")
        assert answer.number("i") == 1
        answer.string()
        assert answer.number("i") == 1
        answer.number("i")
        error, watermark, _stable = answer.number("h"), answer.number("q"), answer.number("q")
        for _ in range(max(0, answer.number("i"))):
            answer.take(16)
        return error, watermark, answer.take(max(0, answer.number("i")))

    def list_offset(self, topic: str, partition: int, timestamp: int) -> tuple[int, int, int]:
        """ListOffsets v1: error code, timestamp, offset. -1 is latest, -2 earliest."""
        body = struct.pack(">ii", -1, 1) + string(topic) + struct.pack(">iiq", 1, partition, timestamp)
        answer = self.call(LIST_OFFSETS, 1, body)
        assert answer.number("i") == 1
        answer.string()
        assert answer.number("i") == 1
        answer.number("i")
        return answer.number("h"), answer.number("q"), answer.number("q")

    def init_producer_id(self) -> tuple[int, int]:
        deadline = time.monotonic() + 30
        while True:
            answer = self.call(INIT_PRODUCER_ID, 0, string(None) + struct.pack(">i", 60_000))
            answer.number("i")
            error = answer.number("h")
            # A broker of Kafka that has just started has no ids to give yet.
            if error != COORDINATOR_LOADING or time.monotonic() > deadline:
                assert error == 0, error
                return answer.number("q"), answer.number("h")
            time.sleep(0.1)

    def stored(self, topic: str, partition: int = 0, offset: int = 0) -> list[Batch]:
        """The headers of every batch from `offset` to the high watermark."""
        found: list[Batch] = []
        while True:
            error, watermark, data = self.fetch(topic, partition, offset)
            assert error == 0, f"fetch of {topic}-{partition} at {offset}: error {error}"
            part = [each for each in batches(data) if each.last_offset >= offset]
            found += part
            if part:
                offset = part[-1].last_offset + 1
            if offset >= watermark:
                return found


def produce_body(records: dict[tuple[str, int], bytes], acks: int = -1, timeout_ms: int = 20_000) -> bytes:
    topics: dict[str, list] = {}
    for (topic, partition), data in records.items():
        topics.setdefault(topic, []).append((partition, data))
    body = string(None) + struct.pack(">hii", acks, timeout_ms, len(topics))
    for topic, partitions in topics.items():
        body += string(topic) + struct.pack(">i", len(partitions))
        for partition, data in partitions:
            body += struct.pack(">ii", partition, len(data)) + data
    return body


def answers(address: str) -> bool:
    """Is a Kafka broker there that answers ApiVersions?"""
    try:
        with Connection(address, seconds=2) as connection:
            return bool(connection.api_versions())
    except (OSError, AssertionError):
        return False
