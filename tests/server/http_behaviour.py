"""What clients get: texts, streams, logprobs, errors after the first byte, clients that leave, load, drain. The engine repeats its prompt."""
import base64
import json
import os
import re
import signal
import socket
import struct
import tempfile
import threading
import time
import unittest

import http_peer
from http_peer import Reply, Server, ServerTest, head

GREEDY = dict(temperature=0)
ENDLESS = dict(prompt="Hello world, this goes on", max_tokens=100000, ignore_eos=True, temperature=0)


class Requests(ServerTest):
    """Requests by their path."""

    def complete(self, **fields):
        reply = self.server.post("/v1/completions", {**GREEDY, **fields})
        self.assertEqual(reply.status, 200, reply.body)
        return reply.json()

    def chat(self, content, **fields):
        reply = self.server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": content}], **GREEDY, **fields})
        self.assertEqual(reply.status, 200, reply.body)
        return reply.json()

    def open_stream(self, path, body):
        s = self.server.connect()
        self.addCleanup(s.close)
        s.sendall(head("POST", path, json.dumps({**GREEDY, **body, "stream": True}).encode()))
        reply = Reply(s, whole=False)
        reply.socket = s
        return reply

    def stream(self, path="/v1/completions", **body):
        """The events as JSON; the last one must be [DONE]."""
        reply = self.open_stream(path, body)
        self.assertEqual(reply.status, 200)
        self.assertEqual(reply.headers["content-type"], "text/event-stream; charset=utf-8")
        self.assertEqual(reply.headers["cache-control"], "no-cache")
        self.assertEqual(reply.headers["x-accel-buffering"], "no")
        events = [e for e in reply.events() if not e.startswith(b":")]
        self.assertTrue(reply.whole)
        reply.socket.close()
        reply.file.close()
        self.assertTrue(all(e.startswith(b"data: ") for e in events), events)
        self.assertEqual(events[-1], b"data: [DONE]")
        return [json.loads(e[6:]) for e in events[:-1]]

    def tokens(self, text, **fields):
        return self.server.post("/tokenize", {"prompt": text, **fields}).json()["tokens"]


def texts(chunks, index=0):
    return [c["text"] for chunk in chunks for c in chunk["choices"] if c["index"] == index]


class Completions(Requests):
    TEXT = "Hello world, this is fine."

    def test_reply(self):
        reply = self.complete(prompt=self.TEXT, max_tokens=50)
        self.assertRegex(reply["id"], "^cmpl-[0-9a-f]{24}$")
        self.assertEqual((reply["object"], reply["model"]), ("text_completion", "fake"))
        n = len(self.tokens(self.TEXT))
        self.assertEqual(reply["choices"], [{"index": 0, "text": self.TEXT, "logprobs": None, "finish_reason": "stop", "stop_reason": None}])
        self.assertEqual(reply["usage"], {"prompt_tokens": n, "completion_tokens": n + 1, "total_tokens": 2 * n + 1,
                                          "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0}})
        self.assertEqual((reply["timings"]["prompt_n"], reply["timings"]["predicted_n"]), (n, n + 1))

    def test_prompt_forms(self):
        ids = self.tokens(self.TEXT)
        for prompt in (self.TEXT, [self.TEXT], ids, [ids], [float(i) for i in ids]):
            self.assertEqual(self.complete(prompt=prompt, max_tokens=50)["choices"][0]["text"], self.TEXT)

    def test_length(self):
        reply = self.complete(prompt=self.TEXT, max_tokens=3)
        self.assertEqual((reply["choices"][0]["text"], reply["choices"][0]["finish_reason"]), ("Hello world,", "length"))
        self.assertEqual(self.complete(prompt="a b c", ignore_eos=True)["usage"]["completion_tokens"], 16)
        self.assertEqual(self.complete(prompt="a b c", max_tokens=20.0, min_tokens=9)["usage"]["completion_tokens"], 10)

    def test_choices(self):
        prompts = ["one two three", "four five six"]
        reply = self.complete(prompt=prompts, n=2, best_of=2, max_tokens=30)
        self.assertEqual([c["index"] for c in reply["choices"]], [0, 1, 2, 3])
        self.assertEqual([c["text"] for c in reply["choices"]], [prompts[0], prompts[0], prompts[1], prompts[1]])
        self.assertEqual(reply["usage"]["prompt_tokens"], sum(len(self.tokens(p)) for p in prompts))
        self.assertNotIn("timings", reply)
        seeded = self.complete(prompt="one two three this", n=3, seed=1, temperature=1, max_tokens=4, ignore_eos=True)["choices"]
        self.assertEqual([c["text"] for c in seeded], [" two three thisone", " three thisone two", " thisone two three"])
        random = {self.complete(prompt="a b c d e f g h", temperature=1, max_tokens=1)["choices"][0]["text"] for _ in range(40)}
        self.assertGreater(len(random), 1)      # without a seed it is drawn anew

    def test_stream_is_the_text(self):
        for fields in (dict(prompt="Emoji 😀👩‍👩‍👧 and ünïcödé 東京 end", max_tokens=90), dict(prompt="x", max_tokens=3),
                       dict(prompt=["one two", "three this five"], n=2, max_tokens=20), dict(prompt="stop here now", stop=["re n"], max_tokens=20)):
            want = self.complete(**fields)["choices"]
            chunks = self.stream(**fields)
            self.assertEqual(len({(c["id"], c["created"], c["object"], c["model"]) for c in chunks}), 1)
            for choice in want:
                self.assertEqual("".join(texts(chunks, choice["index"])), choice["text"])
                finishes = [c for chunk in chunks for c in chunk["choices"] if c["index"] == choice["index"] and c["finish_reason"]]
                self.assertEqual([(c["finish_reason"], c["stop_reason"], c["text"]) for c in finishes],
                                 [(choice["finish_reason"], choice["stop_reason"], "")])

    def test_one_token_is_one_event(self):
        self.assertEqual(texts(self.stream(prompt="one two three", max_tokens=3)), ["one", " two", " three", ""])

    def test_stop_strings(self):
        def cut(stop, **fields):
            choice = self.complete(prompt="one two three this", max_tokens=40, stop=stop, **fields)["choices"][0]
            return choice["text"], choice["finish_reason"], choice["stop_reason"]
        self.assertEqual(cut(" three"), ("one two", "stop", " three"))
        self.assertEqual(cut(["wo th", "never"]), ("one t", "stop", "wo th"))
        self.assertEqual(cut(["never", "ee t"], include_stop_str_in_output=True), ("one two three t", "stop", "ee t"))
        self.assertEqual(cut(["o", "one"]), ("", "stop", "o"))
        self.assertEqual(cut(["one two x", "two y"]), ("one two three this", "stop", None))
        self.assertEqual(cut("two", min_tokens=3), ("one two three this", "stop", None))
        reply = self.complete(prompt="one two three this", max_tokens=400, ignore_eos=True, stop="ee")
        self.assertEqual(reply["usage"]["completion_tokens"], 3)       # the token that completes the match is the last that counts
        self.server.wait_idle()
        # What is held back because it may be a stop string comes when it is none, and at the end.
        self.assertEqual(texts(self.stream(prompt="one two three", max_tokens=3, stop=" two this")), ["one", " two three", ""])
        self.assertEqual(texts(self.stream(prompt="one two three", max_tokens=2, stop=" two three")), ["one", " two", ""])

    def test_stop_tokens(self):
        ids = self.tokens("one two three this")
        choice = self.complete(prompt=ids, max_tokens=20, stop_token_ids=[ids[2]])["choices"][0]
        self.assertEqual((choice["text"], choice["finish_reason"], choice["stop_reason"]), ("one two", "stop", ids[2]))
        choice = self.complete(prompt=ids, max_tokens=20, stop_token_ids=[ids[2]], include_stop_str_in_output=True)["choices"][0]
        self.assertEqual(choice["text"], "one two three")

    def test_special_tokens(self):
        text = "<|im_start|>user"
        ids = self.tokens(text)
        self.assertEqual(len(ids), 2)
        self.assertEqual(self.complete(prompt=text, max_tokens=2)["choices"][0]["text"], "user")
        self.assertEqual(self.complete(prompt=text, max_tokens=2, skip_special_tokens=False)["choices"][0]["text"], text)

    def test_token_ids(self):
        ids = self.tokens("one two three")
        choice = self.complete(prompt=ids, max_tokens=2, return_token_ids=True)["choices"][0]
        self.assertEqual((choice["prompt_token_ids"], choice["token_ids"]), (ids, ids[:2]))
        chunks = [c for chunk in self.stream(prompt=ids, max_tokens=3, return_token_ids=True, stop="zz") for c in chunk["choices"]]
        self.assertEqual([i for c in chunks for i in c["token_ids"]], ids)
        self.assertEqual([c.get("prompt_token_ids") for c in chunks], [ids, None, None, None])

    def test_logprobs(self):
        ids = self.tokens("one two three")
        lists = self.complete(prompt=ids, max_tokens=10, logprobs=2)["choices"][0]["logprobs"]
        self.assertEqual(lists["tokens"][:3], ["one", " two", " three"])
        self.assertEqual(lists["text_offset"], [0, 3, 7, 13])
        self.assertEqual(lists["token_logprobs"][:3], [-(i % 50) / 8 for i in ids])
        for token, logprob, top in zip(lists["tokens"], lists["token_logprobs"], lists["top_logprobs"]):
            self.assertEqual(len(top), 2)
            self.assertEqual(top[token], logprob)
            self.assertEqual(max(top.values()), logprob)
        self.assertEqual(len(lists["tokens"]), 4)                       # with the end token
        bare = self.complete(prompt=ids, max_tokens=2, logprobs=0)["choices"][0]["logprobs"]
        self.assertEqual([list(top) for top in bare["top_logprobs"]], [["one"], [" two"]])
        named = self.complete(prompt=ids, max_tokens=1, logprobs=1, return_tokens_as_token_ids=True)["choices"][0]["logprobs"]
        self.assertEqual(named["tokens"], [f"token_id:{ids[0]}"])
        pieces = self.stream(prompt=ids, max_tokens=10, logprobs=2, stop="two thr x")
        joined = {k: [x for chunk in pieces for c in chunk["choices"] if c["logprobs"] for x in c["logprobs"][k]] for k in lists}
        self.assertEqual(joined, lists)

    def test_logprobs_of_parts_of_characters(self):
        ids = self.tokens("a東b")
        lists = self.complete(prompt=ids, max_tokens=len(ids), logprobs=20)["choices"][0]["logprobs"]
        cut = [t for t in lists["tokens"] if t.startswith("bytes:")]
        self.assertGreater(len(cut), 0)
        self.assertTrue(all(re.fullmatch(r"bytes:(\\x[0-9a-f]{2})+", t) for t in cut))
        self.assertTrue(all(len(top) in (20, 21) for top in lists["top_logprobs"]))
        self.assertEqual(lists["text_offset"][0], 0)
        self.assertEqual(lists["text_offset"][-1], 2)

    def test_echo(self):
        self.assertEqual(self.complete(prompt="one two", max_tokens=1, echo=True)["choices"][0]["text"], "one twoone")
        ids = self.tokens("one two")
        self.assertEqual(self.complete(prompt=ids, max_tokens=2, echo=True)["choices"][0]["text"], "one twoone two")
        self.assertEqual(texts(self.stream(prompt=ids, max_tokens=2, echo=True)), ["one twoone", " two", ""])
        self.assertEqual(self.complete(prompt="one two", max_tokens=4, echo=True, stop="two")["choices"][0]["text"], "one twoone ")
        alone = self.complete(prompt=["one two", "three"], max_tokens=0, echo=True)
        self.assertEqual([(c["text"], c["finish_reason"]) for c in alone["choices"]], [("one two", "length"), ("three", "length")])
        self.assertEqual(alone["usage"]["completion_tokens"], 0)
        self.assertEqual(texts(self.stream(prompt="one two", max_tokens=0, echo=True)), ["one two", ""])

    def test_scoring(self):
        ids = self.tokens("one two three")
        scored = self.complete(prompt=[ids], max_tokens=1, logprobs=1, echo=True, seed=1234)["choices"][0]
        lists = scored["logprobs"]
        self.assertEqual(lists["tokens"], ["one", " two", " three", "one"])
        self.assertEqual(lists["token_logprobs"], [None] + [-(i % 50) / 8 for i in [*ids[1:], ids[0]]])
        self.assertIsNone(lists["top_logprobs"][0])
        self.assertEqual(lists["text_offset"], [0, 3, 7, 13])
        prompt = self.complete(prompt="one two three", max_tokens=0, logprobs=1, echo=True)["choices"][0]
        self.assertEqual((prompt["text"], prompt["finish_reason"]), ("one two three", "length"))
        self.assertEqual(prompt["logprobs"]["token_logprobs"], lists["token_logprobs"][:-1])
        chunks = self.stream(prompt=[ids], max_tokens=1, logprobs=1, echo=True)
        self.assertEqual(chunks[0]["choices"][0]["text"], scored["text"])
        self.assertEqual(chunks[0]["choices"][0]["logprobs"], lists)

    def test_long_echo_is_several_events(self):
        prompt = self.tokens(" world" * 1500)
        want = self.complete(prompt=prompt, max_tokens=1, logprobs=5, echo=True)["choices"][0]
        reply = self.open_stream("/v1/completions", dict(prompt=prompt, max_tokens=1, logprobs=5, echo=True))
        events = list(reply.events())
        self.assertLess(max(len(e) for e in events), 48 << 10)
        chunks = [json.loads(e[6:])["choices"][0] for e in events[:-1]]
        self.assertGreater(len(chunks), 5)
        self.assertEqual("".join(c["text"] for c in chunks), want["text"])
        self.assertEqual([x for c in chunks if c["logprobs"] for x in c["logprobs"]["token_logprobs"]], want["logprobs"]["token_logprobs"])

    def test_truncate(self):
        ids = self.tokens("one two three this")
        reply = self.complete(prompt=ids, truncate_prompt_tokens=2, max_tokens=2, echo=True)
        self.assertEqual((reply["choices"][0]["text"], reply["usage"]["prompt_tokens"]), (" three this three this", 2))
        self.assertEqual(self.complete(prompt=[5] * 3000, truncate_prompt_tokens=-1, max_tokens=48)["usage"]["prompt_tokens"], 2000)

    def test_usage_in_streams(self):
        chunks = self.stream(prompt="one two", max_tokens=2, stream_options={"include_usage": True})
        self.assertTrue(all(c["usage"] is None and c["choices"] for c in chunks[:-1]))
        self.assertEqual((chunks[-1]["choices"], chunks[-1]["usage"]["completion_tokens"]), ([], 2))
        self.assertEqual(chunks[-1]["timings"]["predicted_n"], 2)
        running = self.stream(prompt="one two", max_tokens=2, stream_options={"include_usage": True, "continuous_usage_stats": True})
        self.assertEqual([c["usage"]["completion_tokens"] for c in running], [1, 2, 2, 2])
        without = self.stream(prompt="one two", max_tokens=2)
        self.assertFalse(any("usage" in c for c in without))
        self.assertEqual(without[-1]["timings"]["predicted_n"], 2)
        self.assertTrue(all("timings" in c for c in self.stream(prompt="one two", max_tokens=2, timings_per_token=True)))

    def test_progress(self):
        chunks = self.stream(prompt="one two three this", max_tokens=1, return_progress=True)
        self.assertEqual([(c["prompt_progress"]["processed"], c["prompt_progress"]["total"]) for c in chunks if "prompt_progress" in c], [(2, 4), (4, 4)])

    def test_plain_text(self):
        body = json.dumps({"prompt": "one two three", "max_tokens": 3, **GREEDY}).encode()
        reply = self.server.post("/v1/completions", body, {"Accept": "text/plain"})
        self.assertEqual((reply.headers["content-type"], reply.body), ("text/plain; charset=utf-8", b"one two three"))
        self.refused(self.server.post("/v1/completions", {"prompt": ["a", "b"]}, {"Accept": "text/plain"}), 400, "invalid_value", "n")

    def test_models_by_name(self):
        self.assertEqual(self.complete(prompt="a", max_tokens=1, model="fake-alias")["model"], "fake-alias")
        self.assertIn("fake, fake-alias", self.refused(self.server.post("/v1/completions", {"prompt": "a", "model": "x"}), 404, "model_not_found", "model")["message"])

    def test_request_id(self):
        self.assertRegex(self.server.request("GET", "/livez").headers["x-request-id"], "^req-[0-9a-f]{16}$")
        label = {"X-Request-Id": "my label 1"}
        self.assertEqual(self.server.post("/v1/completions", {"prompt": "a"}, label).headers["x-request-id"], "my label 1")
        self.assertEqual(self.server.post("/v1/completions", {"prompt": "a", "request_id": "from body ä"}).headers["x-request-id"], "from body ??")
        self.assertEqual(self.server.post("/v1/completions", {"prompt": "a", "request_id": "b"}, label).headers["x-request-id"], "my label 1")
        self.assertEqual(len(self.server.request("GET", "/livez", headers={"X-Request-Id": "a" * 500}).headers["x-request-id"]), 128)
        self.assertIn("my label 1 /v1/completions status=200", self.server.log())

    def test_http_1_0(self):
        body = json.dumps({"prompt": "one two", "max_tokens": 2, "stream": True, **GREEDY}).encode()
        with self.server.connect() as s:
            s.sendall(b"POST /v1/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            reply = Reply(s)
        self.assertNotIn("transfer-encoding", reply.headers)
        self.assertTrue(reply.body.endswith(b"\n\ndata: [DONE]\n\n"))

    def test_keep_alive(self):
        with self.server.connect() as s:
            for stream in (False, True, False):
                s.sendall(head("POST", "/v1/completions", json.dumps({"prompt": "one", "max_tokens": 2, "stream": stream}).encode()))
                self.assertEqual(Reply(s).status, 200)


class Chat(Requests):
    def test_reply(self):
        reply = self.chat("Hi world", max_tokens=5)
        self.assertRegex(reply["id"], "^chatcmpl-[0-9a-f]{24}$")
        self.assertEqual(reply["object"], "chat.completion")
        self.assertEqual(reply["choices"], [{"index": 0, "message": {"role": "assistant", "content": "user\nHi world", "refusal": None},
                                             "logprobs": None, "finish_reason": "length", "stop_reason": None}])

    def test_stream(self):
        body = dict(messages=[{"role": "user", "content": "Hi world"}], max_tokens=5)
        deltas = [(c["delta"], c["finish_reason"]) for chunk in self.stream("/v1/chat/completions", **body) for c in chunk["choices"]]
        self.assertEqual(deltas, [({"role": "assistant", "content": "user"}, None), ({"content": "\n"}, None), ({"content": "Hi"}, None),
                                  ({"content": " world"}, None), ({}, "length")])
        self.assertEqual(self.stream("/v1/chat/completions", **body)[0]["object"], "chat.completion.chunk")

    def test_an_answer_without_text_has_a_role(self):
        body = dict(messages=[{"role": "user", "content": "Hi"}], max_tokens=1)      # its one token is a special one
        deltas = [c["delta"] for chunk in self.stream("/v1/chat/completions", **body) for c in chunk["choices"]]
        self.assertEqual(deltas, [{"role": "assistant", "content": ""}, {}])

    def test_logprobs(self):
        content = self.chat("東", max_tokens=6, logprobs=True, top_logprobs=2)["choices"][0]
        entries = content["logprobs"]["content"]
        self.assertEqual(b"".join(bytes(e["bytes"]) for e in entries), b"<|im_start|>" + content["message"]["content"].encode())
        self.assertTrue(all(len(e["top_logprobs"]) == 2 and e["top_logprobs"][0]["logprob"] == e["logprob"] for e in entries))
        self.assertIn("\ufffd", "".join(e["token"] for e in entries))
        self.assertEqual(self.chat("a", max_tokens=1, logprobs=True)["choices"][0]["logprobs"]["content"][0]["top_logprobs"], [])
        chunks = self.stream("/v1/chat/completions", messages=[{"role": "user", "content": "東"}], max_tokens=6, logprobs=True, top_logprobs=2)
        self.assertEqual([e for chunk in chunks for c in chunk["choices"] if c["logprobs"] for e in c["logprobs"]["content"]], entries)

    def test_what_users_write_is_text(self):
        """A message cannot end its own turn."""
        n = self.chat("a", max_tokens=1)["usage"]["prompt_tokens"]
        self.assertGreater(self.chat("<|im_end|>", max_tokens=1)["usage"]["prompt_tokens"], n + 2)
        self.assertIn("<|im_end|>", self.chat("<|im_end|>", max_tokens=20)["choices"][0]["message"]["content"])

    def test_template(self):
        def text(messages, **fields):
            reply = self.server.post("/apply-template", {"messages": messages, **fields})
            self.assertEqual(reply.status, 200, reply.body)
            return reply.json()["prompt"]
        user = {"role": "user", "content": "Hi"}
        self.assertEqual(text([user]), "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
        self.assertEqual(text([{"role": "developer", "content": "x"}], add_generation_prompt=False), "<|im_start|>system\nx<|im_end|>\n")
        self.assertEqual(text([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}], add_generation_prompt=False),
                         "<|im_start|>user\na\nb<|im_end|>\n")
        self.assertEqual(text([user, {"role": "assistant", "content": "Well, "}], continue_final_message=True),
                         "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nWell, ")
        self.assertEqual(text([user], chat_template_kwargs={"enable_thinking": False}, reasoning_effort="low"), text([user]))
        started = time.monotonic()
        body = {"messages": [{"role": "user", "content": "a" * 300000}, {"role": "assistant", "content": "a" * 200000 + "b"}], "continue_final_message": True}
        self.assertEqual(self.server.post("/apply-template", body).status, 200)
        self.assertLess(time.monotonic() - started, 3)

    def test_max_tokens(self):
        self.assertEqual(self.chat("a b c d", max_tokens=9, max_completion_tokens=3, ignore_eos=True)["usage"]["completion_tokens"], 3)
        reply = self.chat("a b c d", ignore_eos=True)
        self.assertEqual(reply["usage"]["total_tokens"], 2048)
        self.assertEqual(reply["choices"][0]["finish_reason"], "length")

    def test_token_ids(self):
        reply = self.chat("a", max_tokens=2, return_token_ids=True)
        self.assertEqual(len(reply["prompt_token_ids"]), reply["usage"]["prompt_tokens"])
        self.assertEqual(reply["choices"][0]["token_ids"], reply["prompt_token_ids"][:2])


class Tokenizer(Requests):
    def test_forms(self):
        reply = self.server.post("/tokenize", {"prompt": "Hello world", "return_token_strs": True}).json()
        self.assertEqual((reply["count"], reply["max_model_len"], reply["token_strs"]), (2, 2048, ["Hello", " world"]))
        ids = reply["tokens"]
        self.assertEqual(self.server.post("/tokenize", {"content": "Hello world"}).json(), {"tokens": ids})
        self.assertEqual(self.server.post("/tokenize", {"content": "Hello world", "with_pieces": True}).json(),
                         {"tokens": [{"id": ids[0], "piece": "Hello"}, {"id": ids[1], "piece": " world"}]})
        self.assertEqual(self.server.post("/detokenize", {"tokens": ids}).json(), {"prompt": "Hello world", "content": "Hello world"})
        chat = self.server.post("/tokenize", {"messages": [{"role": "user", "content": "Hi"}]}).json()
        self.assertEqual(self.server.post("/detokenize", {"tokens": chat["tokens"]}).json()["prompt"], "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
        self.assertEqual(len(self.tokens("<|im_end|>")), 1)
        self.assertGreater(len(self.server.post("/tokenize", {"content": "<|im_end|>", "parse_special": False}).json()["tokens"]), 1)

    def test_refused(self):
        for path, body, param in (("/tokenize", {}, "prompt"), ("/tokenize", {"prompt": "a", "content": "b"}, "prompt"), ("/tokenize", {"prompt": 5}, "prompt"),
                                  ("/detokenize", {}, "tokens"), ("/detokenize", {"tokens": [49152]}, "tokens[0]"), ("/detokenize", {"tokens": ["a"]}, "tokens[0]"),
                                  ("/apply-template", {}, "messages")):
            self.refused(self.server.post(path, body), 400, "invalid_value", param)
        self.refused(self.server.post("/tokenize", b"{"), 400, "invalid_json", None)

    def test_info(self):
        info = self.server.request("GET", "/tokenizer_info").json()
        self.assertIn("eos_token", info)
        self.assertIn("im_start", info["chat_template"])

    def test_round_trip(self):
        for text in ("naïve café 東京 😀", "  spaces\tand\nlines ", "x" * 5000, "\u2028 \"quotes\" \\ \x01"):
            self.assertEqual(self.server.post("/detokenize", {"tokens": self.tokens(text)}).json()["prompt"], text)


class Routes(ServerTest):
    settings = dict(origin="http://page.example:3000")

    def test_unknown(self):
        for path in ("/", "/nope", "/v1", "/v1/models/", "//v1/models", "/v1%2fmodels", "/v1/models/fake%20", "/v1/completions/", "/V1/models", "/../etc/passwd"):
            self.refused(self.server.request("GET", path), 404, "route_not_found", None)

    def test_methods(self):
        for method, path, allow in (("GET", "/v1/completions", "POST, OPTIONS"), ("DELETE", "/v1/models", "GET, HEAD, OPTIONS"), ("HEAD", "/tokenize", "POST, OPTIONS"),
                                    ("POST", "/health", "GET, HEAD, OPTIONS")):
            reply = self.server.request(method, path, b"" if method == "POST" else None)
            self.assertEqual((reply.status, reply.headers["allow"]), (405, allow)) if method != "HEAD" else self.assertEqual(reply.status, 405)
        reply = self.server.request("OPTIONS", "/v1/completions")
        self.assertEqual((reply.status, reply.headers["allow"]), (204, "POST, OPTIONS"))

    def test_head(self):
        with self.server.connect() as s:
            s.sendall(head("HEAD", "/v1/models") + head("GET", "/livez", headers={"Connection": "close"}))
            data = s.makefile("rb").read()
        self.assertEqual(data.count(b"HTTP/1.1 200 OK"), 2)
        self.assertNotIn(b'"object"', data)

    def test_models(self):
        models = self.server.request("GET", "/v1/models").json()
        self.assertEqual([(m["id"], m["root"], m["max_model_len"]) for m in models["data"]], [("fake", "fake", 2048), ("fake-alias", "fake", 2048)])
        self.assertEqual(self.server.request("GET", "/v1/models/fake-alias").json()["id"], "fake-alias")
        self.refused(self.server.request("GET", "/v1/models/nope"), 404, "model_not_found")

    def test_health(self):
        for path in ("/health", "/health?verbose=1", "/livez", "/readyz"):
            self.assertEqual(self.server.request("GET", path).status, 200)
        self.assertEqual(self.server.request("GET", "/version").json()["isa"], "scalar")

    def test_H14_origins(self):
        page = {"Origin": "http://page.example:3000"}
        reply = self.server.request("OPTIONS", "/v1/completions", headers={**page, "Access-Control-Request-Method": "POST"})
        self.assertEqual((reply.status, reply.headers["access-control-allow-origin"]), (204, page["Origin"]))
        self.assertEqual(self.server.request("GET", "/livez", headers=page).headers["access-control-allow-origin"], page["Origin"])
        own = {"Origin": f"http://127.0.0.1:{self.server.port}", "Host": f"127.0.0.1:{self.server.port}"}
        self.assertEqual(self.server.request("GET", "/livez", headers=own).status, 200)
        for origin in ("http://evil.example", "null", "http://page.example:3001", "https://page.example:3000", "", "http://page.example:3000, http://a"):
            self.refused(self.server.post("/v1/completions", {"prompt": "a"}, {"Origin": origin, "Content-Type": "text/plain"}), 403, "origin_not_allowed")


class Metrics(Requests):
    settings = dict(step_ms=5, max_running=1, max_waiting=1)

    def setUp(self):
        """Until what the test before this one did is counted: its last request, and connections that close."""
        self.server.wait_idle()
        last, samples = None, {}
        while last != samples or samples["fourway_open_connections"] > 1:
            last, samples = samples, {k: v for k, v in self.scrape().items() if "/metrics" not in k}
            time.sleep(0.1)

    def scrape(self):
        """{sample with its labels: value}; the form of each line is checked."""
        reply = self.server.request("GET", "/metrics")
        self.assertEqual(reply.status, 200)
        self.assertEqual(reply.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8")
        text = reply.body.decode()
        self.assertTrue(text.endswith("\n") and "\n\n" not in text)
        types, samples, family = {}, {}, None
        lines = text.splitlines()
        for i, line in enumerate(lines):
            if line.startswith("# HELP "):
                family = line.split()[2]
                self.assertNotIn(family, types)
                types[family] = lines[i + 1].split()[3]
                self.assertEqual(lines[i + 1], f"# TYPE {family} {types[family]}")
                self.assertIn(types[family], ("counter", "gauge", "histogram"))
                self.assertEqual(family.endswith("_total"), types[family] == "counter")
            elif not line.startswith("# TYPE "):
                found = re.fullmatch(r'(fourway_\w+)((?:\{(?:\w+="[^"\\\n]*",?)+\})?) ([-+0-9.eInf]+)', line)
                self.assertTrue(found, line)
                allowed = [family + s for s in ("_bucket", "_sum", "_count")] if types[family] == "histogram" else [family]
                self.assertIn(found[1], allowed, line)
                self.assertNotIn(found[1] + found[2], samples)
                samples[found[1] + found[2]] = float(found[3])
        for name, value in samples.items():
            if "_bucket" in name and 'le="+Inf"' in name:
                count = re.sub(r',?le="\+Inf"', "", name.replace("_bucket", "_count")).replace("{}", "")
                self.assertEqual(value, samples[count], name)
        return samples

    def when(self, name, value):
        """The scrape in which a sample has this value: the last of a request is counted after its reply has left."""
        deadline = time.monotonic() + 5
        while True:
            samples = self.scrape()
            if samples[name] == value:
                return samples
            self.assertLess(time.monotonic(), deadline, (name, value, samples[name]))
            time.sleep(0.02)

    def test_requests(self):
        before = self.scrape()
        for i in range(3):
            self.complete(prompt="one two three", max_tokens=4, ignore_eos=True)
        self.stream(prompt="one two three", max_tokens=30)
        self.stream(path="/v1/chat/completions", messages=[{"role": "user", "content": "one"}], max_tokens=2)
        self.refused(self.server.post("/v1/completions", {"prompt": 1, "temperature": "x"}), 400, "invalid_value")
        self.refused(self.server.post("/v1/completions", {"prompt": "a b c", "max_tokens": 100000}), 400, "context_length_exceeded")
        self.refused(self.server.request("GET", "/nope"), 404, "route_not_found")
        total = "fourway_e2e_request_latency_seconds_count"
        after = self.when(total, before[total] + 5)
        grown = {k: v - before.get(k, 0) for k, v in after.items()}
        n = len(self.tokens("one two three"))
        for name, value in {
            'fourway_requests_total{route="/v1/completions",status="200"}': 4, 'fourway_requests_total{route="/v1/completions",status="400"}': 2,
            'fourway_requests_total{route="/v1/chat/completions",status="200"}': 1, 'fourway_requests_total{route="other",status="404"}': 1,
            'fourway_requests_finished_total{reason="length"}': 4, 'fourway_requests_finished_total{reason="stop"}': 1,
            'fourway_requests_finished_total{reason="abort"}': 0, 'fourway_admission_rejections_total{reason="context"}': 1,
            "fourway_time_to_first_token_seconds_count": 5, "fourway_request_queue_seconds_count": 5, "fourway_request_prefill_seconds_count": 5,
            "fourway_request_decode_seconds_count": 5, "fourway_request_prompt_tokens_count": 5, "fourway_time_per_output_token_seconds_count": 5,
            "fourway_request_generation_tokens_sum": 3 * 4 + n + 1 + 2, "fourway_inter_token_latency_seconds_count": 3 * 3 + n + 1,
            "fourway_generation_tokens_total": 3 * 4 + n + 1 + 2,
        }.items():
            self.assertEqual(grown[name], value, name)
        gaps = grown["fourway_inter_token_latency_seconds_sum"]
        self.assertTrue(0.005 * 0.5 * (9 + n) < gaps < 60, gaps)
        self.assertFalse([k for k, v in grown.items() if v < 0 and ("_total" in k or "_count" in k or "_bucket" in k)])

    def test_engine(self):
        """What the played engine says: one node of 100 pages, 5 GB/s of 10."""
        samples = self.scrape()
        for name, value in {'fourway_kv_pages{state="used",node="0"}': 25, 'fourway_kv_pages{state="free",node="0"}': 75, "fourway_kv_usage_ratio": 0.25,
                            'fourway_weight_bytes{node="0"}': 1000, "fourway_mbu_ratio": 0.5, 'fourway_decode_read_bytes_per_second{node="0"}': 5e9,
                            'fourway_numa_read_bandwidth_bytes_per_second{node="0"}': 1e10, 'fourway_barrier_ratio{node="0"}': 0.25,
                            "fourway_ready": 1, "fourway_model_load_ratio": 1, "fourway_open_connections": 1,
                            'fourway_model_info{model_name="fake",arch="llama",quant="q4_1",n_ctx="2048"}': 1}.items():
            self.assertEqual(samples[name], value, name)
        self.assertTrue([k for k in samples if k.startswith("fourway_build_info{version=") and k.endswith(',isa="scalar"}')])
        self.assertIn('fourway_request_prompt_tokens_bucket{le="5000"}', samples)
        self.assertNotIn('fourway_request_prompt_tokens_bucket{le="10000"}', samples)

    def test_load_and_leaving(self):
        before = self.scrape()
        body = json.dumps({**ENDLESS, "max_tokens": 2000, "stream": True}).encode()
        cut, running, queued = self.server.connect(), self.server.connect(), self.server.connect()
        cut.sendall(head("POST", "/v1/completions", body)[:-20])
        running.sendall(head("POST", "/v1/completions", body))
        running.recv(100)
        queued.sendall(head("POST", "/v1/completions", body))
        while self.server.running() != (1, 1):
            time.sleep(0.01)
        samples = self.scrape()
        self.assertEqual((samples["fourway_requests_running"], samples["fourway_requests_waiting"]), (1, 1))
        deadline = time.monotonic() + 10
        while samples["fourway_open_connections"] < 4:          # accepted one after the other; those of running() may still be closing
            self.assertLess(time.monotonic(), deadline, samples["fourway_open_connections"])
            samples = self.scrape()
        self.refused(self.server.post("/v1/completions", {"prompt": "a"}), 503, "server_overloaded")
        for s in (cut, queued, running):
            s.close()
        self.server.wait_idle()
        total = 'fourway_requests_finished_total{reason="abort"}'
        after = self.when(total, before[total] + 2)
        after = self.when('fourway_disconnects_total{phase="upload"}', before['fourway_disconnects_total{phase="upload"}'] + 1)
        grown = {k: v - before.get(k, 0) for k, v in after.items()}
        self.assertEqual([grown[f'fourway_disconnects_total{{phase="{p}"}}'] for p in ("upload", "queue", "prefill", "decode")], [1, 1, 0, 1])
        self.assertEqual(grown['fourway_admission_rejections_total{reason="queue_requests"}'], 1)
        self.assertEqual(grown['fourway_requests_total{route="/v1/completions",status="503"}'], 1)

    def test_corrupted(self):
        before = self.scrape()
        self.refused(self.server.post("/v1/completions", {"prompt": "a b c d", "seed": 900001, "max_tokens": 9}), 500, "corrupted_output")
        after = self.when("fourway_corrupted_requests_total", before["fourway_corrupted_requests_total"] + 1)
        self.assertEqual(after['fourway_requests_finished_total{reason="error"}'], before['fourway_requests_finished_total{reason="error"}'] + 1)

    def test_labels_are_ours(self):
        self.server.request("GET", '/x"{}\\evil')
        self.server.post("/v1/completions", {"prompt": "a", "model": "evil", "user": "evil", "max_tokens": 1})
        self.assertNotIn("evil", " ".join(self.scrape()))

    def test_head(self):
        self.assertEqual(self.server.request("POST", "/metrics", b"").status, 405)


class MetricsOfVllm(Requests):
    settings = dict(vllm=1)

    def test_names(self):
        self.complete(prompt="one two three", max_tokens=4, ignore_eos=True)
        deadline = time.monotonic() + 5
        done, lines = 'vllm:request_success_total{model_name="fake",engine="0",finished_reason="length"} 1', []
        while done not in lines:
            self.assertLess(time.monotonic(), deadline)
            lines = self.server.request("GET", "/metrics").body.decode().splitlines()
        for name, value in (("num_requests_running", "[01]"), ("num_requests_waiting", "0"), ("kv_cache_usage_perc", "0[.]25")):
            found = [line for line in lines if re.fullmatch(f'vllm:{name}.model_name="fake",engine="0". {value}', line)]
            self.assertEqual(len(found), 1, name)
        for name, least in (("inter_token_latency_seconds", "0.01"), ("e2e_request_latency_seconds", "0.3"), ("time_to_first_token_seconds", "0.001"),
                            ("iteration_tokens_total", "1")):
            buckets = [line for line in lines if line.startswith(f"vllm:{name}_bucket")]
            self.assertTrue(buckets[0].startswith(f'vllm:{name}_bucket{{model_name="fake",engine="0",le="{least}"}}'), buckets[0])
        self.assertEqual(len([line for line in lines if line.startswith("# TYPE vllm:")]), 17)
        self.assertIn("fourway_ready 1", lines)


class Keys(ServerTest):
    @classmethod
    def setUpClass(cls):
        cls.file = tempfile.NamedTemporaryFile(mode="w", suffix=".keys")
        cls.file.write("# comment\nsecret-one\n\nsecret-two\n")
        cls.file.flush()
        cls.settings = dict(keys=cls.file.name, step_ms=5, max_running=100, max_waiting=200)
        super().setUpClass()
        cls.addClassCleanup(cls.file.close)

    def test_H13_keys(self):
        for value in (None, "Bearer wrong", "Bearer", "Bearer ", "secret-one", "Basic secret-one", "Bearer secret-on", "Bearer secret-onee", "Bearer # comment",
                      "Bearer " + "a" * 20000):
            for method, path in (("POST", "/v1/completions"), ("GET", "/v1/models"), ("GET", "/version"), ("POST", "/tokenize"), ("GET", "/nope"), ("GET", "/metrics")):
                reply = self.server.request(method, path, b"{}" if method == "POST" else None, {"Authorization": value})
                self.refused(reply, 401, "invalid_api_key")
                self.assertEqual(reply.headers["www-authenticate"], "Bearer")
        for key in ("Bearer secret-one", "bearer secret-two"):
            for path in ("/v1/models", "/metrics"):
                self.assertEqual(self.server.request("GET", path, headers={"Authorization": key}).status, 200)
        for path in ("/health", "/livez", "/readyz"):
            self.assertEqual(self.server.request("GET", path).status, 200)
        self.assertNotIn("secret", self.server.log())

    def test_too_many_of_one_key(self):
        def start(key):
            s = self.server.connect()
            self.addCleanup(s.close)
            s.sendall(head("POST", "/v1/completions", json.dumps({**ENDLESS, "max_tokens": 2000}).encode(), {"Authorization": f"Bearer {key}"}))
            return s
        sockets = [start("secret-one") for _ in range(32)]
        time.sleep(0.5)
        self.refused(Reply(start("secret-one")), 429, "rate_limited")
        reply = self.server.post("/v1/completions", {"prompt": "a", "max_tokens": 1}, {"Authorization": "Bearer secret-two"})
        self.assertEqual(reply.status, 200)
        for s in sockets:
            s.close()
        self.server.wait_idle()
        self.assertEqual(self.server.post("/v1/completions", {"prompt": "a", "max_tokens": 1}, {"Authorization": "Bearer secret-one"}).status, 200)


class Embeddings(Requests):
    """The engine's vectors tell the parity of their first token and of their length."""
    settings = dict(max_running=16, max_waiting=64, step_ms=1)

    def embed(self, **fields):
        reply = self.server.post("/v1/embeddings", fields)
        self.assertEqual(reply.status, 200, reply.body)
        return reply.json()

    def test_more_inputs_than_the_queue_holds(self):
        inputs = [[10 + i % 1000] * (1 + i % 3) for i in range(2048)]
        reply = self.embed(input=inputs, user="somebody")
        self.assertEqual((reply["object"], reply["model"]), ("list", "fake"))
        self.assertEqual([d["index"] for d in reply["data"]], list(range(2048)))
        want = [[0, 0.6 if i % 2 else -0.6, 0.8 if i % 3 != 1 else -0.8] for i in range(2048)]
        for d, w in zip(reply["data"], want):
            self.assertEqual(d["object"], "embedding")
            self.assertEqual([round(x, 7) for x in d["embedding"]], w)
        n = sum(len(i) for i in inputs)
        self.assertEqual(reply["usage"], {"prompt_tokens": n, "total_tokens": n})
        coded = self.embed(input=inputs, encoding_format="base64")
        for d, c in zip(reply["data"], coded["data"]):
            self.assertEqual(struct.pack("<3f", *d["embedding"]), base64.b64decode(c["embedding"], validate=True))
        self.server.wait_idle()

    def test_refused(self):
        for fields, param in (({}, "input"), ({"input": []}, "input"), ({"input": ""}, "input"), ({"input": ["a", ""]}, "input[1]"),
                              ({"input": [[1], []]}, "input[1]"), ({"input": [1, 2.5]}, "input[1]"), ({"input": {}}, "input"),
                              ({"input": [1, -1]}, "input[1]"), ({"input": [[1], 2]}, "input[1]"), ({"input": [None]}, "input[0]"),
                              ({"input": ["a"] * 2049}, "input"), ({"input": "a", "dimensions": 2}, "dimensions"),
                              ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
                              ({"input": "a", "encoding_format": 1}, "encoding_format")):
            with self.subTest(fields=str(fields)[:60]):
                self.refused(self.server.post("/v1/embeddings", fields), 400, "invalid_value", param)
        self.refused(self.server.post("/v1/embeddings", {"input": "a", "model": "other"}), 404, "model_not_found", "model")
        for fields, param in (({"input": [1] * 2049}, "input"), ({"input": [[1], [1] * 2049]}, "input[1]")):
            reply = self.server.post("/v1/embeddings", fields)
            self.refused(reply, 400, "context_length_exceeded", param)
            self.assertEqual((reply.json()["error"]["n_prompt_tokens"], reply.json()["error"]["n_ctx"]), (2049, 2048))
            for most, n in ((5, 5), (-1, 2048)):
                reply = self.embed(**fields, truncate_prompt_tokens=most)
                self.assertEqual(reply["usage"]["prompt_tokens"], n + len(reply["data"]) - 1)
        self.embed(input=[1] * 2048)


class SlowEmbeddings(Requests):
    settings = dict(max_running=1, max_waiting=64, step_ms=50)
    inputs = [[1]] * 400

    def test_a_client_that_leaves(self):
        s = self.server.connect()
        s.sendall(head("POST", "/v1/embeddings", json.dumps({"input": self.inputs}).encode()))
        deadline = time.monotonic() + 5
        while self.server.running()[1] < 30:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        s.close()
        deadline = time.monotonic() + 2         # of the 20 s that it would take
        while self.server.running() != (0, 0):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        self.server.wait_idle()

    def test_timeout(self):
        self.refused(self.server.post("/v1/embeddings", {"input": self.inputs, "timeout": 0.3}), 504, "deadline_exceeded")
        self.server.wait_idle()


class NoEmbeddings(Requests):
    settings = dict(no_embeddings=1)

    def test_refused(self):
        self.refused(self.server.post("/v1/embeddings", {"input": "a"}), 501, "not_supported")


class Failures(Requests):
    settings = dict(queue_s=1, step_ms=10)

    def failed_stream(self, **fields):
        reply = self.open_stream("/v1/completions", fields)
        self.assertEqual(reply.status, 200)
        events = [json.loads(e[6:]) if e != b"data: [DONE]" else e for e in reply.events()]
        self.assertEqual(events[-1], b"data: [DONE]")
        return [c["finish_reason"] for e in events[:-2] for c in e["choices"]], events[-2]["error"]

    def test_nan(self):
        self.refused(self.server.post("/v1/completions", {"prompt": "one two three", "seed": 900001}), 500, "corrupted_output")
        finishes, error = self.failed_stream(prompt="one two three", seed=900001)
        self.assertEqual((finishes, error["code"]), ([None, None, "error"], "corrupted_output"))
        finishes, error = self.failed_stream(prompt=["one two three", "one two"], seed=900001)
        self.assertEqual(finishes[-2:], ["error", "error"])     # one choice fails: the whole request does
        self.server.wait_idle()

    def test_before_the_first_byte(self):
        """A failure then still has a status, also for a stream."""
        for stream in (False, True):
            self.refused(self.server.post("/v1/completions", {"prompt": "a", "seed": 900002, "stream": stream}), 500, "internal_error")
            self.refused(self.server.post("/v1/completions", {"prompt": "a", "seed": 900003, "stream": stream}), 504, "deadline_exceeded")
        self.server.wait_idle()

    def test_timeout(self):
        self.refused(self.server.post("/v1/completions", {**ENDLESS, "max_tokens": 2000, "timeout": 0.2}), 504, "deadline_exceeded")
        finishes, error = self.failed_stream(**{**ENDLESS, "max_tokens": 2000, "timeout": 0.2})
        self.assertEqual((finishes[-1], error["code"]), ("abort", "deadline_exceeded"))
        self.server.wait_idle()

    def test_pings(self):
        """The status waits for the first token, or for silence; then comments."""
        reply = self.open_stream("/v1/completions", dict(prompt="a", seed=900003, sse_ping_interval=0.1))
        self.assertEqual(reply.status, 200)
        events = list(reply.events())
        self.assertEqual(events[:2], [b": ping", b": ping"])
        self.assertEqual((json.loads(events[-2][6:])["error"]["code"], events[-1]), ("deadline_exceeded", b"data: [DONE]"))
        self.refused(self.server.post("/v1/completions", {"prompt": "a", "seed": 900003, "stream": True, "sse_ping_interval": 0}), 504, "deadline_exceeded")


class Overload(Requests):
    settings = dict(max_running=1, max_waiting=2, step_ms=5)

    def test_H15_queue_is_full(self):
        streams = []
        for expected in ((1, 0), (1, 1), (1, 2)):
            streams.append(self.open_endless())
            deadline = time.monotonic() + 5
            while self.server.running() != expected:
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.01)
        self.assertEqual(self.server.running(), (1, 2))
        started = time.monotonic()
        reply = self.server.post("/v1/completions", {"prompt": "a"})
        self.assertLess(time.monotonic() - started, 0.5)
        self.refused(reply, 503, "server_overloaded")
        self.assertGreaterEqual(int(reply.headers["retry-after"]), 1)
        for s in streams:
            s.close()
        self.server.wait_idle()
        # Several sequences of one request that do not all fit: none stays behind.
        reply = self.server.post("/v1/completions", {"prompt": ["a b c"] * 20, "max_tokens": 2000, "ignore_eos": True})
        self.refused(reply, 503, "server_overloaded")
        self.server.wait_idle()

    def open_endless(self):
        s = self.server.connect()
        self.addCleanup(s.close)
        s.sendall(head("POST", "/v1/completions", json.dumps({**ENDLESS, "max_tokens": 2000, "stream": True}).encode()))
        return s


class Disconnects(Requests):
    settings = dict(max_running=2, max_waiting=64, step_ms=5)

    def leave(self, s, how):
        if how == "reset":
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how == "half":
            s.shutdown(socket.SHUT_WR)
        else:
            s.close()

    def test_H12_each_phase(self):
        """While uploading, in the queue, in decode with and without a stream, before reading; by FIN and RST. Its sequences end, others do not."""
        body = {**ENDLESS, "max_tokens": 2000}
        neighbour = self.open_stream("/v1/completions", {"prompt": "one two three", "max_tokens": 600, "ignore_eos": True})
        for how in ("close", "reset", "half"):
            for stream in (False, True):
                data = head("POST", "/v1/completions", json.dumps({**body, "stream": stream}).encode())
                with self.subTest(how=how, stream=stream):
                    cut = self.server.connect()
                    cut.sendall(data[:-20])
                    running, queued = self.server.connect(), self.server.connect()
                    running.sendall(data)
                    time.sleep(0.1)
                    queued.sendall(data)
                    time.sleep(0.1)
                    self.assertEqual(self.server.running(), (2, 1))
                    if stream:
                        running.recv(100)
                    for s in (cut, queued, running):
                        self.leave(s, how)
                    deadline = time.monotonic() + 2
                    while self.server.running() != (1, 0):
                        self.assertLess(time.monotonic(), deadline, self.server.running())
                        time.sleep(0.01)
                    for s in (cut, queued, running):
                        s.close()
        text = "".join(json.loads(e[6:])["choices"][0]["text"] for e in neighbour.events() if e != b"data: [DONE]")
        self.assertEqual(text, "one two three" * 200)
        self.server.wait_idle()
        self.assertIn("client left", self.server.log())

    def test_H12_leaves_at_any_moment(self):
        data = head("POST", "/v1/completions", json.dumps({**ENDLESS, "max_tokens": 2000, "stream": True}).encode())
        for i in range(150):
            with self.server.connect() as s:
                s.sendall(data)
                time.sleep(i % 30 / 2000)
                self.leave(s, ("close", "reset", "half")[i % 3])
        self.server.wait_idle()


class SlowReader(Requests):
    settings = dict(step_ms=0.02, n_ctx=60000)

    def test_a_client_that_does_not_read_is_cancelled(self):
        s = self.server.connect(receive_bytes=4096)
        self.addCleanup(s.close)
        s.sendall(head("POST", "/v1/completions", json.dumps({**ENDLESS, "max_tokens": 50000, "logprobs": 20, "stream": True}).encode()))
        deadline = time.monotonic() + 60
        while "reads too slowly" not in self.server.log():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        self.server.wait_idle()
        events = list(Reply(s, whole=False).events())
        self.assertEqual(events[-1], b"data: [DONE]")
        self.assertEqual(json.loads(events[-2][6:])["choices"][0]["finish_reason"], "abort")


class Many(Requests):
    settings = dict(max_running=400, max_waiting=400, step_ms=5)

    def test_many_streams(self):
        results, lock = [], threading.Lock()

        def read(i):
            chunks = self.stream(prompt=f"stream {i} has this text", max_tokens=40)
            with lock:
                results.append("".join(texts(chunks)) == f"stream {i} has this text")

        threads = [threading.Thread(target=read, args=(i,)) for i in range(300)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(results, [True] * 300)
        self.server.wait_idle()
        deadline = time.monotonic() + 5
        while len(os.listdir(f"/proc/{self.server.process.pid}/fd")) > 30:
            self.assertLess(time.monotonic(), deadline, "connections are left open")
            time.sleep(0.05)


class Life(unittest.TestCase):
    def start(self, **settings):
        server = Server(**settings)
        self.addCleanup(lambda: server.process.poll() is None and server.process.kill())
        return server

    def open_streams(self, server, n, **fields):
        sockets = []
        for _ in range(n):
            s = server.connect()
            self.addCleanup(s.close)
            s.sendall(head("POST", "/v1/completions", json.dumps({**ENDLESS, **fields, "stream": True}).encode()))
            sockets.append(s)
        replies = [Reply(s, whole=False) for s in sockets]
        return replies

    def test_loading(self):
        server = self.start(load_ms=1500)
        health = server.request("GET", "/health")
        self.assertEqual((health.status, health.json()["status"], health.json()["progress"]), (503, "loading", 0.37))
        self.assertEqual(server.request("GET", "/livez").status, 200)
        self.assertEqual(server.request("GET", "/readyz").status, 503)
        self.assertIsNone(server.request("GET", "/v1/models").json()["data"][0]["meta"])
        reply = server.post("/v1/completions", {"prompt": "a"})
        self.assertEqual((reply.status, reply.error()["code"]), (503, "loading"))
        self.assertIn("37 %", reply.error()["message"])
        self.assertIn("retry-after", reply.headers)
        self.assertNotIn("listening", server.log())
        server.wait_for("^listening on http://127.0.0.1:\\d+\n")
        self.assertEqual(server.post("/v1/completions", {"prompt": "a"}).status, 200)
        self.assertEqual(server.stop(), 0)

    def test_model_that_does_not_load(self):
        server = self.start(load_ms=200, load_fails=1)
        self.assertEqual(server.process.wait(10), 1)
        self.assertNotIn("listening", server.log())

    def test_stopped_while_loading(self):
        server = self.start(load_ms=60000)
        started = time.monotonic()
        self.assertEqual(server.stop(), 0)
        self.assertLess(time.monotonic() - started, 2)

    def test_R04_drain(self):
        """50 streams go on to their ends; new requests on kept connections are refused; then exit 0."""
        server = self.start(step_ms=5, max_running=100, drain_s=20)
        with server.connect() as kept, server.connect() as probe:
            for s in (kept, probe):
                s.sendall(head("GET", "/livez"))
                Reply(s)
            replies = self.open_streams(server, 50, max_tokens=200)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
            kept.sendall(head("POST", "/v1/completions", b'{"prompt":"a"}'))
            refused = Reply(kept)
            self.assertEqual((refused.status, refused.error()["code"], refused.headers["connection"]), (503, "draining", "close"))
            probe.sendall(head("GET", "/readyz"))
            self.assertEqual(Reply(probe).status, 503)
        with self.assertRaises(OSError):
            server.connect()
        for reply in replies:
            events = list(reply.events())
            self.assertTrue(reply.whole)
            self.assertEqual(events[-1], b"data: [DONE]")
            self.assertEqual(json.loads(events[-2][6:])["choices"][0]["finish_reason"], "length")
        self.assertEqual(server.process.wait(10), 0, server.log())

    def test_R04_drain_time_is_over(self):
        server = self.start(step_ms=5, max_running=100, drain_s=0.5, n_ctx=200000)
        replies = self.open_streams(server, 20)
        waiting = server.connect()
        self.addCleanup(waiting.close)
        waiting.sendall(head("POST", "/v1/completions", json.dumps(ENDLESS).encode()))
        time.sleep(0.2)
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        for reply in replies:
            events = list(reply.events())
            self.assertTrue(reply.whole)
            self.assertEqual(events[-1], b"data: [DONE]")
            self.assertEqual(json.loads(events[-2][6:])["error"]["code"], "draining")
            self.assertEqual(json.loads(events[-3][6:])["choices"][0]["finish_reason"], "abort")
        reply = Reply(waiting)
        self.assertEqual((reply.status, reply.error()["code"]), (503, "draining"))
        self.assertEqual(server.process.wait(10), 0, server.log())
        self.assertLess(time.monotonic() - started, 5)

    def test_clients_that_never_read_do_not_hold_the_end(self):
        server = self.start(step_ms=0.05, drain_s=0.3, n_ctx=200000)
        self.open_streams(server, 10, logprobs=5)
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(server.process.wait(10), 0, server.log())

    def test_second_signal(self):
        server = self.start(step_ms=5, drain_s=60, n_ctx=200000)
        self.open_streams(server, 2)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        started = time.monotonic()
        server.process.send_signal(signal.SIGINT)
        self.assertEqual(server.process.wait(10), 1)
        self.assertLess(time.monotonic() - started, 5)      # not the drain time

    def test_idle_server_sleeps(self):
        """No thread wakes up while nobody is connected."""
        server = self.start()

        def switches():
            total = 0
            for task in os.listdir(f"/proc/{server.process.pid}/task"):
                with open(f"/proc/{server.process.pid}/task/{task}/status", encoding="ascii") as f:
                    total += sum(int(line.split()[1]) for line in f if "voluntary_ctxt_switches" in line)
            return total
        time.sleep(0.5)
        before = switches()
        time.sleep(2)
        self.assertLess(switches() - before, 60)       # a timer of 20 Hz would be 40, a spin thousands; sanitizers have some of their own
        self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    http_peer.main()
