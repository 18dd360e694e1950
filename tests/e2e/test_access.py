"""Keys, TLS and limits of a real server, as an operator sets them up and clients meet them."""
import json
import os
import re
import signal
import ssl
import subprocess
import tempfile
import threading
import time
import unittest

import openai

from server import BINARY, MODEL, Server


def hash_key(*arguments, key=""):
    return subprocess.run([BINARY, "hash-key", *arguments], input=key, capture_output=True, text=True, timeout=30)


def make_certificate(folder):
    """(certificate, key): one that signs itself, for localhost and 127.0.0.1."""
    paths = folder + "/cert.pem", folder + "/key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out", paths[0], "-keyout", paths[1]], check=True, capture_output=True)
    return paths


class HashKey(unittest.TestCase):
    def test_known_hash(self):
        done = hash_key("alice", "--limit", "4", "--priority", "-3", key="abcdefghijklmnopqrstuvwxyz\n")
        self.assertEqual(done.stdout, "alice:sha256:71c480df93d6ae2f1efad1447c66c9525e316218cf51fc8d9ed832f2daf18b73 limit=4 priority=-3\n")
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_generated(self):
        seen = set()
        for _ in range(3):
            done = hash_key("--generate")
            key = re.fullmatch(r"key: (fourway-[0-9a-f]{64})\n", done.stderr)[1]
            self.assertEqual(hash_key(key=key).stdout, done.stdout)
            self.assertNotIn(key, done.stdout)
            seen.add(key)
        self.assertEqual(len(seen), 3)

    def test_refused(self):
        for arguments, key, status in ((("a:b",), "k" * 20, 2), (("--priority", "20"), "k" * 20, 2), (("--limit", "70000"), "k" * 20, 2),
                                       ((), "", 1), ((), "two words", 1), ((), "k" * 256, 1), (("one", "two"), "k" * 20, 2)):
            done = hash_key(*arguments, key=key)
            self.assertEqual((done.returncode, done.stdout, done.stderr.count("\n")), (status, "", 1), done.stderr)
        self.assertIn("can be guessed", hash_key(key="short").stderr)


class Access(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.keys = self.folder.name + "/keys"

    def start(self, *options):
        server = Server(*options)
        self.addCleanup(server.stop)
        return server

    def write_keys(self, *lines):
        with open(self.keys, "w", encoding="ascii") as f:
            f.writelines(lines)

    def refused(self, *options):
        done = subprocess.run([BINARY, "serve", MODEL, "--port", "0", *options], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        self.assertIn(done.returncode, (1, 2), done.stderr)
        errors = [line for line in done.stderr.splitlines() if " info: " not in line]      # what it found in the model comes first
        self.assertEqual(len(errors), 1, done.stderr)
        return done.stderr

    def test_refused_at_start(self):
        cert, key = make_certificate(self.folder.name)
        self.write_keys("alice:sha256:1234\n")
        self.assertIn("keys:1: after :sha256:", self.refused("--api-key-file", self.keys))
        self.assertIn("--tls-key is missing", self.refused("--tls-cert", cert))
        self.assertIn("--tls-cert is missing", self.refused("--tls-key", key))
        self.assertIn("TLS: " + cert, self.refused("--tls-cert", cert, "--tls-key", cert))
        self.assertIn("--no-auth-ok", self.refused("--host", "0.0.0.0", "--tls-cert", cert, "--tls-key", key))
        for option, value in (("--max-waiting", "0"), ("--max-body", "100"), ("--header-timeout", "0"), ("--key-limit", "0"), ("--queue-timeout", "-1"),
                              ("--max-connections", "65537"), ("--cors-origin", "page.example"), ("--allowed-host", "http://a")):
            self.assertIn(option, self.refused(option, value))

    def test_a_day_of_an_operator(self):
        """https with keys; the openai client; a stream that goes on while keys and certificate are replaced; logs that name nobody's key."""
        cert, key = make_certificate(self.folder.name)
        alice, bob = "key-of-alice-" + "a" * 20, "key-of-bob-" + "b" * 20
        self.write_keys(hash_key("alice", key=alice).stdout)
        server = self.start("--api-key-file", self.keys, "--tls-cert", cert, "--tls-key", key)
        self.assertIn(f"listening on https://127.0.0.1:{server.port}\n", server.log())
        trusting = ssl.create_default_context(cafile=cert)

        def client(api_key, context=trusting):
            c = openai.OpenAI(base_url=f"https://127.0.0.1:{server.port}/v1", api_key=api_key, max_retries=0, http_client=openai.DefaultHttpxClient(verify=context))
            self.addCleanup(c.close)
            return c

        stream = client(alice).completions.create(model=MODEL, prompt="Once upon a time", max_tokens=300, stream=True, temperature=0,
                                                  extra_body={"ignore_eos": True})
        next(iter(stream))
        self.assertRaises(openai.AuthenticationError, client(bob).models.list)
        with tempfile.TemporaryDirectory() as folder:
            second = make_certificate(folder)
            os.replace(second[0], cert)
            os.replace(second[1], key)
        self.write_keys(hash_key("bob", key=bob).stdout)
        server.signal(signal.SIGHUP)
        deadline = time.monotonic() + 10
        while "certificate read from" not in server.log():
            self.assertLess(time.monotonic(), deadline, server.log())
            time.sleep(0.02)
        self.assertRaises(openai.APIConnectionError, client(bob).models.list)       # trusts the first certificate alone
        trusting = ssl.create_default_context(cafile=cert)
        self.assertEqual(client(bob, trusting).models.list().data[0].id, MODEL)
        self.assertRaises(openai.AuthenticationError, client(alice, trusting).models.list)
        self.assertEqual(sum(1 for chunk in stream if chunk.choices and chunk.choices[0].finish_reason is None), 299)
        curl = subprocess.run(["curl", "-sk", "-H", "Authorization: Bearer " + bob, f"https://localhost:{server.port}/v1/completions",
                               "-d", '{"prompt":"Hello","max_tokens":2}'], capture_output=True, text=True, timeout=60)
        self.assertEqual(json.loads(curl.stdout)["usage"]["completion_tokens"], 2, curl.stdout)
        server.signal(signal.SIGUSR1)
        while "KV pages" not in server.log():
            self.assertLess(time.monotonic(), deadline + 20, server.log())
            time.sleep(0.02)
        self.assertEqual(server.stop(), 0)
        log = server.log()
        self.assertRegex(log, r"status=200 finish=length .* key=alice\n")
        self.assertRegex(log, r"status: replica 0: \d+ running, \d+ waiting")
        self.assertNotIn("key-of-", log)

    def test_limits(self):
        self.write_keys("one-key\n", "other-key limit=9\n")
        server = self.start("--api-key-file", self.keys, "--key-limit", "1", "--max-batch", "1", "--max-waiting", "2", "--max-body", "2000",
                            "--request-timeout", "3")
        endless = dict(prompt="Once upon a time", max_tokens=4000, ignore_eos=True)
        statuses = []

        def ask(key, **fields):
            status, headers, data = server.send("POST", "/v1/completions", {**endless, **fields}, {"Authorization": f"Bearer {key}"})
            statuses.append(status)
            return status, headers, json.loads(data)["error"]["code"] if status != 200 else None

        running = [threading.Thread(target=ask, args=(key,)) for key in ("one-key", "other-key", "other-key")]
        for t in running:
            t.start()
            time.sleep(0.2)
        status, headers, code = ask("one-key")
        self.assertEqual((status, code), (429, "rate_limited"))
        self.assertGreaterEqual(int(headers["Retry-After"]), 1)
        status, headers, code = ask("other-key")
        self.assertEqual((status, code), (503, "server_overloaded"))
        self.assertGreaterEqual(int(headers["Retry-After"]), 1)
        self.assertEqual(ask("other-key", prompt="a" * 2000)[::2], (413, "body_too_large"))
        for t in running:
            t.join()
        self.assertEqual(statuses[-1], 504)         # --request-timeout
