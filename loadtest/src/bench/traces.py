"""Takes the spans that services export, so that tracing costs what it costs in earnest."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDPOINT_VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"
HOST = "127.0.0.1"


class SpanSink(ThreadingHTTPServer):
    """An OTLP endpoint that counts bytes and forgets them."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((HOST, 0), _Handler)
        self.taken_bytes = 0

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: SpanSink

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.server.taken_bytes += len(body)
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def open_sink() -> Iterator[SpanSink | None]:
    """A sink; None where the environment names a collector, which then gets the spans."""
    if os.environ.get(ENDPOINT_VARIABLE):
        yield None
        return
    sink = SpanSink()
    thread = threading.Thread(target=sink.serve_forever, daemon=True)
    thread.start()
    try:
        yield sink
    finally:
        sink.shutdown()
        sink.server_close()
        thread.join()
