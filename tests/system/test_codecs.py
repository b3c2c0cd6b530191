"""Compressed frames as other encoders than the clients' own may write them: the server stores them as they came,
finds records by time inside of them, and clients read them back.

The frames come from reference libraries; batches are built by hand, because each client writes one kind only.
"""

import gzip
import struct
from collections.abc import Callable

import cramjam
import lz4.frame
import pytest
import snappy

from harness.clients import create_topic, read_all, unique
from harness.wire import CODECS, Connection, batch

GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
UNSUPPORTED_COMPRESSION = 76
FIRST_MS, STEP_MS = 1_700_000_000_000, 10
# More than one block of any codec, and alike, so that blocks would refer to earlier ones where they may.
VALUES = [b"a value that says little, number %06d" % number for number in range(8_000)]


def thirds(data: bytes) -> list[bytes]:
    size = len(data) // 3 + 1
    return [data[at : at + size] for at in range(0, len(data), size)]


def xerial(data: bytes) -> bytes:
    """The framing of the Java library: magic, versions, blocks with their lengths."""
    blocks = [bytes(snappy.compress(data[at : at + 32_768])) for at in range(0, len(data), 32_768)]
    return b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1) + b"".join(struct.pack(">i", len(each)) + each for each in blocks)


def lz4_frame(**how: object) -> Callable[[bytes], bytes]:
    return lambda data: lz4.frame.compress(data, block_size=lz4.frame.BLOCKSIZE_MAX64KB, **how)


def zstd(data: bytes) -> bytes:
    stream = cramjam.zstd.Compressor()
    stream.compress(data)
    frame = bytes(stream.finish())
    assert frame[4] >> 5 == 0, "the frame's header says how long its content is"
    return frame


# Read by Java's and Python's libraries; librdkafka does not go beyond the first member.
GZIP_MEMBERS = "gzip-of-three-members"

FRAMES = {
    GZIP_MEMBERS: (GZIP, lambda data: b"".join(map(gzip.compress, thirds(data)))),
    "snappy-bare": (SNAPPY, lambda data: bytes(snappy.compress(data))),
    "snappy-xerial": (SNAPPY, xerial),
    "lz4-independent-blocks": (LZ4, lz4_frame(block_linked=False)),
    "lz4-with-checksums": (LZ4, lz4_frame(block_linked=False, content_checksum=True, block_checksum=True)),
    "zstd-without-content-size": (ZSTD, zstd),
    "zstd-of-three-frames": (ZSTD, lambda data: b"".join(map(zstd, thirds(data)))),
}


def send(broker, topic: str, codec: int, frame: Callable[[bytes], bytes], version: int = 7) -> tuple[int, int]:
    """Code and base offset of one batch with all values."""
    built = batch(VALUES, attributes=codec, timestamp=FIRST_MS, step_ms=STEP_MS, compress=frame)
    with Connection(broker.address) as wire:
        return wire.produce({(topic, 0): built}, version=version)[topic, 0][:2]


def found_by_time(broker, topic: str) -> None:
    with Connection(broker.address) as wire:
        for number in (0, 1, 4_321, len(VALUES) - 1):
            at = FIRST_MS + number * STEP_MS
            assert wire.list_offset(topic, 0, at) == (0, at, number)
            assert wire.list_offset(topic, 0, at - STEP_MS + 1) == (0, at, number)
        assert wire.list_offset(topic, 0, FIRST_MS + len(VALUES) * STEP_MS) == (0, -1, -1)


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_is_stored_as_it_came_searched_by_time_and_read(broker, name):
    topic = create_topic(broker.address, unique(name))
    codec, frame = FRAMES[name]
    assert send(broker, topic, codec, frame) == (0, 0)
    with Connection(broker.address) as wire:
        assert [(each.codec, each.crc_right) for each in wire.stored(topic)] == [(CODECS[codec], True)]
    found_by_time(broker, topic)
    if name != GZIP_MEMBERS:
        [messages] = read_all(broker.address, topic)
        assert [each.value() for each in messages] == VALUES


def test_zstd_needs_a_version_of_produce_that_knows_it(broker):
    topic = create_topic(broker.address, unique("zstd-too-early"))
    assert send(broker, topic, ZSTD, zstd, version=6) == (UNSUPPORTED_COMPRESSION, -1)
    assert send(broker, topic, ZSTD, zstd, version=7) == (0, 0)


@pytest.mark.ours  # Apache Kafka decompresses what is produced, and cannot read this.
def test_lz4_blocks_that_depend_on_earlier_ones_are_stored_and_searched(broker):
    topic = create_topic(broker.address, unique("lz4-linked"))
    assert send(broker, topic, LZ4, lz4_frame(block_linked=True)) == (0, 0)
    found_by_time(broker, topic)
    [messages] = read_all(broker.address, topic)
    assert [each.value() for each in messages] == VALUES
