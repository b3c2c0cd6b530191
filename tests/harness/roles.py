"""Where a machine's role gets its keys: an instance's metadata service (IMDSv2), and a container's agent.

Each answers one who asks as AWS documents it, and notes who asked. The keys it hands out are those of a real S3
server, which judges what is signed with them.
"""

import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SESSION = "a-session-of-the-metadata-service"
ROLE = "streamhouse-agent"
ROLES_PATH = "/latest/meta-data/iam/security-credentials/"
CONTAINER_PATH = "/v1/credentials"


class RoleService:
    def __init__(self, access_key: str, secret_key: str, container_token: str = "", lives: float = 3_600):
        self.keys = (access_key, secret_key)
        self.container_token = container_token
        # Seconds after which keys expire.
        self.lives = lives
        self.asked: list[str] = []
        self.handed_out = 0
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                asked_for = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds")
                self._answer(200 if self.path == "/latest/api/token" and asked_for else 400, SESSION)

            def do_GET(self) -> None:
                if self.path == CONTAINER_PATH:
                    known = self.headers.get("Authorization") == service.container_token
                    self._answer(200, service.credentials()) if known else self._answer(401, "")
                elif self.headers.get("X-aws-ec2-metadata-token") != SESSION:
                    self._answer(401, "")
                elif self.path == ROLES_PATH:
                    self._answer(200, ROLE)
                elif self.path == ROLES_PATH + ROLE:
                    self._answer(200, service.credentials())
                else:
                    self._answer(404, "")

            def _answer(self, status: int, text: str) -> None:
                service.asked.append(f"{self.command} {self.path} {status}")
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def credentials(self) -> str:
        self.handed_out += 1
        now = datetime.now(UTC)
        stamp = "%Y-%m-%dT%H:%M:%SZ"
        return json.dumps({
            "Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": self.keys[0], "SecretAccessKey": self.keys[1],
            "Token": "", "LastUpdated": now.strftime(stamp),
            "Expiration": (now + timedelta(seconds=self.lives)).strftime(stamp),
        })

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
