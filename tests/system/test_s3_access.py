"""How people reach their buckets: keys of an instance's or a container's role, buckets as host names.

Keys in variables and profiles, path style and a custom authority are in test_secrets, test_process and every other
test on S3.
"""

import time

import pytest

from harness.clients import read_all, send_all
from harness.forward import Forward
from harness.process import wait_until
from harness.roles import CONTAINER_PATH, ROLE, ROLES_PATH, RoleService
from harness.seaweedfs import ACCESS_KEY, BUCKET, CREDENTIALS, SECRET_KEY, SeaweedFS
from harness.streamhouse import StreamHouse

pytestmark = pytest.mark.ours

ANYBODY = {"AWS_REGION": "us-east-1", "STREAMHOUSE_S3_ALLOW_HTTP": "true"}


def is_used(broker: StreamHouse) -> None:
    """What is produced goes to the bucket and comes back from it."""
    values = [b"%d" % number * 100 for number in range(100)]
    send_all(broker.address, "kept", values)
    assert broker.stop() == 0
    broker.start()
    [messages] = read_all(broker.address, "kept")
    assert [each.value() for each in messages] == values


@pytest.fixture
def roles():
    service = RoleService(ACCESS_KEY, SECRET_KEY, container_token="a container's token")
    yield service
    service.close()


def test_the_keys_of_an_instances_role_are_used_and_renewed(new_broker, shared_seaweed, proxy, tmp_path, roles):
    # Keys that expire within five minutes are renewed before they are used again.
    roles.lives = 302
    broker = new_broker(
        env={**ANYBODY, "AWS_METADATA_ENDPOINT": roles.endpoint}, **shared_seaweed.flags(tmp_path.name, proxy.endpoint),
        inline_bytes=0,
    )
    is_used(broker)
    assert roles.asked[:3] == ["PUT /latest/api/token 200", f"GET {ROLES_PATH} 200", f"GET {ROLES_PATH}{ROLE} 200"]
    before = roles.handed_out
    time.sleep(2.5)

    def both() -> tuple[float, int] | None:
        passed = proxy.count()
        counted = broker.metrics().sum("streamhouse_s3_requests_total")
        return (counted, passed) if proxy.count() == passed else None

    counted, passed = wait_until(both, 30, "a moment without requests")
    send_all(broker.address, "kept", [b"later"])
    assert roles.handed_out > before, "no new keys were asked for"
    # What was asked of the role's service is no request to the object store.
    wait_until(
        lambda: broker.metrics().sum("streamhouse_s3_requests_total") - counted == proxy.count() - passed > 0, 30,
        "as many requests counted as passed",
    )
    assert SECRET_KEY not in broker.child.tail(1_000)


def test_the_keys_of_a_containers_role_are_used(new_broker, shared_seaweed, tmp_path, roles):
    token = tmp_path / "token"
    token.write_text(roles.container_token)
    broker = new_broker(
        env={**ANYBODY, "AWS_CONTAINER_CREDENTIALS_FULL_URI": roles.endpoint + CONTAINER_PATH,
             "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token)},
        **shared_seaweed.flags(tmp_path.name), inline_bytes=0,
    )
    is_used(broker)
    assert set(roles.asked) == {f"GET {CONTAINER_PATH} 200"}


def test_a_role_that_gives_no_keys_is_named(new_broker, shared_seaweed, tmp_path, roles):
    roles.close()
    broker = new_broker(
        env={**ANYBODY, "AWS_METADATA_ENDPOINT": roles.endpoint}, start=False, **shared_seaweed.flags(tmp_path.name),
    )
    broker.spawn()
    wait_until(lambda: f"{roles.endpoint}/latest/api/token" in broker.child.tail(100), 120,
               "the service that should give keys is named in the log")
    assert broker.child.alive(), "it waits, as for a store that does not answer"


def test_a_bucket_is_a_host_name_where_that_is_asked_for(new_broker, tmp_path):
    store = SeaweedFS(tmp_path / "store", domain="s3.example.org").start()
    way_out = Forward("127.0.0.1", store.ports["s3"])
    try:
        broker = new_broker(
            env={**CREDENTIALS, "STREAMHOUSE_S3_ALLOW_HTTP": "true", "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
                 "HTTP_PROXY": way_out.address},
            **store.flags("x", f"http://s3.example.org:{store.ports['s3']}"), inline_bytes=0,
        )
        is_used(broker)
        assert way_out.hosts == {f"{BUCKET}.s3.example.org"}
        assert store.requests()["PUT"] > 0
    finally:
        way_out.close()
        store.stop()
