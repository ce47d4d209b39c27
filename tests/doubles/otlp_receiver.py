"""A receiver of OTLP logs over HTTP, which keeps what it acknowledged and answers as it is told."""

import gzip
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsPartialSuccess,
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

COLLECTORS_WORDS = "words-of-the-collector"


@dataclass(frozen=True, slots=True, kw_only=True)
class Says:
    """One answer. `body` takes the place of what OTLP has there."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    rejected: int = 0
    body: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """One request: when it came (monotonic seconds), and its log records in their order."""

    at: float
    path: str
    headers: Mapping[str, str]
    body: bytes
    logs: tuple[LogRecord, ...]


class OtlpReceiver:
    """Serves on loopback while the block runs; `next` holds answers for the requests to come.

    `judge` gives the answer where `next` is empty. With `tls` it speaks https.
    """

    def __init__(self, port: int = 0, *, tls: ssl.SSLContext | None = None) -> None:
        self.posts: list[Post] = []
        self.logs: list[LogRecord] = []  # what was acknowledged, in the order in which it came
        self.next: deque[Says] = deque()
        self.judge: Callable[[Post], Says] = lambda _post: Says()
        self._server = _Server(("127.0.0.1", port), self._handler())
        self._scheme = "https" if tls else "http"
        if tls:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}/v1/logs"

    @property
    def lines(self) -> list[str]:
        """The bodies of what was acknowledged."""
        return [log.body.string_value for log in list(self.logs)]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                if headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                post = Post(
                    at=time.monotonic(),
                    path=self.path,
                    headers=headers,
                    body=body,
                    logs=_logs(body),
                )
                says = receiver.next.popleft() if receiver.next else receiver.judge(post)
                receiver.posts.append(post)
                if says.status == 200:
                    receiver.logs += post.logs
                self._answer(says)

            def _answer(self, says: Says) -> None:
                body = _body(says)
                self.send_response(says.status)
                for name, value in says.headers.items():
                    self.send_header(name, value)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle, or trusts us not, is no fault of a receiver."""


def _logs(body: bytes) -> tuple[LogRecord, ...]:
    request = ExportLogsServiceRequest.FromString(body)
    scopes = (scope for resource in request.resource_logs for scope in resource.scope_logs)
    return tuple(log for scope in scopes for log in scope.log_records)


def _body(says: Says) -> bytes:
    if says.body is not None:
        return says.body
    if says.status != 200:
        return COLLECTORS_WORDS.encode()
    partial = None
    if says.rejected:
        partial = ExportLogsPartialSuccess(
            rejected_log_records=says.rejected, error_message=COLLECTORS_WORDS
        )
    return ExportLogsServiceResponse(partial_success=partial).SerializeToString()
