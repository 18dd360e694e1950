"""Rows of docs/faults.md that need a model and its KV cache: a pool that is too small, clients that leave while their prompt is read."""
import concurrent.futures
import json
import socket
import time
import unittest

from prometheus_client.parser import text_string_to_metric_families

from server import ServerTest


class SmallPool(ServerTest):
    """11 pages of 64 tokens; a sequence may have 512."""
    options = ("--ctx", "512", "--kv-bytes", "16M", "--max-batch", "8")

    def counter(self, name, **labels):
        text = self.server.send("GET", "/metrics")[2].decode()
        return sum(s.value for family in text_string_to_metric_families(text) for s in family.samples
                   if s.name == name and labels.items() <= s.labels.items())

    def test_R02_preempted_answers_are_the_same(self):
        """Two answers of 6 pages each, of which 5 are asked for at admission: one is put back, and goes on with the same text and logprobs, streamed or not."""
        def answer(seed, stream=False):
            body = dict(prompt=f"Chapter {seed}.", seed=seed, max_tokens=325, temperature=1, ignore_eos=True, logprobs=2)
            if not stream:
                choice = self.complete(**body)["choices"][0]
                return choice["text"], choice["logprobs"]["token_logprobs"]
            chunks = [c for event in self.server.stream("/v1/completions", body) for c in event["choices"]]
            return "".join(c["text"] for c in chunks), [x for c in chunks if c["logprobs"] for x in c["logprobs"]["token_logprobs"]]

        want = [answer(seed) for seed in range(2)]
        before = self.counter("fourway_preemptions_total")
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            got = list(pool.map(lambda seed: answer(seed, seed == 1), range(2)))
        self.assertEqual(got, want)
        self.assertGreater(self.counter("fourway_preemptions_total"), before)

    def test_R03_what_never_fits_is_refused_at_once(self):
        """By the context, which is no larger than the pool; several choices that fit one by one are served."""
        started = time.monotonic()
        for body in ({"prompt": [5] * 500, "max_tokens": 13}, {"prompt": [5] * 600}, {"prompt": "a", "max_tokens": 512}):
            error = self.refused(400, "context_length_exceeded", body)
            self.assertEqual(error["n_ctx"], 512)
        self.assertLess(time.monotonic() - started, 1)
        self.assertEqual(len(self.complete(prompt=[5] * 400, max_tokens=20, n=4, ignore_eos=True)["choices"]), 4)

    def test_H12_leaves_while_its_prompt_is_read(self):
        """Its pages are free by the next chunk, and it is counted; the neighbour's text is what it is alone."""
        neighbour = dict(prompt="Once upon a time", max_tokens=100, temperature=0, ignore_eos=True)
        want = self.complete(**neighbour)["choices"][0]["text"]
        before = self.counter("fourway_disconnects_total")
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            beside = pool.submit(self.complete, **neighbour)
            for i in range(8):
                body = json.dumps({"prompt": [100 + i] * 480, "max_tokens": 30}).encode()
                with socket.create_connection((self.server.host, self.server.port), timeout=30) as s:
                    s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                    time.sleep(0.004 * (i + 1))
            self.assertEqual(beside.result()["choices"][0]["text"], want)
        deadline = time.monotonic() + 5
        while self.counter("fourway_disconnects_total") < before + 8 or self.counter("fourway_kv_pages", state="used") > 0:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)


if __name__ == "__main__":
    unittest.main()
