"""Tool calls and reasoning as clients get them, streamed and in one piece. The engine repeats its prompt, which is the message: so a test
asks for a text by asking for it. What a grammar forces is tested with a model, in tests/e2e/test_tools.py."""
import json
import tempfile
import time

import http_peer
from http_behaviour import Requests
from http_peer import Server

TEMPLATE = ("{# tools <tool_call> #}{{ messages[-1].content }}{% if enable_thinking is defined %}<think>\n{% endif %}"
            "{% if messages | length > 1 %}{{ messages | tojson }}{{ tools | tojson }}{% endif %}")
TOOLS = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in ("get", "set")]


def call(name, arguments):
    return f"<tool_call>\n{{\"name\": \"{name}\", \"arguments\": {arguments}}}\n</tool_call>"


class ToolTest(Requests):
    settings = {}
    template = TEMPLATE

    @classmethod
    def setUpClass(cls):
        cls.file = tempfile.NamedTemporaryFile("w", suffix=".jinja")
        cls.file.write(cls.template)
        cls.file.flush()
        cls.server = Server(template=cls.file.name, **cls.settings)
        cls.addClassCleanup(cls.server.stop)
        cls.addClassCleanup(cls.file.close)

    def joined(self, content, **fields):
        """The choices of a stream, put together as clients do it: (message, finish reason) by index."""
        body = {"messages": [{"role": "user", "content": content}], **fields}
        messages = {}
        for chunk in self.stream("/v1/chat/completions", **body):
            for c in chunk["choices"]:
                message, delta = messages.setdefault(c["index"], {"calls": [], "finish": None}), c["delta"]
                self.assertIsNone(message["finish"])
                message["finish"] = c["finish_reason"]
                self.assertEqual("role" in delta, len(message) == 2 and c["finish_reason"] is None, delta)
                for field in ("role", "content", "reasoning_content", "reasoning"):
                    if field in delta:
                        message[field] = (message.get(field) or "") + delta[field] if delta[field] is not None else message.get(field)
                for piece in delta.get("tool_calls", ()):
                    if piece["index"] == len(message["calls"]):
                        self.assertEqual((piece["type"], piece["function"]["arguments"]), ("function", ""))
                        self.assertRegex(piece["id"], "^call_[0-9A-Za-z]{24}$")
                        message["calls"].append([piece["function"]["name"], ""])
                    else:
                        self.assertEqual(set(piece), {"index", "function"})
                        self.assertEqual(set(piece["function"]), {"arguments"})
                        message["calls"][piece["index"]][1] += piece["function"]["arguments"]
        return messages

    def both(self, content, **fields):
        """Message and finish reason of choice 0, the same either way."""
        reply = self.chat(content, **fields)
        for choice in reply["choices"]:
            message = choice["message"]
            streamed = self.joined(content, **fields)[choice["index"]]
            self.assertEqual(streamed["finish"], choice["finish_reason"])
            for field in ("content", "reasoning_content", "reasoning"):
                self.assertEqual(streamed.get(field) or "", message.get(field) or "")
            calls = message.get("tool_calls", [])
            self.assertEqual(streamed["calls"], [[c["function"]["name"], c["function"]["arguments"]] for c in calls])
            self.assertEqual(len({c["id"] for c in calls}), len(calls))
        return reply["choices"][0]["message"], reply["choices"][0]["finish_reason"], reply["usage"]


class Tools(ToolTest):
    def calls(self, message):
        return [(c["function"]["name"], c["function"]["arguments"]) for c in message["tool_calls"]]

    def test_auto(self):
        message, finish, _ = self.both(call("get", '{"city": "Rom \U0001f600"}'), tools=TOOLS)
        self.assertEqual((message["content"], finish, self.calls(message)), (None, "tool_calls", [("get", '{"city": "Rom \U0001f600"}')]))
        message, finish, _ = self.both("Two calls.\n" + call("get", "{}") + "\n" + call("set", '{"a": [1]}'), tools=TOOLS, n=2)
        self.assertEqual((message["content"], self.calls(message)), ("Two calls.", [("get", "{}"), ("set", '{"a": [1]}')]))

    def test_one_call(self):
        text = call("get", "{}") + call("set", "{}")
        message, finish, usage = self.both(text, tools=TOOLS, parallel_tool_calls=False)
        self.assertEqual((finish, self.calls(message)), ("tool_calls", [("get", "{}")]))
        self.assertLess(usage["completion_tokens"], len(self.tokens(text)) * 2 // 3)
        named = {"type": "function", "function": {"name": "get"}}
        self.assertEqual(self.calls(self.both(text, tools=TOOLS, tool_choice=named)[0]), [("get", "{}")])

    def test_no_call(self):
        for text in ("Just text with <tool_call> in it.", call("unknown", "{}"), call("get", '{"a": }'), call("get", "[1]"), "<tool_call>{"):
            message, finish, _ = self.both(text, tools=TOOLS)
            self.assertEqual((message["content"], finish), (text, "stop"))
            self.assertNotIn("tool_calls", message)
        text = call("get", "{}")
        for fields in ({}, {"tools": TOOLS, "tool_choice": "none"}):
            message, finish, _ = self.both(text, **fields)
            self.assertEqual((message["content"], finish), (text, "stop"))

    def test_cut(self):
        text = "Now " + call("get", '{"city": "Rome"}')
        n = len(self.tokens(text))
        message, finish, _ = self.both(text, tools=TOOLS, max_tokens=n // 2)
        self.assertEqual(finish, "length")
        self.assertTrue(message["content"].startswith("Now <tool_call>"))
        message, finish, _ = self.both(text, tools=TOOLS, stop="</tool_call>")
        self.assertEqual((message["content"], finish, self.calls(message)), ("Now", "tool_calls", [("get", '{"city": "Rome"}')]))
        message, finish, _ = self.both(text, tools=TOOLS, stop='"Rome')
        self.assertEqual((message["content"], finish), (text[:text.index('"Rome')], "stop"))

    def test_logprobs(self):
        """One entry for each token, whatever part it belongs to."""
        text = "<think>hm</think>Now " + call("get", "{}") + " and more"
        reply = self.chat(text, tools=TOOLS, logprobs=True)
        entries = reply["choices"][0]["logprobs"]["content"]
        self.assertEqual(len(entries), reply["usage"]["completion_tokens"])
        chunks = self.stream("/v1/chat/completions", messages=[{"role": "user", "content": text}], tools=TOOLS, logprobs=True)
        streamed = [e for chunk in chunks for c in chunk["choices"] for e in (c["logprobs"] or {"content": []})["content"]]
        self.assertEqual(streamed, entries)

    def test_metrics(self):
        def count():
            for line in self.server.request("GET", "/metrics").body.decode().splitlines():
                if line.startswith('fourway_requests_finished_total{reason="tool_calls"}'):
                    return int(line.split()[-1])
        before = count()
        self.chat(call("get", "{}"), tools=TOOLS)
        deadline = time.monotonic() + 10
        while count() <= before and time.monotonic() < deadline:       # it is counted once the reply has left
            time.sleep(0.02)
        self.assertGreater(count(), before)

    def test_plain_text(self):
        reply = self.server.post("/v1/chat/completions", {
            "messages": [{"role": "user", "content": "Text. " + call("get", "{}")}], "tools": TOOLS, "temperature": 0}, {"Accept": "text/plain"})
        self.assertEqual(reply.body, b"Text.")

    def test_template(self):
        """Tools as templates want them, calls of the history as objects."""
        tools = [{"type": "function", "function": {"name": "get"}}]
        function = {"name": "get", "arguments": '{"a": 1}'}
        history = [{"role": "assistant", "tool_calls": [{"id": "call_1", "type": "function", "function": function}]},
                   {"role": "tool", "tool_call_id": "call_1", "content": "42"}]
        text = self.server.post("/apply-template", {"messages": history, "tools": tools}).json()["prompt"]
        decoder = json.JSONDecoder()
        messages, end = decoder.raw_decode(text[2:])
        self.assertEqual(messages[0]["tool_calls"][0]["function"], {"name": "get", "arguments": {"a": 1}})
        self.assertEqual(messages[0]["content"], "")
        self.assertEqual(messages[1], {"role": "tool", "tool_call_id": "call_1", "content": "42"})
        self.assertEqual(json.loads(text[2 + end:]), [{"type": "function", "function": {
            "name": "get", "description": "", "parameters": {"properties": {}, "type": "object"}}}])


class Reasoning(ToolTest):
    def test_markers(self):
        text = "<think>\nFirst this,\n\nthen that.\n</think>\n\nSo it is."
        message, finish, usage = self.both(text)
        self.assertEqual((message["reasoning_content"], message["content"]), ("First this,\n\nthen that.", "So it is."))
        n = usage["completion_tokens_details"]["reasoning_tokens"]
        self.assertGreaterEqual(n, len(self.tokens("First this,\n\nthen that.")))
        self.assertLess(n, len(self.tokens(text[:text.index("So")])) + 1)
        self.assertNotIn("reasoning", message)
        message, _, usage = self.both("No thought.")
        self.assertNotIn("reasoning_content", message)
        self.assertEqual(usage["completion_tokens_details"], {"reasoning_tokens": 0})

    def test_opened_by_the_template(self):
        message, _, usage = self.both("hm</think>yes", chat_template_kwargs={"enable_thinking": True})
        self.assertEqual((message["reasoning_content"], message["content"]), ("hm", "yes<think>\n"))

    def test_with_calls(self):
        message, finish, _ = self.both("<think>a <tool_call> b</think>" + call("get", "{}"), tools=TOOLS)
        self.assertEqual((message["reasoning_content"], message["content"], finish), ("a <tool_call> b", None, "tool_calls"))

    def test_never_closed(self):
        message, finish, usage = self.both("<think>one two three four", max_tokens=8)
        self.assertEqual((message["content"], finish), ("", "length"))
        self.assertEqual(usage["completion_tokens_details"]["reasoning_tokens"] > 0, True)

    def test_constrained(self):
        """An answer of response_format is text from its first byte."""
        message, _, _ = self.both("<think>x</think>{}", response_format={"type": "json_object"})
        self.assertEqual(message["content"], "<think>x</think>{}")

    def test_stop(self):
        """Stop strings are looked for in all of the text, also while the model thinks."""
        message, finish, _ = self.both("<think>one STOP two</think>three", stop="STOP")
        self.assertEqual((message["reasoning_content"], message["content"], finish), ("one ", "", "stop"))


class ReasoningIsText(ToolTest):
    settings = {"think_is_text": 1}

    def test_markers_stay(self):
        text = "<think>\nFirst.\n</think>\n\nThen."
        message, _, usage = self.both(text)
        self.assertEqual(message["content"], text)
        self.assertNotIn("reasoning_content", message)
        self.assertEqual(usage["completion_tokens_details"], {"reasoning_tokens": 0})


class BothFields(ToolTest):
    settings = {"both_reasoning": 1}

    def test_both(self):
        message, _, _ = self.both("<think>a</think>b")
        self.assertEqual((message["reasoning"], message["reasoning_content"], message["content"]), ("a", "a", "b"))


class HistoryAsSent(ToolTest):
    """DeepSeek's templates join arguments to other texts, and ask whether the content is none."""
    template = "{# tools <｜tool▁call▁begin｜> #}{{ messages | tojson }}"

    def test_history(self):
        message = {"role": "assistant", "content": None, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "get", "arguments": '{"a": 1}'}}]}
        reply = self.server.post("/apply-template", {"messages": [message]})
        self.assertEqual(json.loads(reply.json()["prompt"]), [message])


class ToldInWords(ToolTest):
    """A template that knows no tools: they, calls and results become text."""
    template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"

    def render(self, messages, **fields):
        return self.server.post("/apply-template", {"messages": messages, **fields}).json()["prompt"]

    def test_words(self):
        user = {"role": "user", "content": "hi"}
        text = self.render([user], tools=TOOLS)
        self.assertTrue(text.startswith("[system]You may call functions"), text)
        self.assertTrue(text.endswith("</tool_call>[user]hi"), text)
        for tool in TOOLS:
            self.assertIn(f'"name": "{tool["function"]["name"]}"', text)
        text = self.render([{"role": "system", "content": "Be kind."}, user], tools=TOOLS)
        self.assertEqual(text.count("[system]"), 1)
        self.assertTrue(text.endswith("\n\nBe kind.[user]hi"), text)
        for fields in ({}, {"tools": []}, {"tools": TOOLS, "tool_choice": "none"}):
            self.assertEqual(self.render([user], **fields), "[user]hi")

    def test_history(self):
        calls = [{"id": str(i), "type": "function", "function": {"name": "get", "arguments": f'{{"a": {i}}}'}} for i in range(2)]
        text = self.render([{"role": "user", "content": "hi"}, {"role": "assistant", "content": None, "tool_calls": calls},
                            {"role": "tool", "tool_call_id": "0", "content": "x"}, {"role": "tool", "tool_call_id": "1", "content": "y"},
                            {"role": "assistant", "content": "ok", "tool_calls": calls[:1]}])
        first, second = call("get", '{"a": 0}'), call("get", '{"a": 1}')
        self.assertEqual(text, f"[user]hi[assistant]{first}\n{second}[user]<tool_response>\nx\n</tool_response>\n"
                         f"<tool_response>\ny\n</tool_response>[assistant]ok\n{first}")


if __name__ == "__main__":
    http_peer.main()
