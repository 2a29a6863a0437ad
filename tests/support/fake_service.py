"""A service that echoes: enough of the API for the client commands, without a model.

Run as a program it stands in for the coordinator: it prints the listening event, and stops when
its standard input closes.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = "echo"
KEY = "sk-fake"
PROVIDER = {
    "id": "p1",
    "name": "laptop",
    "ready": True,
    "draining": False,
    "models": [MODEL],
    "device": "cuda:0 NVIDIA H100",
    "running": 2,
    "waiting": 1,
    "free_blocks": 60,
    "total_blocks": 64,
    "plaintext_collectives": False,
    "in_flight": 3,
    "cluster_role": None,
}


class Handler(BaseHTTPRequestHandler):
    """Answers `forever` without an end, `fail` with an error, and anything else with itself."""

    server: FakeService

    def do_GET(self) -> None:
        if self.path == "/readyz":
            self._send(200 if self.server.ready else 503, {})
        elif self.path == "/v1/models":
            self._send(200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})
        elif self.path == "/v1/status":
            told = {"providers": [self.server.provider]}
            self._send(200, told | {"longest_stop_s": self.server.longest_stop_s})
        else:
            self._send(404, _error("no such route", "not_found"))

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.requests.append(request)
        if self.headers.get("authorization") != f"Bearer {KEY}":
            self._send(401, _error("unknown key", "invalid_api_key"))
            return
        question = request["messages"][-1]["content"]
        if question == "fail":
            self._send(503, _error("nobody can serve it", "no_provider_available"))
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            for piece in _pieces(question):
                self._event({"choices": [{"index": 0, "delta": {"content": piece}}]})
            self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
            self._event({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}})
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            self.server.gone.set()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
        """Says nothing: a test reads what it needs."""

    def _event(self, body: object) -> None:
        self.wfile.write(b"data: " + json.dumps(body).encode() + b"\n\n")
        self.wfile.flush()

    def _send(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _pieces(question: str) -> Iterator[str]:
    yield "You said: "
    while question == "forever":
        yield "more "
    yield question


def _error(message: str, code: str) -> object:
    return {"error": {"message": message, "code": code, "type": "x", "param": None}}


class FakeService(ThreadingHTTPServer):
    """`requests` are the bodies received; `gone` is set when a client left before the end."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[dict[str, object]] = []
        self.gone = threading.Event()
        self.ready = True
        self.provider = PROVIDER
        self.longest_stop_s = 0.0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


if __name__ == "__main__":
    with FakeService() as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        sys.stdout.write(json.dumps({"event": "listening", "port": service.server_port}) + "\n")
        sys.stdout.flush()
        sys.stdin.read()
