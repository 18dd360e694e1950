"""The test server (http_server.c) as a process, and a client that sends exactly the bytes it is told to."""
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import unittest

VOCAB = "tests/data/tokenizers/smollm/vocab.gguf"
SERVER = os.environ.get("HTTP_SERVER", "build/tests/server/http_server")
PATIENCE_S = 30


class Server:
    def __init__(self, environment=None, **settings):
        self.log_file = tempfile.NamedTemporaryFile(mode="r", suffix=".log")
        with open(self.log_file.name, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen([SERVER, VOCAB, *(f"{k}={v}" for k, v in settings.items())], stdin=subprocess.DEVNULL, stderr=log,
                                            env={**os.environ, **(environment or {})})
        self.port = None
        self.tls = not_verifying() if "certificate" in settings else None
        self.wait_for("listening on https?://127.0.0.1:(\\d+)\n" if not settings.get("load_ms") else None)

    def wait_for(self, pattern):
        """Until the log says it. None: until the port is known although nothing is ready (the socket listens while loading)."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if pattern:
                found = re.search(pattern, self.log())
                if found:
                    if found.groups():
                        self.port = int(found[1])
                    return
            else:
                self.port = self.listening_port()
                if self.port:
                    return
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}:\n{self.log()}")
            time.sleep(0.01)
        self.process.kill()
        raise RuntimeError(f"no {pattern!r} in\n{self.log()}")

    def listening_port(self):
        mine = set()
        for fd in os.listdir(f"/proc/{self.process.pid}/fd"):
            try:
                mine.add(os.readlink(f"/proc/{self.process.pid}/fd/{fd}"))
            except FileNotFoundError:
                pass
        with open("/proc/net/tcp", encoding="ascii") as table:
            for line in table.readlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and f"socket:[{fields[9]}]" in mine:
                    return int(fields[1].split(":")[1], 16)
        return None

    def log(self):
        with open(self.log_file.name, encoding="utf-8", errors="replace") as log:
            return log.read()

    def stop(self, number=signal.SIGTERM):
        """The exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()
            self.process.wait()
            self.log_file.close()

    def cpu_s(self):
        """Processor time it has used: unlike time on the clock it does not depend on what else runs."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as f:
            fields = f.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def connect_plain(self, receive_bytes=None):
        s = socket.socket()
        if receive_bytes:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        s.settimeout(PATIENCE_S)
        s.connect(("127.0.0.1", self.port))
        return s

    def connect(self, receive_bytes=None):
        s = self.connect_plain(receive_bytes)
        return self.tls.wrap_socket(s, server_hostname="localhost") if self.tls else s

    def running(self):
        """(running, waiting) sequences of the engine."""
        health = self.request("GET", "/health?verbose=1").json()
        return health["requests_running"], health["requests_waiting"]

    def wait_idle(self, seconds=3):
        deadline = time.monotonic() + seconds
        while self.running() != (0, 0):
            if time.monotonic() > deadline:
                raise AssertionError(f"still running: {self.running()}")
            time.sleep(0.02)

    def request(self, method, path, body=None, headers=None):
        """One request on a connection of its own, read to its end."""
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
        with self.connect() as s:
            s.sendall(head(method, path, body, headers))
            return Reply(s)

    def post(self, path, body, headers=None):
        return self.request("POST", path, body, headers)


def not_verifying():
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


CA = """[ca]
default_ca = a
[a]
database = {0}/index
rand_serial = yes
new_certs_dir = {0}
default_md = sha256
policy = p
[p]
commonName = supplied
"""


class Certificate:
    """A certificate that signs itself, and its key, in files of a folder of its own."""

    def __init__(self, name="localhost", expired=False):
        self.folder = tempfile.TemporaryDirectory(prefix="fourway-certificate-")
        at = self.folder.name
        self.path, self.key_path = at + "/cert.pem", at + "/key.pem"
        with open(at + "/ca", "w", encoding="ascii") as ca, open(at + "/index", "w", encoding="ascii"):
            ca.write(CA.format(at))
        since, until = ("20200101000000Z", "20200201000000Z") if expired else ("20200101000000Z", "20491231000000Z")
        for command in (["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", self.key_path,
                         "-out", at + "/request", "-subj", "/CN=" + name],
                        ["ca", "-selfsign", "-batch", "-notext", "-config", at + "/ca", "-keyfile", self.key_path, "-in", at + "/request",
                         "-out", self.path, "-startdate", since, "-enddate", until]):
            subprocess.run(["openssl", *command], check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)

    def settings(self):
        return dict(certificate=self.path, certificate_key=self.key_path)

    def close(self):
        self.folder.cleanup()


def head(method, path, body=None, headers=None):
    lines = {"Host": "localhost", **(headers or {})}
    if body is not None:
        lines.setdefault("Content-Length", len(body))
    return (f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items() if v is not None) + "\r\n").encode() + (body or b"")


class Reply:
    """A reply read from a socket with its own small parser: what a lenient client would hide must show here."""

    def __init__(self, s, whole=True):
        self.file = s.makefile("rb")
        line = self.file.readline()
        self.status = int(line.split()[1]) if line else None
        self.headers, self.header_lines = {}, []
        while line:
            line = self.file.readline().rstrip(b"\r\n")
            if not line:
                break
            name, _, value = line.decode("latin-1").partition(":")
            self.headers[name.lower()] = value.strip()
            self.header_lines.append(name.lower())
        self.body = self.read() if whole and self.status else b""

    def read(self):
        if self.status == 204:
            return b""
        if "content-length" in self.headers:
            return self.file.read(int(self.headers["content-length"]))
        if self.headers.get("transfer-encoding") == "chunked":
            return b"".join(self.chunks())
        return self.file.read()

    def chunks(self):
        """Each HTTP chunk as it came. Ends early, without the last chunk, when the server cuts the stream."""
        self.whole = False
        while True:
            line = self.file.readline()
            if not line:
                return
            size = int(line, 16)
            data = self.file.read(size)
            assert self.file.readline() in (b"\r\n", b"") or len(data) < size
            if not size:
                self.whole = True
                return
            yield data

    def events(self):
        """The data of each event; every chunk must hold whole events."""
        for chunk in self.chunks():
            assert chunk.endswith(b"\n\n"), chunk[-100:]
            for event in chunk[:-2].split(b"\n\n"):
                assert b"\n" not in event and b"\r" not in event, event
                yield event

    def json(self):
        return json.loads(self.body)

    def error(self):
        return self.json()["error"]


class ServerTest(unittest.TestCase):
    settings = {}

    @classmethod
    def setUpClass(cls):
        cls.server = Server(**cls.settings)

    @classmethod
    def tearDownClass(cls):
        status = cls.server.stop()
        if status != 0:
            raise AssertionError(f"the server ended with {status}")

    def refused(self, reply, status, code, param=...):
        self.assertEqual(reply.status, status, reply.body)
        error = reply.error()
        self.assertEqual(error["code"], code, error)
        self.assertTrue(error["message"] and error["type"], error)
        if param is not ...:
            self.assertEqual(error["param"], param, error)
        self.assertIn("x-request-id", reply.headers)
        return error


def main():
    """usage: SCRIPT [path of http_server] [unittest arguments]"""
    global SERVER
    if len(sys.argv) > 1 and os.path.exists(sys.argv[1]):
        SERVER = sys.argv.pop(1)
    unittest.main(module="__main__")
