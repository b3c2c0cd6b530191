"""Free ports, all below the kernel's ephemeral range.

A broker that is killed and started again on one port must not find it taken: on loopback a client
that reconnects to an ephemeral port nobody listens on can even connect to itself. `weed` opens the
port plus 10,000 as well, so a caller may ask for a port whose shadow is free too.

A port belongs to the process that asked for it until that ends: before anybody listens on it, while its broker is
down, and while clients still look for a broker that is gone. Other processes see it by a lock on the byte of that
number in a file of the machine's.
"""

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

_taken: set[int] = set()
_random = random.SystemRandom()
# Never opened twice: closing either would give up all locks of this process.
_locks = os.open(Path(tempfile.gettempdir()) / f"streamhouse-test-ports-{os.getuid()}", os.O_RDWR | os.O_CREAT, 0o600)


def _free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _claimed(port: int) -> bool:
    try:
        fcntl.lockf(_locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


def free_port(shadow: int = 0) -> int:
    """A port nobody listens on; with `shadow`, that port plus `shadow` is free as well."""
    for _ in range(1000):
        port = _random.randrange(11_000, 21_500)
        wanted = {port, port + shadow} if shadow else {port}
        if wanted & _taken or not all(_claimed(each) and _free(each) for each in wanted):
            continue
        _taken.update(wanted)
        return port
    raise RuntimeError("no free port between 11000 and 21500")
