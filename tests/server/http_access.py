"""Who may ask: keys of a file that changes, TLS, names and sites, and the limits an operator sets. The engine repeats its prompt."""
import contextlib
import hashlib
import json
import os
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import unittest

import http_behaviour as plain
import http_hostile as hostile
import http_peer
from http_peer import Certificate, Reply, Server, ServerTest, head

ENDLESS = dict(plain.ENDLESS, max_tokens=2000)


def hashed(name, key, rest=""):
    return f"{name}:sha256:{hashlib.sha256(key.encode()).hexdigest()} {rest}\n"


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


class KeyTest(plain.Requests):
    """A server of its own for each test, with a file of keys."""
    lines = hashed("alice", "key-of-alice", "limit=2") + "key-of-nobody\n"
    more = {}

    @classmethod
    def setUpClass(cls):
        pass

    @classmethod
    def tearDownClass(cls):
        pass

    def setUp(self):
        self.file = tempfile.NamedTemporaryFile(mode="w", suffix=".keys")
        self.addCleanup(self.file.close)
        self.write(self.lines)
        self.server = Server(**{**dict(keys=self.file.name, step_ms=5, max_running=64), **self.more})
        self.addCleanup(self.stop)

    def stop(self):
        log = self.server.log()
        self.assertEqual(self.server.stop(), 0)
        self.assertNotIn("key-of-", log)

    def write(self, text):
        """Replaced whole, as an operator's editor or a secret's mount does it."""
        with open(self.file.name + ".new", "w", encoding="ascii") as f:
            f.write(text)
        os.rename(self.file.name + ".new", self.file.name)

    def reload(self, says):
        before = self.server.log().count(says)
        self.server.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 10
        while self.server.log().count(says) == before:
            self.assertLess(time.monotonic(), deadline, self.server.log())
            time.sleep(0.01)

    def start(self, key, **fields):
        s = self.server.connect()
        self.addCleanup(s.close)
        s.sendall(head("POST", "/v1/completions", json.dumps({**ENDLESS, **fields}).encode(), bearer(key)))
        return s

    def status(self, key):
        return self.server.post("/v1/completions", {"prompt": "a", "max_tokens": 1}, bearer(key)).status

    def wait_running(self, n):
        deadline = time.monotonic() + 5
        while self.server.running() != (n, 0):
            self.assertLess(time.monotonic(), deadline, self.server.running())
            time.sleep(0.01)


class Keys(KeyTest):
    def test_names_are_logged(self):
        self.assertEqual((self.status("key-of-alice"), self.status("key-of-nobody"), self.status("key-of-alic")), (200, 200, 401))
        self.assertEqual(self.status(hashlib.sha256(b"key-of-alice").hexdigest()), 401)
        self.server.wait_for("key=alice\n")
        self.server.wait_for("key=line-2\n")

    def test_limit_of_a_key(self):
        sockets = [self.start("key-of-alice") for _ in range(2)]
        self.wait_running(2)
        reply = Reply(self.start("key-of-alice"))
        self.assertIn("2 requests", self.refused(reply, 429, "rate_limited")["message"])
        self.assertGreaterEqual(int(reply.headers["retry-after"]), 1)
        self.assertEqual(self.status("key-of-nobody"), 200)
        self.assertEqual(self.server.request("GET", "/v1/models", headers=bearer("key-of-alice")).status, 200)
        for s in sockets:
            s.close()
        self.server.wait_idle()
        self.assertEqual(self.status("key-of-alice"), 200)

    def test_limit_after_slow_bodies(self):
        """Headers that came before the limit was reached are no way around it."""
        data = head("POST", "/v1/completions", json.dumps(ENDLESS).encode(), bearer("key-of-alice"))
        sockets = [self.server.connect() for _ in range(6)]
        for s in sockets:
            self.addCleanup(s.close)
            s.sendall(data[:-5])
        time.sleep(0.2)
        for s in sockets:
            s.sendall(data[-5:])
        self.wait_running(2)
        refused = 0
        for s in sockets:
            s.settimeout(0.3)
            try:
                self.refused(Reply(s), 429, "rate_limited")
                refused += 1
            except TimeoutError:
                pass
        self.assertEqual(refused, 4)

    def test_other_headers(self):
        """Anthropic's header counts on its own routes alone."""
        key = {"X-Api-Key": "key-of-alice"}
        self.assertNotEqual(self.server.post("/v1/messages", {}, key).status, 401)
        self.assertEqual(self.server.post("/v1/messages", {}, {"X-Api-Key": "key-of-bob"}).status, 401)
        self.refused(self.server.post("/v1/completions", {"prompt": "a"}, key), 401, "invalid_api_key")
        self.refused(self.server.request("OPTIONS", "/v1/models"), 401, "invalid_api_key")
        reply = self.server.request("OPTIONS", "/v1/models", headers=bearer("key-of-alice"))
        self.assertEqual((reply.status, reply.headers["allow"]), (204, "GET, HEAD, OPTIONS"))

    def test_guesses(self):
        """Refused one by one, and nothing else happens. (That all cost the same time is a matter of reading keys.c.)"""
        for i in range(300):
            self.assertEqual(self.server.request("GET", "/v1/models", headers=bearer(f"key-of-{i}")).status, 401)
        self.assertEqual(self.server.request("GET", "/version", headers=bearer("k" * 1000000)).status, 431)
        self.assertEqual(self.status("key-of-alice"), 200)


class Reload(KeyTest):
    def test_keys_come_and_go(self):
        stream = self.server.connect()
        self.addCleanup(stream.close)
        stream.sendall(head("POST", "/v1/completions", json.dumps({**ENDLESS, "max_tokens": 400, "stream": True}).encode(), bearer("key-of-alice")))
        reply = Reply(stream, whole=False)
        self.assertEqual(reply.status, 200)
        self.write(hashed("bob", "key-of-bob"))
        self.reload("keys read again")
        self.assertEqual((self.status("key-of-bob"), self.status("key-of-alice"), self.status("key-of-nobody")), (200, 401, 401))
        events = list(reply.events())               # what was in flight ends as if nothing had been
        self.assertEqual(events[-1], b"data: [DONE]")
        self.assertEqual(len(events), 402)          # tokens, the finish, [DONE]
        self.server.wait_for("key=alice\n")
        self.write(hashed("bob", "key-of-bob") + hashed("alice", "key-of-alice"))
        for _ in range(5):
            self.server.process.send_signal(signal.SIGHUP)
        self.reload("keys read again")
        self.assertEqual((self.status("key-of-bob"), self.status("key-of-alice")), (200, 200))

    def test_a_bad_file_changes_nothing(self):
        for text in ("", "alice:sha256:12\n", hashed("alice", "key-of-alice", "limit=0"), "key-of-alice\nkey-of-alice\n"):
            self.write(text)
            n_errors = self.server.log().count(" error: ")
            self.reload(" error: ")
            self.assertEqual(self.server.log().count(" error: "), n_errors + 1)
            self.assertEqual((self.status("key-of-alice"), self.status("key-of-nobody")), (200, 200))

    def test_limits_change(self):
        sockets = [self.start("key-of-alice") for _ in range(2)]
        self.wait_running(2)
        self.write(hashed("anna", "key-of-alice", "limit=3") + "key-of-nobody\n")
        self.reload("keys read again")
        sockets.append(self.start("key-of-alice"))      # those in flight before still count
        self.wait_running(3)
        self.refused(Reply(self.start("key-of-alice")), 429, "rate_limited")
        for s in sockets:
            s.close()
        self.server.wait_idle()
        self.server.wait_for("key=anna\n")


class ReloadWhileLoading(KeyTest):
    more = dict(load_ms=1500)

    def test_it_waits(self):
        self.write(hashed("bob", "key-of-bob"))
        self.server.process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        self.assertEqual(self.server.request("GET", "/v1/models", headers=bearer("key-of-alice")).status, 200)
        self.server.wait_for("keys read again")
        self.assertLess(self.server.log().index("listening on"), self.server.log().index("keys read again"))
        self.assertEqual(self.server.request("GET", "/v1/models", headers=bearer("key-of-alice")).status, 401)


class Status(ServerTest):
    settings = dict(step_ms=5)

    def test_sigusr1(self):
        with self.server.connect() as s:
            s.sendall(head("POST", "/v1/completions", json.dumps({**ENDLESS, "stream": True}).encode()))
            Reply(s, whole=False)
            self.server.process.send_signal(signal.SIGUSR1)
            self.server.wait_for("status: connections: 1, requests in flight: 1\n")
            self.server.wait_for("status: replica 0: 1 running, 0 waiting")


class Notify(unittest.TestCase):
    def test_life_under_systemd(self):
        """By a path and by an abstract name: ready, reloading, ready, stopping."""
        with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile("w", suffix=".keys") as keys:
            keys.write("a-key\n")
            keys.flush()
            for name in (folder + "/notify", f"@fourway-test-{os.getpid()}"):
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
                    s.bind(name.replace("@", "\0"))
                    s.settimeout(10)
                    server = Server(environment={"NOTIFY_SOCKET": name}, keys=keys.name)
                    self.addCleanup(server.process.kill)
                    self.assertEqual(s.recv(1000), b"READY=1")
                    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
                    server.process.send_signal(signal.SIGHUP)
                    lines = s.recv(1000).decode().split("\n")
                    self.assertEqual(lines[0], "RELOADING=1")
                    field, _, value = lines[1].partition("=")
                    self.assertEqual(field, "MONOTONIC_USEC")
                    self.assertTrue(before <= int(value) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)
                    self.assertEqual(s.recv(1000), b"READY=1")
                    server.process.send_signal(signal.SIGTERM)
                    self.assertEqual(s.recv(1000), b"STOPPING=1")
                    self.assertEqual(server.process.wait(10), 0)
                    self.assertNotIn("warn", server.log())
        server = Server(environment={"NOTIFY_SOCKET": "/nonexistent/notify"})
        self.addCleanup(server.stop)
        server.wait_for("systemd cannot be told")       # and goes on


class Names(ServerTest):
    settings = dict(host="llm.example.org", origin="http://page.example")

    def test_host(self):
        for host, status in (("llm.example.org", 200), ("LLM.example.org:443", 200), ("localhost:1", 200), ("evil.example", 403),
                             ("llm.example.org.evil.example", 403), ("llm.example.org:80x", 403)):
            self.assertEqual(self.server.request("GET", "/livez", headers={"Host": host}).status, status, host)

    def test_preflight(self):
        ask = {"Origin": "http://page.example", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-stainless-os"}
        reply = self.server.request("OPTIONS", "/v1/chat/completions", headers=ask)
        self.assertEqual(reply.status, 204)
        allowed = [name.strip().lower() for name in reply.headers["access-control-allow-headers"].split(",")]
        self.assertTrue({"authorization", "content-type", "*"} <= set(allowed), allowed)
        self.assertEqual((reply.headers["access-control-allow-origin"], reply.headers["vary"]), ("http://page.example", "Origin"))
        self.assertNotIn("access-control-allow-credentials", reply.headers)
        refused = self.server.post("/v1/completions", b"{", {"Origin": "http://page.example"})      # a page must be able to read errors
        self.assertEqual((refused.status, refused.headers["access-control-allow-origin"]), (400, "http://page.example"))


class Times(plain.Requests):
    settings = dict(step_ms=10, max_running=1, max_waiting=300, queue_s=0.5, request_s=2)

    def test_queue_and_request(self):
        running = self.server.connect()
        self.addCleanup(running.close)
        running.sendall(head("POST", "/v1/completions", json.dumps(ENDLESS).encode()))
        time.sleep(0.1)
        started = time.monotonic()
        self.refused(self.server.post("/v1/completions", {"prompt": "a"}), 504, "deadline_exceeded")
        self.assertLess(abs(time.monotonic() - started - 0.75), 0.5)       # it is looked at every quarter of a second
        self.refused(Reply(running), 504, "deadline_exceeded")
        self.assertLess(abs(time.monotonic() - started - 2), 1)
        self.server.wait_idle()
        stream = self.open_stream("/v1/completions", {**ENDLESS, "timeout": 0.3})
        self.assertIn(b"deadline_exceeded", list(stream.events())[-2])      # its own


class Flood(ServerTest):
    settings = dict(step_ms=20, max_running=4, max_waiting=16)

    def test_ten_times_the_capacity(self):
        """What cannot be queued is refused at once, with a time to come back; what was taken is answered whole."""
        sockets = []
        data = head("POST", "/v1/completions", json.dumps({"prompt": "one two three", "max_tokens": 5, "ignore_eos": True}).encode())
        for _ in range(200):
            sockets.append(self.server.connect())
            sockets[-1].sendall(data)
        statuses = []
        for s in sockets:
            reply = Reply(s)
            s.close()
            statuses.append(reply.status)
            if reply.status == 503:
                self.refused(reply, 503, "server_overloaded")
                self.assertTrue(1 <= int(reply.headers["retry-after"]) <= 60)
            else:
                self.assertEqual(reply.json()["usage"]["completion_tokens"], 5)
        self.assertGreaterEqual(statuses.count(200), 16)
        self.assertEqual(statuses.count(200) + statuses.count(503), 200)
        self.assertGreater(statuses.count(503), 0)

    def test_refusal_is_fast(self):
        """The median of refusals, because the machine has other things to do, too: 10 ms with room."""
        body = json.dumps({"prompt": "a " * 20000, "max_tokens": 2000, "ignore_eos": True}).encode()
        streams = []
        for n, state in ((4, (4, 0)), (16, (4, 16))):
            for _ in range(n):
                streams.append(self.server.connect())
                streams[-1].sendall(head("POST", "/v1/completions", json.dumps(ENDLESS).encode()))
            deadline = time.monotonic() + 10
            while self.server.running() != state:
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.01)
        took = []
        for _ in range(21):
            with self.server.connect() as s:
                started = time.monotonic()
                s.sendall(head("POST", "/v1/completions", body))
                reply = Reply(s)
                took.append(time.monotonic() - started)
                self.refused(reply, 503, "server_overloaded")
        self.assertLess(sorted(took)[10], 0.01, took)
        for s in streams:
            s.close()
        self.server.wait_idle()


class WaitingTokens(ServerTest):
    settings = dict(step_ms=20, max_running=1, max_waiting=100, max_tokens=2000)

    def test_bound(self):
        streams = []
        self.addCleanup(lambda: [s.close() for s in streams])
        for ids in (10, 1000, 200):     # one runs, two wait
            streams.append(self.server.connect())
            streams[-1].sendall(head("POST", "/v1/completions", json.dumps({**ENDLESS, "max_tokens": 900, "prompt": [1000] * ids}).encode()))
            time.sleep(0.2)
        self.assertEqual(self.server.running(), (1, 2))         # 1200 tokens wait
        reply = self.server.post("/v1/completions", {"prompt": [1000] * 600})
        self.refused(reply, 503, "server_overloaded")
        self.assertGreaterEqual(int(reply.headers["retry-after"]), 1)


# ---- TLS: what was tested without it, with it; and what is of TLS alone ----

CERTIFICATE = None


def setUpModule():
    global CERTIFICATE
    CERTIFICATE = Certificate()
    for case in (TlsRequests, TlsDisconnects, TlsSlowReader, TlsMany, TlsLimits, TlsCrowd, Tls):
        case.settings = {**case.settings, **CERTIFICATE.settings()}


def tearDownModule():
    CERTIFICATE.close()


class TlsRequests(plain.Requests):
    settings = plain.Completions.settings
    test_stream_is_the_text = plain.Completions.test_stream_is_the_text
    test_long_echo_is_several_events = plain.Completions.test_long_echo_is_several_events
    test_keep_alive = plain.Completions.test_keep_alive
    test_http_1_0 = plain.Completions.test_http_1_0
    TEXT = plain.Completions.TEXT


class TlsDisconnects(plain.Disconnects):
    pass


class TlsSlowReader(plain.SlowReader):
    pass


class TlsMany(plain.Many):
    pass


class TlsLimits(hostile.Limits):
    test_body_that_stops = test_slow_body = None        # the reaper knows nothing of TLS: the two others show it at work


class TlsCrowd(hostile.Crowd):
    def is_refused(self):
        with self.server.connect_plain() as s:
            s.settimeout(0.2)
            try:
                return s.recv(100) == b""
            except TimeoutError:
                return False        # it was taken, and may say something

    def test_connections_over_the_limit(self):
        """Without a handshake nothing can be said: the connection is closed."""
        with contextlib.ExitStack() as crowd:
            for _ in range(20):
                crowd.enter_context(self.server.connect())
            deadline = time.monotonic() + 10
            while not self.is_refused():
                self.assertLess(time.monotonic(), deadline)
        self.reply_of(200)


class Tls(ServerTest):
    settings = dict(header_s=1)

    def closes(self, s):
        """Within the header deadline and a second; True if nothing but an alert came."""
        s.settimeout(3)
        got = b""
        try:
            while more := s.recv(4096):
                got += more
        except ConnectionResetError:
            pass
        return not got or got[0] == 21

    def test_handshakes_that_are_none(self):
        hello = bytes.fromhex("160300") + b"\0\x2d\x01\0\0\x29\x03\0" + b"r" * 32 + b"\0\0\x02\0\x35\x01\0"
        for data in (b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", hello, b"", b"\x16", b"\x16\x03\x01\xff\xff" + b"x" * 70000, bytes(range(256))):
            with self.subTest(data=data[:20]), self.server.connect_plain() as s:
                try:
                    s.sendall(data)
                except OSError:
                    continue                        # refused while it was being sent
                self.assertTrue(self.closes(s))
        self.assertEqual(self.server.request("GET", "/livez").status, 200)

    def test_waiting_takes_no_cpu(self):
        """A handshake that does not go on, a connection between requests: libmicrohttpd must sleep on them, too."""
        server = Server(idle_s=30, header_s=30, **CERTIFICATE.settings())
        self.addCleanup(server.stop)
        sockets = [server.connect() for _ in range(3)] + [server.connect_plain() for _ in range(3)]
        for s in sockets[3:]:
            s.sendall(b"\x16\x03")
        time.sleep(0.2)
        before = server.cpu_s()
        time.sleep(1.5)
        self.assertLess(server.cpu_s() - before, 0.1)
        for s in sockets:
            s.close()

    def test_a_handshake_that_stops(self):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = http_peer.not_verifying().wrap_bio(incoming, outgoing, server_hostname="localhost")
        with self.assertRaises(ssl.SSLWantReadError):
            tls.do_handshake()
        hello = outgoing.read()
        sockets, started = [], time.monotonic()
        for n in (0, 1, 5, 60, len(hello) - 1, len(hello)):
            sockets.append(self.server.connect_plain())
            sockets[-1].sendall(hello[:n])
            sockets[-1].settimeout(4)
        for s in sockets:
            while s.recv(4096):
                pass
            s.close()
        self.assertLess(time.monotonic() - started, 3)
        self.assertEqual(self.server.request("GET", "/livez").status, 200)

    def test_old_versions(self):
        for version, works in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)):
            context = http_peer.not_verifying()
            context.set_ciphers("DEFAULT@SECLEVEL=0")
            context.minimum_version = context.maximum_version = version
            with self.subTest(version=version), self.server.connect_plain() as s:
                if works:
                    tls = context.wrap_socket(s)
                    tls.sendall(head("GET", "/livez"))
                    self.assertEqual(Reply(tls).status, 200)
                else:
                    self.assertRaises((ssl.SSLError, ConnectionError), context.wrap_socket, s)

    def test_large_bodies(self):
        ids = [1000 + i % 300 for i in range(400000)]
        reply = self.server.post("/tokenize", {"prompt": "word " * 600000})
        self.assertEqual(reply.status, 200)
        self.assertGreater(reply.json()["count"], 600000)
        self.refused(self.server.post("/v1/completions", {"prompt": ids}), 400, "context_length_exceeded")

    def test_origin(self):
        own = {"Origin": f"https://127.0.0.1:{self.server.port}", "Host": f"127.0.0.1:{self.server.port}"}
        self.assertEqual(self.server.request("GET", "/livez", headers=own).status, 200)
        own["Origin"] = own["Origin"].replace("https", "http")
        self.refused(self.server.request("GET", "/livez", headers=own), 403, "origin_not_allowed")

    def test_expect_continue(self):
        body = b'{"prompt":"one two","max_tokens":2}'
        with self.server.connect() as s:
            s.sendall(head("POST", "/v1/completions", headers={"Expect": "100-continue", "Content-Length": len(body)}))
            self.assertTrue(s.recv(100).startswith(b"HTTP/1.1 100 "))
            s.sendall(body)
            self.assertEqual(Reply(s).status, 200)


class TlsFiles(unittest.TestCase):
    def test_refused_at_start(self):
        other = Certificate()
        self.addCleanup(other.close)
        good = CERTIFICATE.settings()
        for settings, says in (({**good, "certificate": "/nonexistent"}, "/nonexistent"), ({**good, "certificate_key": "/nonexistent"}, "/nonexistent"),
                               ({**good, "certificate_key": other.key_path}, "is not the key of the certificate"),
                               ({**good, "certificate_key": good["certificate"]}, good["certificate"]),
                               ({**good, "certificate": good["certificate_key"]}, good["certificate_key"])):
            done = subprocess.run([http_peer.SERVER, http_peer.VOCAB, *(f"{k}={v}" for k, v in settings.items())], stdin=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE, text=True, timeout=30)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(says, done.stderr)
            self.assertEqual(done.stderr.count("error: "), 1, done.stderr)

    def test_expired(self):
        old = Certificate(expired=True)
        self.addCleanup(old.close)
        server = Server(**old.settings())
        self.addCleanup(server.stop)
        self.assertIn("expired at 2020-02-01 00:00:00 UTC", server.log())
        self.assertEqual(server.request("GET", "/livez").status, 200)

    def test_reload_under_a_stream(self):
        """Connections that are open go on with the old certificate, new ones get the new one; a pair that does not match changes nothing."""
        first, second = Certificate("first"), Certificate("second")
        self.addCleanup(first.close)
        self.addCleanup(second.close)
        server = Server(step_ms=5, **first.settings())
        self.addCleanup(server.stop)

        def shown():
            with server.connect() as s:
                return s.getpeercert(binary_form=True)

        def replace(*pairs):
            for to, of in pairs:
                with open(of, "rb") as f, open(to + ".new", "wb") as new:
                    new.write(f.read())
                os.rename(to + ".new", to)
            server.process.send_signal(signal.SIGHUP)

        with server.connect() as s:
            s.sendall(head("POST", "/v1/completions", json.dumps({**ENDLESS, "max_tokens": 300, "stream": True}).encode()))
            reply = Reply(s, whole=False)
            before = shown()
            replace((first.path, second.path))                  # half of it
            server.wait_for("is not the key of the certificate")
            self.assertEqual(shown(), before)
            for _ in range(3):
                replace((first.key_path, second.key_path))
            server.wait_for("certificate read again")
            self.assertNotEqual(shown(), before)
            self.assertEqual(len(list(reply.events())), 302)
            s.sendall(head("GET", "/livez"))                    # the same connection still serves
            self.assertEqual(Reply(s).status, 200)

    def test_drain(self):
        server = Server(step_ms=5, drain_s=5, **CERTIFICATE.settings())
        sockets = []
        for _ in range(10):
            s = server.connect()
            self.addCleanup(s.close)
            s.sendall(head("POST", "/v1/completions", json.dumps({**ENDLESS, "max_tokens": 100, "stream": True}).encode()))
            sockets.append((s, Reply(s, whole=False)))
        idle = server.connect()
        self.addCleanup(idle.close)
        server.process.send_signal(signal.SIGTERM)
        for s, reply in sockets:
            self.assertEqual(list(reply.events())[-1], b"data: [DONE]")
        started = time.monotonic()
        self.assertEqual(server.process.wait(20), 0)
        self.assertLess(time.monotonic() - started, 4)
        server.stop()


if __name__ == "__main__":
    http_peer.main()
