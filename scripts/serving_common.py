"""serving_common: servers to measure, started on a port of their own and stopped whatever happens; and prompts that all differ."""
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from compare_common import CACHE, ROOT, command, find_model, say, stop

START_S, STOP_S = 300, 20

WORDS = """time year people way day man thing woman life child world school state family student group country problem hand part place
case week company system program question work government number night point home water room mother area money story fact month lot
right study book eye job word business issue side kind head house service friend father power hour game line end member law car city
community name president team minute idea body information back parent face others level office door health person art war history party
result change morning reason research girl guy moment air teacher force education foot boy age policy music market sense nation plan
college interest death experience effect use class control field development role effort rate heart drug show leader light voice
wife""".split()


def words(n, seed):
    """A prompt of n words; another seed gives another one, from its first word on."""
    return " ".join(random.Random(seed).choices(WORDS, k=n))


def exit_on_sigterm():
    """As Ctrl-C does, so that servers are stopped then, too."""
    def leave(*_):
        sys.exit(128 + signal.SIGTERM)
    signal.signal(signal.SIGTERM, leave)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A running server; as a context manager it is gone at the end of the block."""
    host = "127.0.0.1"

    def __init__(self, command_words, port):
        self.port = port
        self.words = [str(w) for w in command_words]

    def __enter__(self):
        self.log = tempfile.TemporaryFile(mode="w+", errors="replace")
        self.process = subprocess.Popen(self.words, stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT)
        try:
            self.wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                say(f"{self.words[0]} did not stop within {STOP_S} s and was killed")
            finally:
                self.process.kill()
                self.process.wait()
        self.log.close()

    def wait_until_ready(self):
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                self.fail(f"ended with status {self.process.returncode}")
            try:
                with urllib.request.urlopen(f"http://{self.host}:{self.port}/health", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        self.fail(f"was not ready after {START_S} s")

    def fail(self, what):
        """Exit, with the end of what the server said."""
        self.log.seek(0)
        stop(f"{' '.join(self.words)} {what}:\n    " + "\n    ".join(self.log.read().splitlines()[-15:]))

    def rss_bytes(self):
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def cpu_s(self):
        """{thread: seconds of CPU so far}."""
        seconds = {}
        for thread in os.listdir(f"/proc/{self.process.pid}/task"):
            with open(f"/proc/{self.process.pid}/task/{thread}/stat", encoding="ascii") as f:
                name, _, rest = f.read().partition("(")[2].rpartition(")")
            seconds[thread, name] = sum(map(int, rest.split()[11:13])) / os.sysconf("SC_CLK_TCK")
        return seconds


def fourway(model, *options):
    port = free_port()
    return Server([ROOT / "build/fourway", "serve", model, "--port", port, *options], port)


def kv_bytes(model, n_tokens):
    """What fourway's --kv-bytes needs for so many tokens in 16 bits; it takes four contexts by default."""
    info = json.loads(command([ROOT / "build/fourway", "info", model, "--json"]))
    head = info["metadata"].get(f"{info['architecture']}.attention.key_length", info["embedding_length"] // info["heads"])
    return n_tokens * info["layers"] * info["kv_heads"] * head * 2 * 2


def serve_has(option):
    return option in command([ROOT / "build/fourway", "serve", "--help"])


def check_replies(load, server):
    """Exit where a request of a comparison failed: rates of what is left would mean nothing."""
    for error, n in load.errors().items():
        server.fail(f"answered {n} of {len(load.replies)} requests with: {error}")


def model_1b():
    """The 1B shape in Q4_0 with random weights (speed does not depend on their values), written once to ~/.cache/fourway."""
    out = CACHE / "synthetic-1b-q4_0.gguf"
    write_synthetic(out, "1b", "Q4_0")
    return out
