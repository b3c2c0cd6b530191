"""What scenarios are given: a broker (StreamHouse or, with --target=kafka, Apache Kafka), an S3 server,
a proxy before it, a text.

A scenario takes `broker` (shared by a module) or `new_broker` (its own, to kill and restart) and must not
know which of the two it is; what only StreamHouse has is marked `ours` and left out on Kafka.
"""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import corpus
from harness.kafka_oracle import Kafka
from harness.proxy import Proxy
from harness.seaweedfs import SeaweedFS
from harness.streamhouse import StreamHouse

KAFKA_SETTINGS = {"auto.create.topics.enable": "true", "num.partitions": 1}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--target", choices=["streamhouse", "kafka"], default="streamhouse")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("promise"):
            item.add_marker(pytest.mark.flaky(reruns=0))
    if config.getoption("--target") != "kafka":
        return
    left_out = [item for item in items if item.get_closest_marker("ours") or "[s3" in item.name]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """A failed test shows the last lines of every process it started."""
    outcome = yield
    report = outcome.get_result()
    if report.when == "call" and report.failed:
        for child in getattr(item, "children", lambda: [])():
            report.sections.append((f"{child.name} (pid {child.pid})", child.tail(60)))


@pytest.fixture(scope="session")
def on_kafka(request: pytest.FixtureRequest) -> bool:
    return request.config.getoption("--target") == "kafka"


@pytest.fixture(scope="session")
def seed() -> int:
    """Printed by each test that draws; STREAMHOUSE_TEST_SEED repeats a run."""
    return int(os.environ.get("STREAMHOUSE_TEST_SEED") or random.SystemRandom().randrange(1 << 32))


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus.write(tmp_path_factory.mktemp("corpus") / "lines.txt")


@pytest.fixture(scope="session")
def shared_seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    store = SeaweedFS(tmp_path_factory.mktemp("seaweed")).start()
    yield store
    store.stop()


def start_broker(on_kafka: bool, directory: Path, kafka: dict, flags: dict, env: dict):
    if on_kafka:
        return Kafka(directory, settings={**KAFKA_SETTINGS, **kafka})
    return StreamHouse(directory, flags=flags, env=env)


@pytest.fixture
def new_broker(request: pytest.FixtureRequest, on_kafka: bool, tmp_path: Path) -> Iterator[Callable]:
    """new_broker(store="local"|"s3", kafka={…}, **flags): a started broker of the test's own.

    `start=False` leaves it to the test to start it; flag names are written with underscores.
    """
    brokers: list = []
    request.node.children = lambda: [each.child for each in brokers if each.child]

    def make(store: str = "local", kafka: dict | None = None, env: dict | None = None, start: bool = True,
             endpoint: str | None = None, **flags: object):
        flags = {name.replace("_", "-"): value for name, value in flags.items()}
        env = dict(env or {})
        if store == "s3" and not on_kafka:
            seaweed = request.getfixturevalue("shared_seaweed")
            flags = {**seaweed.flags(f"{tmp_path.name}-{len(brokers)}-{os.getpid()}", endpoint), **flags}
            env = {**seaweed.env(), **env}
        broker = start_broker(on_kafka, tmp_path / f"broker-{len(brokers)}", kafka or {}, flags, env)
        brokers.append(broker)
        return broker.start() if start else broker

    yield make
    for broker in brokers:
        if broker.child and broker.child.alive():
            broker.kill()


@pytest.fixture(scope="module")
def module_broker(request: pytest.FixtureRequest, on_kafka: bool, tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """A module's BROKER_FLAGS are for StreamHouse alone, its KAFKA_SETTINGS for Kafka."""
    flags = getattr(request.module, "BROKER_FLAGS", {})
    settings = getattr(request.module, "KAFKA_SETTINGS", {})
    broker = start_broker(on_kafka, tmp_path_factory.mktemp("broker"), settings, flags, {}).start()
    yield broker
    broker.kill()


@pytest.fixture
def broker(request: pytest.FixtureRequest, module_broker):
    """A broker that a whole module shares: tests take topics of their own and leave it running."""
    request.node.children = lambda: [module_broker.child]
    module_broker.child.require_alive()
    return module_broker


@pytest.fixture
def proxy(tmp_path: Path, shared_seaweed: SeaweedFS) -> Iterator[Proxy]:
    between = Proxy(tmp_path / "proxy", shared_seaweed.endpoint).start()
    yield between
    between.stop()
