"""GET /openapi.json, and what a server with a model answers beside it."""
import json
import unittest

from jsonschema import Draft202012Validator

import schemas
from server import ServerTest


class Description(ServerTest):
    options = ("--ctx", "512")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        status, cls.headers, data = cls.server.send("GET", "/openapi.json")
        assert status == 200
        cls.document = json.loads(data)

    def fits(self, name, value):
        schemas.check(schemas.named(name), value)

    def get(self, path, status=200):
        got, _, data = self.server.send("GET", path)
        self.assertEqual(got, status)
        return json.loads(data)

    def test_document(self):
        self.assertEqual(self.document["openapi"], "3.1.0")
        self.assertEqual(self.document["info"]["version"], self.get("/version")["version"])
        self.assertEqual(self.headers["Content-Type"], "application/json")
        for schema in self.document["components"]["schemas"].values():
            Draft202012Validator.check_schema(schema)
        names = [operation["operationId"] for item in self.document["paths"].values() for method, operation in item.items() if method in ("get", "post")]
        self.assertEqual(len(names), len(set(names)))
        self.assertEqual(self.document["components"]["schemas"]["ModelName"]["enum"], [self.model])
        self.assertEqual(self.server.send("HEAD", "/openapi.json")[2], b"")
        # Every route that is described is there, and whatever is not a GET or POST of it is refused with the methods it has.
        for path, item in self.document["paths"].items():
            status, headers, _ = self.server.send("DELETE", path.replace("{id}", self.model))
            self.assertEqual(status, 405)
            self.assertIn("POST" if "post" in item else "GET", headers["Allow"])

    def test_routes_from_memory(self):
        self.fits("ModelList", self.get("/v1/models"))
        self.fits("Model", self.get(f"/v1/models/{self.model}"))
        self.fits("Error", self.get("/v1/models/nope", 404))
        self.fits("TokenizerInfo", self.get("/tokenizer_info"))
        self.fits("Version", self.get("/version"))
        self.fits("Health", self.get("/health"))
        self.fits("Health", self.get("/health?verbose=1"))

    def test_tokenizer_routes(self):
        for name, path, body in (("Tokens", "/tokenize", {"prompt": "Hello", "return_token_strs": True}), ("TokenPieces", "/tokenize", {"content": "Hello 東"}),
                                 ("TokenPieces", "/tokenize", {"content": "Hello 東", "with_pieces": True}), ("DetokenizedText", "/detokenize", {"tokens": [1, 2]}),
                                 ("Tokens", "/tokenize", {"messages": [{"role": "user", "content": "a"}]}),
                                 ("RenderedText", "/apply-template", {"messages": [{"role": "user", "content": "a"}]}), ("Error", "/tokenize", {})):
            self.fits(name, self.server.post(path, body)[1])

    def test_completions(self):
        every = dict(max_tokens=3, n=2, logprobs=2, echo=True, return_token_ids=True, stream_options={"include_usage": True, "continuous_usage_stats": True},
                     timings_per_token=True, return_progress=True)
        for fields in (dict(max_tokens=3), every, dict(max_tokens=0, echo=True), dict(max_tokens=9, stop=["e"]), {**every, "n": 1, "prompt": [[5, 6], [7]]}):
            body = {"prompt": "Hello world", **fields}
            self.fits("Completion", self.complete(**body))
            for event in self.server.stream("/v1/completions", body):
                self.fits("CompletionChunk", event)
        self.fits("Error", self.server.post("/v1/completions", {"prompt": "a", "max_tokens": 10000})[1])

    def test_chats(self):
        for fields in (dict(max_tokens=3), dict(max_tokens=3, n=2, logprobs=True, top_logprobs=2, return_token_ids=True, timings_per_token=True,
                                                return_progress=True, stream_options={"include_usage": True})):
            self.fits("ChatCompletion", self.chat("Hello", **fields))
            for event in self.server.stream("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello"}], **fields}):
                self.fits("ChatCompletionChunk", event)


if __name__ == "__main__":
    unittest.main()
