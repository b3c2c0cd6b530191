"""Free ports, all below the kernel's ephemeral range.

A broker that is killed and started again on one port must not find it taken: on loopback a client
that reconnects to an ephemeral port nobody listens on can even connect to itself. `weed` opens the
port plus 10,000 as well, so a caller may ask for a port whose shadow is free too.
"""

import random
import socket

_taken: set[int] = set()
_random = random.SystemRandom()


def _free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port(shadow: int = 0) -> int:
    """A port nobody listens on; with `shadow`, that port plus `shadow` is free as well."""
    for _ in range(1000):
        port = _random.randrange(11_000, 21_500)
        wanted = {port, port + shadow} if shadow else {port}
        if wanted & _taken or not all(_free(each) for each in wanted):
            continue
        _taken.update(wanted)
        return port
    raise RuntimeError("no free port between 11000 and 21500")
