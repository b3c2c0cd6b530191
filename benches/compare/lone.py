"""One record at a time, each waiting for its acknowledgement: latency over the wire.

Spoken by hand (harness.wire), because a client library's own threads would be most of what is measured.
"""

import os
import time

from harness.wire import Connection, batch

from .figures import Percentiles


def produce_ms(address: str, topic: str, count: int = 1_000, pause_seconds: float = 0.002) -> Percentiles:
    """1 KB, acks all, no linger; a pause between, so that each record finds the server idle."""
    # Built beforehand: the checksum in Python costs more than the request.
    requests = [batch([os.urandom(1_000)]) for _ in range(20)]
    took = []
    with Connection(address) as connection:
        for number in range(count + 50):
            data = requests[number % len(requests)]
            began = time.perf_counter()
            [(error, _, _)] = connection.produce({(topic, 0): data}).values()
            if number >= 50:
                took.append((time.perf_counter() - began) * 1000)
            assert error == 0, f"produce refused: {error}"
            time.sleep(pause_seconds)
    return Percentiles.of(took)
