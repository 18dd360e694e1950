"""Every field of every request in /openapi.json, one at a time: wrong types, null, both sides of each limit, numbers that are no integers,
empty and nested lists. What its schema allows is accepted, what it does not allow is a 400 that names the field.

usage: tests/e2e/run.sh --script tests/server/http_fields.py HTTP_SERVER
"""
import http.client
import json
import re

import jsonschema

import http_peer
from excused import blame, excused
from http_peer import ServerTest

# A body of each route that is accepted, to which one field is added.
CHAT = {"messages": [{"role": "user", "content": "Hello world"}]}
BASE = {
    "/v1/completions": {"prompt": "Hello world", "max_tokens": 3, "temperature": 0},
    "/v1/chat/completions": {**CHAT, "max_tokens": 3, "temperature": 0},
    "/v1/embeddings": {"input": "Hello world"},
    "/v1/responses": {"input": "Hello world", "max_output_tokens": 3, "temperature": 0},
    "/v1/messages": {**CHAT, "max_tokens": 3, "temperature": 0},
    "/v1/messages/count_tokens": CHAT,
    "/apply-template": CHAT,
    "/tokenize": {"prompt": "Hello world"},
    "/detokenize": {"tokens": [1, 2, 3]},
}
VALUES = [None, True, False, 0, 1, -1, -2, 2, 0.5, -0.5, 16.0, 16.5, 1e-300, 1e308, -1e308, 2**31 - 1, 2**31, -2**31 - 1, 2**53 + 1, 2**63 - 1,
          -2**63, "", "x", "16", "true", "a" * 257, [], {}, [[]], [{}], [None], [1], [1.5], [-1], [10**9], ["x"], ["x", 1], [1, "x"], [["x"]], [[1], 1],
          ["x"] * 17, list(range(17)), ["x"] * 129, [[1]] * 129, {"type": "x"}, {"x": 1}, {"1": 101}, {"type": None}]


def limits(schema):
    """Values at and beside the limits of a schema."""
    for key in ("minimum", "maximum", "exclusiveMinimum"):
        if key in schema:
            for step in (-1, 0, 1) if abs(schema[key]) > 2**53 else (-1, -0.001, 0, 0.001, 1):
                yield schema[key] + step
    yield from schema.get("enum", [])


class Fields(ServerTest):
    settings = dict(n_ctx=128, step_ms=0.01)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.document = cls.server.request("GET", "/openapi.json").json()
        cls.connection = http.client.HTTPConnection("localhost", cls.server.port, timeout=http_peer.PATIENCE_S)
        cls.addClassCleanup(cls.connection.close)

    def post(self, path, body):
        self.connection.request("POST", path, json.dumps(body).encode())
        reply = self.connection.getresponse()
        return reply.status, reply.read()

    def routes(self):
        """(path, the validator of a schema in its request, its schema)."""
        for path, item in self.document["paths"].items():
            if "post" not in item:
                continue
            schema = item["post"]["requestBody"]["content"]["application/json"]["schema"]
            yield path, self.document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]

    def validator(self, schema):
        return jsonschema.Draft202012Validator({**schema, "components": self.document["components"]})

    def fields(self, request):
        yield from request["properties"].items()
        for pattern, schema in request.get("patternProperties", {}).items():
            yield pattern[1:] + "x", schema

    def test_H08_every_field(self):
        n = 0
        for path, request in self.routes():
            whole = self.validator(request)
            self.assertEqual(self.post(path, BASE[path])[0], 200, path)
            for name, schema in self.fields(request):
                for value in [*VALUES, *limits(schema)]:
                    body = {**BASE[path], name: value}
                    status, data = self.post(path, body)
                    n += 1
                    with self.subTest(path=path, field=name, value=str(value)[:60], reply=data[:200]):
                        if whole.is_valid(body):
                            self.assertTrue(status == 200 or (status == 400 and excused(json.loads(data))), status)
                            continue
                        self.assertIn(status, (400, 404, 501))
                        if not self.validator(schema).is_valid(value):      # else two fields do not go together
                            self.assertEqual(blame(json.loads(data))[1], name)
        self.assertGreater(n, 5000)

    def test_H08_null_is_absent(self):
        def answer(path, body):
            reply = json.loads(re.sub(rb'"id":"[^"]*"', b'"id":0', self.post(path, body)[1]))
            return {k: v for k, v in reply.items() if k not in ("created", "created_at", "timings")}
        for path, request in self.routes():
            want = answer(path, BASE[path])
            for name, _ in self.fields(request):
                if name not in BASE[path]:
                    self.assertEqual(answer(path, {**BASE[path], name: None}), want, name)
            self.assertFalse(want.get("error"), path)
            every = {name: None for name, _ in self.fields(request)}
            self.assertEqual(answer(path, {**every, **BASE[path]}), want)

    def test_H08_required(self):
        for path, request in self.routes():
            for body in ({}, dict.fromkeys(request.get("required", ["prompt"]))):
                status, data = self.post(path, body)
                self.assertEqual(status, 400, path)
                self.assertIn(blame(json.loads(data))[1], request.get("required", ["prompt"]), path)


if __name__ == "__main__":
    http_peer.main()
