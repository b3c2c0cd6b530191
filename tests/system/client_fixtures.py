"""What the scenarios of the clients share: each client in turn, and its programs beside the module's broker.

Imported by test modules that run per client, so that a program's start (a JVM's above all) is paid once a
module and worker.
"""

from collections.abc import Iterator

import pytest

from harness.program import CLIENTS, Client, Program, Programs


@pytest.fixture(scope="module", params=CLIENTS.values(), ids=CLIENTS)
def client(request: pytest.FixtureRequest) -> Client:
    request.param.require_installed()
    return request.param


@pytest.fixture(scope="module")
def program(client: Client, module_broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """One program that the tests of a module share; they use topics of their own."""
    program = Program(client, module_broker.address, tmp_path_factory.mktemp("program") / "errors.log")
    yield program
    program.kill()


@pytest.fixture
def programs(tmp_path) -> Iterator[Programs]:
    """Programs of the test's own, to be killed."""
    programs = Programs(tmp_path)
    yield programs
    programs.stop()
