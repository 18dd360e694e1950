"""/v1/completions: text, streams, choices, stop strings, seeds, logprobs, usage."""
import threading

import schemas
from server import ServerTest

PROMPT = "The capital of France is"


class Completions(ServerTest):
    def tokens(self, text):
        status, reply = self.server.post("/tokenize", {"prompt": text})
        self.assertEqual(status, 200, reply)
        self.assertEqual(reply["count"], len(reply["tokens"]))
        return reply["tokens"]

    def test_text(self):
        reply = self.complete(model=self.model, prompt=PROMPT, max_tokens=8, temperature=0)
        schemas.check(schemas.COMPLETION, reply)
        self.assertIn("Paris", reply["choices"][0]["text"])
        self.assertEqual(reply["choices"][0]["finish_reason"], "length")
        usage = reply["usage"]
        self.assertEqual(usage["prompt_tokens"], len(self.tokens(PROMPT)))
        self.assertEqual(usage["completion_tokens"], 8)
        self.assertEqual(usage["total_tokens"], usage["prompt_tokens"] + 8)
        self.assertEqual(reply["timings"]["predicted_n"], 8)

    def test_default_is_16_tokens(self):
        self.assertEqual(self.complete(prompt=PROMPT, temperature=0, ignore_eos=True)["usage"]["completion_tokens"], 16)

    def test_prompt_forms_agree(self):
        ids = self.tokens(PROMPT)
        fields = dict(max_tokens=6, temperature=0)
        want = self.complete(prompt=PROMPT, **fields)["choices"][0]["text"]
        for prompt in (ids, [PROMPT], [ids]):
            self.assertEqual(self.complete(prompt=prompt, **fields)["choices"][0]["text"], want)

    def test_several_prompts(self):
        prompts = [PROMPT, "One, two, three,", "Water freezes at"]
        fields = dict(max_tokens=6, temperature=0)
        alone = [self.complete(prompt=p, **fields)["choices"][0]["text"] for p in prompts]
        reply = self.complete(prompt=prompts, n=2, **fields)
        choices = sorted(reply["choices"], key=lambda c: c["index"])
        self.assertEqual([c["index"] for c in choices], list(range(6)))
        self.assertEqual([c["text"] for c in choices], [t for t in alone for _ in range(2)])
        self.assertEqual(reply["usage"]["prompt_tokens"], sum(len(self.tokens(p)) for p in prompts))
        self.assertEqual(reply["usage"]["completion_tokens"], 36)

    def test_stream_is_the_text(self):
        fields = dict(prompt="Emoji: 😀😀😀😀 and ünïcödé: ", max_tokens=48, temperature=0.8, seed=7)
        whole = self.complete(**fields)["choices"][0]
        pieces, finish, ids = [], [], set()
        for chunk in self.server.stream("/v1/completions", fields):
            schemas.check(schemas.COMPLETION_CHUNK, chunk)
            ids.add((chunk["id"], chunk["created"]))
            for choice in chunk["choices"]:
                pieces.append(choice["text"])
                if choice["finish_reason"]:
                    finish.append(choice["finish_reason"])
        self.assertEqual("".join(pieces), whole["text"])
        self.assertEqual(finish, [whole["finish_reason"]])
        self.assertEqual(len(ids), 1)
        self.assertGreater(len(pieces), 8)

    def test_stream_usage(self):
        chunks = list(self.server.stream("/v1/completions", dict(prompt=PROMPT, max_tokens=4, ignore_eos=True,
                                                                 stream_options={"include_usage": True})))
        self.assertEqual([c["usage"] for c in chunks[:-1]], [None] * (len(chunks) - 1))
        self.assertEqual(chunks[-1]["choices"], [])
        schemas.check(schemas.USAGE, chunks[-1]["usage"])
        self.assertEqual(chunks[-1]["usage"]["completion_tokens"], 4)
        without = list(self.server.stream("/v1/completions", dict(prompt=PROMPT, max_tokens=4)))
        self.assertFalse(any(c.get("usage") for c in without))

    def test_streamed_choices_interleave(self):
        fields = dict(prompt=[PROMPT, "Once upon a time"], n=2, max_tokens=8, temperature=1, seed=3, ignore_eos=True)
        want = {c["index"]: c["text"] for c in self.complete(**fields)["choices"]}
        got, finished = {i: "" for i in want}, []
        for chunk in self.server.stream("/v1/completions", fields):
            for choice in chunk["choices"]:
                got[choice["index"]] += choice["text"]
                if choice["finish_reason"]:
                    finished.append(choice["index"])
        self.assertEqual(got, want)
        self.assertEqual(sorted(finished), [0, 1, 2, 3])

    def test_stop_string(self):
        fields = dict(prompt="One, two, three, four,", max_tokens=40, temperature=0)
        whole = self.complete(**fields)["choices"][0]["text"]
        stop = whole[9:13]                      # somewhere inside, across token borders as may be
        cut = whole[:whole.index(stop)]
        reply = self.complete(stop=["no such text", stop], **fields)
        choice = reply["choices"][0]
        self.assertEqual((choice["text"], choice["finish_reason"], choice["stop_reason"]), (cut, "stop", stop))
        self.assertLess(reply["usage"]["completion_tokens"], 40)
        streamed = "".join(c["text"] for chunk in self.server.stream("/v1/completions", dict(stop=stop, **fields))
                           for c in chunk["choices"])
        self.assertEqual(streamed, cut)
        kept = self.complete(stop=stop, include_stop_str_in_output=True, **fields)["choices"][0]["text"]
        self.assertEqual(kept, cut + stop)

    def test_stop_token(self):
        first = self.complete(prompt=PROMPT, max_tokens=1, temperature=0, return_token_ids=True)["choices"][0]["token_ids"][0]
        choice = self.complete(prompt=PROMPT, max_tokens=8, temperature=0, stop_token_ids=[first])["choices"][0]
        self.assertEqual((choice["finish_reason"], choice["stop_reason"]), ("stop", first))

    def test_seed(self):
        fields = dict(prompt="My favourite story is about", max_tokens=24, temperature=1.2, ignore_eos=True)
        one, again, other = (self.complete(seed=s, **fields)["choices"][0]["text"] for s in (11, 11, 12))
        self.assertEqual(one, again)
        self.assertNotEqual(one, other)
        several = self.complete(seed=11, n=3, **fields)["choices"]
        self.assertEqual(several[0]["text"], one)       # a choice does not depend on how many there are
        self.assertEqual(len({c["text"] for c in several}), 3)

    def test_company_changes_nothing(self):
        """Eight requests at once give the bytes that each gives alone: text and logprobs."""
        requests = [dict(prompt=f"{i} things to know about {topic}:", max_tokens=24, temperature=t, seed=i, logprobs=3)
                    for i, (topic, t) in enumerate([("rain", 0), ("Rome", 0.7), ("rust", 1), ("cats", 0), ("tea", 1.3), ("law", 0.2),
                                                    ("Java " * 150, 0), ("the sea", 0.9)])]
        alone = [self.complete(**r)["choices"] for r in requests]
        together = [None] * len(requests)

        def ask(i):
            together[i] = self.complete(**requests[i])["choices"]

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(requests))]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(together, alone)

    def test_logprobs(self):
        choice = self.complete(prompt=PROMPT, max_tokens=5, temperature=0, logprobs=4)["choices"][0]
        lists = choice["logprobs"]
        self.assertEqual("".join(lists["tokens"]), choice["text"])
        self.assertEqual({len(v) for v in lists.values()}, {5})
        self.assertEqual(lists["text_offset"][0], 0)
        for token, logprob, top in zip(lists["tokens"], lists["token_logprobs"], lists["top_logprobs"]):
            self.assertEqual(len(top), 4)
            self.assertEqual(top[token], logprob)
            self.assertEqual(max(top.values()), logprob)        # greedy: the best
        bare = self.complete(prompt=PROMPT, max_tokens=2, temperature=0, logprobs=0)["choices"][0]["logprobs"]
        self.assertEqual([list(t) for t in bare["top_logprobs"]], [[t] for t in bare["tokens"]])

    def test_scoring_as_lm_eval_asks(self):
        ids = self.tokens("The quick brown fox jumps over the lazy dog.")
        reply = self.complete(prompt=[ids], max_tokens=1, logprobs=1, echo=True, temperature=0, seed=1234)
        lists = reply["choices"][0]["logprobs"]
        self.assertEqual({len(v) for v in lists.values()}, {len(ids) + 1})
        self.assertIsNone(lists["token_logprobs"][0])
        self.assertIsNone(lists["top_logprobs"][0])
        self.assertTrue(all(lp <= 0 for lp in lists["token_logprobs"][1:]))
        self.assertIn(max(lists["top_logprobs"][-1].values()), [lists["token_logprobs"][-1]])
        prompt_alone = self.complete(prompt=[ids], max_tokens=0, logprobs=1, echo=True)
        self.assertEqual(prompt_alone["choices"][0]["logprobs"]["token_logprobs"], lists["token_logprobs"][:-1])
        self.assertEqual(prompt_alone["usage"]["completion_tokens"], 0)

    def test_echo(self):
        plain = self.complete(prompt=PROMPT, max_tokens=4, temperature=0)["choices"][0]["text"]
        self.assertEqual(self.complete(prompt=PROMPT, max_tokens=4, temperature=0, echo=True)["choices"][0]["text"], PROMPT + plain)

    def test_logit_bias_and_min_tokens(self):
        never = self.tokens(" Paris")[0]
        reply = self.complete(prompt=PROMPT, max_tokens=4, temperature=0, logit_bias={str(never): -100}, return_token_ids=True)
        self.assertNotIn(never, reply["choices"][0]["token_ids"])
        self.assertEqual(self.complete(prompt=PROMPT, max_tokens=20, min_tokens=20, temperature=0)["usage"]["completion_tokens"], 20)

    def test_null_is_absent(self):
        self.complete(prompt=PROMPT, max_tokens=2, stop=None, logprobs=None, seed=None, n=None, stream=None, logit_bias=None)


class Tokenizer(ServerTest):
    def test_round_trip(self):
        for text in ("Hello, world!", "naïve café — 東京 😀👩‍👩‍👧", "  spaces\tand\nlines  ", "x" * 1000):
            status, reply = self.server.post("/tokenize", {"prompt": text})
            self.assertEqual(status, 200, reply)
            status, back = self.server.post("/detokenize", {"tokens": reply["tokens"]})
            self.assertEqual((status, back["prompt"], back["content"]), (200, text, text))

    def test_special_text(self):
        plain = self.server.post("/tokenize", {"content": "<|im_start|>", "parse_special": False})[1]["tokens"]
        special = self.server.post("/tokenize", {"content": "<|im_start|>"})[1]["tokens"]
        self.assertEqual(len(special), 1)
        self.assertGreater(len(plain), 1)
