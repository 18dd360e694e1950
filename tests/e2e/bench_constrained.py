"""bench_constrained.py [BATCH [TOKENS [ROUNDS]]]: what constrained output costs a step, with SmolLM2.

Sends BATCH (16) requests at once that generate TOKENS (128) tokens each, without and with constraints, in turn, ROUNDS (3) times, and
prints the median tokens/s of each and the time that a step takes longer. Run it on a machine that does nothing else:

    PYTHONPATH=tests/e2e .venv/bin/python tests/e2e/bench_constrained.py

The schemas cannot end before 128 tokens. "string": a new state, so a walk over the vocabulary, at every token; "array": objects in
states that are new for each item; "free": strings without a limit. "16 schemas": one for each request, with a matcher each.
"""
import statistics
import sys
import threading
import time

from server import Server

ARGS = [int(a) for a in sys.argv[1:]] + [16, 128, 3][len(sys.argv) - 1:]
BATCH, TOKENS, ROUNDS = ARGS
SCHEMAS = {
    "none": None,
    "string": {"type": "string", "minLength": 8000, "maxLength": 9000},
    "array": {"type": "array", "minItems": 300,
              "items": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 20}, "n": {"type": "integer"}},
                        "required": ["name", "n"]}},
    "free": {"type": "array", "items": {"type": "string"}, "minItems": 1000},
}


def run(server, schema, different):
    def one(i):
        body = {"prompt": f"Story {i}:", "max_tokens": TOKENS, "seed": i, "ignore_eos": True}
        if schema:
            mine = {**schema, "title": str(i)}
            if different:
                mine = {"type": "object", "properties": {f"p{i}": schema}, "required": [f"p{i}"]}
            body["response_format"] = {"type": "json_schema", "json_schema": {"schema": mine}}
        status, reply = server.post("/v1/completions", body)
        assert status == 200 and reply["usage"]["completion_tokens"] == TOKENS, reply
    threads = [threading.Thread(target=one, args=(i,)) for i in range(BATCH)]
    start = time.monotonic()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return BATCH * TOKENS / (time.monotonic() - start)


server = Server()
rates = {}
try:
    for round in range(ROUNDS):
        for name, schema in SCHEMAS.items():
            for different in ((False, True) if schema else (False,)):
                # A constraint's first round fills its table: as "first" it is a row of its own.
                label = name + (", 16 schemas" if different else "") + (", first" if schema and not round else "")
                rates.setdefault(label, []).append(run(server, schema, different))
finally:
    server.stop()
base = statistics.median(rates["none"])
for label, values in rates.items():
    rate = statistics.median(values)
    print(f"{label:24} {rate:7.1f} tok/s  step {1000 * BATCH / rate:6.2f} ms  {100 * (base / rate - 1):+5.1f} %")
