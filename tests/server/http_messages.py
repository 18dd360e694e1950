"""/v1/responses and /v1/messages as clients get them. The engine repeats its prompt, which the template makes of the last message, or, in
the classes named so, of all that it gets: so a test sees in an answer what reached the template."""
import json
import tempfile
import time
import unittest

import http_peer
from http_behaviour import Requests
from http_peer import ServerTest
from http_tools import ToolTest, call

LAST = "{# tools <tool_call> <think> #}{{ messages[-1].content }}"
SHOW_ALL = "{{ messages | tojson }}{% if tools %}{{ tools | tojson }}{% endif %}{% if enable_thinking is defined %}[{{ enable_thinking }}]{% endif %}"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
NESTED = {"type": "function", "function": {"name": "get", "description": "Gets.", "parameters": SCHEMA}}
THOUGHT = "<think>hm, well</think>Two calls.\n"
CALLS = call("get", '{"city": "Rome"}') + "\n" + call("get", "{}")


class Events(ToolTest):
    template = LAST
    path = None

    def send(self, **body):
        return self.server.post(self.path, {"temperature": 0, **body})

    def answer(self, **body):
        reply = self.send(**body)
        self.assertEqual(reply.status, 200, reply.body)
        self.assertEqual(reply.headers["content-type"], "application/json")
        return reply.json()

    def read_events(self, reply):
        """The data of each event, whose two lines agree; comments and ping events of the silence are left out."""
        self.assertEqual(reply.status, 200)
        text = b"".join(reply.chunks()).decode()
        self.assertTrue(reply.whole)
        self.assertTrue(text.endswith("\n\n"))
        events = []
        for event in text[:-2].split("\n\n"):
            if event.startswith(":"):
                self.assertEqual(event, ": ping")
                continue
            name, data = event.split("\n")
            data = json.loads(data.removeprefix("data: "))
            self.assertEqual(name, "event: " + data["type"])
            events.append(data)
        reply.socket.close()
        reply.file.close()
        return events

    def events(self, **body):
        return self.read_events(self.open_stream(self.path, body))

    def refuse(self, param, code="invalid_value", status=400, **body):
        self.refused(self.send(**body), status, code, param)


class Responses(Events):
    path = "/v1/responses"
    tools = [{"type": "function", "name": "get", "description": "Gets.", "parameters": SCHEMA}]

    def test_reply(self):
        reply = self.answer(input="Hello there.", metadata={"a": "b"}, instructions="Be kind.", max_output_tokens=50, user="me", store=True)
        n = len(self.tokens("Hello there."))
        self.assertRegex(reply["id"], "^resp_[0-9a-f]{24}$")
        self.assertRegex(reply["output"][0]["id"], "^msg_[0-9A-Za-z]{24}$")
        self.assertLess(abs(reply["created_at"] - time.time()), 60)
        self.assertEqual(reply, {
            "id": reply["id"], "object": "response", "created_at": reply["created_at"], "status": "completed", "error": None,
            "incomplete_details": None, "instructions": "Be kind.", "model": "fake",
            "output": [{"type": "message", "id": reply["output"][0]["id"], "role": "assistant", "status": "completed",
                        "content": [{"type": "output_text", "text": "Hello there.", "annotations": [], "logprobs": []}]}],
            "parallel_tool_calls": True, "temperature": 0, "top_p": 1, "tool_choice": "auto", "tools": [], "max_output_tokens": 50,
            "previous_response_id": None, "metadata": {"a": "b"}, "text": {"format": {"type": "text"}},
            "usage": {"input_tokens": n, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0}, "output_tokens": n + 1,
                      "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 2 * n + 1}})

    def test_what_is_repeated(self):
        fields = {"temperature": 0.7, "top_p": 0.25, "tools": self.tools, "tool_choice": "none", "parallel_tool_calls": False,
                  "text": {"format": {"type": "json_object"}}}
        reply = self.answer(input="Hello", **fields)
        self.assertEqual({name: reply[name] for name in fields}, fields)
        self.assertEqual((reply["instructions"], reply["max_output_tokens"], reply["metadata"]), (None, None, {}))

    def test_stream(self):
        events = self.events(input="Hello there.", instructions="Be kind.")
        self.assertEqual([e["sequence_number"] for e in events], list(range(len(events))))
        n = len(self.tokens("Hello there."))
        self.assertEqual([e["type"].removeprefix("response.") for e in events],
                         ["created", "in_progress", "output_item.added", "content_part.added"] + n * ["output_text.delta"] +
                         ["output_text.done", "content_part.done", "output_item.done", "completed"])
        created, progress, added, part, *deltas, done, part_done, item_done, completed = events
        for e in (created, progress):
            self.assertEqual((e["response"]["status"], e["response"]["output"], e["response"]["usage"]), ("in_progress", [], None))
            self.assertEqual(e["response"]["instructions"], "Be kind.")
        item = completed["response"]["output"][0]
        self.assertEqual(added["item"], {**item, "status": "in_progress", "content": []})
        self.assertEqual(part["part"], {"type": "output_text", "text": "", "annotations": [], "logprobs": []})
        self.assertEqual(part_done["part"], item["content"][0])
        self.assertEqual(item_done["item"], item)
        self.assertEqual("".join(e["delta"] for e in deltas), done["text"])
        for e in (part, *deltas, done, part_done):
            self.assertEqual((e["item_id"], e["output_index"], e["content_index"]), (item["id"], 0, 0))
        for e in (*deltas, done):
            self.assertEqual(e["logprobs"], [])
        whole = self.answer(input="Hello there.", instructions="Be kind.")
        same = {"id", "created_at", "output"}
        self.assertEqual({k: v for k, v in completed["response"].items() if k not in same}, {k: v for k, v in whole.items() if k not in same})
        self.assertEqual(item["content"], whole["output"][0]["content"])

    def test_reasoning_and_calls(self):
        fields = dict(input=THOUGHT + CALLS, tools=self.tools)
        whole, events = self.answer(**fields), self.events(**fields)
        self.assertEqual([i["type"] for i in whole["output"]], ["reasoning", "message", "function_call", "function_call"])
        reasoning, message, one, two = whole["output"]
        self.assertEqual((reasoning["summary"], reasoning["content"]), ([], [{"type": "reasoning_text", "text": "hm, well"}]))
        self.assertEqual(message["content"][0]["text"], "Two calls.")
        self.assertEqual([(i["name"], i["arguments"], i["status"]) for i in (one, two)],
                         [("get", '{"city": "Rome"}', "completed"), ("get", "{}", "completed")])
        for item in (one, two):
            self.assertRegex(item["id"], "^fc_[0-9A-Za-z]{24}$")
            self.assertRegex(item["call_id"], "^call_[0-9A-Za-z]{24}$")
        self.assertRegex(reasoning["id"], "^rs_")
        self.assertGreater(whole["usage"]["output_tokens_details"]["reasoning_tokens"], 0)

        def without_ids(items):
            return [{k: v for k, v in i.items() if k not in ("id", "call_id")} for i in items]
        final = events[-1]["response"]
        self.assertEqual((without_ids(final["output"]), final["status"]), (without_ids(whole["output"]), "completed"))
        self.assertEqual([e["item"] for e in events if e["type"] == "response.output_item.done"], final["output"])
        for index, (item, kind, member) in enumerate(zip(final["output"], ("reasoning_text", "output_text") + 2 * ("function_call_arguments",),
                                                         ("text", "text") + 2 * ("arguments",))):
            mine = [e for e in events if e.get("output_index") == index]
            self.assertEqual((mine[0]["type"], mine[-1]["type"]), ("response.output_item.added", "response.output_item.done"))
            self.assertEqual(mine[0]["item"]["id"], item["id"])
            deltas = "".join(e["delta"] for e in mine if e["type"] == f"response.{kind}.delta")
            done = [e for e in mine if e["type"] == f"response.{kind}.done"]
            self.assertEqual([deltas], [e[member] for e in done])
            self.assertTrue(deltas)
            self.assertEqual("content_index" in done[0], kind != "function_call_arguments")
        self.assertEqual([e["sequence_number"] for e in events], list(range(len(events))))

    def test_incomplete(self):
        fields = dict(input="one two three four five", max_output_tokens=2)
        for response in (self.answer(**fields), self.events(**fields)[-1]["response"]):
            self.assertEqual((response["status"], response["incomplete_details"], response["error"]),
                             ("incomplete", {"reason": "max_output_tokens"}, None))
            self.assertEqual((response["output"][0]["status"], response["output"][0]["content"][0]["text"]), ("incomplete", "one two"))
        self.assertEqual(self.events(**fields)[-1]["type"], "response.incomplete")
        items = self.answer(input=THOUGHT + "one two three four", max_output_tokens=len(self.tokens(THOUGHT)) + 3)["output"]
        self.assertEqual(items[1]["status"], "incomplete")

    def test_failures(self):
        self.refuse(None, "corrupted_output", 500, input="a b c", seed=900001)
        self.refuse(None, "internal_error", 500, input="a b c", seed=900002, stream=True)
        events = self.events(input="one two three four", seed=900001, temperature=1)
        self.assertEqual(events[-1]["type"], "response.failed")
        response = events[-1]["response"]
        self.assertEqual((response["status"], response["error"]["code"]), ("failed", "corrupted_output"))
        self.assertTrue(response["error"]["message"])
        self.assertEqual([i["status"] for i in response["output"]], ["incomplete"])
        self.assertEqual([e["sequence_number"] for e in events], list(range(len(events))))

    def test_refused(self):
        for param, body in (("input", {}), ("input", {"input": 5}), ("input", {"input": []}), ("input", {"input": [{"type": "reasoning", "summary": []}]}),
                            ("input[0]", {"input": ["a"]}), ("input[1].type", {"input": [{"role": "user", "content": "a"}, {"type": "item_reference", "id": "x"}]}),
                            ("input[0].role", {"input": [{"role": "tool", "content": "a"}]}), ("input[0].content", {"input": [{"role": "user"}]}),
                            ("input[0].content[0]", {"input": [{"role": "user", "content": [5]}]}),
                            ("input[0].call_id", {"input": [{"type": "function_call", "name": "a", "arguments": "{}"}]}),
                            ("input[0].output", {"input": [{"type": "function_call_output", "call_id": "a"}]}),
                            ("previous_response_id", {"input": "a", "previous_response_id": "resp_1"}), ("conversation", {"input": "a", "conversation": {}}),
                            ("background", {"input": "a", "background": True}), ("prompt", {"input": "a", "prompt": {"id": "x"}}),
                            ("instructions", {"input": "a", "instructions": ["x"]}), ("max_output_tokens", {"input": "a", "max_output_tokens": 0}),
                            ("temperature", {"input": "a", "temperature": 2.1}), ("metadata.a", {"input": "a", "metadata": {"a": 1}}),
                            ("metadata.a", {"input": "a", "metadata": {"a": "x" * 513}}),
                            ("metadata", {"input": "a", "metadata": {str(i): "" for i in range(17)}}),
                            ("reasoning.effort", {"input": "a", "reasoning": {"effort": "huge"}}), ("reasoning", {"input": "a", "reasoning": 1}),
                            ("text.format.type", {"input": "a", "text": {"format": {"type": "xml"}}}), ("text", {"input": "a", "text": "x"}),
                            ("text.format.schema", {"input": "a", "text": {"format": {"type": "json_schema", "name": "x"}}}),
                            ("tools[0].type", {"input": "a", "tools": [{"type": "web_search"}]}), ("tools[0].name", {"input": "a", "tools": [{"type": "function"}]}),
                            ("tools", {"input": "a", "tools": 1}), ("tool_choice.name", {"input": "a", "tools": self.tools, "tool_choice": {"type": "function", "name": "put"}}),
                            ("tool_choice", {"input": "a", "tool_choice": "required"}), ("parallel_tool_calls", {"input": "a", "parallel_tool_calls": 1})):
            with self.subTest(body=body):
                self.refuse(param, **body)
        self.refuse("input[0].content[0]", "unsupported_content", input=[{"role": "user", "content": [{"type": "input_image", "image_url": "http://x"}]}])
        self.refuse("text.format.schema", "invalid_schema", input="a", text={"format": {"type": "json_schema", "schema": {"type": "x"}}})
        self.refuse("tools[0].parameters", "invalid_schema", input="a", tools=[{"type": "function", "name": "get", "parameters": {"type": "x"}}])
        self.refuse("model", "model_not_found", 404, input="a", model="gpt-9")
        self.refuse("input", "context_length_exceeded", input="a " * 3000)
        self.refuse("input", "context_length_exceeded", input="a", max_output_tokens=5000)
        self.answer(input="a", background=False, previous_response_id=None, include=["x"], truncation="auto", max_output_tokens=1)

    def test_nothing_is_kept(self):
        for path in ("/v1/responses/resp_1", "/v1/responses/resp_1/input_items"):
            self.refused(self.server.request("GET", path), 404, "route_not_found")
        self.refused(self.server.request("GET", "/v1/responses"), 405, "method_not_allowed")


class Shown(Events):
    """What the template gets."""
    template = SHOW_ALL

    def shown(self, text):
        decoder, values = json.JSONDecoder(), []
        while text and text[0] in "[{" and not text.startswith(("[True]", "[False]")):
            value, end = decoder.raw_decode(text)
            values.append(value)
            text = text[end:]
        return (*values, text) if text else tuple(values)


class ResponsesShown(Shown):
    path = "/v1/responses"

    def messages(self, **body):
        shown = self.shown(self.answer(**body)["output"][0]["content"][0]["text"])
        return shown[0] if len(shown) == 1 else shown

    def test_messages(self):
        user = {"role": "user", "content": "a"}
        self.assertEqual(self.messages(input="a"), [user])
        self.assertEqual(self.messages(input="a", instructions="Be kind."), [{"role": "system", "content": "Be kind."}, user])
        parts = [{"type": "input_text", "text": "a"}, {"type": "output_text", "text": "b", "annotations": []}]
        self.assertEqual(self.messages(input=[{"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": parts},
                                              {"role": "developer", "content": "c"}]),
                         [{"role": "assistant", "content": "a\nb"}, {"role": "system", "content": "c"}])

    def test_calls(self):
        def item(n):
            return {"type": "function_call", "id": f"fc_{n}", "call_id": f"call_{n}", "name": "get", "arguments": f'{{"a": {n}}}', "status": "completed"}

        def shown(n):
            return {"id": f"call_{n}", "type": "function", "function": {"name": "get", "arguments": {"a": n}}}
        output = {"type": "function_call_output", "call_id": "call_1", "output": "42"}
        said = {"role": "assistant", "content": "Wait."}
        result = {"role": "tool", "content": "42", "tool_call_id": "call_1"}
        self.assertEqual(self.messages(input=[{"role": "user", "content": "a"}, {"type": "reasoning", "id": "rs_1", "summary": []}, said, item(1), item(2),
                                              output, item(3), {**output, "output": [{"type": "input_text", "text": "4"}]}]),
                         [{"role": "user", "content": "a"}, {**said, "tool_calls": [shown(1), shown(2)]}, result,
                          {"role": "assistant", "content": "", "tool_calls": [shown(3)]}, {**result, "content": "4"}])

    def test_tools(self):
        function = NESTED["function"]
        _, tools = self.messages(input="a", tools=[{"type": "function", **function}])
        self.assertEqual(tools, [NESTED])


class Messages(Events):
    path = "/v1/messages"
    tools = [{"name": "get", "description": "Gets.", "input_schema": SCHEMA}]

    def send(self, content="a", **body):
        """An answer to one message, unless the body has its own."""
        return super().send(**{"messages": [{"role": "user", "content": content}], "max_tokens": 400, **body})

    def events(self, content="a", **body):
        return super().events(**{"messages": [{"role": "user", "content": content}], "max_tokens": 400, **body})

    def refused(self, reply, status, kind, text=""):
        self.assertEqual(reply.status, status, reply.body)
        body = reply.json()
        self.assertEqual((set(body), body["type"], set(body["error"])), ({"type", "error", "request_id"}, "error", {"type", "message"}))
        self.assertEqual(body["error"]["type"], kind, body)
        self.assertIn(text, body["error"]["message"])
        self.assertEqual(body["request_id"], reply.headers["x-request-id"])

    def test_reply(self):
        reply = self.answer(content="Hello there.", metadata={"user_id": "me"}, service_tier="auto")
        headers = self.send().headers
        self.assertEqual(headers["request-id"], headers["x-request-id"])
        n = len(self.tokens("Hello there."))
        self.assertRegex(reply["id"], "^msg_[0-9a-f]{24}$")
        self.assertEqual(reply, {
            "id": reply["id"], "type": "message", "role": "assistant", "model": "fake", "content": [{"type": "text", "text": "Hello there."}],
            "stop_reason": "end_turn", "stop_sequence": None,
            "usage": {"input_tokens": n, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0, "output_tokens": n + 1}})

    def test_stream(self):
        events = self.events(content="Hello there.")
        n = len(self.tokens("Hello there."))
        self.assertEqual([e["type"] for e in events], ["message_start", "ping", "content_block_start"] + n * ["content_block_delta"] +
                         ["content_block_stop", "message_delta", "message_stop"])
        start, ping, begin, *deltas, end, delta, stop = events
        whole = self.answer(content="Hello there.")
        message = start["message"]
        self.assertEqual(message, {**whole, "id": message["id"], "content": [], "stop_reason": None, "usage": {**whole["usage"], "output_tokens": 1}})
        self.assertEqual((ping, stop), ({"type": "ping"}, {"type": "message_stop"}))
        self.assertEqual(begin["content_block"], {"type": "text", "text": ""})
        self.assertEqual([e["index"] for e in (begin, *deltas, end)], (n + 2) * [0])
        self.assertEqual("".join(e["delta"]["text"] for e in deltas), "Hello there.")
        self.assertEqual((delta["delta"], delta["usage"]), ({"stop_reason": "end_turn", "stop_sequence": None}, whole["usage"]))

    def test_blocks(self):
        fields = dict(content=THOUGHT + CALLS, tools=self.tools)
        whole, events = self.answer(**fields), self.events(**fields)
        thinking, text, one, two = whole["content"]
        self.assertEqual(thinking, {"type": "thinking", "thinking": "hm, well", "signature": ""})
        self.assertEqual(text, {"type": "text", "text": "Two calls."})
        self.assertEqual([(b["type"], b["name"], b["input"]) for b in (one, two)],
                         [("tool_use", "get", {"city": "Rome"}), ("tool_use", "get", {})])
        self.assertRegex(one["id"], "^toolu_[0-9A-Za-z]{24}$")
        self.assertEqual(whole["stop_reason"], "tool_use")
        blocks = []
        for e in events:
            if e["type"] == "content_block_start":
                self.assertEqual(e["index"], len(blocks))
                blocks.append({**e["content_block"]})
                pieces = {}
            elif e["type"] == "content_block_delta":
                self.assertEqual(e["index"], len(blocks) - 1)
                (member, piece), = ((k, v) for k, v in e["delta"].items() if k != "type")
                pieces.setdefault((e["delta"]["type"], member), []).append(piece)
            elif e["type"] == "content_block_stop":
                for (kind, member), list_ in pieces.items():
                    if kind == "input_json_delta":
                        self.assertEqual(blocks[-1]["input"], {})
                        blocks[-1]["input"] = json.loads("".join(list_))
                    else:
                        self.assertEqual((kind, blocks[-1][member]), (member + "_delta", ""))
                        blocks[-1][member] = "".join(list_)
        without_ids = [[{k: v for k, v in b.items() if k != "id"} for b in list_] for list_ in (blocks, whole["content"])]
        self.assertEqual(*without_ids)
        self.assertEqual(events[-2]["delta"]["stop_reason"], "tool_use")

    def test_one_call(self):
        for choice in ({"type": "auto", "disable_parallel_tool_use": True}, {"type": "tool", "name": "get"}):
            self.assertEqual(len(self.answer(content=CALLS, tools=self.tools, tool_choice=choice)["content"]), 1)
        reply = self.answer(content=CALLS, tools=self.tools, tool_choice={"type": "none"})
        self.assertEqual(([b["type"] for b in reply["content"]], reply["stop_reason"]), (["text"], "end_turn"))

    def test_a_call_that_is_cut(self):
        """Arguments that end too early are no object: half of one cannot be shown."""
        text = call("get", '{"city": "Rome"}')
        n = len(self.tokens(text[:text.index("Rome")]))
        reply = self.answer(content=text, tools=self.tools, tool_choice={"type": "any"}, max_tokens=n)
        self.assertEqual([(b["type"], b["input"]) for b in reply["content"]], [("tool_use", {})])
        self.assertEqual(reply["stop_reason"], "max_tokens")

    def test_stop_reasons(self):
        text = "one two three four"
        for fields, reason, sequence in (({}, "end_turn", None), ({"max_tokens": 2}, "max_tokens", None),
                                         ({"stop_sequences": ["x", " three"]}, "stop_sequence", " three")):
            reply = self.answer(content=text, **fields)
            self.assertEqual((reply["stop_reason"], reply["stop_sequence"]), (reason, sequence))
            self.assertEqual(self.events(content=text, **fields)[-2]["delta"], {"stop_reason": reason, "stop_sequence": sequence})

    def test_no_text(self):
        fields = dict(content="one two", stop_sequences=["one"])
        self.assertEqual(self.answer(**fields)["content"], [])
        self.assertEqual([e["type"] for e in self.events(**fields)], ["message_start", "ping", "message_delta", "message_stop"])

    def test_max_tokens_beyond_the_context(self):
        """What the context has left is enough, whatever was asked for."""
        text = "a " * 1200
        n = len(self.tokens(text))
        reply = self.answer(content=text, max_tokens=30000)
        self.assertEqual((reply["stop_reason"], reply["usage"]["output_tokens"]), ("model_context_window_exceeded", 2048 - n))
        self.assertEqual(self.answer(content="one two", max_tokens=30000)["stop_reason"], "end_turn")
        self.refused(self.send(content="a " * 3000, max_tokens=1), 400, "invalid_request_error", "2048")

    def test_failures(self):
        self.refused(self.send(content="a b c", seed=900001), 500, "api_error", "NaN")
        events = self.events(content="one two three four", seed=900001, temperature=1)
        self.assertEqual((events[-1]["type"], events[-1]["error"]["type"]), ("error", "api_error"))
        self.assertTrue(events[-1]["request_id"].startswith("req-"))
        self.assertEqual(events[-2]["type"], "content_block_stop")

    def test_refused(self):
        for text, body in (("max_tokens is required", {"max_tokens": None}), ("messages is required", {"messages": None}), ("messages is empty", {"messages": []}),
                           ("messages[0].role", {"messages": [{"role": "system", "content": "a"}]}), ("messages[0].content is required", {"messages": [{"role": "user"}]}),
                           ("messages[0].content[0]: a block of type \"image\"", {"content": [{"type": "image", "source": {"type": "url", "url": "http://x"}}]}),
                           ("messages[0].content[0]: a block of type \"document\"", {"content": [{"type": "document"}]}),
                           ("messages[0].content[0].text", {"content": [{"type": "text"}]}), ("messages[0].content[0].type", {"content": ["a"]}),
                           ("messages[0].content[0].tool_use_id", {"content": [{"type": "tool_result", "content": "a"}]}),
                           ("messages[0].content[0].content[0]", {"content": [{"type": "tool_result", "tool_use_id": "a", "content": [{"type": "image"}]}]}),
                           ("messages[0].content[0].input", {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "b", "input": "{}"}]}]}),
                           ("tool_result", {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "b", "input": {}}]}]}),
                           ("no text to go on with", {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": " "}]}),
                           ("temperature must be between 0 and 1", {"temperature": 1.5}), ("stop_sequences", {"stop_sequences": "x"}), ("top_p", {"top_p": 0}),
                           ("system", {"system": 5}), ("system[0]", {"system": [{"type": "image"}]}), ("max_tokens must be", {"max_tokens": 0}),
                           ("thinking.type", {"thinking": {"type": "some"}}), ("thinking.budget_tokens", {"thinking": {"type": "enabled"}}),
                           ("tool_choice.type", {"tool_choice": {"type": "function"}}), ("tool_choice.name", {"tool_choice": {"type": "tool"}, "tools": self.tools}),
                           ("tools has no function \"put\"", {"tool_choice": {"type": "tool", "name": "put"}, "tools": self.tools}),
                           ("there are no tools", {"tool_choice": {"type": "any"}}), ("tools[0].type", {"tools": [{"type": "web_search_1", "name": "web_search"}]}),
                           ("tools[0].name", {"tools": [{"input_schema": {}}]}), ("tools[0].input_schema", {"tools": [{"name": "a", "input_schema": {"type": "x"}}]})):
            with self.subTest(body=body):
                self.refused(self.send(**body), 400, "invalid_request_error", text)
        self.refused(self.server.post(self.path, b"{"), 400, "invalid_request_error", "JSON")
        self.refused(self.send(model="claude"), 404, "not_found_error", "fake")
        self.refused(self.server.request("GET", self.path), 405, "invalid_request_error")
        self.refused(self.server.request("GET", self.path, headers={"Host": "evil.example"}), 403, "permission_error")
        self.refused(self.server.post(self.path, b"", {"Content-Length": str(1 << 40)}), 413, "request_too_large")
        self.assertEqual(self.server.request("GET", "/v1/messages/x").error()["code"], "route_not_found")

    def test_count_tokens(self):
        def count(**body):
            reply = self.server.post("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "one two three"}], **body})
            self.assertEqual(reply.status, 200, reply.body)
            return reply.json()
        self.assertEqual(count(), {"input_tokens": len(self.tokens("one two three"))})
        self.assertEqual(count(), {"input_tokens": self.answer(content="one two three")["usage"]["input_tokens"]})
        self.assertEqual(count(max_tokens="ignored"), count())
        self.refused(self.server.post("/v1/messages/count_tokens", {}), 400, "invalid_request_error", "messages is required")
        self.refused(self.server.post("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "a"}], "tools": 5}), 400, "invalid_request_error")

    def test_plain_text(self):
        reply = self.server.post(self.path, {"messages": [{"role": "user", "content": "Hello."}], "max_tokens": 9, "temperature": 0}, {"Accept": "text/plain"})
        self.assertEqual(reply.body, b"Hello.")


class MessagesShown(Shown):
    path = "/v1/messages"

    def shown_of(self, *messages, **body):
        reply = self.answer(messages=list(messages), max_tokens=500, **body)
        return self.shown(reply["content"][0]["text"])

    def test_messages(self):
        user = {"role": "user", "content": "a"}
        cached = {"cache_control": {"type": "ephemeral"}}
        self.assertEqual(self.shown_of(user), ([user],))
        system = {"role": "system", "content": "Be kind.\nBe brief."}
        for form in ("Be kind.\nBe brief.", [{"type": "text", "text": "Be kind.", **cached}, {"type": "text", "text": "Be brief."}]):
            self.assertEqual(self.shown_of(user, system=form), ([system, user],))
        self.assertEqual(self.shown_of({"role": "user", "content": [{"type": "text", "text": "a", **cached}, {"type": "text", "text": "b"}]}),
                         ([{"role": "user", "content": "a\nb"}],))

    def test_tools(self):
        tool = {"name": "get", "description": "Gets.", "input_schema": SCHEMA, "cache_control": {"type": "ephemeral"}}
        for type_ in ({}, {"type": "custom"}):
            self.assertEqual(self.shown_of({"role": "user", "content": "a"}, tools=[{**tool, **type_}])[1], [NESTED])

    def test_calls_and_results(self):
        calls = [{"type": "thinking", "thinking": "hm", "signature": ""}, {"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "Wait."},
                 {"type": "tool_use", "id": "toolu_1", "name": "get", "input": {"a": 1}}, {"type": "tool_use", "id": "toolu_2", "name": "get", "input": {}}]
        results = [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "42"},
                   {"type": "tool_result", "tool_use_id": "toolu_2", "content": [{"type": "text", "text": "43"}], "is_error": True},
                   {"type": "text", "text": "And now?"}]
        messages, = self.shown_of({"role": "user", "content": "a"}, {"role": "assistant", "content": calls}, {"role": "user", "content": results})
        self.assertEqual(messages[1:], [
            {"role": "assistant", "content": "Wait.", "reasoning_content": "hm", "tool_calls": [
                {"id": "toolu_1", "type": "function", "function": {"name": "get", "arguments": {"a": 1}}},
                {"id": "toolu_2", "type": "function", "function": {"name": "get", "arguments": {}}}]},
            {"role": "tool", "content": "42", "tool_call_id": "toolu_1"}, {"role": "tool", "content": "43", "tool_call_id": "toolu_2"},
            {"role": "user", "content": "And now?"}])
        messages, = self.shown_of({"role": "user", "content": "a"}, {"role": "assistant", "content": calls[3:]}, {"role": "user", "content": results[:1]})
        self.assertEqual([m["content"] for m in messages], ["a", "", "42"])

    def test_thinking(self):
        user = {"role": "user", "content": "a"}
        self.assertEqual(self.shown_of(user, thinking={"type": "enabled", "budget_tokens": 1024})[1], "[True]")
        self.assertEqual(self.shown_of(user, thinking={"type": "disabled"})[1], "[False]")
        self.assertEqual(self.shown_of(user, thinking={"type": "adaptive"}), ([user],))

    def test_the_last_message_is_continued(self):
        reply = self.answer(messages=[{"role": "user", "content": "a"}, {"role": "assistant", "content": "The answer "}], max_tokens=500)
        self.assertEqual(reply["content"][0]["text"], '[{"role": "user", "content": "a"}, {"role": "assistant", "content": "The answer ')


class Silence(Requests):
    """A stream that has nothing to say for a while."""
    settings = dict(queue_s=0.6)

    def read(self, path, body):
        reply = self.open_stream(path, {**body, "seed": 900003, "sse_ping_interval": 0.1})
        data = b"".join(reply.chunks()).decode()
        reply.socket.close()
        reply.file.close()
        return data[:-2].split("\n\n")

    def test_messages(self):
        events = self.read("/v1/messages", {"messages": [{"role": "user", "content": "a"}], "max_tokens": 5})
        self.assertGreater(len(events), 2)
        self.assertEqual(set(events[:-1]), {'event: ping\ndata: {"type": "ping"}'.replace(": \"", ":\"")})
        self.assertTrue(events[-1].startswith('event: error\ndata: {"type":"error","error":{"type":"timeout_error",'), events[-1])

    def test_responses(self):
        events = self.read("/v1/responses", {"input": "a"})
        self.assertEqual([e.split("\n")[0] for e in events[-3:]],
                         ["event: response.created", "event: response.in_progress", "event: response.failed"])
        self.assertEqual(set(events[:-3]), {": ping"})
        self.assertIn('"code":"deadline_exceeded"', events[-1])


class MessageKeys(ServerTest):
    @classmethod
    def setUpClass(cls):
        cls.file = tempfile.NamedTemporaryFile(mode="w", suffix=".keys")
        cls.file.write("secret-one\n")
        cls.file.flush()
        cls.settings = dict(keys=cls.file.name, load_ms=60000)
        cls.addClassCleanup(cls.file.close)
        super().setUpClass()

    def send(self, path, headers):
        return self.server.post(path, {}, headers)

    def test_keys(self):
        for path in ("/v1/messages", "/v1/messages/count_tokens"):
            for headers in ({}, {"x-api-key": "wrong"}, {"x-api-key": ""}, {"Authorization": "Bearer wrong"}, {"x-api-key": "Bearer secret-one"}):
                reply = self.send(path, headers)
                self.assertEqual((reply.status, reply.json()["error"]["type"]), (401, "authentication_error"), headers)
                self.assertIn("x-api-key", reply.json()["error"]["message"])
        for headers in ({"x-api-key": "secret-one"}, {"Authorization": "Bearer secret-one"}, {"x-api-key": "secret-one", "Authorization": "Bearer wrong"}):
            reply = self.send("/v1/messages", headers)      # past the key: the model is loading
            self.assertEqual((reply.status, reply.json()["error"]["type"]), (503, "overloaded_error"), headers)
            self.assertGreaterEqual(int(reply.headers["retry-after"]), 1)
            self.assertEqual(self.send("/v1/messages/count_tokens", headers).status, 400)
        for path in ("/v1/responses", "/v1/chat/completions", "/tokenize"):
            self.assertEqual(self.send(path, {"x-api-key": "secret-one"}).error()["code"], "invalid_api_key")


if __name__ == "__main__":
    http_peer.main()
