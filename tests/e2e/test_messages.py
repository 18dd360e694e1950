"""/v1/messages and its count_tokens through the anthropic client, whose types also check every event and reply."""
import tempfile
import unittest

import anthropic
import pydantic
from anthropic.types import Message, RawMessageStreamEvent

from server import Server, ServerTest

CAPITAL = "What is the capital of France?"
WEATHER = {"name": "weather", "description": "The weather in a city.",
           "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}
EVENT = pydantic.TypeAdapter(RawMessageStreamEvent)


def user(content):
    return {"role": "user", "content": content}


class Messages(ServerTest):
    def setUp(self):
        self.client = anthropic.Anthropic(base_url=self.server.url, api_key="none", max_retries=0)
        self.addCleanup(self.client.close)

    def fields(self, content=CAPITAL, temperature=0, **fields):
        """This version of the client has no argument for the temperature."""
        return {"model": self.model, "max_tokens": 64, "messages": [user(content)], "extra_body": {"temperature": temperature}, **fields}

    def ask(self, content=CAPITAL, **fields):
        reply = self.client.messages.create(**self.fields(content, **fields))
        return Message.model_validate(reply.to_dict())

    def test_answer(self):
        reply = self.ask()
        self.assertIn("Paris", reply.content[0].text)
        self.assertEqual((reply.role, reply.stop_reason, reply.stop_sequence), ("assistant", "end_turn", None))
        chat = self.chat(CAPITAL, max_tokens=64, temperature=0)
        self.assertEqual(reply.content[0].text, chat["choices"][0]["message"]["content"])
        self.assertEqual(reply.usage.output_tokens, chat["usage"]["completion_tokens"])
        self.assertTrue(self.client.messages.create(**self.fields())._request_id)

    def test_usage(self):
        """The three input counts are the prompt, also when the cache has most of it."""
        question = CAPITAL * 30
        for reply in (self.ask(question, max_tokens=1), self.ask(question, max_tokens=1)):
            usage = reply.usage
            self.assertEqual(usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens,
                             self.client.messages.count_tokens(model=self.model, messages=[user(question)]).input_tokens)
        self.assertGreater(usage.cache_read_input_tokens, 64)
        with self.client.messages.stream(**self.fields(question, max_tokens=1)) as stream:
            for event in stream:
                if event.type == "message_start":
                    self.assertEqual(event.message.usage.cache_read_input_tokens, usage.cache_read_input_tokens)
                    self.assertEqual(event.message.usage.input_tokens, usage.input_tokens)

    def test_stream(self):
        whole = self.ask()
        events = list(self.client.messages.create(**self.fields(), stream=True))
        for event in events:
            EVENT.validate_python(event.to_dict())
        self.assertEqual("".join(e.delta.text for e in events if e.type == "content_block_delta"), whole.content[0].text)
        with self.client.messages.stream(**self.fields()) as stream:
            self.assertEqual("".join(stream.text_stream), whole.content[0].text)
            final = stream.get_final_message()
        self.assertEqual((final.stop_reason, final.usage.output_tokens, final.content[0].text),
                         (whole.stop_reason, whole.usage.output_tokens, whole.content[0].text))

    def test_system_and_blocks(self):
        blocks = [{"type": "text", "text": "A question:", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": CAPITAL}]
        self.assertEqual(self.ask(blocks).content[0].text, self.ask("A question:\n" + CAPITAL).content[0].text)
        pirate = self.ask(system="You are a pirate.")
        self.assertGreater(pirate.usage.output_tokens, 0)
        self.assertEqual(pirate.content[0].text, self.ask(system=[{"type": "text", "text": "You are a pirate."}]).content[0].text)

    def test_the_last_message_is_continued(self):
        reply = self.ask(messages=[user(CAPITAL), {"role": "assistant", "content": "The capital of France is"}])
        self.assertTrue(reply.content[0].text.startswith(" Paris"), reply.content[0].text)

    def test_stop_reasons(self):
        self.assertEqual(self.ask(max_tokens=2).stop_reason, "max_tokens")
        reply = self.ask(stop_sequences=["Rome", " Paris"])
        self.assertEqual((reply.stop_reason, reply.stop_sequence, reply.content[0].text), ("stop_sequence", " Paris", "The capital of France is"))

    def test_tools(self):
        question = user("What is the weather in Rome?")
        for choice in ({"type": "any", "disable_parallel_tool_use": True}, {"type": "tool", "name": "weather"}):
            fields = dict(messages=[question], tools=[WEATHER], tool_choice=choice)
            reply = self.ask(**fields)
            block, = reply.content
            self.assertEqual((block.type, block.name, set(block.input), reply.stop_reason), ("tool_use", "weather", {"city"}, "tool_use"))
            with self.client.messages.stream(**self.fields(**fields)) as stream:
                final = stream.get_final_message()
            self.assertEqual((final.content[0].input, final.stop_reason), (block.input, "tool_use"))
        turns = [question, {"role": "assistant", "content": [b.to_dict() for b in reply.content]},
                 user([{"type": "tool_result", "tool_use_id": block.id, "content": [{"type": "text", "text": "sunny"}]}])]
        self.assertGreater(self.ask(messages=turns, tools=[WEATHER]).usage.output_tokens, 0)
        self.assertGreater(self.client.messages.count_tokens(model=self.model, messages=turns, tools=[WEATHER]).input_tokens,
                           self.client.messages.count_tokens(model=self.model, messages=turns).input_tokens)

    def test_errors(self):
        image = [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}}]
        for fields, text in ((dict(temperature=2), "temperature"), (dict(content=image), "messages[0].content[0]"), (dict(messages=[]), "messages"),
                             (dict(content="word " * 20000), "context")):
            with self.assertRaises(anthropic.BadRequestError) as caught:
                self.ask(**fields)
            error = caught.exception.body
            self.assertEqual((error["type"], error["error"]["type"]), ("error", "invalid_request_error"))
            self.assertIn(text, error["error"]["message"])
            self.assertTrue(caught.exception.request_id)
        with self.assertRaises(anthropic.NotFoundError):
            self.ask(model="claude-none")


class Keys(unittest.TestCase):
    def test_keys(self):
        """With either header; what the server loads is not waited for."""
        with tempfile.NamedTemporaryFile("w", suffix=".keys") as keys:
            keys.write("key-of-this-test\n")
            keys.flush()
            server = Server("--api-key-file", keys.name)
            self.addCleanup(server.stop)
            for fields in ({"api_key": "key-of-this-test"}, {"auth_token": "key-of-this-test"},
                           {"api_key": "none", "default_headers": {"x-api-key": "key-of-this-test"}}):
                with anthropic.Anthropic(base_url=server.url, max_retries=0, **fields) as client:
                    self.assertGreater(client.messages.count_tokens(model="smollm2", messages=[user("a")]).input_tokens, 0)
            with anthropic.Anthropic(base_url=server.url, max_retries=0, api_key="wrong") as client, self.assertRaises(anthropic.AuthenticationError):
                client.messages.create(model="smollm2", max_tokens=1, messages=[user("a")])
