"""Writes prometheus/rules/slo.yml: the service level indicators of docs/slo.md and their burn alerts.

    python3 observability/source/slo.py > observability/prometheus/rules/slo.yml
"""

WINDOWS = ["5m", "30m", "1h", "2h", "6h", "1d", "3d"]
EVENT_WINDOWS = ["1h", "6h", "1d", "3d"]

LATENCY = "streamhouse_producer_latency_seconds"
WAKEUP = "streamhouse_fetch_wakeup_seconds"


def total(series: str) -> str:
    return f"sum by (job) (rate({series}[WINDOW]))"


def slower(histogram: str, bound: str) -> str:
    return f"({total(histogram + '_count')} - {total(f'{histogram}_bucket{{{bound}}}')})"


# name: (what it says, bad events, all events, share that may be bad in 30 days)
INDICATORS = {
    "produce_availability": (
        "Batches that failed by a fault of ours, of all that were judged.",
        total('streamhouse_produce_batches_total{outcome="server_error"}'),
        total('streamhouse_produce_batches_total{outcome=~"ok|duplicate|server_error"}'),
        0.001,
    ),
    "produce_latency": (
        "Produce requests that took longer than a second.",
        slower(LATENCY, 'le=~"1|1.0"'),
        total(LATENCY + "_count"),
        0.01,
    ),
    "fetch_availability": (
        "Fetches that failed by a fault of ours.",
        total('streamhouse_api_requests_total{api="Fetch", outcome="server_error"}'),
        total('streamhouse_api_requests_total{api="Fetch", outcome=~"ok|server_error"}'),
        0.001,
    ),
    "freshness": (
        "Waiting fetches that were answered later than 250 ms after the commit.",
        slower(WAKEUP, 'le="0.25"'),
        total(WAKEUP + "_count"),
        0.01,
    ),
}

# name, severity, times the budget, long window, short window, least events in the long one
BURNS = [
    ("Fast", "critical", 14.4, "1h", "5m", 100),
    ("Steady", "critical", 6, "6h", "30m", 300),
    ("Slow", "warning", 3, "1d", "2h", 1000),
    ("Creeping", "warning", 1, "3d", "6h", 3000),
]

HEAD = """\
# Written by observability/source/slo.py; change that. Each alert needs the long and the short window, so that
# it ends soon after the trouble, and a floor of events, so that one failure in an idle night wakes nobody.
groups:
  - name: streamhouse-sli
    rules:
"""


def records() -> str:
    out = ""
    for name, (says, bad, events, _) in INDICATORS.items():
        out += f"      # {says}\n"
        for window in WINDOWS:
            out += f"      - record: sli:{name}:ratio{window}\n        expr: >-\n"
            out += f"          {bad} / {events}\n".replace("WINDOW", window)
        for window in EVENT_WINDOWS:
            out += f"      - record: sli:{name}:events{window}\n        expr: >-\n"
            out += f"          {events}\n".replace("WINDOW", window).replace("rate(", "increase(")
    return out


def burns() -> str:
    out = "  - name: streamhouse-burn\n    rules:\n"
    for name, (says, _, _, budget) in INDICATORS.items():
        for speed, severity, factor, long, short, floor in BURNS:
            limit = f"{budget * factor:.6g}"
            alert = "".join(word.capitalize() for word in name.split("_")) + "Burn" + speed
            out += (
                f"      - alert: {alert}\n        expr: >-\n"
                f"          sli:{name}:ratio{long} > {limit} and sli:{name}:ratio{short} > {limit}\n"
                f"          and sli:{name}:events{long} > {floor}\n"
                f"        labels:\n          severity: {severity}\n        annotations:\n"
                f'          summary: "{name.replace("_", " ")} burns its 30-day budget more than {factor} times too fast"\n'
                f'          description: "{says} {{{{ $value | humanizePercentage }}}} over {long}; '
                f'the budget is {budget * 100:g} %."\n'
                f"          runbook: docs/runbooks.md#budget-burn\n"
            )
    return out


if __name__ == "__main__":
    print(HEAD + records() + burns(), end="")
