"""The example programs of the Rust client, as `cargo build --workspace --examples` (or `cargo test`) leaves them."""

import re
import subprocess
import urllib.request
from pathlib import Path

from .metrics import Samples, parse
from .places import binary
from .process import Child, wait_until


def example(name: str) -> Path:
    path = binary().parent / "examples" / name
    if not path.exists():
        raise RuntimeError(f"{path} is missing: run `cargo build -p streamhouse-client --examples`")
    return path


def produce(address: str, topic: str, lines: list[str], *arguments: str, seconds: float = 60):
    """Runs `produce` to its end on these lines: status, its metrics, what it said."""
    command = [example("produce"), "--bootstrap", address, "--topic", topic, "--print-metrics", *arguments]
    text = "".join(line + "\n" for line in lines).encode()
    done = subprocess.run(command, input=text, capture_output=True, timeout=seconds)
    return done.returncode, parse(done.stdout.decode()), done.stderr.decode()


class Program:
    """`consume` or `transform`, running; both serve their metrics."""

    def __init__(self, name: str, directory: Path, address: str, *arguments: object, env: dict | None = None):
        directory.mkdir(parents=True, exist_ok=True)
        self.out = directory / "out"
        command = ["sh", "-c", f'exec "$0" "$@" >{self.out}', example(name)]
        command += ["--bootstrap", address, "--metrics", "127.0.0.1:0", *arguments]
        self.child = Child(name, command, directory / "log", env=env)

    def said(self) -> str:
        return self.child.output()

    def lines(self) -> list[list[str]]:
        """What it wrote to standard output: whole lines, parted at blanks."""
        text = self.out.read_text() if self.out.exists() else ""
        return [line.split(" ") for line in text.split("\n")[:-1]]

    def metrics(self) -> Samples:
        """A scrape, as its Prometheus job would make it."""
        # With what stands behind the address: a line is written piece by piece.
        address = re.compile(r"metrics on (\S+/metrics)")
        served = wait_until(lambda: address.search(self.said()), 60, f"{self.child.name} serves metrics")
        with urllib.request.urlopen(served.group(1), timeout=10) as answer:
            assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
            return parse(answer.read().decode())
