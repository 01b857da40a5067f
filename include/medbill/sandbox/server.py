"""What all stand-in servers share: HTTP on 127.0.0.1, planted faults, counts of requests, and what was written."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from medbill.errors import BadInput, MedbillError
from medbill.sandbox import wire
from medbill.sandbox.faults import LONGEST, Fault, Faults

MAX_BODY = 8_000_000


class Refused(Exception):
    """An answer other than success."""

    def __init__(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers or {}


class _Dropped(Exception):
    """The connection is cut without an answer."""


class Records:
    """The records a server starts from, by resource; the file is read again when it was replaced."""

    def __init__(self, path: Path, loads: Callable[[bytes], Any] = wire.loads) -> None:
        self._path, self._loads = path, loads
        self._lock = threading.Lock()
        self._loaded: tuple[int, int] | None = None
        self._found: dict[str, list[dict[str, Any]]] = {}

    def of(self, resource: str) -> list[dict[str, Any]]:
        with self._lock:
            stat = self._path.stat()
            if self._loaded != (stat.st_mtime_ns, stat.st_size):
                self._found = self._loads(self._path.read_bytes())
                self._loaded = (stat.st_mtime_ns, stat.st_size)
            return self._found.get(resource, [])


class StandIn(ABC):
    """The state behind one server."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.requests: dict[str, int] = {}
        self.lock = threading.Lock()

    @abstractmethod
    def written(self) -> Any:
        """What clients wrote, as JSON values."""

    @abstractmethod
    def close(self) -> None:
        """Give up files and connections."""


class Handler(BaseHTTPRequestHandler, ABC):
    """Requests of one platform. A subclass says how it answers and how an answer is written down."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    wbufsize = 65_536  # head and body in one packet, else Nagle and delayed ACK cost 40 ms an answer
    server: Server

    def route(self, path: str) -> str:
        """What faults and counts call this request."""
        return path

    @abstractmethod
    def reply(
        self, method: str, path: str, query: dict[str, list[str]], body: bytes, fault: Fault | None
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, answer and headers. Raises Refused. Faults of kinds throttle, expired and of the rows are its own."""

    @abstractmethod
    def refusal(self, status: int, detail: str) -> Any:
        """The body of an error in the platform's form."""

    @abstractmethod
    def render(self, answer: Any) -> tuple[str, bytes]:
        """Content type and bytes of an answer."""

    def log_message(self, format: str, *args: Any) -> None:
        """No access log: query strings hold patient ids."""

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_PUT(self) -> None:
        self._serve("PUT")

    def do_PATCH(self) -> None:
        self._serve("PATCH")

    def do_DELETE(self) -> None:
        self._serve("DELETE")

    def _serve(self, method: str) -> None:
        stand_in = self.server.sandbox
        url = urlsplit(self.path)
        path = url.path.rstrip("/")
        headers: dict[str, str] = {}
        fault = None
        try:
            body = self._body()
            if self.headers.get("Host", "").rsplit(":", 1)[0] not in ("127.0.0.1", "localhost", "[::1]"):
                raise Refused(400, self.refusal(400, "Unknown host."))
            if path.startswith("/_sandbox/"):
                status, answer = self._admin(method, path.removeprefix("/_sandbox/"), body)
                self._send(status, "application/json", wire.dumps(answer).encode(), {})
                return
            route = self.route(path)
            with stand_in.lock:
                key = f"{method} {route}"
                stand_in.requests[key] = stand_in.requests.get(key, 0) + 1
            fault = stand_in.faults.next(method, route)
            self._before(fault)
            status, answer, headers = self.reply(method, path, parse_qs(url.query), body, fault)
            self._after(fault)
        except Refused as refused:
            status, answer, headers = refused.status, refused.body, refused.headers
        except _Dropped:
            self.close_connection = True
            return
        kind, data = self.render(answer)
        if fault and fault.kind == "garbage":
            data = b"<html>upstream"
        self._send(status, kind, data, headers, cut=fault is not None and fault.kind == "reset")

    def _before(self, fault: Fault | None) -> None:
        if fault is None:
            return
        if fault.kind == "drop_before":
            raise _Dropped
        if fault.kind == "slow":
            time.sleep(min(fault.seconds, LONGEST))
        if fault.kind == "error":
            extra = {"Retry-After": str(fault.retry_after)} if fault.retry_after is not None else {}
            raise Refused(fault.status, self.refusal(fault.status, "Planted fault."), extra)

    def _after(self, fault: Fault | None) -> None:
        if fault is None:
            return
        if fault.kind == "drop_after":
            raise _Dropped
        if fault.kind == "slow_after":
            time.sleep(min(fault.seconds, LONGEST))
        if fault.kind == "error_after":
            raise Refused(fault.status, self.refusal(fault.status, "Planted fault."))

    def _body(self) -> bytes:
        try:
            length = int(self.headers.get("Content-Length") or 0)
        except ValueError:
            raise Refused(400, self.refusal(400, "Bad Content-Length.")) from None
        if not 0 <= length <= MAX_BODY:
            self.close_connection = True
            raise Refused(413, self.refusal(413, "Request body too large."))
        return self.rfile.read(length)

    def _send(self, status: int, kind: str, data: bytes, headers: dict[str, str], cut: bool = False) -> None:
        try:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if cut else data)
            self.wfile.flush()
        except OSError:  # the client went away
            self.close_connection = True
        if cut:
            self.close_connection = True

    def _admin(self, method: str, name: str, body: bytes) -> tuple[int, Any]:
        stand_in = self.server.sandbox
        if name == "health" and method == "GET":
            return 200, {"status": "ok"}
        if name == "written" and method == "GET":
            return 200, stand_in.written()
        if name == "requests" and method == "GET":
            with stand_in.lock:
                return 200, dict(stand_in.requests)
        if name == "faults" and method == "POST":
            try:
                fault = Fault.of(body)
            except BadInput:
                return 400, {"detail": "Not a fault."}
            stand_in.faults.plant(fault)
            return 201, {"kind": fault.kind, "times": fault.times}
        if name == "faults" and method == "DELETE":
            stand_in.faults.clear()
            return 200, {}
        return 404, {"detail": "Not found."}


class Server(ThreadingHTTPServer):
    """The HTTP server of one stand-in; bound to 127.0.0.1 and nothing else."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, sandbox: Any, port: int, handler: type[Handler]) -> None:
        self.sandbox = sandbox
        super().__init__(("127.0.0.1", port), handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def server_close(self) -> None:
        super().server_close()
        self.sandbox.close()


def run(servers: Sequence[Server]) -> None:
    """Serve until interrupted."""
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        servers[0].serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        for server in servers:
            server.server_close()


@contextmanager
def listening() -> Iterator[None]:
    """Around the start of servers: a port that is taken is a MedbillError."""
    try:
        yield
    except OSError:
        raise MedbillError("the port is taken; choose another with --port", code="SANDBOX_PORT_TAKEN") from None
