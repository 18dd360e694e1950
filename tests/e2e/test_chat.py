"""/v1/chat/completions, mostly through the openai client, which is what users have."""
import openai

import schemas
from server import ServerTest

CAPITAL = "What is the capital of France?"


class Chat(ServerTest):
    def setUp(self):
        self.client = openai.OpenAI(base_url=self.server.url + "/v1", api_key="none", max_retries=0)
        self.addCleanup(self.client.close)

    def ask(self, content=CAPITAL, **fields):
        return self.client.chat.completions.create(model=self.model, messages=[{"role": "user", "content": content}], **fields)

    def test_answer(self):
        reply = self.chat(CAPITAL, max_tokens=64, temperature=0)
        schemas.check(schemas.CHAT, reply)
        self.assertIn("Paris", reply["choices"][0]["message"]["content"])
        self.assertEqual(reply["choices"][0]["finish_reason"], "stop")
        self.assertNotIn("<|im_end|>", reply["choices"][0]["message"]["content"])

    def test_java(self):
        text = self.ask("Write a Java method that reverses a string.", max_tokens=160, temperature=0).choices[0].message.content
        for word in ("public", "String", "{", "return"):
            self.assertIn(word, text)

    def test_client(self):
        reply = self.ask(max_tokens=64, temperature=0)
        self.assertIn("Paris", reply.choices[0].message.content)
        self.assertEqual(reply.choices[0].message.role, "assistant")
        self.assertEqual(reply.usage.total_tokens, reply.usage.prompt_tokens + reply.usage.completion_tokens)

    def test_stream(self):
        want = self.ask(max_tokens=64, temperature=0).choices[0]
        text, finish, roles, usage = "", [], [], None
        for chunk in self.ask(max_tokens=64, temperature=0, stream=True, stream_options={"include_usage": True}):
            if not chunk.choices:
                usage = chunk.usage
                continue
            delta = chunk.choices[0].delta
            text += delta.content or ""
            if delta.role:
                roles.append(delta.role)
                self.assertTrue(delta.content, "the role comes with the first text, so that clients measure its time")
            if chunk.choices[0].finish_reason:
                finish.append(chunk.choices[0].finish_reason)
        self.assertEqual((text, finish, roles), (want.message.content, [want.finish_reason], ["assistant"]))
        self.assertGreater(usage.completion_tokens, 0)

    def test_raw_chunks(self):
        body = {"messages": [{"role": "user", "content": CAPITAL}], "max_tokens": 12, "temperature": 0}
        chunks = list(self.server.stream("/v1/chat/completions", body))
        for chunk in chunks:
            schemas.check(schemas.CHAT_CHUNK, chunk)
        self.assertEqual(len({(c["id"], c["created"], c["model"]) for c in chunks}), 1)

    def test_logprobs(self):
        """One entry for each token that usage counts: those of the text, and the token that ends it."""
        reply = self.ask(max_tokens=16, temperature=0, logprobs=True, top_logprobs=3)
        entries = reply.choices[0].logprobs.content
        self.assertEqual(reply.choices[0].finish_reason, "stop")
        self.assertEqual(len(entries), reply.usage.completion_tokens)
        self.assertEqual(b"".join(bytes(e.bytes) for e in entries[:-1]).decode(), reply.choices[0].message.content)
        for entry in entries:
            self.assertEqual(len(entry.top_logprobs), 3)
            self.assertEqual(entry.top_logprobs[0].logprob, entry.logprob)
        streamed = [e for chunk in self.ask(max_tokens=16, temperature=0, logprobs=True, top_logprobs=3, stream=True)
                    for choice in chunk.choices if choice.logprobs for e in choice.logprobs.content]
        self.assertEqual([(e.token, e.logprob) for e in streamed], [(e.token, e.logprob) for e in entries])

    def test_n_and_seed(self):
        fields = dict(max_tokens=16, temperature=1.3, seed=5)
        three = [c.message.content for c in self.ask(n=3, **fields).choices]
        self.assertEqual(len(set(three)), 3)
        self.assertEqual(self.ask(**fields).choices[0].message.content, three[0])

    def test_max_completion_tokens_wins(self):
        reply = self.ask(max_tokens=50, extra_body={"max_completion_tokens": 3, "ignore_eos": True})
        self.assertEqual(reply.usage.completion_tokens, 3)

    def test_conversation(self):
        """All turns reach the model, and parts of a text are its lines."""
        def ask(user, **fields):
            return self.client.chat.completions.create(model=self.model, max_tokens=24, temperature=0, **fields, messages=[
                {"role": "system", "content": "Answer with one word."}, {"role": "user", "content": user},
                {"role": "assistant", "content": "Paris."}, {"role": "user", "content": "And the capital of Italy?"}])

        whole = ask("A question:\n" + CAPITAL)
        parts = ask([{"type": "text", "text": "A question:"}, {"type": "text", "text": CAPITAL}])
        self.assertIn("Rome", whole.choices[0].message.content)
        self.assertEqual(parts.choices[0].message.content, whole.choices[0].message.content)
        self.assertEqual(parts.usage.prompt_tokens, whole.usage.prompt_tokens)
        self.assertGreater(whole.usage.prompt_tokens, self.ask(max_tokens=1).usage.prompt_tokens)

    def test_special_text_in_a_message_is_text(self):
        """A user cannot end the turn by writing the marker."""
        def prompt_tokens(content):
            return self.ask(content, max_tokens=1).usage.prompt_tokens
        self.assertGreater(prompt_tokens("<|im_end|>"), prompt_tokens("a") + 1)

    def test_errors_through_the_client(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            self.ask(temperature=-1)
        self.assertEqual((caught.exception.param, caught.exception.code), ("temperature", "invalid_value"))
        with self.assertRaises(openai.NotFoundError) as caught:
            self.client.chat.completions.create(model="no-such-model", messages=[{"role": "user", "content": "hi"}])
        self.assertEqual(caught.exception.code, "model_not_found")
        self.assertIn(self.model, caught.exception.message)
        self.assertTrue(caught.exception.request_id)

    def test_models(self):
        models = self.client.models.list().data
        self.assertEqual([m.id for m in models][:1], [self.model])
        self.assertEqual(self.client.models.retrieve(self.model).id, self.model)
        with self.assertRaises(openai.NotFoundError):
            self.client.models.retrieve("no-such-model")

    def test_closing_a_stream_is_quiet(self):
        for _ in range(3):
            stream = self.ask("Tell me a long story.", max_tokens=2000, stream=True, extra_body={"ignore_eos": True})
            next(iter(stream))
            stream.close()
        self.assertIn("Paris", self.ask(max_tokens=64, temperature=0).choices[0].message.content)
