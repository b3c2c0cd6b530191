"""Reads Grafana dashboards: their panels and expressions, what is wrong with them, and what Grafana would ask.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

# Grafana's own.
_BUILT_IN = {"__rate_interval", "__interval", "__range"}
_VARIABLE = re.compile(r"\$\{?(\w+)\}?")
_RATE = re.compile(r"\b(?:rate|irate|increase|resets)\(\s*([a-zA-Z_:]\w*)")
_OF_GAUGES = re.compile(r"\b(?:deriv|delta|idelta|predict_linear)\(\s*([a-zA-Z_:]\w*)")


@dataclass(frozen=True)
class Panel:
    board: str
    title: str
    kind: str
    unit: str
    description: str
    thresholds: list
    expressions: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.board}: {self.title}"


@dataclass(frozen=True)
class Board:
    name: str
    variables: dict[str, str]
    panels: list[Panel]


def read(path: Path) -> Board:
    content = json.loads(path.read_text())
    panels = []
    for panel in content["panels"]:
        defaults = panel["fieldConfig"]["defaults"]
        panels.append(Panel(
            path.stem, panel["title"], panel["type"], defaults.get("unit", ""), panel.get("description", ""),
            defaults.get("thresholds", {}).get("steps", []), tuple(each["expr"] for each in panel["targets"]),
        ))
    return Board(path.stem, {each["name"]: each["query"] for each in content["templating"]["list"]}, panels)


def faults(expression: str, types: dict[str, str], variables: set[str]) -> list[str]:
    """What must not be in a panel's expression. `types` are those of the exporter's families, by name."""
    found = []
    for name in _VARIABLE.findall(expression):
        if name not in variables | _BUILT_IN:
            found.append(f"undefined variable {name}")
    if window := re.search(r"\[(?!\$__rate_interval\])[^\]]*\]", expression):
        found.append(f"fixed window {window.group()}")
    if re.search(r"\bor\s+(on\s*\(\s*\)\s*)?vector\(\s*0\s*\)", expression):
        found.append("`or vector(0)` shows 0 where nothing is known")
    for name in _RATE.findall(expression):
        if _type(name, types) not in ("counter", "histogram"):
            found.append(f"rate of {name}, which is a {_type(name, types)}")
    for name in _OF_GAUGES.findall(expression):
        if _type(name, types) != "gauge":
            found.append(f"slope of {name}, which is a {_type(name, types)}")
    for name in re.findall(r"\b(?:streamhouse|process)_\w+", expression):
        if _type(name, types) == "unknown":
            found.append(f"no series {name}")
    if re.search(r"\b(avg|sum|min|max)(_over_time)?\s*(by\s*\([^)]*\)\s*)?\(\s*histogram_quantile\(", expression):
        found.append("aggregated quantiles")
    quantiles = expression.count("histogram_quantile(")
    if quantiles != len(re.findall(r"histogram_quantile\([\d.]+, sum by \(([^)]*\b)?le\b[^)]*\) \(rate\(", expression)):
        found.append("a quantile of buckets that are not summed by le")
    return found


def _type(name: str, types: dict[str, str]) -> str:
    if name in types:
        return types[name]
    family = re.sub(r"_(bucket|sum|count)$", "", name)
    return "histogram" if types.get(family) == "histogram" else "unknown"


def faults_of_panel(panel: Panel, types: dict[str, str], variables: set[str]) -> list[str]:
    found = [f"{panel}: no {what}" for what in ("unit", "description", "thresholds", "expressions") if not getattr(panel, what)]
    for expression in panel.expressions:
        found += [f"{panel}: {fault}: {expression}" for fault in faults(expression, types, variables)]
    return found


def asked(expression: str, window: str, **chosen: str) -> str:
    """The expression as Grafana sends it; a variable that is not chosen is All."""
    def value(match: re.Match) -> str:
        return window if match[1] == "__rate_interval" else chosen.get(match[1], ".*")

    return _VARIABLE.sub(value, expression)


def families(reference: str) -> dict[str, str]:
    """The exporter's families and their types, as docs/metrics.md lists them."""
    return dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", reference, re.MULTILINE))
