"""calcom_http: HTTP/1.1 on asyncio, as little of it as a client of an API can meet.

Connections are kept alive; requests have Content-Length or a chunked body; a request that was
pipelined waits for the answer to the one before.  The application is a function of the connection
and the request, which answers at once or later.
"""
import asyncio
import http
import json
import socket
import struct
import time
import urllib.parse

HEAD_MAX, BODY_MAX = 65536, 1 << 20
REASONS = {status.value: status.phrase for status in http.HTTPStatus}
LINGER_NONE = struct.pack("ii", 1, 0)


class Request:
    """A request; query has the last of each name."""

    __slots__ = ("method", "target", "path", "headers", "body", "key", "at", "serial", "_query")

    def __init__(self, method, target, headers, body):
        self.method, self.target, self.headers, self.body = method, target, headers, body
        self.path = target.partition("?")[0]
        scheme, _, key = headers.get("authorization", "").partition(" ")
        self.key = key.strip() if scheme.lower() == "bearer" else None
        self.at = time.monotonic()
        self.serial = 0
        self._query = None

    @property
    def query(self):
        """The query's parameters."""
        if self._query is None:
            self._query = dict(urllib.parse.parse_qsl(self.target.partition("?")[2],
                                                      keep_blank_values=True))
        return self._query


def split_chunks(data):
    """The body of a chunked request: (body, rest), or None while it is not all there."""
    body = b""
    while True:
        size, found, data = data.partition(b"\r\n")
        if not found:
            return None
        length = int(size.partition(b";")[0], 16)
        if len(data) < length + 2:
            return None
        body, data = body + data[:length], data[length + 2:]
        if length == 0:
            return body, data


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, application, connections):
        self.application, self.connections = application, connections
        self.buffer, self.busy, self.keep_alive, self.continued = b"", False, True, False
        self.transport = None
        self.gone = asyncio.Event()
        self._can_write = asyncio.Event()
        self._can_write.set()

    # --- asyncio ----------------------------------------------------------------------------

    def connection_made(self, transport):
        self.transport = transport
        self.connections.add(self)

    def connection_lost(self, exc):
        self.connections.discard(self)
        self.gone.set()
        self._can_write.set()

    def data_received(self, data):
        self.buffer += data
        self.advance()

    def pause_writing(self):
        self._can_write.clear()

    def resume_writing(self):
        self._can_write.set()

    # --- requests ---------------------------------------------------------------------------

    def advance(self):
        """Takes the next request, when the one before is done and it is all there."""
        while not self.busy and not self.gone.is_set():
            try:
                request = self.parse()
            except (ValueError, UnicodeError):
                self.keep_alive = False
                self.busy = True
                self.answer(400, "bad request", {})
                return
            if request is None:
                return
            self.busy = True
            self.application(self, request)

    def parse(self):
        """A whole request from the buffer, or None."""
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self.buffer) > HEAD_MAX:
                raise ValueError("the head is too long")
            return None
        lines = self.buffer[:end].decode("latin-1").split("\r\n")
        method, target, version = lines[0].split(" ")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        found = self.take_body(headers, self.buffer[end + 4:])
        if found is None:
            return None
        body, self.buffer = found
        self.keep_alive = version != "HTTP/1.0" and headers.get("connection", "") != "close"
        self.continued = False
        return Request(method, target, headers, body)

    def take_body(self, headers, data):
        """(body, rest), or None while the body is not all there."""
        if headers.get("expect", "").lower() == "100-continue" and not self.continued:
            self.continued = True
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return split_chunks(data)
        length = int(headers.get("content-length", 0))
        if not 0 <= length <= BODY_MAX:
            raise ValueError("the body is too long")
        return (data[:length], data[length:]) if len(data) >= length else None

    # --- answers ----------------------------------------------------------------------------

    def head(self, status, length, headers):
        """The head of an answer; length None leaves Content-Length away."""
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Unknown')}"]
        merged = {"Content-Type": "application/json; charset=utf-8", **headers}
        if length is not None:
            merged["Content-Length"] = length
        if not self.keep_alive:
            merged["Connection"] = "close"
        lines += [f"{name}: {value}" for name, value in merged.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def answer(self, status, body, headers):
        """A whole answer; body is bytes, text, or anything for JSON."""
        if not isinstance(body, bytes):
            body = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.write(self.head(status, len(body), headers) + body)
        self.done()

    def write(self, data):
        """Bytes on the wire, if the client is still there."""
        if not self.gone.is_set():
            self.transport.write(data)

    def done(self):
        """The request has been answered."""
        self.busy = False
        if not self.keep_alive:
            self.close()
        elif self.buffer:
            asyncio.get_running_loop().call_soon(self.advance)

    def close(self):
        """Ends the connection in an orderly way."""
        if self.transport is not None:
            self.transport.close()

    def reset(self):
        """Ends it with a reset (RST): the client sees an error."""
        if self.gone.is_set():
            return
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
        self.transport.abort()

    async def gone_within(self, seconds):
        """Waits so long (None: for ever); true as soon as the client has left."""
        try:
            await asyncio.wait_for(self.gone.wait(), seconds)
        except asyncio.TimeoutError:
            return False
        return True

    async def writable(self):
        """Waits until the client has read enough."""
        await self._can_write.wait()
