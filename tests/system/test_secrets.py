"""Keys, tokens, signatures and passwords never show: not in the log at its most talkative, not in health, not in what
clients are told.

The server talks to a real S3 server that checks signatures, with keys that are found nowhere else; then that server
stops accepting them.
"""

import re
import secrets
import struct
import urllib.request
from pathlib import Path

import pytest
from confluent_kafka import KafkaError

from harness.clients import create_topic, producer, read_all, send_all, unique
from harness.process import wait_until
from harness.seaweedfs import SeaweedFS
from harness.streamhouse import StreamHouse
from harness.wire import Connection, request, string

pytestmark = pytest.mark.ours

# What a request to S3 is signed with, whoever logs it.
SIGNS = re.compile(r"AWS4-HMAC|Signature=|X-Amz-Signature|x-amz-security-token|Authorization", re.IGNORECASE)
SASL_HANDSHAKE, SASL_AUTHENTICATE = 17, 36


class Secrets:
    def __init__(self) -> None:
        self.access_key = "AKIA" + secrets.token_hex(8).upper()
        self.secret_key = secrets.token_hex(20)
        self.token = secrets.token_urlsafe(60)
        self.password = secrets.token_hex(12)
        self.header = secrets.token_hex(12)

    def require_absent(self, text: str, where: str) -> None:
        for name, value in vars(self).items():
            at = text.find(value)
            assert at < 0, f"{name} in {where}: …{text[max(0, at - 200):at + 100]}…"
        signed = SIGNS.search(text)
        assert not signed, f"{where}: …{text[max(0, signed.start() - 200):signed.end() + 100]}…"


def settings(how: str, own: Secrets, directory: Path) -> dict:
    """Environment that gives the server its keys this way."""
    region = {"AWS_REGION": "us-east-1", "STREAMHOUSE_S3_ALLOW_HTTP": "true"}
    if how == "environment":
        return {**region, "AWS_ACCESS_KEY_ID": own.access_key, "AWS_SECRET_ACCESS_KEY": own.secret_key}
    # HOME of a server is its directory.
    aws = directory / ".aws"
    aws.mkdir(parents=True)
    token = f"aws_session_token = {own.token}\n" if how == "token" else ""
    keys = f"aws_access_key_id = {own.access_key}\naws_secret_access_key = {own.secret_key}\n{token}"
    (aws / "credentials").write_text(f"[default]\n{keys}")
    return region


def try_to_authenticate(address: str, password: str) -> None:
    """As a client that is configured for SASL, which is not served."""
    plain = f"\0me\0{password}".encode()
    for api, body in ((SASL_HANDSHAKE, string("PLAIN")), (SASL_AUTHENTICATE, struct.pack(">i", len(plain)) + plain)):
        with Connection(address) as connection:
            connection.socket.sendall(request(api, 1, body))
            with pytest.raises(ConnectionError):
                connection.receive(1)


@pytest.fixture
def own_store(tmp_path: Path):
    own = Secrets()
    store = SeaweedFS(tmp_path / "weed", access_key=own.access_key, secret_key=own.secret_key)
    yield own, store.start()
    store.stop()


@pytest.mark.parametrize(("how", "form"), [("environment", "json"), ("profile", "human")])
def test_no_secret_shows_while_all_is_well_nor_when_the_store_refuses_the_keys(how, form, own_store, tmp_path, request):
    own, store = own_store
    broker = StreamHouse(
        tmp_path / "broker",
        flags={**store.flags("o"), "log-level": "trace", "log-format": form, "inline-bytes": 0, "verify-rate": "1MiB"},
        env={**settings(how, own, tmp_path / "broker"), "OTEL_EXPORTER_OTLP_HEADERS": f"api-key={own.header}"},
    )
    request.node.children = lambda: [broker.child]
    said = []
    try:
        broker.start()
        topic = create_topic(broker.address, unique("well"))
        send_all(broker.address, topic, [b"x"] * 10)
        broker.restart()
        assert len(read_all(broker.address, topic)[0]) == 10, "read back from the store"
        try_to_authenticate(broker.address, own.password)

        store.stop()
        store.accept(own.access_key, secrets.token_hex(20))
        store.start()
        client = producer(broker.address, message_timeout_ms=10_000)
        refused: list[KafkaError] = []
        client.produce(topic, b"y", on_delivery=lambda error, _: refused.append(error))
        client.flush(60)
        assert refused[0] is not None, "nothing can be stored"
        said.append(str(refused))
        with urllib.request.urlopen(urllib.request.Request(
            f"{broker.http}/log/level", data=b"trace,hyper=trace,hyper_util=trace,reqwest=trace,object_store=trace", method="PUT",
        ), timeout=10) as reply:
            said.append(reply.read().decode())

        def told() -> bool:
            status, text = broker.get("/health/ready")
            said.append(text)
            return status == 503 and "403" in text

        wait_until(told, 60, "the store's refusal shows in health")
        said += [broker.get(path)[1] for path in ("/health", "/metrics", "/log/level", "/")]
        broker.stop(60)
    finally:
        if broker.child and broker.child.alive():
            broker.kill()
    log = broker.child.log.read_text(errors="replace")
    assert "the store answered 403" in log and ("TRACE" in log or '"TRACE"' in log)
    own.require_absent(log, "the log")
    own.require_absent("\n".join(said), "answers")


def test_a_token_that_the_store_does_not_know_is_refused_without_being_shown(own_store, tmp_path, request):
    own, store = own_store
    broker = StreamHouse(
        tmp_path / "broker",
        flags={**store.flags("o"), "log-level": "trace"},
        env=settings("token", own, tmp_path / "broker"),
    )
    child = broker.spawn()
    request.node.children = lambda: [child]

    wait_until(lambda: not child.alive(), 60, "the server ends")
    assert "the store does not know this access key" in child.output()
    own.require_absent(child.output(), "the log")


@pytest.mark.parametrize("flags", [
    {"object-store": "s3://AKIAX:{password}@bucket/p"},
    {"object-store": "https://AKIAX:{password}@host/bucket"},
    {"object-store": "s3://bucket/p", "s3-endpoint": "http://me:{password}@127.0.0.1:1"},
    {"object-store": "s3://bucket/p", "s3-endpoint": "https://me:{password}@127.0.0.1:1"},
    {"metadata": "postgres://me:{password}@host/db"},
])
def test_keys_written_into_an_address_are_refused_without_being_shown(flags, tmp_path):
    own = Secrets()
    flags = {name: value.format(password=own.password) for name, value in flags.items()}
    broker = StreamHouse(tmp_path / "broker", flags=flags)
    child = broker.spawn()
    assert child.process.wait(60) == 2, child.tail()
    assert "streamhouse: " in child.output()
    own.require_absent(child.output(), "the refusal")
