"""A TCP proxy before the broker that loses answers: the request arrives and takes effect, nobody hears of it.

It reads the Kafka protocol's frames as they pass, as little of them as it needs: length, API key and
correlation id. Of the answers of one API every `every`th that comes back is lost, and both connections with
it: what a network does at the worst moment, and what forces an idempotent producer to send again what is
already stored. Answers are counted, not requests, so that the `every - 1` before it arrive: a client that sends
several requests at once would else lose the first of each attempt, for ever. The broker has to advertise the
proxy's address.
"""

import socket
import struct
import threading


class Cutter:
    def __init__(self, port: int):
        self.port = port
        self.address = f"127.0.0.1:{port}"
        self.upstream: str | None = None
        self.api, self.every = -1, 0
        self.answered = 0
        self.cut = 0
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, daemon=True).start()

    def lose(self, api: int, every: int) -> None:
        """From now on every `every`th answer to a request of this API is lost; 0: none."""
        with self._lock:
            self.api, self.every = api, every
            self.answered = self.cut = 0

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
            asked: set[int] = set()
            for part in ((client, broker, asked, True), (broker, client, asked, False)):
                for end in part[:2]:
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._pass, args=part, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, asked: set[int], requests: bool) -> None:
        """Passes frames on; `asked` holds the correlation ids of the API's requests that wait for an answer."""
        try:
            while True:
                frame = _frame(source)
                if requests:
                    api, _, correlation = struct.unpack_from(">hhi", frame, 4)
                    if api == self.api:
                        asked.add(correlation)
                else:
                    [correlation] = struct.unpack_from(">i", frame, 4)
                    if correlation in asked and self._loses():
                        return
                    asked.discard(correlation)
                target.sendall(frame)
        except OSError:
            pass
        finally:
            for each in (source, target):
                try:
                    each.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def _loses(self) -> bool:
        """Counts an answer of the API; whether it is one to lose."""
        with self._lock:
            self.answered += 1
            lost = self.every > 0 and self.answered % self.every == 0
            self.cut += lost
            return lost


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
