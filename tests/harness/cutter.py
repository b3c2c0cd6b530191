"""A TCP proxy before the broker that loses answers: the request arrives and takes effect, nobody hears of it.

It reads the Kafka protocol's frames as they pass, as little of them as it needs: length, API key and
correlation id. Of the requests of one API every `every`th that this proxy sees loses its answer, and both
connections with it: what a network does at the worst moment, and what forces an idempotent producer to send
again what is already stored. The broker has to advertise the proxy's address.
"""

import socket
import struct
import threading
from collections import Counter


class Cutter:
    def __init__(self, port: int):
        self.port = port
        self.address = f"127.0.0.1:{port}"
        self.upstream: str | None = None
        self.every: dict[int, int] = {}
        self.seen: Counter = Counter()
        self.cut = 0
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, daemon=True).start()

    def lose(self, api: int, every: int) -> None:
        """From now on the answer to every `every`th request of this API is lost; 0: none."""
        with self._lock:
            self.every = {api: every} if every else {}
            self.seen.clear()
            self.cut = 0

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            host, port = self.upstream.rsplit(":", 1)
            try:
                broker = socket.create_connection((host, int(port)))
            except OSError:
                client.close()
                continue
            lost: set[int] = set()
            for part in ((client, broker, lost, True), (broker, client, lost, False)):
                for end in part[:2]:
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._pass, args=part, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, lost: set[int], requests: bool) -> None:
        try:
            while True:
                frame = _frame(source)
                if requests:
                    api, _, correlation = struct.unpack_from(">hhi", frame, 4)
                    if self._loses(api):
                        lost.add(correlation)
                elif struct.unpack_from(">i", frame, 4)[0] in lost:
                    with self._lock:
                        self.cut += 1
                    return
                target.sendall(frame)
        except OSError:
            pass
        finally:
            for each in (source, target):
                try:
                    each.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def _loses(self, api: int) -> bool:
        with self._lock:
            self.seen[api] += 1
            every = self.every.get(api, 0)
            return every > 0 and self.seen[api] % every == 0


def _frame(source: socket.socket) -> bytes:
    """One frame with its length; OSError at the end of the stream."""
    head = _exactly(source, 4)
    return head + _exactly(source, struct.unpack(">i", head)[0])


def _exactly(source: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = source.recv(min(count - len(parts), 1 << 16))
        if not part:
            raise OSError("end of stream")
        parts += part
    return bytes(parts)
