"""An OpenTelemetry collector: takes traces over OTLP/HTTP in protobuf, keeps them decoded, and fails on demand."""

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from .ports import free_port


@dataclass(frozen=True)
class Span:
    name: str
    trace: bytes
    id: bytes
    parent: bytes
    links: tuple[tuple[bytes, bytes], ...]
    kind: int
    failed: bool
    nanoseconds: int
    attributes: dict
    resource: dict


def _values(pairs) -> dict:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in pairs}


class Collector:
    """Listens from its making; `mode` is `ok`, `503` or `hang` (until `close`)."""

    def __init__(self) -> None:
        self.mode = "ok"
        self.spans: list[Span] = []
        self.headers: list[dict] = []
        self.requests = 0
        self._over = threading.Event()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector._take(self, body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _take(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        self.requests += 1
        if self.mode == "hang":
            self._over.wait()
        status = 503 if self.mode == "503" else 200
        if status == 200:
            assert handler.path == "/v1/traces" and handler.headers["content-type"] == "application/x-protobuf"
            self.headers.append(dict(handler.headers))
            self.spans += self._decode(body)
        handler.send_response(status)
        handler.send_header("content-length", "0")
        handler.end_headers()

    @staticmethod
    def _decode(body: bytes) -> list[Span]:
        found = []
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _values(of_resource.resource.attributes)
            for span in (span for scope in of_resource.scope_spans for span in scope.spans):
                found.append(Span(
                    name=span.name,
                    trace=span.trace_id,
                    id=span.span_id,
                    parent=span.parent_span_id,
                    links=tuple((link.trace_id, link.span_id) for link in span.links),
                    kind=span.kind,
                    failed=span.status.code == 2,
                    nanoseconds=span.end_time_unix_nano - span.start_time_unix_nano,
                    attributes=_values(span.attributes),
                    resource=resource,
                ))
        return found

    def named(self, name: str) -> list[Span]:
        return [span for span in list(self.spans) if span.name == name]

    def children(self, parent: Span) -> list[Span]:
        return [span for span in list(self.spans) if span.trace == parent.trace and span.parent == parent.id]

    def env(self, **more: str) -> dict:
        """Variables that send a server's traces here soon after they end."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100", **more}

    def close(self) -> None:
        self._over.set()
        self.server.shutdown()
        self.server.server_close()
