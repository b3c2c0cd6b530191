"""Prometheus text, parsed strictly enough to be an independent reading of our exporter."""

import re
from dataclasses import dataclass

_SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"(?:,|$)')


@dataclass
class Samples:
    values: dict[tuple[str, frozenset], float]

    def get(self, name: str, **labels: str) -> float | None:
        """The one series with exactly these labels; None where it does not exist."""
        return self.values.get((name, frozenset(labels.items())))

    def sum(self, name: str, **labels: str) -> float:
        """Over all series of the name that carry at least these labels; 0 where there is none."""
        wanted = set(labels.items())
        return sum(value for (each, have), value in self.values.items() if each == name and wanted <= have)

    def names(self) -> set[str]:
        return {name for name, _ in self.values}


def parse(text: str) -> Samples:
    values: dict[tuple[str, frozenset], float] = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        match = _SAMPLE.match(line)
        assert match, f"not a sample line: {line!r}"
        name, labels, value = match.groups()
        key = (name, frozenset(_LABEL.findall(labels or "")))
        assert key not in values, f"a series is exported twice: {line!r}"
        values[key] = float(value)
    return Samples(values)
