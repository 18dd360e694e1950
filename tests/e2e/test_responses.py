"""/v1/responses through the openai client, whose types also check every event and reply."""
import json

import openai
import pydantic
from openai.types.responses import Response, ResponseStreamEvent

from server import ServerTest

CAPITAL = "What is the capital of France?"
WEATHER = {"type": "function", "name": "weather", "description": "The weather in a city.", "strict": True,
           "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}}
EVENT = pydantic.TypeAdapter(ResponseStreamEvent)


class Responses(ServerTest):
    def setUp(self):
        self.client = openai.OpenAI(base_url=self.server.url + "/v1", api_key="none", max_retries=0)
        self.addCleanup(self.client.close)

    def ask(self, input=CAPITAL, **fields):
        return self.client.responses.create(**{"model": self.model, "input": input, "temperature": 0, "max_output_tokens": 64, **fields})

    def check(self, response):
        """The client takes what comes; its types say what should. A null usage is for responses in progress."""
        return Response.model_validate(response.to_dict())

    def test_answer(self):
        reply = self.check(self.ask(metadata={"who": "me"}))
        self.assertIn("Paris", reply.output_text)
        self.assertEqual((reply.status, reply.error, reply.incomplete_details, reply.metadata), ("completed", None, None, {"who": "me"}))
        self.assertEqual(reply.usage.total_tokens, reply.usage.input_tokens + reply.usage.output_tokens)
        chat = self.chat(CAPITAL, max_tokens=64, temperature=0)
        self.assertEqual(reply.output_text, chat["choices"][0]["message"]["content"])
        self.assertEqual(reply.usage.input_tokens, chat["usage"]["prompt_tokens"])

    def test_stream(self):
        whole, text, events = self.ask(), "", []
        for event in self.ask(stream=True):
            EVENT.validate_python(event.to_dict())
            events.append(event)
            if event.type == "response.output_text.delta":
                text += event.delta
        self.assertEqual([e.sequence_number for e in events], list(range(len(events))))
        self.assertEqual((events[0].type, events[1].type, events[-1].type), ("response.created", "response.in_progress", "response.completed"))
        self.assertEqual((text, events[-1].response.output_text), (whole.output_text, whole.output_text))
        self.assertEqual(self.check(events[-1].response).usage.output_tokens, whole.usage.output_tokens)

    def test_stream_helper(self):
        with self.client.responses.stream(model=self.model, input=CAPITAL, temperature=0, max_output_tokens=64) as stream:
            snapshots = [e.snapshot for e in stream if e.type == "response.output_text.delta"]
            final = stream.get_final_response()
        self.assertEqual(snapshots[-1], final.output_text)
        self.assertIn("Paris", final.output_text)

    def test_no_done(self):
        """The last event is the end: nothing is written after it."""
        body = json.dumps({"input": CAPITAL, "max_output_tokens": 2, "stream": True}).encode()
        status, headers, data = self.server.send("POST", "/v1/responses", body)
        self.assertEqual((status, headers["Content-Type"]), (200, "text/event-stream; charset=utf-8"))
        self.assertNotIn(b"[DONE]", data)
        self.assertTrue(data.split(b"\n\n")[-2].startswith(b"event: response.incomplete\ndata: {"), data)

    def test_a_conversation_goes_on(self):
        """What a client gets may be sent back as it is."""
        first = self.ask("Answer with one word. " + CAPITAL)
        turns = [{"role": "user", "content": "Answer with one word. " + CAPITAL}, *[i.to_dict() for i in first.output],
                 {"role": "user", "content": [{"type": "input_text", "text": "And the capital of Italy?"}]}]
        reply = self.check(self.ask(turns, instructions="You know geography."))
        self.assertIn("Rome", reply.output_text)
        self.assertGreater(reply.usage.input_tokens, first.usage.input_tokens)

    def test_incomplete(self):
        reply = self.check(self.ask(max_output_tokens=2))
        self.assertEqual((reply.status, reply.incomplete_details.reason), ("incomplete", "max_output_tokens"))

    def test_format(self):
        schema = {"type": "object", "properties": {"city": {"type": "string"}, "people": {"type": "integer"}}, "required": ["city", "people"],
                  "additionalProperties": False}
        reply = self.check(self.ask("Describe Paris as JSON.", text={"format": {"type": "json_schema", "name": "city", "schema": schema, "strict": True}}))
        value = json.loads(reply.output_text)
        self.assertEqual([*value], ["city", "people"])
        self.assertEqual(reply.text.format.name, "city")

        class City(pydantic.BaseModel):
            city: str
        self.assertTrue(self.client.responses.parse(model=self.model, input="Describe Paris as JSON.", text_format=City, temperature=0,
                                                    max_output_tokens=64).output_parsed.city)

    def test_calls(self):
        question = {"role": "user", "content": "What is the weather in Rome?"}
        for choice in ("required", {"type": "function", "name": "weather"}):
            reply = self.check(self.ask([question], tools=[WEATHER], tool_choice=choice, parallel_tool_calls=False))
            item, = reply.output
            self.assertEqual((item.type, item.name, item.status), ("function_call", "weather", "completed"))
            self.assertEqual(set(json.loads(item.arguments)), {"city"})
        streamed = [e for e in self.ask([question], tools=[WEATHER], tool_choice="required", parallel_tool_calls=False, stream=True)]
        for event in streamed:
            EVENT.validate_python(event.to_dict())
        arguments = "".join(e.delta for e in streamed if e.type == "response.function_call_arguments.delta")
        self.assertEqual(arguments, item.arguments)
        result = {"type": "function_call_output", "call_id": item.call_id, "output": "sunny, 30 degrees"}
        reply = self.check(self.ask([question, item.to_dict(), result], tools=[WEATHER]))
        self.assertGreater(len(reply.output), 0)

    def test_errors(self):
        for fields, param in ((dict(previous_response_id="resp_1"), "previous_response_id"), (dict(background=True), "background"),
                              (dict(conversation="conv_1"), "conversation"), (dict(temperature=3), "temperature"),
                              (dict(input=[{"role": "user", "content": [{"type": "input_image", "image_url": "http://x"}]}]), "input[0].content[0]"),
                              (dict(tools=[{"type": "web_search"}]), "tools[0].type")):
            with self.assertRaises(openai.BadRequestError) as caught:
                self.ask(**fields)
            self.assertEqual(caught.exception.param, param)
        for call in (self.client.responses.retrieve, self.client.responses.input_items.list):
            with self.assertRaises(openai.NotFoundError):
                call("resp_1")
