"""Numbers as the table shows them, and the table."""

from dataclasses import dataclass, field


@dataclass
class Percentiles:
    p50: float
    p99: float

    @classmethod
    def of(cls, values: list[float]) -> "Percentiles":
        ordered = sorted(values)
        return cls(ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)])

    def __str__(self) -> str:
        return f"{self.p50:.2f} / {self.p99:.2f}"


@dataclass
class Measured:
    """One system's figures; a name missing was not measured, a text says why it failed."""

    system: str
    values: dict[str, object] = field(default_factory=dict)


# What the object store's own process spends, beside ours.
STORE_WRITES = "SeaweedFS itself, written, CPU-s/GiB"
STORE_READS = "SeaweedFS itself, read, CPU-s/GiB"

# In the order of the table.
ROWS = [
    "produce 1 partition, MB/s",
    "produce 1 partition, CPU-s/GiB",
    "consume, MB/s",
    "consume, CPU-s/GiB",
    "consume what is cached, MB/s",
    "consume what is cached, CPU-s/GiB",
    "produce 100 partitions × 10 producers, MB/s",
    "produce 100 partitions × 10 producers, CPU-s/GiB",
    "one-record requests, 1/s",
    "one-record requests, CPU-µs each",
    "lone 1 KB produce, p50 / p99 ms",
    "one fsync between those, p50 / p99 ms",
    "resident idle, MiB",
    "resident peak, MiB",
    "PUT 8 MiB × 8 at once, MB/s",
    "GET 8 MiB × 8 at once, MB/s",
    STORE_WRITES,
    STORE_READS,
    "dd bs=8M oflag=dsync, MB/s",
    "one fsync, p50 / p99 ms",
]


def cell(value: object, base: object) -> str:
    if value is None:
        return "–"
    if not isinstance(value, float):
        return str(value)
    text = f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
    if isinstance(base, float) and base and value is not base:
        text += f" ({value / base:.2f}×)"
    return text


def table(measured: list[Measured], base: str = "Apache Kafka 4.3") -> str:
    """Markdown; behind each figure its ratio to Apache Kafka's, where that was measured too."""
    against = next((each for each in measured if each.system == base), Measured(base))
    lines = ["| | " + " | ".join(each.system for each in measured) + " |"]
    lines.append("|---" * (len(measured) + 1) + "|")
    for row in ROWS:
        if any(row in each.values for each in measured):
            cells = [cell(each.values.get(row), against.values.get(row)) for each in measured]
            lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
