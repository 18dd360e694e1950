"""LangChain's ChatOpenAI: answers, streams, content in parts, and structured output."""
import unittest

from server import ServerTest

try:
    from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
    from langchain_openai import ChatOpenAI
    from pydantic import BaseModel, Field
except ImportError:
    raise unittest.SkipTest("langchain-openai is not installed")


class City(BaseModel):
    """A city."""
    name: str = Field(max_length=30)
    country: str = Field(max_length=30)
    coastal: bool


class LangChain(ServerTest):
    def setUp(self):
        self.chat_model = ChatOpenAI(base_url=self.server.url + "/v1", api_key="none", model=self.model, temperature=0, max_tokens=120,
                                     max_retries=0)

    def test_answer(self):
        reply = self.chat_model.invoke("What is the capital of France?")
        self.assertIn("Paris", reply.content)
        self.assertEqual(reply.response_metadata["finish_reason"], "stop")
        self.assertGreater(reply.usage_metadata["input_tokens"], 0)

    def test_stream(self):
        question = [SystemMessage("Answer with one word."), HumanMessage([{"type": "text", "text": "What is the capital of France?"}]),
                    AIMessage("Paris."), HumanMessage("And the capital of Italy?")]
        want = self.chat_model.invoke(question)
        chunks = list(self.chat_model.stream(question, stream_usage=True))
        self.assertEqual("".join(c.content for c in chunks), want.content)
        self.assertIn("Rome", want.content)
        self.assertEqual([c.usage_metadata["output_tokens"] for c in chunks if c.usage_metadata], [want.usage_metadata["output_tokens"]])

    def test_batch(self):
        replies = self.chat_model.batch(["What is the capital of France?"] * 6)
        self.assertEqual(len({r.content for r in replies}), 1)

    def test_structured_output(self):
        for strict in (None, True):
            with self.subTest(strict=strict):
                city = self.chat_model.with_structured_output(City, method="json_schema", strict=strict).invoke("Describe Rome in Italy.")
                self.assertIsInstance(city, City)
        raw = self.chat_model.with_structured_output(City, method="json_schema", include_raw=True).invoke("Describe Oslo in Norway.")
        self.assertIsNone(raw["parsing_error"])
        self.assertEqual(City.model_validate_json(raw["raw"].content), raw["parsed"])
