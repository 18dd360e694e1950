"""schemathesis on /openapi.json of the test server: no 5xx, no reply that the description does not allow, in a bounded time.

usage: tests/e2e/run.sh --script tests/server/fuzz_openapi.py HTTP_SERVER [seconds] [more arguments of schemathesis, such as --seed 1]

Without seconds: 30, always from the same seed, so that the tests of a change judge that change. With 0 it runs to its end: 100 examples
of each operation beside the cases at the edges of each field, some minutes. More: -n 1000. A failure comes with the curl line that
repeats it.
"""
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import http_peer

HERE = os.path.dirname(os.path.abspath(__file__))


def main():
    http_peer.SERVER, seconds, rest = sys.argv[1], sys.argv[2:3] or ["30"], sys.argv[3:]
    if len(sys.argv) == 2:
        rest = ["--seed", "1"]
    # Quick steps, a small context and a long queue: the queue's 503 and the deadline's 504 are tested elsewhere.
    server = http_peer.Server(step_ms=0.01, n_ctx=128, max_running=64, max_waiting=4096)
    bound = [] if seconds == ["0"] else ["--max-time", seconds[0]]
    status = subprocess.call(
        [os.path.join(os.path.dirname(sys.executable), "st"), "--config-file", os.path.join(HERE, "schemathesis", "schemathesis.toml"), "run",
         f"http://127.0.0.1:{server.port}/openapi.json", "--no-color", *bound, *rest],
        env={**os.environ, "PYTHONPATH": f"{HERE}/schemathesis:{HERE}"})
    ended = server.process.poll()
    log = server.log()
    if server.stop() != 0 or ended is not None:
        sys.exit(f"the server ended with {server.process.returncode}:\n{log[-4000:]}")
    sys.exit(status)


main()
