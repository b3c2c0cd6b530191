"""A real Prometheus (Debian's), scraping every second, asked over its HTTP API.

What it answers is what an operator would see: the exporter's text as Prometheus reads it, rates over its
own scrapes, alerts as it judges them. Targets may be added while it runs.
"""

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from . import places
from .ports import free_port
from .process import Child, wait_until

JOB = "streamhouse"


@dataclass(frozen=True)
class Series:
    """One series of an answer: its labels and its values, (seconds, value) each."""

    labels: dict[str, str]
    points: list[tuple[float, float]]

    @property
    def value(self) -> float:
        return self.points[-1][1]


def _series(one: dict) -> Series:
    points = one["values"] if "values" in one else [one["value"]]
    return Series(one["metric"], [(float(at), float(value)) for at, value in points])


@dataclass
class Prometheus:
    directory: Path
    # host:port each.
    targets: list[str]
    rules: list[Path] = field(default_factory=list)
    interval: str = "1s"
    child: Child | None = None

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.http = f"http://127.0.0.1:{free_port()}"
        self.config = self.directory / "prometheus.yml"
        self._found = self.directory / "targets.json"
        self.retarget(*self.targets)
        # JSON is YAML.
        self.config.write_text(json.dumps({
            "global": {"scrape_interval": self.interval, "scrape_timeout": self.interval,
                       "evaluation_interval": self.interval},
            "rule_files": [str(path) for path in self.rules],
            "scrape_configs": [{
                "job_name": JOB,
                "file_sd_configs": [{"files": [str(self._found)], "refresh_interval": "1s"}],
            }],
        }))

    def retarget(self, *targets: str) -> None:
        """Scrapes these from now on."""
        self.targets = list(targets)
        staged = self._found.with_suffix(".staged")
        staged.write_text(json.dumps([{"targets": self.targets}]))
        staged.replace(self._found)

    def start(self, seconds: float = 60) -> "Prometheus":
        self.child = Child(
            "prometheus",
            [
                places.tool("prometheus"), f"--config.file={self.config}",
                f"--storage.tsdb.path={self.directory / 'data'}",
                f"--web.listen-address={self.http.removeprefix('http://')}",
                # An answer may be as old as this; the default, five minutes, would outlive a test.
                "--query.lookback-delta=15s", "--log.level=warn",
            ],
            self.directory / "prometheus.log",
        )

        def up() -> bool:
            self.child.require_alive()
            try:
                with urllib.request.urlopen(self.http + "/-/ready", timeout=2):
                    return True
            except OSError:
                return False

        wait_until(up, seconds, f"Prometheus at {self.http}")
        return self

    def _ask(self, path: str, **parameters: object) -> dict | list:
        data = urllib.parse.urlencode({name: str(value) for name, value in parameters.items()}).encode()
        try:
            with urllib.request.urlopen(f"{self.http}/api/v1/{path}", data or None, timeout=30) as reply:
                return json.load(reply)["data"]
        except urllib.error.HTTPError as refused:
            raise AssertionError(f"{parameters}: {refused.read().decode(errors='replace')}") from None

    def query(self, expression: str, at: float | None = None) -> list[Series]:
        """The series that the expression has now, or at that time (seconds since 1970)."""
        answer = self._ask("query", query=expression, **({} if at is None else {"time": at}))
        if answer["resultType"] in ("scalar", "string"):
            return [_series({"metric": {}, "value": answer["result"]})]
        return [_series(one) for one in answer["result"]]

    def query_range(self, expression: str, start: float, end: float | None = None, step: str = "1s") -> list[Series]:
        answer = self._ask("query_range", query=expression, start=start, end=end or time.time(), step=step)
        return [_series(one) for one in answer["result"]]

    def value(self, expression: str) -> float | None:
        """Of the one series that the expression may have; None if it has none."""
        found = self.query(expression)
        assert len(found) <= 1, f"{expression} has {len(found)} series"
        return found[0].value if found else None

    def wait_for_scrapes(self, count: int = 1, seconds: float = 60) -> None:
        """Until every target has been scraped `count` times after this call began."""
        # Stamped when the scrape began, so what is stamped later was also read later.
        began = time.time()

        def scraped() -> bool:
            self.child.require_alive()
            answer = self._ask("query", query=f'up{{job="{JOB}"}}[{int(seconds) + 5}s]')["result"]
            good = {
                each["metric"]["instance"]: sum(float(at) > began and value == "1" for at, value in each["values"])
                for each in answer
            }
            return all(good.get(target, 0) >= count for target in self.targets)

        wait_until(scraped, seconds, f"{count} scrapes of {self.targets}", every=0.2)

    def alerts(self, state: str = "firing") -> dict[str, list[dict]]:
        """By name, the labels of every alert in this state."""
        found: dict[str, list[dict]] = {}
        for alert in self._ask("alerts")["alerts"]:
            if alert["state"] == state:
                found.setdefault(alert["labels"]["alertname"], []).append(alert["labels"])
        return found

    def broken_rules(self) -> list[str]:
        """Rules whose last evaluation was an error."""
        groups = self._ask("rules")["groups"]
        return [f"{rule['name']}: {rule.get('lastError')}" for group in groups for rule in group["rules"]
                if rule["health"] == "err"]

    def stop(self) -> None:
        if self.child and self.child.alive():
            self.child.kill()
