"""serving_load: many clients of a server at once, in one thread that costs little CPU beside it, and what each of them saw when.

Bytes are kept as they come, with the time of each read; they are taken apart (chunks, events, JSON) when the load is over. So a token costs
the client one read of a socket. The clients are sockets in one epoll loop: asyncio would cost several times as much a token, of cores
that the server computes on. Each request has a connection of its own.
"""
import collections
import json
import math
import selectors
import socket
import time
from dataclasses import dataclass, field

READ_BYTES = 1 << 16


@dataclass
class Request:
    """What a client sends. `headers` come after those that every request has; `tag` is the caller's."""
    path: str
    body: dict | None = None
    headers: dict = field(default_factory=dict)
    tag: object = None

    def encode(self, host, port):
        data = b"" if self.body is None else json.dumps(self.body).encode()
        lines = [f"{'GET' if self.body is None else 'POST'} {self.path} HTTP/1.1", f"Host: {host}:{port}", "Connection: close",
                 f"Content-Length: {len(data)}", "Content-Type: application/json", *(f"{k}: {v}" for k, v in self.headers.items())]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


@dataclass
class Client:
    """Sends its requests one after the other, the first of them `start_s` after the load began. Clients may share an iterator."""
    requests: object
    start_s: float = 0.0


class Reply:
    """What came back of one request: times are those of time.monotonic(), in seconds."""

    def __init__(self, request, sent_s):
        self.request, self.sent_s, self.end_s = request, sent_s, sent_s
        self.reads = []                 # (time, bytes)
        self.error = None               # what went wrong, in one line
        self.cut = False                # the load was stopped before its end came: no error
        self.status, self.body = 0, b""
        self.events, self.token_s, self.usage, self.text = [], [], None, ""

    def parse(self):
        """Take apart what was read. An event's time is that of the read that brought its last byte."""
        raw = b"".join(data for _, data in self.reads)
        head, empty, rest = raw.partition(b"\r\n\r\n")
        if not empty:
            self.error = self.error or "the connection ended before the headers did"
            return
        self.status = int(head.split(None, 2)[1])
        start = len(head) + len(empty)
        if b"transfer-encoding: chunked" in head.lower():
            pieces, whole = dechunk(raw, start)
            if not whole:
                self.error = self.error or (None if self.cut else "the connection ended before the reply did")
        else:
            pieces = [(rest, len(raw))]
        self.body = b"".join(piece for piece, _ in pieces)
        if self.status != 200:
            self.error = self.error or f"status {self.status}: {self.body[:200].decode(errors='replace')}"
        elif b"text/event-stream" in head.lower():
            self.parse_events(pieces)
        self.reads.clear()

    def parse_events(self, pieces):
        ends, total = [], 0             # where in the bytes each read ended
        for at, data in self.reads:
            total += len(data)
            ends.append((total, at))
        ends, text, done = iter(ends), b"", False
        end, at = next(ends)
        for piece, last in pieces:
            text += piece
            while end < last:
                end, at = next(ends)
            *whole, text = text.split(b"\n\n")
            for event in whole:
                if not event.startswith(b"data: "):
                    continue            # a ping
                if event == b"data: [DONE]":
                    done = True
                    continue
                self.take_event(json.loads(event[len(b"data: "):]), at)
        if not done and not self.cut:
            self.error = self.error or "the stream has no [DONE]"

    def take_event(self, event, at):
        if "error" in event:
            self.error = self.error or f"an error in the stream: {event['error']}"
        self.events.append((at, event))
        self.usage = event.get("usage") or self.usage
        for choice in event.get("choices", ()):
            piece = choice.get("text") or (choice.get("delta") or {}).get("content") or ""
            if piece:
                self.text += piece
                self.token_s.append(at)

    @property
    def ttft_s(self):
        return self.token_s[0] - self.sent_s

    @property
    def gaps_s(self):
        return [b - a for a, b in zip(self.token_s, self.token_s[1:])]


def dechunk(raw, at):
    """[(bytes, where in raw the chunk ends)] of a chunked body, and whether its last chunk came."""
    pieces = []
    while True:
        line = raw.find(b"\r\n", at)
        if line < 0:
            return pieces, False
        size = int(raw[at:line].split(b";")[0], 16)
        if not size:
            return pieces, True
        end = line + 2 + size
        if end + 2 > len(raw):
            return pieces, False
        pieces.append((raw[line + 2:end], end + 2))
        at = end + 2


@dataclass
class Load:
    replies: list               # in the order in which they ended
    began_s: float
    cpu_s: float                # of this process while the load ran
    wall_s: float

    @property
    def cpu_share(self):
        """Cores that the clients took."""
        return self.cpu_s / self.wall_s

    def errors(self):
        """How often each thing went wrong."""
        return collections.Counter(r.error for r in self.replies if r.error)


class Loop:
    def __init__(self, host, port, clients, timeout_s, on_end):
        self.host, self.port, self.on_end = host, port, on_end
        self.clients = [(client.start_s, iter(client.requests)) for client in clients]
        self.selector = selectors.DefaultSelector()
        self.open, self.replies = {}, []                # {socket: (reply, requests of its client)}
        self.stopped = False
        self.began = time.monotonic()
        self.deadline = self.began + timeout_s

    def send_next(self, requests):
        request = next(requests, None)
        if request is None:
            return
        reply = Reply(request, time.monotonic())
        s = socket.socket()
        try:
            # A connection within the machine is made, and a request of some KB taken, at once.
            s.connect((self.host, self.port))
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            s.sendall(request.encode(self.host, self.port))
        except OSError as e:
            self.end(s, reply, requests, str(e))
            return
        s.setblocking(False)
        self.open[s] = reply, requests
        self.selector.register(s, selectors.EVENT_READ, s)

    def end(self, s, reply, requests, error=None):
        reply.error, reply.end_s = error, time.monotonic()
        if s in self.open:
            self.selector.unregister(s)
            del self.open[s]
        s.close()
        self.replies.append(reply)
        if self.on_end and self.on_end(reply):
            self.stopped = True
        if reply.end_s < self.deadline and not self.stopped:
            self.send_next(requests)

    def read(self, s):
        reply, requests = self.open[s]
        try:
            data = s.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as e:
            self.end(s, reply, requests, str(e))
            return
        if data:
            reply.reads.append((time.monotonic(), data))
        else:
            self.end(s, reply, requests)

    def run(self):
        waiting = sorted(self.clients, key=lambda c: c[0])
        while waiting or self.open:
            now = time.monotonic()
            if self.stopped or now >= self.deadline:
                self.leave(None if self.stopped else "the time of the load was over")
                return
            while waiting and waiting[0][0] <= now - self.began:
                self.send_next(waiting.pop(0)[1])
            until = min(self.deadline, self.began + waiting[0][0]) if waiting else self.deadline
            for key, _ in self.selector.select(max(until - time.monotonic(), 0)):
                self.read(key.data)

    def leave(self, error):
        self.on_end = None
        for s, (reply, requests) in list(self.open.items()):
            reply.cut = error is None
            self.end(s, reply, requests, error)

    def close(self):
        for s in self.open:
            s.close()
        self.selector.close()


def run_load(server, clients, timeout_s, on_end=None):
    """Let these clients send all their requests to `server` (it has .host and .port); what has no reply after timeout_s is an error.
    on_end(reply) is called at the end of each; where it returns True, the clients leave, whatever is still to come."""
    loop = Loop(server.host, server.port, clients, timeout_s, on_end)
    cpu = time.process_time()
    try:
        loop.run()
    finally:
        loop.close()
    load = Load(loop.replies, loop.began, time.process_time() - cpu, time.monotonic() - loop.began)
    for reply in load.replies:
        reply.parse()
    return load


def quantile(values, q):
    """The smallest value that at least the share q of them does not exceed."""
    values = sorted(values)
    return values[max(math.ceil(q * len(values)) - 1, 0)] if values else math.nan
