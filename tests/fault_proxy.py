"""A proxy in front of an S3 server that misbehaves where a test says so, and keeps a journal of what passed.

with fault_proxy(endpoint) as proxy:
    proxy.answer(503, "SlowDown", when=puts("shard-000002"), times=2)
    proxy.cut(when=puts("_done/"))  # the server has committed, the client never hears of it
    ...                             # give proxy.url to the client
    assert proxy.count("PUT", "_done/", 200) == 4
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler
from typing import Literal
from urllib.parse import urlsplit

RESET = struct.pack("ii", 1, 0)
"""Linger for no time: closing resets the connection instead of ending it in order."""

MOST_BYTES = 2**31


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    """Path with the query, as it was sent."""
    headers: dict[str, str]
    """Names in lower case."""


When = Callable[[Request], bool]
Change = Callable[[Request, bytes], bytes]
"""Function that changes a whole answer, status line first."""


def puts(part: str) -> When:
    """PUT requests whose path has that part."""
    return lambda request: request.method == "PUT" and part in request.path


def gets(part: str) -> When:
    """GET requests whose path has that part."""
    return lambda request: request.method == "GET" and part in request.path


@dataclass
class Fault:
    when: When
    skip: int
    """Matching requests that pass first."""
    times: int
    """Matching requests that are then treated so; -1: all."""
    act: Literal["answer", "delay", "cut", "drop", "say", "change"]
    status: int = 0
    code: str = ""
    seconds: float = 0.0
    pieces: Callable[[Request], Iterator[bytes]] = lambda _: iter(())
    change: "Change" = lambda _, answer: answer


@dataclass
class FaultProxy:
    upstream: str
    """host:port of the S3 server."""
    journal: list[tuple[str, str, int]] = field(default_factory=list)
    """(method, path, status that the server gave) of everything that reached the server, in order."""
    without: set[str] = field(default_factory=set)
    """Request headers, in lower case, that are taken away: a server that ignores If-None-Match. The emulator does not
    check signatures; the real server refuses a request that lost a header."""
    _faults: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _port: int = 0
    _listener: socket.socket | None = None
    _connections: set[socket.socket] = field(default_factory=set)
    _ended: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def answer(self, status: int, code: str, *, when: When, times: int = 1, skip: int = 0) -> None:
        """An error in place of the server's answer; the server does not see the request."""
        self._faults.append(Fault(when, skip, times, "answer", status=status, code=code))

    def delay(self, seconds: float, *, when: When, times: int = 1, skip: int = 0) -> None:
        """Pass the request on, and the answer back so much later."""
        self._faults.append(Fault(when, skip, times, "delay", seconds=seconds))

    def cut(self, *, when: When, times: int = 1, skip: int = 0) -> None:
        """Pass the request on, and reset the connection in place of the answer."""
        self._faults.append(Fault(when, skip, times, "cut"))

    def drop(self, *, when: When, times: int = 1, skip: int = 0) -> None:
        """Reset the connection; the server does not see the request."""
        self._faults.append(Fault(when, skip, times, "drop"))

    def say(
        self,
        answer: bytes | Callable[[Request], bytes],
        *,
        when: When,
        times: int = -1,
        then: bytes = b"",
        every_s: float = 0.0,
    ) -> None:
        """Say these very bytes, status line first, in place of the server's answer; the server does not see the
        request.

        Args:
            then: said after them again and again until the client leaves, or MOST_BYTES are sent.
            every_s: pause before each time.
        """

        def pieces(request: Request) -> Iterator[bytes]:
            yield answer if isinstance(answer, bytes) else answer(request)
            for _ in range(MOST_BYTES // len(then) if then else 0):
                self._ended.wait(every_s)
                yield then

        self._faults.append(Fault(when, 0, times, "say", pieces=pieces))

    def change(self, change: Change, *, when: When, times: int = -1) -> None:
        """Pass the request on, and the server's answer back as it is changed; then the connection ends."""
        self._faults.append(Fault(when, 0, times, "change", change=change))

    def heal(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._faults.clear()

    def count(self, method: str, part: str, status: int) -> int:
        """Requests with that method and answer whose path has that part."""
        with self._lock:
            return sum(m == method and part in path and s == status for m, path, s in self.journal)

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """Connections are reset, and refused until the end of the block."""
        self.refuse()
        try:
            yield
        finally:
            self.listen()

    def refuse(self) -> None:
        assert self._listener is not None
        # Closing alone would leave the thread that accepts asleep on it.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._connections:
                _reset(connection)

    def listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self._port), backlog=128)
        self._port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.add(connection)
        with connection, contextlib.suppress(OSError, ValueError):  # the client left, or an outage began
            _Exchange.of(self)(connection, None, self)
        with self._lock:
            self._connections.discard(connection)

    def fault(self, request: Request) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.times and fault.when(request):
                    if fault.skip:
                        fault.skip -= 1
                        continue
                    fault.times -= 1
                    return fault
        return None

    def note(self, request: Request, status: int) -> None:
        with self._lock:
            self.journal.append((request.method, request.path, status))


def _reset(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.shutdown(socket.SHUT_RDWR)


class _Exchange(BaseHTTPRequestHandler):
    """One connection of a client: each request is read whole, passed on, and answered whole."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = (
        True  # a head and a body are two writes: the second would wait for the first one's receipt
    )
    proxy: FaultProxy

    @classmethod
    def of(cls, proxy: FaultProxy) -> "type[_Exchange]":
        return type("_Exchange", (cls,), {"proxy": proxy})

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        request = Request(self.command, self.path, {k.lower(): v for k, v in self.headers.items()})
        fault = self.proxy.fault(request)
        if fault and fault.act == "answer":
            return self._refuse(fault)
        if fault and fault.act == "drop":
            return self._hang_up()
        if fault and fault.act == "say":
            return self._say(fault.pieces(request))
        try:
            status, headers, data = self._ask(request, body)
        except (OSError, HTTPException):  # the server is away: so is this connection
            return self._hang_up()
        self.proxy.note(request, status)
        if fault and fault.act == "cut":
            return self._hang_up()
        if fault and fault.act == "delay":
            self.proxy._ended.wait(fault.seconds)
        if fault and fault.act == "change":
            lines = [f"HTTP/1.1 {status} Status", *(f"{name}: {value}" for name, value in headers)]
            self._say(iter([fault.change(request, "\r\n".join(lines).encode() + b"\r\n\r\n" + data)]))
        else:
            self._reply(status, headers, data)
        return None

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass

    def _ask(self, request: Request, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = HTTPConnection(self.proxy.upstream, timeout=60)
        with contextlib.closing(connection):
            connection.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():  # Host too: it is part of the signature
                if name.lower() not in {"expect", "connection", *self.proxy.without}:
                    connection.putheader(name, value)
            connection.putheader("Connection", "close")
            connection.endheaders(body)
            response = connection.getresponse()
            return response.status, response.getheaders(), response.read()

    def _reply(self, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            bodiless = name.lower() == "content-length" and self.command == "HEAD"
            if bodiless or name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        if self.command != "HEAD" and status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _refuse(self, fault: Fault) -> None:
        text = f"<?xml version='1.0'?><Error><Code>{fault.code}</Code><Message>as the test asks</Message></Error>"
        self._reply(
            fault.status, [("Content-Type", "application/xml")], b"" if self.command == "HEAD" else text.encode()
        )

    def _say(self, pieces: Iterator[bytes]) -> None:
        self.close_connection = True
        for piece in pieces:
            self.wfile.write(piece)

    def _hang_up(self) -> None:
        self.close_connection = True
        _reset(self.connection)


@contextlib.contextmanager
def fault_proxy(endpoint: str) -> Iterator[FaultProxy]:
    """A proxy on a free port of loopback, as long as the block."""
    proxy = FaultProxy(urlsplit(endpoint).netloc)
    proxy.listen()
    try:
        yield proxy
    finally:
        proxy._ended.set()
        proxy.refuse()
