"""Where things are: the work tree, the tools that `cargo xtask tools` installed, the binary."""

import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
TOOLS = ROOT / ".test-tools"
KAFKA_LIBS = TOOLS / "kafka" / "libs"


def tool(name: str) -> str:
    """A command of the tools venv, else of the PATH; a missing one says how to get it."""
    beside = Path(sys.executable).parent / name
    if beside.exists():
        return str(beside)
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(f"`{name}` is missing: run `cargo xtask tools`")
    return found


def binary(profile: str = "debug") -> Path:
    """The server under test: $STREAMHOUSE_TEST_BINARY, else the build of this work tree."""
    given = os.environ.get("STREAMHOUSE_TEST_BINARY")
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    path = Path(given) if given else target / profile / "streamhouse"
    if not path.exists():
        raise RuntimeError(f"{path} is missing: run `cargo build --workspace`")
    return path
