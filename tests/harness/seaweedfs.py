"""A real S3 server, SeaweedFS, on free ports, with signatures enforced.

It can be stopped with SIGSTOP (accepts connections, answers nothing), killed and started again on the
same data. It counts the requests that reach it; those that do not, the proxy (proxy.py) counts.
"""

import json
import signal
import ssl
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from . import metrics, places
from .certificates import Certificates
from .ports import free_port
from .process import Child, wait_until

ACCESS_KEY = "streamhouse"
SECRET_KEY = "streamhouse-secret"
BUCKET = "streamhouse"

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_REGION": "us-east-1",
}


@dataclass
class SeaweedFS:
    directory: Path
    child: Child | None = None
    # Speaks TLS with these when they are given.
    certificates: Certificates | None = None
    # Takes `{bucket}.{domain}` for a bucket as well.
    domain: str = ""
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._pick_ports()
        self.accept(self.access_key, self.secret_key)
        (self.directory / "data").mkdir(exist_ok=True)

    def accept(self, access_key: str, secret_key: str) -> None:
        """Whose requests are accepted, from the next start on."""
        identity = {
            "name": "admin",
            "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        (self.directory / "s3.json").write_text(json.dumps({"identities": [identity]}))

    def _pick_ports(self) -> None:
        self.ports = {name: free_port(shadow=10_000) for name in ("s3", "master", "volume", "filer", "admin", "metrics")}
        scheme = "https" if self.certificates else "http"
        self.endpoint = f"{scheme}://127.0.0.1:{self.ports['s3']}"

    def _spawn(self) -> None:
        ports = self.ports
        tls = self.certificates
        secured = [f"-s3.cert.file={tls.certificate}", f"-s3.key.file={tls.key}"] if tls else []
        self.child = Child(
            "weed",
            [
                places.tool("weed"), "mini", f"-dir={self.directory / 'data'}",
                "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
                f"-s3.port={ports['s3']}", f"-s3.config={self.directory / 's3.json'}",
                f"-master.port={ports['master']}", f"-volume.port={ports['volume']}",
                f"-filer.port={ports['filer']}", f"-admin.port={ports['admin']}",
                f"-metricsPort={ports['metrics']}",
                "-webdav=false", "-admin.ui=false",
                "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false", f"-bucket={BUCKET}",
                *secured, *([f"-s3.domainName={self.domain}"] if self.domain else []),
            ],
            self.directory / "weed.log",
            cwd=self.directory,
        )

    def start(self, seconds: float = 60) -> "SeaweedFS":
        self._spawn()
        wait_until(self._bucket_exists, seconds, f"SeaweedFS at {self.endpoint}\n{self.child.tail()}", every=0.1)
        return self

    def _bucket_exists(self) -> bool:
        self.child.require_alive()
        # The filer answers without a signature: the bucket is a directory there.
        try:
            url = f"http://127.0.0.1:{self.ports['filer']}/buckets/{BUCKET}/"
            with urllib.request.urlopen(url, timeout=2):
                pass
            # An unsigned request is refused (403) only once the S3 gateway is up.
            trust = self.certificates and ssl.create_default_context(cafile=str(self.certificates.authority))
            with urllib.request.urlopen(f"{self.endpoint}/{BUCKET}", timeout=2, context=trust):
                return True
        except urllib.error.HTTPError as answer:
            return answer.code == 403
        except OSError:
            return False

    def requests(self) -> Counter:
        """Requests that the S3 gateway has answered, by its own name of the action."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['metrics']}/metrics", timeout=10) as reply:
            samples = metrics.parse(reply.read().decode())
        counted: Counter = Counter()
        for (name, labels), value in samples.values.items():
            if name == "SeaweedFS_s3_request_total":
                counted[dict(labels)["type"]] += int(value)
        return counted

    def freeze(self) -> None:
        """The store hangs: connections stay open and nothing is answered."""
        self.child.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.child.send(signal.SIGCONT)

    def kill(self) -> None:
        self.child.kill()

    def stop(self) -> None:
        if self.child and self.child.alive():
            self.child.kill()

    def flags(self, prefix: str, endpoint: str | None = None) -> dict:
        """Flags that put a server's objects under `prefix` of the bucket."""
        return {"object-store": f"s3://{BUCKET}/{prefix}", "s3-endpoint": endpoint or self.endpoint}

    def env(self) -> dict:
        return {**CREDENTIALS, "STREAMHOUSE_S3_ALLOW_HTTP": "true"}
