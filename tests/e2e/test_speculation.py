"""serve --spec and --draft: the same answers, whatever is drafted; and what cannot be drafted from."""
import concurrent.futures
import re
import subprocess
import unittest

from server import BINARY, MODEL, Server

LIST = "apples, pears, plums, cherries, figs, dates, " * 6
PERSON = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
          "required": ["name", "age"], "additionalProperties": False}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}


def requests():
    yield "/v1/completions", {"prompt": LIST, "max_tokens": 60, "temperature": 0, "logprobs": 2}
    yield "/v1/completions", {"prompt": LIST, "max_tokens": 60, "temperature": 0.7, "seed": 3, "logprobs": 0}
    yield "/v1/completions", {"prompt": LIST, "max_tokens": 40, "temperature": 0, "stop": ["cherries"]}
    yield "/v1/completions", {"prompt": LIST, "max_tokens": 30, "temperature": 1, "seed": 5, "n": 3, "repetition_penalty": 1.1}
    for seed in range(3):
        yield "/v1/chat/completions", {"messages": [{"role": "user", "content": "Describe a person as JSON."}], "max_tokens": 80,
                                       "temperature": seed / 2, "seed": seed, "response_format": SCHEMA}


def answers(server):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda r: server.post(*r), requests()))
    for status, reply in replies:
        assert status == 200, reply
    return [reply["choices"] for _, reply in replies]


class Speculation(unittest.TestCase):
    def test_same_answers(self):
        server = Server()
        try:
            want = answers(server)
        finally:
            server.stop()
        for options in (("--spec", "ngram"), ("--spec", "ngram", "--draft-tokens", "7"), ("--draft", MODEL, "--draft-tokens", "4")):
            server = Server(*options)
            try:
                got = answers(server)
                metrics = server.send("GET", "/metrics")[2].decode()
                status = server.stop()
            finally:
                server.stop()
            with self.subTest(options=options):
                self.assertEqual(got, want)
                accepted = int(re.search(r'^fourway_draft_tokens_total{outcome="accepted"} (\d+)$', metrics, re.MULTILINE)[1])
                if "--draft-tokens" in options:         # else as many as pay, which depends on time
                    self.assertGreater(accepted, 0)
                self.assertEqual(status, 0)

    def refused(self, *options):
        r = subprocess.run([BINARY, "serve", MODEL, "--port", "0", *options], capture_output=True, text=True, timeout=60)
        self.assertIn(r.returncode, (1, 2), r.stderr)
        return r.stderr

    def test_refused(self):
        self.assertIn("a draft model must have the same", self.refused("--draft", "tests/data/golden/llama/model-bf16.gguf"))
        self.assertIn("not both", self.refused("--draft", MODEL, "--spec", "ngram"))
        self.assertIn("no-such-model", self.refused("--draft", "no-such-model.gguf"))
        self.assertIn("draft-tokens", self.refused("--spec", "ngram", "--draft-tokens", "16"))


if __name__ == "__main__":
    unittest.main()
