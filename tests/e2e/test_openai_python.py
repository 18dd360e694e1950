"""What the openai client for Python is promised beside the routes themselves: headers, retries, errors within a stream, many at once."""
import asyncio
import signal
import unittest

import openai

from server import Server, ServerTest

ENDLESS = dict(prompt="The sea is", max_tokens=4000, extra_body={"ignore_eos": True})


class OpenaiPython(ServerTest):
    options = ("--max-batch", "4")

    def setUp(self):
        self.client = openai.OpenAI(base_url=self.server.url + "/v1", api_key="none", max_retries=0)
        self.addCleanup(self.client.close)

    def test_request_id(self):
        raw = self.client.completions.with_raw_response.create(model=self.model, prompt="Hello", max_tokens=1)
        self.assertTrue(raw.headers["x-request-id"])
        self.assertEqual(raw.parse()._request_id, raw.headers["x-request-id"])

    def test_error_within_a_stream_raises(self):
        text = ""
        with self.assertRaises(openai.APIError) as caught:
            for chunk in self.client.completions.create(model=self.model, prompt="The sea is", max_tokens=4000, stream=True,
                                                        extra_body={"ignore_eos": True, "timeout": 0.5}):
                text += chunk.choices[0].text
        self.assertTrue(text)
        self.assertEqual(caught.exception.code, "deadline_exceeded")

    def test_closed_streams_leave_their_places(self):
        """Twice as many as there are places."""
        for _ in range(8):
            stream = self.client.completions.create(model=self.model, stream=True, **ENDLESS)
            next(iter(stream))
            stream.close()
        self.assertTrue(self.client.completions.create(model=self.model, prompt="Hello", max_tokens=4, timeout=20).choices[0].text)

    def test_many_at_once(self):
        async def ask(client, i):
            reply = await client.completions.create(model=self.model, prompt=f"Story {i % 3}:", max_tokens=8, temperature=0)
            return i % 3, reply.choices[0].text

        async def all_of_them():
            async with openai.AsyncOpenAI(base_url=self.server.url + "/v1", api_key="none", max_retries=0) as client:
                return await asyncio.gather(*(ask(client, i) for i in range(24)))

        self.assertEqual(len(set(asyncio.run(all_of_them()))), 3)


class Retries(unittest.TestCase):
    def test_draining_says_when_to_come_back(self):
        server = Server()
        self.addCleanup(server.stop)
        with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=2) as client:
            stream = client.completions.create(model="smollm2", stream=True, **ENDLESS)   # waits until the model is loaded, by retries
            next(iter(stream))
            with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as other:
                other.models.list()             # a connection that is there before the server stops listening
                server.signal(signal.SIGTERM)
                with self.assertRaises((openai.InternalServerError, openai.APIConnectionError)) as caught:
                    for _ in range(50):
                        other.completions.create(model="smollm2", prompt="late", max_tokens=1)
                if isinstance(caught.exception, openai.InternalServerError):
                    self.assertEqual((caught.exception.status_code, caught.exception.code), (503, "draining"))
                    self.assertGreaterEqual(int(caught.exception.response.headers["retry-after"]), 1)
            stream.close()
