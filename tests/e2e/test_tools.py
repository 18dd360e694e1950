"""Tool calls with a model whose chat template knows none: required and named calls are constrained, so their arguments always parse."""
import contextlib
import json

import jsonschema
import openai

from server import Server, ServerTest

WEATHER = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"type": "string", "enum": ["C", "F"]},
                                            "days": {"type": "integer", "minimum": 1, "maximum": 9}}, "required": ["city", "unit"]}
ORDER = {"type": "object", "properties": {"items": {"type": "array", "minItems": 1, "maxItems": 3, "items": {"$ref": "#/$defs/item"}}},
         "required": ["items"], "$defs": {"item": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12},
                                                                                   "count": {"type": "integer", "minimum": 1, "maximum": 9}},
                                                   "required": ["name", "count"]}}}
SCHEMAS = {"get_weather": WEATHER, "order-items": ORDER, "stop_all": {"type": "object", "properties": {}}}
TOOLS = [{"type": "function", "function": {"name": name, "description": f"Does {name}.", "parameters": schema}}
         for name, schema in SCHEMAS.items()]


def named(name):
    return {"type": "function", "function": {"name": name}}


class Tools(ServerTest):
    def setUp(self):
        self.client = openai.OpenAI(base_url=self.server.url + "/v1", api_key="none", max_retries=0)
        self.addCleanup(self.client.close)

    def ask(self, content="What is the weather in Rome?", **fields):
        return self.client.chat.completions.create(model=self.model, messages=[{"role": "user", "content": content}],
                                                   **{"tools": TOOLS, "max_tokens": 150, "temperature": 0, **fields})

    def streamed(self, **fields):
        """As a client puts it together: calls as (name, arguments), the finish reason, and the number of pieces of arguments."""
        calls, finish, n = [], None, 0
        for chunk in self.ask(stream=True, **fields):
            choice = chunk.choices[0]
            finish = finish or choice.finish_reason
            self.assertFalse(choice.delta.content)
            for piece in choice.delta.tool_calls or ():
                if piece.index == len(calls):
                    self.assertEqual((piece.type, piece.function.arguments), ("function", ""))
                    self.assertRegex(piece.id, "^call_[0-9A-Za-z]{24}$")
                    calls.append([piece.function.name, ""])
                else:
                    self.assertIsNone(piece.id)
                    calls[piece.index][1] += piece.function.arguments
                    n += 1
        return [tuple(c) for c in calls], finish, n

    def check(self, calls):
        for name, arguments in calls:
            jsonschema.validate(json.loads(arguments), SCHEMAS[name])

    def test_named(self):
        for name in SCHEMAS:
            with self.subTest(name=name):
                choice = self.ask(tool_choice=named(name)).choices[0]
                self.assertEqual((choice.finish_reason, choice.message.content), ("tool_calls", None))
                calls = [(c.function.name, c.function.arguments) for c in choice.message.tool_calls]
                self.assertEqual([c[0] for c in calls], [name])
                self.check(calls)
                streamed, finish, n = self.streamed(tool_choice=named(name))
                self.assertEqual((streamed, finish), (calls, "tool_calls"))
                self.assertGreater(n, 0 if name == "stop_all" else 3, "arguments come in pieces")

    def test_required(self):
        """Whatever the seed: known functions, arguments that satisfy their schemas."""
        for fields in [dict()] + [dict(temperature=1.2, seed=i) for i in range(2)]:
            with self.subTest(fields=fields):
                choice = self.ask("Order two apples and tell me the weather in Paris.", tool_choice="required", **fields).choices[0]
                calls = [(c.function.name, c.function.arguments) for c in choice.message.tool_calls]
                self.assertEqual(choice.message.content, None)
                if choice.finish_reason == "tool_calls":
                    self.check(calls)
                else:
                    self.assertEqual(choice.finish_reason, "length")
        calls, finish, _ = self.streamed(tool_choice="required", parallel_tool_calls=False)
        self.assertEqual((len(calls), finish), (1, "tool_calls"))
        self.check(calls)

    def test_cut_by_length(self):
        """Arguments that have begun stay as far as they came."""
        whole = self.ask(tool_choice=named("get_weather"))
        choice = self.ask(tool_choice=named("get_weather"), max_tokens=whole.usage.completion_tokens - 4).choices[0]
        self.assertEqual(choice.finish_reason, "length")
        cut, full = choice.message.tool_calls[0].function.arguments, whole.choices[0].message.tool_calls[0].function.arguments
        self.assertTrue(full.startswith(cut) and 0 < len(cut) < len(full), (cut, full))

    def test_turn_with_a_result(self):
        """The call and its result go back as the client gives them, and the model answers from them."""
        messages = [{"role": "user", "content": "What is the weather in Rome?"}]
        call = self.client.chat.completions.create(model=self.model, messages=messages, tools=TOOLS, tool_choice=named("get_weather"),
                                                   max_tokens=100, temperature=0).choices[0].message
        messages += [call, {"role": "tool", "tool_call_id": call.tool_calls[0].id, "content": '{"sky": "sunny", "degrees": 25}'}]
        reply = self.client.chat.completions.create(model=self.model, messages=messages, tools=TOOLS, max_tokens=60, temperature=0)
        self.assertIn("sunny", reply.choices[0].message.content.lower())

    def test_beside_response_format(self):
        """auto: the answer is a call or JSON of the format, nothing else."""
        schema = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 10}}, "required": ["city"]}
        choice = self.ask(response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}).choices[0]
        if choice.finish_reason == "tool_calls":
            self.check([(c.function.name, c.function.arguments) for c in choice.message.tool_calls])
        else:
            jsonschema.validate(json.loads(choice.message.content), schema)

    def test_refused(self):
        bad = {"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}
        for fields in (dict(tool_choice=named("nope")), dict(tools=[], tool_choice="required"), dict(tools=[bad])):
            with self.assertRaises(openai.BadRequestError):
                self.ask(**fields)
        self.assertEqual(self.ask(max_tokens=2).choices[0].finish_reason, "length")        # and the server goes on


class Formats(ServerTest):
    options = ("--tool-format", "none")

    def test_none(self):
        body = {"messages": [{"role": "user", "content": "hi"}], "tools": TOOLS, "max_tokens": 2}
        self.refused(400, "invalid_value", {**body, "tool_choice": "required"}, "/v1/chat/completions", "tool_choice")
        self.assertEqual(self.server.post("/v1/chat/completions", body)[0], 200)

    def test_others(self):
        """The syntax of another family, asked for by name."""
        for name in ("llama3", "mistral"):
            with self.subTest(name=name), contextlib.ExitStack() as stack:
                server = Server("--tool-format", name)
                stack.callback(server.stop)
                status, reply = server.post("/v1/chat/completions", {
                    "messages": [{"role": "user", "content": "Weather in Rome?"}], "tools": TOOLS, "tool_choice": "required", "temperature": 0,
                    "max_tokens": 300, "parallel_tool_calls": False})
                self.assertEqual(status, 200, reply)
                self.assertEqual(reply["choices"][0]["finish_reason"], "tool_calls", reply)
                call = reply["choices"][0]["message"]["tool_calls"][0]["function"]
                jsonschema.validate(json.loads(call["arguments"]), SCHEMAS[call["name"]])
