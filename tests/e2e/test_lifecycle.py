"""Start, clients that leave, overload, and the end of a server."""
import ctypes
import json
import os
import platform
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import unittest

from server import BINARY, MODEL, Server

ENDLESS = dict(prompt="Once upon a time", max_tokens=4000, ignore_eos=True, temperature=0)


class Lifecycle(unittest.TestCase):
    def start(self, *options):
        server = Server(*options)
        self.addCleanup(server.stop)
        return server

    def test_occupied_port(self):
        first = self.start()
        second = subprocess.run([BINARY, "serve", MODEL, "--port", str(first.port)], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=60)
        self.assertEqual(second.returncode, 1, second.stderr)
        self.assertIn(str(first.port), second.stderr)
        self.assertIn("in use", second.stderr.lower())
        self.assertNotIn("listening", second.stderr)

    @unittest.skipUnless(platform.machine() == "x86_64", "the number of the system call is that of x86-64")
    def test_sandbox_that_refuses_affinity(self):
        """Threads that cannot be kept to CPUs cost speed, not the server."""
        code = [(0x20, 0, 0, 0), (0x15, 0, 1, 203), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7fff0000)]    # sched_setaffinity: EPERM
        rules = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
        program = struct.pack("HP", len(code), ctypes.addressof(rules))
        prctl = ctypes.CDLL(None).prctl

        def refuse():
            prctl(38, 1, 0, 0, 0)       # PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP
            prctl(22, 2, program)

        server = subprocess.Popen([BINARY, "serve", MODEL, "--port", "0"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                  preexec_fn=refuse)
        self.addCleanup(server.stderr.close)
        self.addCleanup(server.kill)
        said = ""
        for line in server.stderr:
            said += line
            if line.startswith("listening on"):
                break
        self.assertIn("listening on", said)
        self.assertIn("cannot be kept to CPU", said)
        server.terminate()
        self.assertEqual(server.wait(60), 0)

    def test_replicas_share_the_requests(self):
        """Two copies of the model on two nodes each: both answer, with the bytes that one copy on one node gives."""
        body = {"prompt": "The capital of France is", "max_tokens": 24, "temperature": 0, "logprobs": 3}
        alone = self.start("--nodes", "all").post("/v1/completions", body)[1]["choices"][0]
        server = self.start("--replicas", "2", "--virtual-nodes", "4", "--threads", "4")
        replies = [None] * 6

        def ask(i):
            replies[i] = server.post("/v1/completions", body)

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(replies))]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        for status, reply in replies:
            self.assertEqual(status, 200, reply)
            self.assertEqual(reply["choices"][0], alone)
        health = json.loads(server.send("GET", "/health?verbose=1")[2])
        generated = [r["tokens_generated"] for r in health["replicas"]]
        self.assertEqual(sum(generated), len(replies) * 24)
        self.assertGreater(min(generated), 0)
        self.assertEqual(server.stop(), 0)

    def test_replicas_that_cannot_share_the_nodes(self):
        for options, what in ((("--replicas", "3", "--virtual-nodes", "4"), "shared equally"), (("--replicas", "0"), "--replicas"),
                              (("--replicas", "two"), "--replicas"), (("--replicas", "65"), "--replicas")):
            done = subprocess.run([BINARY, "serve", MODEL, "--port", "0", *options], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                  text=True, timeout=60)
            self.assertIn(done.returncode, (1, 2), done.stderr)
            self.assertIn(what, done.stderr)
            self.assertEqual(done.stderr.count("error"), 1, done.stderr)

    def ask_cached(self, server, headers=None, **fields):
        """(cached_tokens, text) of a long prompt."""
        body = {"prompt": "One sheep, two sheep, three sheep, four sheep. " * 20, "max_tokens": 8, "temperature": 0, **fields}
        status, _, data = server.send("POST", "/v1/completions", body, headers)
        reply = json.loads(data)
        self.assertEqual(status, 200, reply)
        return reply["usage"]["prompt_tokens_details"]["cached_tokens"], reply["choices"][0]["text"]

    def test_R13_prefix_cache(self):
        server = self.start()
        cold, text = self.ask_cached(server)
        self.assertEqual(cold, 0)
        warm, again = self.ask_cached(server)
        self.assertGreaterEqual(warm, 128)
        self.assertEqual(warm % 64, 0)
        self.assertEqual(again, text)
        self.assertEqual(self.ask_cached(server, cache_salt="mine"), (0, text))
        self.assertEqual(self.ask_cached(server, cache_salt="mine"), (warm, text))
        self.assertEqual(self.ask_cached(server, cache_salt="yours"), (0, text))
        self.assertEqual(self.ask_cached(server, echo=True, logprobs=0)[0], 0)      # scored prompts are computed whole

    def test_requests_at_once_share_what_is_being_computed(self):
        """The first computes the prompt, the others wait for its pages: also when none of them is done yet."""
        server = self.start("--prefill-chunk", "64")
        found = [None] * 4

        def ask(i):
            found[i] = self.ask_cached(server)

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(found))]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        cached = sorted(n for n, text in found)
        self.assertEqual(cached[0], 0)
        self.assertGreaterEqual(cached[1], 128)
        self.assertEqual(len({text for n, text in found}), 1)

    def test_no_prefix_cache(self):
        server = self.start("--no-prefix-cache")
        first, second = self.ask_cached(server), self.ask_cached(server)
        self.assertEqual(first[0], 0)
        self.assertEqual(second, first)

    def test_R13_keys_share_nothing_when_isolated(self):
        with tempfile.NamedTemporaryFile("w", suffix=".keys") as keys:
            keys.write("first-key-of-this-test\nsecond-key-of-this-test\n")
            keys.flush()
            os.chmod(keys.name, 0o600)
            server = self.start("--api-key-file", keys.name, "--cache-isolation", "key")
            one, two = ({"Authorization": f"Bearer {n}-key-of-this-test"} for n in ("first", "second"))
            self.assertEqual(self.ask_cached(server, one)[0], 0)
            self.assertGreater(self.ask_cached(server, one)[0], 0)
            self.assertEqual(self.ask_cached(server, two)[0], 0)

    def test_keys_take_turns(self):
        """One at a time: a key with one request is not behind all those of a key with many."""
        with tempfile.NamedTemporaryFile("w", suffix=".keys") as keys:
            keys.write("greedy-key-of-this-test\nmodest-key-of-this-test\n")
            keys.flush()
            os.chmod(keys.name, 0o600)
            server = self.start("--api-key-file", keys.name, "--max-batch", "1")
            done = []

            def ask(who, i):
                body = {"prompt": f"{who} {i}", "max_tokens": 40, "ignore_eos": True}
                status = server.send("POST", "/v1/completions", body, {"Authorization": f"Bearer {who}-key-of-this-test"})[0]
                done.append((who, status))

            threads = [threading.Thread(target=ask, args=("greedy", i)) for i in range(8)]
            for t in threads:
                t.start()
            time.sleep(0.1)         # all of them wait, or run
            threads.append(threading.Thread(target=ask, args=("modest", 0)))
            threads[-1].start()
            for t in threads:
                t.join()
            self.assertEqual({status for who, status in done}, {200})
            self.assertLess([who for who, status in done].index("modest"), 5)

    def test_idle_server_takes_no_cpu(self):
        """Workers spin between steps; without requests they must sleep. CPU time, which other load on the machine does not change."""
        server = self.start("--virtual-nodes", "2", "--threads", "4")
        self.assertEqual(server.post("/v1/completions", {"prompt": "Hello", "max_tokens": 4})[0], 200)

        def cpu_s():
            with open(f"/proc/{server.process.pid}/stat", encoding="ascii") as f:
                fields = f.read().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

        time.sleep(0.5)
        before, seconds = cpu_s(), 4
        time.sleep(seconds)
        self.assertLess((cpu_s() - before) / seconds, 0.01)

    def test_H12_client_that_leaves_frees_its_slot(self):
        """One slot: the next request can only be answered soon when the first one's sequence was dropped."""
        server = self.start("--max-batch", "1")
        stream = server.stream("/v1/completions", ENDLESS)
        next(iter(stream))
        stream.close()
        started = time.monotonic()
        status, reply = server.post("/v1/completions", {"prompt": "Hello", "max_tokens": 1})
        self.assertEqual(status, 200, reply)
        self.assertLess(time.monotonic() - started, 3)      # 4000 tokens would take far longer

    def test_H12_client_that_leaves_while_it_waits(self):
        """No stream: the server must notice the closed connection although it has nothing to write."""
        server = self.start("--max-batch", "1")
        body = json.dumps(ENDLESS).encode()
        with socket.create_connection((server.host, server.port), timeout=30) as s:
            s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            time.sleep(1)
        started = time.monotonic()
        self.assertEqual(server.post("/v1/completions", {"prompt": "Hello", "max_tokens": 1})[0], 200)
        self.assertLess(time.monotonic() - started, 3)

    def test_R04_sigterm_drains(self):
        """What is in flight is finished; what comes later is refused; then exit status 0."""
        server = self.start()
        events = iter(server.stream("/v1/completions", {**ENDLESS, "max_tokens": 200}))
        text = next(events)["choices"][0]["text"]
        server.signal(signal.SIGTERM)
        time.sleep(0.2)
        try:
            status, reply = server.post("/v1/completions", {"prompt": "late", "max_tokens": 1})
            self.assertEqual((status, reply["error"]["code"]), (503, "draining"))
        except (ConnectionError, OSError):
            pass                        # it may have stopped listening
        finish = None
        for chunk in events:
            for choice in chunk["choices"]:
                text += choice["text"]
                finish = choice["finish_reason"] or finish
        self.assertEqual(finish, "length")
        self.assertGreater(len(text), 200)
        self.assertEqual(server.wait(), 0, server.log())

    def test_second_signal_ends_at_once(self):
        server = self.start()
        stream = server.stream("/v1/completions", ENDLESS)
        next(iter(stream))
        server.signal(signal.SIGTERM)
        time.sleep(0.3)
        server.signal(signal.SIGTERM)
        server.wait(10)
        stream.close()

    def test_sigint_when_idle(self):
        server = self.start()
        server.signal(signal.SIGHUP)        # nothing to read again
        server.signal(signal.SIGUSR1)
        self.assertEqual(server.post("/v1/completions", {"prompt": "Hello", "max_tokens": 1})[0], 200)
        server.signal(signal.SIGINT)
        self.assertEqual(server.wait(10), 0, server.log())

    def test_a_long_prompt_does_not_stop_the_others(self):
        """While 3000 tokens are read, a running stream goes on: its longest gap is a chunk, not the whole prompt."""
        server = self.start("--prefill-chunk", "64")
        events = iter(server.stream("/v1/completions", {**ENDLESS, "max_tokens": 400}))
        next(events)
        started, done = time.monotonic(), []

        def read_long():
            done.append(server.post("/v1/completions", {"prompt": [1000 + i % 5000 for i in range(3000)], "max_tokens": 1})[0])
            done.append(time.monotonic() - started)

        reader = threading.Thread(target=read_long)
        reader.start()
        longest, last, during = 0.0, started, 0
        for _ in events:
            now = time.monotonic()
            longest, last = max(longest, now - last), now
            during += not done
        reader.join()
        self.assertEqual(done[0], 200)
        self.assertGreater(during, 3)
        self.assertLess(longest, max(done[1] / 3, 0.25))

    def test_more_requests_than_slots(self):
        server = self.start("--max-batch", "2")
        statuses, lock = [], threading.Lock()

        def ask(i):
            status, reply = server.post("/v1/completions", {"prompt": f"Number {i}", "max_tokens": 8, "ignore_eos": True})
            with lock:
                statuses.append((status, reply.get("usage", {}).get("completion_tokens")))

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(12)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(statuses, [(200, 8)] * 12)

    def test_memory(self):
        """Peak memory: the file, a quarter more, the KV cache, and 60 MiB."""
        kv = 64 << 20
        server = self.start("--ctx", "1024", "--kv-bytes", str(kv))
        self.assertEqual(server.post("/v1/completions", {"prompt": "Hello " * 300, "max_tokens": 8})[0], 200)
        with open(f"/proc/{server.process.pid}/status", encoding="ascii") as f:
            peak = next(int(line.split()[1]) << 10 for line in f if line.startswith("VmHWM:"))
        models = os.environ.get("FOURWAY_MODELS") or os.path.expanduser("~/.cache/fourway/models")
        size = os.path.getsize(f"{models}/{MODEL}.gguf")
        self.assertLess(peak, size * 1.25 + kv + (60 << 20))
