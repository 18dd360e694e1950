"""Bad clients in numbers: rows of faults that need many connections, much memory or a watch on time. docs/faults.md lists all rows."""
import http.client
import json
import os
import resource
import socket
import statistics
import tempfile
import threading
import time

import http_peer
from http_peer import Reply, ServerTest, head

CLIENTS = 1000


def rss_mb(server):
    with open(f"/proc/{server.process.pid}/statm", encoding="ascii") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


class Many(ServerTest):
    settings = dict(header_s=2, idle_s=600)

    @classmethod
    def setUpClass(cls):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 2 * CLIENTS + 200
        if soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))     # the server inherits it
        super().setUpClass()

    def connect_all(self):
        sockets = []
        for _ in range(CLIENTS):
            s = self.server.connect()
            self.addCleanup(s.close)
            sockets.append(s)
        return sockets

    def latencies(self, n=200):
        taken = []
        for _ in range(n):
            started = time.monotonic()
            self.assertEqual(self.server.post("/v1/completions", {"prompt": "one two", "max_tokens": 1}).status, 200)
            taken.append(time.monotonic() - started)
        return taken

    def test_H01_thousand_slow_headers(self):
        """Each sends a byte now and then: closed at the deadline of the headers, all the same. Others do not notice."""
        alone = percentile(self.latencies(), 0.99)
        sockets = self.connect_all()
        started, beside = time.monotonic(), []
        for i in range(3):
            for s in sockets:
                s.send(b"GET"[i:i + 1])
            beside += self.latencies(60)
        self.assertLess(percentile(beside, 0.99), 3 * alone + 0.05)
        for s in sockets:
            s.settimeout(15)
            try:
                self.assertEqual(s.recv(4096), b"")
            except ConnectionResetError:
                pass
        self.assertLess(time.monotonic() - started, 12)
        self.assertEqual(self.server.request("GET", "/livez").status, 200)

    def test_thousand_idle_connections(self):
        """Kept alive and silent: they cost kilobytes each and no time, and each is answered when it speaks again."""
        alone, before = percentile(self.latencies(), 0.99), rss_mb(self.server)
        sockets = self.connect_all()
        for s in sockets:
            s.sendall(head("GET", "/livez"))
        for s in sockets:
            self.assertEqual(Reply(s).status, 200)
        self.assertLess(percentile(self.latencies(), 0.99), 3 * alone + 0.05)
        spent = self.server.cpu_s()
        time.sleep(1)
        self.assertLess(self.server.cpu_s() - spent, 0.2)
        self.assertLess(rss_mb(self.server) - before, 100)
        for s in sockets:
            s.sendall(head("GET", "/livez"))
        for s in sockets:
            self.assertEqual(Reply(s).status, 200)


class Bodies(ServerTest):
    settings = dict(body_s=1, max_body=16 << 20)

    def test_H02_memory_of_bodies_that_stop(self):
        """Thirty times 4 of 5 MB: at the deadline the connections are closed, and the memory is free."""
        self.assertEqual(self.server.post("/tokenize", {"prompt": "x"}).status, 200)
        before = rss_mb(self.server)
        body = b'{"prompt":"' + b"a" * 4000000
        sockets = []
        for _ in range(30):
            s = self.server.connect()
            self.addCleanup(s.close)
            s.sendall(head("POST", "/v1/completions", headers={"Content-Length": 5000000}) + body)
            sockets.append(s)
        self.assertGreater(rss_mb(self.server) - before, 40)
        for s in sockets:
            s.settimeout(10)
            try:
                while s.recv(65536):
                    pass
            except ConnectionResetError:
                pass
        deadline = time.monotonic() + 5
        while rss_mb(self.server) - before > 30:
            self.assertLess(time.monotonic(), deadline, f"{rss_mb(self.server) - before:.0f} MB more than before")
            time.sleep(0.05)

    def test_H07_time_of_bad_json(self):
        """Under 50 ms of processor time a MiB, whatever the body holds."""
        for piece in (b"[", b"{", b'{"a":', b'"', b"1,", b"[],", b'"a",', b'{"":{}},', b"\\u0041", b"\xff", b" ", b"9", b"-", b"1e9,", b"\xe2\x82"):
            for front in (b"", b"[", b'["'):
                body = front + piece * ((4 << 20) // len(piece))
                with self.subTest(piece=piece, front=front):
                    spent = self.server.cpu_s()
                    reply = self.server.post("/tokenize", body)
                    self.assertEqual((reply.status, reply.error()["code"]), (400, "invalid_json"))
                    self.assertLess(self.server.cpu_s() - spent, 4 * 0.05 + 0.02)       # the clock of processes has ticks of 10 ms

    def test_H07_minus_zero(self):
        self.assertEqual(self.server.post("/v1/completions", b'{"prompt":[-0,1],"max_tokens":1,"temperature":-0,"top_k":-0.0,"seed":-0}').status, 200)


class Schemas(ServerTest):
    def ask(self, fields):
        """The status and code, within 100 ms of processor time, clock ticks aside."""
        spent = self.server.cpu_s()
        reply = self.server.post("/v1/completions", {"prompt": "a", "max_tokens": 1, **fields})
        self.assertLess(self.server.cpu_s() - spent, 0.13)
        return reply.status, None if reply.status == 200 else reply.error()["code"]

    def test_H10_schemas(self):
        """Refused in time, or a grammar."""
        def deep(n, inner):
            for _ in range(n):
                inner = {"type": "array", "items": inner}
            return inner
        wide = {"type": "object", "properties": {f"k{i}": {"type": "string"} for i in range(5000)}}
        refused, any_of = (400, "invalid_schema"), {"anyOf": [{"type": "string", "maxLength": 1000}] * 500}
        for schema, answers in (
                (deep(28, {"type": "integer"}), [(200, None)]), (deep(40, {"type": "integer"}), [refused]), ({"$ref": "#"}, [refused]),
                ({"$ref": "https://example.com/schema"}, [refused]), ({"$ref": "file:///etc/passwd"}, [refused]), ({"$ref": "#/$defs/none"}, [refused]),
                ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, [refused]),
                ({"type": "array", "items": {"$ref": "#"}}, [(200, None)]), ({"allOf": [{"$ref": "#"}]}, [refused]), ({"anyOf": [{"$ref": "#"}]}, [refused]),
                ({"enum": [str(i) for i in range(100000)]}, [refused]), ({"type": "string", "maxLength": 2**31}, [refused]),
                ({"type": "array", "minItems": 2**31}, [refused]), ({"type": "array", "maxItems": 10**6, "items": any_of}, [refused]),
                (wide, [(200, None), refused]), (any_of, [(200, None), refused]), ({"minimum": 1e300, "maximum": -1e300}, [(200, None), refused]),
                ({"pattern": "^+"}, [refused, (200, None)]), ({"pattern": "(a+)+$"}, [refused, (200, None)]), ({"pattern": "a{1,1000000}"}, [refused]),
                ({"pattern": "(" * 30000}, [refused]), ({"pattern": "((a{0,100}){0,100}){0,100}"}, [refused])):
            with self.subTest(schema=str(schema)[:80]):
                form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "string", **schema} if "pattern" in schema else schema}}
                self.assertIn(self.ask({"response_format": form}), answers)
        levels = b'{"prompt":"a","response_format":{"type":"json_object","schema":' + b'{"items":' * 100000 + b"{}" + b"}" * 100000 + b"}}"
        self.refused(self.server.post("/v1/completions", levels), 400, "invalid_json")

    def test_H11_rules(self):
        """Rules in EBNF: parentheses, left recursion, long chains."""
        for rules in ("root ::= " + "(" * 60000, "root ::= " + "(" * 60000 + "\"a\"" + ")" * 60000, "root ::= root \"a\"", "root ::= a\na ::= root | root a",
                      "root ::= r0\n" + "".join(f"r{i} ::= r{i + 1}\n" for i in range(5000))):
            for field in ({"grammar": rules}, {"structured_outputs": {"grammar": rules}}):
                with self.subTest(rules=rules[:40]):
                    self.assertEqual(self.ask(field), (400, "invalid_schema"))


class Content(ServerTest):
    def test_H16_nothing_is_fetched(self):
        """Addresses in messages: refused, and neither a connection nor an open file comes of it."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        listener.settimeout(0)
        with tempfile.TemporaryDirectory() as folder:
            fifo = os.path.join(folder, "fifo")
            os.mkfifo(fifo)
            for url in (f"http://127.0.0.1:{listener.getsockname()[1]}/a.png", f"file://{fifo}", fifo, "http://169.254.169.254/latest/meta-data"):
                for part in ({"type": "image_url", "image_url": {"url": url}}, {"type": "input_image", "image_url": url},
                             {"type": "input_audio", "input_audio": {"data": url}}, {"type": "file", "file": {"file_url": url}},
                             {"type": "video_url", "video_url": {"url": url}}):
                    for path in ("/v1/chat/completions", "/apply-template", "/tokenize"):
                        reply = self.server.post(path, {"messages": [{"role": "user", "content": [part]}]})
                        self.refused(reply, 400, "unsupported_content", "messages[0].content[0]")
                with self.assertRaises(OSError):        # ENXIO: nobody reads it
                    os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
                with self.assertRaises(BlockingIOError):
                    listener.accept()


class Keys(ServerTest):
    KEY = "the-key-0123456789-of-this-test-of-times"

    @classmethod
    def setUpClass(cls):
        cls.file = tempfile.NamedTemporaryFile(mode="w", suffix=".keys")
        cls.file.write(cls.KEY + "\n")
        cls.file.flush()
        os.chmod(cls.file.name, 0o600)
        cls.settings = dict(keys=cls.file.name)
        super().setUpClass()
        cls.addClassCleanup(cls.file.close)

    def test_H13_key_of_a_megabyte(self):
        for size in (40000, 1 << 20):
            with self.server.connect() as s:
                try:
                    s.sendall(head("GET", "/v1/models", headers={"Authorization": "Bearer " + "a" * size}))
                    self.assertIn(Reply(s).status, (401, 431))
                except (BrokenPipeError, ConnectionResetError):
                    pass            # closed with our bytes unread
        self.assertEqual(self.server.request("GET", "/v1/models", headers={"Authorization": f"Bearer {self.KEY}"}).status, 200)

    def test_H13_ten_thousand_timed_guesses(self):
        """Guesses that share nothing with the key, half of it, all but its last byte: their times differ by less than their noise."""
        guesses = ["x" * len(self.KEY), self.KEY[:20] + "x" * (len(self.KEY) - 20), self.KEY[:-1] + "x", self.KEY + "x"]
        times = [[] for _ in guesses]
        connection = http.client.HTTPConnection("localhost", self.server.port, timeout=http_peer.PATIENCE_S)
        self.addCleanup(connection.close)
        for i in range(10000):
            started = time.perf_counter_ns()
            connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {guesses[i % len(guesses)]}"})
            reply = connection.getresponse()
            reply.read()
            times[i % len(guesses)].append(time.perf_counter_ns() - started)
            self.assertEqual(reply.status, 401)
            if reply.will_close:
                connection.close()
        medians = [statistics.median(t) for t in times]
        spread = statistics.median(abs(x - medians[0]) for x in times[0])
        self.assertLess(max(medians) - min(medians), spread, medians)


class Overload(ServerTest):
    # 4 sequences of 20 tokens of 5 ms: 40 requests a second.
    settings = dict(max_running=4, max_waiting=8, step_ms=5)

    def test_H15_ten_times_the_capacity(self):
        """What is admitted starts within the time of the queue; the rest is refused at once, with a time to come back; memory is bounded."""
        seconds, clients, rate = 4, 40, 10
        body = head("POST", "/v1/completions", json.dumps({"prompt": "one two three", "max_tokens": 20, "ignore_eos": True, "stream": True}).encode())
        admitted, refused, lock = [], [], threading.Lock()
        before, until = rss_mb(self.server), time.monotonic() + seconds

        def client(i):
            time.sleep(i / clients / rate)
            while time.monotonic() < until:
                started = time.monotonic()
                with self.server.connect() as s:
                    s.sendall(body)
                    reply = Reply(s, whole=False)
                    taken = time.monotonic() - started
                    with lock:
                        if reply.status == 200:
                            admitted.append(taken)
                        else:
                            refused.append((reply.status, int(reply.headers.get("retry-after", 0)), taken))
                    if reply.status == 200:
                        self.assertEqual(list(reply.events())[-1], b"data: [DONE]")
                time.sleep(max(0, started + 1 / rate - time.monotonic()))

        threads = [threading.Thread(target=client, args=(i,)) for i in range(clients)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertGreater(len(admitted), 40)
        self.assertGreater(len(refused), 2 * len(admitted))
        self.assertEqual({status for status, _, _ in refused}, {503})
        self.assertGreaterEqual(min(after for _, after, _ in refused), 1)
        self.assertLess(statistics.median(taken for _, _, taken in refused), 0.01)
        # 12 requests in front of it, 40 a second; the rest is for a busy machine.
        self.assertLess(percentile(admitted, 0.9), 3 * 12 / 40)
        self.assertLess(rss_mb(self.server) - before, 50)
        self.server.wait_idle()


if __name__ == "__main__":
    http_peer.main()
