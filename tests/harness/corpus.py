"""A real text: at least 100,000 lines found on the machine, one line a record.

All text under /usr/share/doc, then (for machines without documentation) Python's standard library and
the Rust toolchain. The bytes are taken as they are, whatever their encoding; only empty lines are left out,
because kcat sends none.
"""

import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

LINES_MIN = 100_000
LINES_MAX = 120_000
_LINE_BYTES_MAX = 100_000


def _folders() -> Iterator[Path]:
    yield Path("/usr/share/doc")
    yield Path(sysconfig.get_paths()["stdlib"])
    sysroot = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True, check=False)
    if sysroot.returncode == 0:
        yield Path(sysroot.stdout.strip())


def _files() -> Iterator[Path]:
    for folder in _folders():
        for path in sorted(folder.rglob("*")):
            binary = path.suffix in {".gz", ".png", ".so", ".rlib", ".a", ".pyc", ".rmeta"}
            if not binary and path.is_file() and not path.is_symlink():
                yield path


def write(path: Path) -> Path:
    """Writes the text to `path`; every line ends with a line feed."""
    count = 0
    with open(path, "wb") as out:
        for source in _files():
            try:
                data = source.read_bytes()
            except OSError:
                continue
            for line in data.split(b"\n"):
                # A NUL is where a file stops being text.
                if line and b"\0" not in line and len(line) <= _LINE_BYTES_MAX:
                    out.write(line + b"\n")
                    count += 1
            if count >= LINES_MAX:
                break
    if count < LINES_MIN:
        raise RuntimeError(f"only {count} lines of text found on this machine, {LINES_MIN} wanted")
    return path
