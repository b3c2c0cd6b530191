"""A real file of at least 100,000 lines goes in and comes back byte for byte, in order.

With every codec, from both clients, on both stores; after a graceful restart and after kill -9; and
killed in the middle of the file. The stored batches must carry the codec that the producer chose.
"""

import subprocess
import threading
from pathlib import Path

import pytest

from harness.clients import create_topic, kcat_read, kcat_send, read_all, send_all, unique, watermarks
from harness.process import wait_until
from harness.wire import Connection

pytestmark = pytest.mark.promise

STORES = ["local", "s3"]
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def read_lines(address: str, topic: str) -> bytes:
    """The topic as confluent-kafka reads it, joined as kcat prints it; offsets must be dense."""
    [messages] = read_all(address, topic)
    assert [each.offset() for each in messages] == list(range(len(messages)))
    return b"".join(each.value() + b"\n" for each in messages)


def assert_holds(address: str, topic: str, text: bytes) -> None:
    """Both clients read exactly the text. (No assert on the bytes themselves: pytest would diff them.)"""
    for client, read in (("kcat", kcat_read(address, topic)), ("confluent-kafka", read_lines(address, topic))):
        if read != text:
            at = next((i for i, (a, b) in enumerate(zip(read, text, strict=False)) if a != b), min(len(read), len(text)))
            pytest.fail(f"{client}: {len(read)} of {len(text)} bytes, first difference at byte {at}")


def stored_codecs(address: str, topic: str) -> set[str]:
    with Connection(address) as connection:
        stored = connection.stored(topic)
    assert all(each.crc_right and each.magic == 2 for each in stored)
    return {each.codec for each in stored}


@pytest.mark.restarts
@pytest.mark.parametrize("store", STORES)
def test_a_real_file_comes_back_byte_identical_with_every_codec_and_after_restarts(new_broker, store, text: Path):
    broker = new_broker(store)
    lines = text.read_bytes()
    assert lines.count(b"\n") >= 100_000
    topics = []
    for codec in CODECS:
        by_kcat = create_topic(broker.address, unique(f"kcat-{codec}"))
        kcat_send(broker.address, by_kcat, text, codec)
        by_confluent = create_topic(broker.address, unique(f"confluent-{codec}"))
        send_all(broker.address, by_confluent, lines.split(b"\n")[:-1], compression_type=codec)
        for topic in (by_kcat, by_confluent):
            topics.append(topic)
            assert_holds(broker.address, topic, lines)
            # A client may leave a batch plain that would grow by compression; none other may be.
            assert codec in stored_codecs(broker.address, topic) <= {codec, "none"}

    assert broker.stop() == 0, f"SIGTERM must end in status 0:\n{broker.child.tail()}"
    broker.start()
    for topic in topics:
        assert_holds(broker.address, topic, lines)

    broker.kill()
    broker.start()
    for topic in topics:
        assert_holds(broker.address, topic, lines)


@pytest.mark.restarts
@pytest.mark.parametrize("store", STORES)
def test_kcat_sends_a_file_through_a_kill_in_the_middle(new_broker, store, text: Path):
    broker = new_broker(store)
    topic = create_topic(broker.address, unique("killed"))
    lines = text.read_bytes()
    middle = lines.index(b"\n", len(lines) // 2) + 1
    settings = ["enable.idempotence=true", "message.timeout.ms=120000", "reconnect.backoff.max.ms=500"]
    # -E: a broker that is away is nothing to give up for.
    command = ["kcat", "-P", "-E", "-b", broker.address, "-t", topic, "-p", "0", "-z", "lz4"]
    command += [part for setting in settings for part in ("-X", setting)]
    sender = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        # The first half is on its way when the broker dies; the second comes while it is dead.
        feed = threading.Thread(target=lambda: (sender.stdin.write(lines[:middle]), sender.stdin.flush()))
        feed.start()
        wait_until(lambda: watermarks(broker.address, topic)[1] > 1_000, 60, "the first records", every=0.01)
        broker.kill()
        feed.join()
        broker.start()
        sender.stdin.write(lines[middle:])
        sender.stdin.close()
        status = sender.wait(120)
    finally:
        sender.kill()
    assert status == 0, sender.stderr.read().decode(errors="replace")[-2000:]
    assert_holds(broker.address, topic, lines)


@pytest.mark.restarts
@pytest.mark.parametrize("store", STORES)
def test_sigterm_in_the_middle_of_producing_drains_and_loses_nothing(new_broker, store):
    """Nothing accepted is dropped: what was answered before the end is there afterwards, once."""
    broker = new_broker(store)
    topic = create_topic(broker.address, unique("drained"))
    values = [b"%d" % number for number in range(50_000)]
    sender = threading.Thread(target=send_all, args=(broker.address, topic, values), kwargs={"linger_ms": 1})
    sender.start()
    wait_until(lambda: watermarks(broker.address, topic)[1] > 0, 60, "the first records", every=0.01)
    assert broker.stop() == 0
    broker.start()
    sender.join()
    [messages] = read_all(broker.address, topic)
    assert [each.value() for each in messages] == values
