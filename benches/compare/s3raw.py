"""What the S3 server allows without anything between: the same 8 MiB objects, written and read in parallel.

Requests are signed (AWS signature version 4, payload unsigned), as the server under test signs its own.
"""

import hashlib
import hmac
import http.client
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

OBJECT_BYTES = 8 << 20


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def signed(method: str, host: str, path: str, access: str, secret: str, region: str = "us-east-1") -> dict[str, str]:
    """The headers of a request without a query."""
    now = datetime.now(UTC)
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    headers = {"host": host, "x-amz-content-sha256": "UNSIGNED-PAYLOAD", "x-amz-date": stamp}
    names = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    canonical = f"{method}\n{path}\n\n{lines}\n{names}\nUNSIGNED-PAYLOAD"
    scope = f"{day}/{region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = b"AWS4" + secret.encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    signature = _hmac(key, text).hex()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return headers


def rates(host: str, bucket: str, access: str, secret: str, cpu_seconds: Callable[[], float], objects: int = 64,
          at_once: int = 8) -> list[tuple[float, float]]:
    """Of PUT and of GET over `objects` objects: decimal MB/s, and what the server spent, in CPU-s/GiB."""
    payload = os.urandom(OBJECT_BYTES)

    def one(method: str, number: int) -> None:
        path = f"/{bucket}/raw/{number:04}"
        connection = http.client.HTTPConnection(host, timeout=60)
        body = payload if method == "PUT" else None
        connection.request(method, path, body, signed(method, host, path, access, secret))
        answer = connection.getresponse()
        read = len(answer.read())
        connection.close()
        assert answer.status == 200 and (method == "PUT" or read == OBJECT_BYTES), f"{method}: {answer.status}"

    found = []
    for method in ("PUT", "GET"):
        began, spent = time.monotonic(), cpu_seconds()
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(lambda number, method=method: one(method, number), range(objects)))
        moved, seconds = objects * OBJECT_BYTES, time.monotonic() - began
        found.append((moved / seconds / 1e6, (cpu_seconds() - spent) / (moved / (1 << 30))))
    return found
