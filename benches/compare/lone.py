"""One record at a time, each waiting for its acknowledgement: latency over the wire.

Spoken by hand (harness.wire), because a client library's own threads would be most of what is measured.
In between, in turns, the disk alone: what one flush of it takes in that very minute, at the same pace.
"""

import os
import time
from pathlib import Path

from harness.wire import Connection, batch

from .disk import Flushes
from .figures import Percentiles

TURN = 50


def produce_ms(address: str, topic: str, folder: Path, count: int = 1_000,
               pause_seconds: float = 0.002) -> tuple[Percentiles, Percentiles]:
    """1 KB, acks all, no linger; a pause between, so that each record finds the server idle. Then the flushes."""
    # Built beforehand: the checksum in Python costs more than the request.
    requests = [batch([os.urandom(1_000)]) for _ in range(20)]
    took = []
    with Connection(address) as connection, Flushes(folder) as flushes:
        for number in range(count + TURN):
            data = requests[number % len(requests)]
            began = time.perf_counter()
            [(error, _, _)] = connection.produce({(topic, 0): data}).values()
            if number >= TURN:
                took.append((time.perf_counter() - began) * 1000)
            assert error == 0, f"produce refused: {error}"
            time.sleep(pause_seconds)
            if number % TURN == TURN - 1:
                for _ in range(TURN):
                    flushes.one()
                    time.sleep(pause_seconds)
        return Percentiles.of(took), Percentiles.of(flushes.took)
