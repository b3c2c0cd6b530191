"""Kafka's own command line tools, from the jars of the oracle; a test without them is skipped by name."""

import subprocess

import pytest

from .kafka_oracle import libs


def java(main: str, *arguments: object) -> subprocess.CompletedProcess:
    """Runs a main class to its end, which has to be a good one."""
    try:
        jars = libs()
    except RuntimeError as missing:
        pytest.skip(f"no Java client: {missing}")
    quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    command = ["java", "-XX:TieredStopAtLevel=1", quiet, "-cp", f"{jars}/*", main, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
