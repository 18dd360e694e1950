"""A real server for a test: started on a free port, stopped whatever happens, and read with plain sockets where the bytes matter."""
import http.client
import json
import os
import re
import signal
import subprocess
import tempfile
import time
import unittest
import weakref

BINARY = os.environ.get("FOURWAY_BINARY", "build/fourway")
MODEL = "smollm2"
START_S, STOP_S, REPLY_S = 120, 30, 300


class Server:
    def __init__(self, *options, model=MODEL, port=0):
        self.log_file = tempfile.NamedTemporaryFile(mode="w+", suffix=".log")
        weakref.finalize(self, self.log_file.close)         # not at the server's end: tests read it afterwards
        self.process = subprocess.Popen([BINARY, "serve", model, "--port", str(port), *options], stderr=self.log_file,
                                        stdin=subprocess.DEVNULL)
        self.host = self.port = None
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            found = re.search(r"listening on https?://([\d.]+):(\d+)$", self.log(), re.MULTILINE)
            if found:
                self.host, self.port = found[1], int(found[2])
                return
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}:\n{self.log()}")
            time.sleep(0.05)
        self.process.kill()
        raise RuntimeError(f"the server did not listen within {START_S} s:\n{self.log()}")

    @property
    def url(self):
        return f"http://{self.host}:{self.port}"

    def log(self):
        with open(self.log_file.name, encoding="utf-8", errors="replace") as f:
            return f.read()

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def wait(self, seconds=STOP_S):
        return self.process.wait(seconds)

    def stop(self):
        """The exit status after SIGTERM; the process is gone afterwards in any case."""
        try:
            if self.process.poll() is None:
                self.signal()
            return self.wait()
        finally:
            self.process.kill()
            self.process.wait()

    def connect(self):
        return http.client.HTTPConnection(self.host, self.port, timeout=REPLY_S)

    def send(self, method, path, body=None, headers=None):
        """(status, headers, body as bytes) of one request. A dict is sent as JSON, bytes as they are."""
        connection = self.connect()
        try:
            data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
            connection.request(method, path, data, headers or {})
            reply = connection.getresponse()
            return reply.status, reply.headers, reply.read()
        finally:
            connection.close()

    def post(self, path, body, headers=None):
        """(status, JSON) of a POST."""
        status, _, data = self.send("POST", path, body, headers)
        return status, json.loads(data)

    def stream(self, path, body):
        """An open Stream of a request with "stream": true."""
        return Stream(self, path, {**body, "stream": True})


class Stream:
    """Server-sent events, byte for byte as the interface promises them: one "data: " line an event, an empty line after it."""

    def __init__(self, server, path, body):
        self.connection = server.connect()
        self.connection.request("POST", path, json.dumps(body).encode())
        self.reply = self.connection.getresponse()
        if self.reply.status != 200:
            raise AssertionError(f"status {self.reply.status}: {self.reply.read()!r}")
        assert self.reply.headers["Content-Type"].startswith("text/event-stream"), self.reply.headers["Content-Type"]

    def __iter__(self):
        """The JSON of each event up to [DONE], after which the body must end."""
        while True:
            line = self.reply.readline()
            assert line.endswith(b"\n") and not line.endswith(b"\r\n"), line
            if line.startswith(b":"):
                assert self.reply.readline() == b"\n"
                continue
            assert line.startswith(b"data: "), line
            assert self.reply.readline() == b"\n"
            data = line[len(b"data: "):-1]
            if data == b"[DONE]":
                assert self.reply.read() == b""
                self.close()
                return
            yield json.loads(data)

    def close(self):
        """Leave, whatever is still to come: the socket closes with its last user, which is the reply."""
        self.reply.close()
        self.connection.close()


class ServerTest(unittest.TestCase):
    """Tests that share one server with these options."""
    options = ()

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.options)
        cls.addClassCleanup(cls.server.stop)
        cls.model = json.loads(cls.server.send("GET", "/v1/models")[2])["data"][0]["id"]

    def complete(self, **fields):
        status, reply = self.server.post("/v1/completions", fields)
        self.assertEqual(status, 200, reply)
        return reply

    def chat(self, content, **fields):
        status, reply = self.server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": content}], **fields})
        self.assertEqual(status, 200, reply)
        return reply

    def refused(self, status, code, body, path="/v1/completions", param=...):
        got, reply = self.server.post(path, body)
        error = reply.get("error", {})
        self.assertEqual((got, error.get("code")), (status, code), reply)
        self.assertTrue(error["message"] and error["type"], reply)
        if param is not ...:
            self.assertEqual(error["param"], param, reply)
        return error
