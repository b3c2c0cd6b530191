"""The process as an operator meets it: what it prints, what it refuses by name, and how it ends."""

import re
import subprocess
import time

import pytest

from harness import certificates, places
from harness.clients import create_topic, read_all, send_all, unique
from harness.process import Child, wait_until
from harness.seaweedfs import CREDENTIALS, SeaweedFS
from harness.wire import answers

pytestmark = pytest.mark.ours


def refused(*arguments: object, env: dict | None = None) -> str:
    """Runs the binary to its end: it must refuse. What it said."""
    clean = {"PATH": "/usr/bin:/bin", **(env or {})}
    command = [str(places.binary()), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, timeout=60, env=clean, text=True)
    said = done.stdout + done.stderr
    assert done.returncode not in (0, 101, -6), f"status {done.returncode}: {said}"
    assert "panicked" not in said
    return said


def ports(tmp_path) -> list:
    return ["--kafka-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--data-dir", tmp_path / "data"]


def test_port_0_picks_free_ports_and_prints_them(tmp_path):
    child = Child("streamhouse", [places.binary(), *ports(tmp_path)], tmp_path / "log")
    try:
        def printed() -> list[str]:
            child.require_alive()
            found = re.findall(r"127\.0\.0\.1:(\d+)", child.output())
            return [port for port in dict.fromkeys(found) if port != "0"]

        wait_until(lambda: len(printed()) >= 2, 60, "two addresses on the banner")
        wait_until(lambda: any(answers(f"127.0.0.1:{port}") for port in printed()), 60, "a broker on one of them")
        assert child.stop() == 0
    finally:
        child.kill()


def test_a_second_process_on_the_same_data_is_refused_until_the_first_dies(new_broker, tmp_path):
    first = new_broker()
    topic = create_topic(first.address, unique("locked"))
    send_all(first.address, topic, [b"value"])
    arguments = ["--kafka-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--data-dir", first.data_dir]
    said = refused("serve", *arguments)
    assert str(first.data_dir) in said, said
    elsewhere = ["--data-dir", tmp_path / "elsewhere", "--metadata", f"sqlite:{first.data_dir}/metadata.db"]
    said = refused("serve", *arguments[:4], *elsewhere)
    assert "metadata.db" in said, said
    elsewhere = ["--data-dir", tmp_path / "other", "--object-store", f"file:{first.data_dir}/objects"]
    said = refused("serve", *arguments[:4], *elsewhere)
    assert "objects" in said, said
    # The holder is none the worse, and its death frees the lock.
    assert len(read_all(first.address, topic)[0]) == 1
    first.kill()
    first.start()
    assert len(read_all(first.address, topic)[0]) == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--no-such-flag"], ["no-such-flag"]),
        (["--kafka-listen", "nonsense"], ["kafka", "nonsense"]),
        (["--kafka-listen", "0.0.0.0:0"], ["kafka_advertise|kafka-advertise"]),
        (["--flush-bytes", "16MiB", "--inflight-bytes", "8MiB"], ["inflight", "flush"]),
        (["--flush-bytes", "many"], ["flush.bytes|many"]),
        (["--object-store", "ftp://somewhere"], ["object.store", "ftp"]),
        (["--object-store", "memory:"], ["memory", "metadata"]),
        (["--metadata", "oracle:"], ["metadata"]),
        (["--default-partitions", "0"], ["default.partitions"]),
        (["--s3-endpoint", "http://127.0.0.1:1"], ["s3.endpoint"]),
    ],
    ids=lambda value: "-".join(value).strip("-") if isinstance(value, list) else None,
)
def test_impossible_settings_are_refused_by_name(tmp_path, arguments, named):
    given = dict(zip(ports(tmp_path)[::2], ports(tmp_path)[1::2], strict=True))
    for name in arguments[::2]:
        given.pop(name, None)
    said = refused("serve", *[part for pair in given.items() for part in pair], *arguments)
    for pattern in named:
        assert re.search(pattern, said), f"`{pattern}` is not in: {said}"


def test_unknown_keys_of_a_file_and_of_the_environment_are_refused_by_name(tmp_path):
    file = tmp_path / "streamhouse.toml"
    file.write_text('flush_bites = "8MiB"\n')
    assert "flush_bites" in refused("serve", *ports(tmp_path), "--config", file)
    said = refused("serve", *ports(tmp_path), env={"STREAMHOUSE_FLUSH_BITES": "8MiB"})
    assert "flush_bites" in said.lower(), said


def test_a_flag_wins_over_the_environment_and_that_over_the_file(tmp_path):
    file = tmp_path / "streamhouse.toml"
    file.write_text('kafka_listen = "file-says-so"\n')
    arguments = ["serve", "--http-listen", "127.0.0.1:0", "--data-dir", tmp_path / "data", "--config", file]
    assert "file-says-so" in refused(*arguments)
    env = {"STREAMHOUSE_KAFKA_LISTEN": "variable-says-so"}
    assert "variable-says-so" in refused(*arguments, env=env)
    assert "flag-says-so" in refused(*arguments, "--kafka-listen", "flag-says-so", env=env)


def test_s3_mistakes_are_named_plainly(tmp_path, proxy):
    base = ["serve", *ports(tmp_path), "--s3-endpoint", proxy.endpoint]
    env = {**CREDENTIALS, "STREAMHOUSE_S3_ALLOW_HTTP": "true"}
    proxy.fault("no_bucket")
    said = refused(*base, "--object-store", "s3://no-such-bucket/x", env=env)
    assert "no-such-bucket" in said and "bucket" in said.replace("no-such-bucket", ""), said
    proxy.heal()
    # A server that makes missing buckets when it is written to must not hide a mistyped name either.
    said = refused(*base, "--object-store", "s3://mistyped-bucket/x", env=env)
    assert "mistyped-bucket" in said and "does not exist" in said, said
    wrong = {**env, "AWS_SECRET_ACCESS_KEY": "wrong"}
    said = refused(*base, "--object-store", "s3://streamhouse/x", env=wrong)
    assert re.search("secret|credential|signature|denied", said, re.IGNORECASE), said


def test_a_bucket_behind_a_certificate_of_ones_own_authority_is_used_with_its_bundle(new_broker, tmp_path):
    store = SeaweedFS(tmp_path / "store", certificates=certificates.make(tmp_path)).start()
    try:
        broker = new_broker(
            env={**CREDENTIALS, "AWS_CA_BUNDLE": str(tmp_path / "ca.pem")}, **store.flags("x"), inline_bytes=0
        )
        send_all(broker.address, "secured", [b"over TLS"])
        assert broker.stop() == 0
        # Without it the server waits for its store, and says why.
        without = new_broker(env=CREDENTIALS, start=False, **store.flags("y"))
        without.spawn()
        wait_until(lambda: "UnknownIssuer" in without.child.tail(100), 60, "the certificate is refused by name")
    finally:
        store.stop()


def test_a_switch_may_stand_alone(tmp_path):
    said = refused("serve", *ports(tmp_path), "--s3-endpoint", "http://127.0.0.1:1",
                   "--object-store", "s3://streamhouse/x", "--s3-allow-http", "--default-partitions", "none")
    assert "default-partitions" in said, said


def test_another_clusters_bucket_is_refused(new_broker, tmp_path, shared_seaweed):
    first = new_broker("s3")
    flags = [part for name, value in first.flags.items() for part in (f"--{name}", value)]
    said = refused("serve", *ports(tmp_path), *flags, env=first.env)
    assert "cluster" in said, said


def test_sigterm_ends_an_idle_server_with_status_0_soon(new_broker):
    broker = new_broker()
    began = time.monotonic()
    assert broker.stop() == 0
    # Nothing is in hand: a stop that takes its whole limit (30 s) waits for something that never comes.
    assert time.monotonic() - began < 20
