"""Bad requests: each gets one clear error in OpenAI's shape, and the server goes on."""
import json
import socket

import schemas
from server import ServerTest


class Bodies(ServerTest):
    options = ("--ctx", "256")

    def tearDown(self):
        """Whatever a test sent, the next request is answered."""
        self.complete(prompt="Hello", max_tokens=1)

    def test_H07_not_json(self):
        for body in (b"", b"{", b'{"prompt":"a"} x', b"\xef\xbb\xbf{}", b'{"prompt":NaN}', b'{"temperature":1e999,"prompt":"a"}',
                     b'{"prompt":"\xff"}', b'{"prompt":"\xed\xa0\x80"}', b'{"prompt":"\\ud800"}', b'{"prompt":"\\u0000"}',
                     b'{"prompt":"a","prompt":"b"}', b"[" * 10000, b'{"a":' * 100 + b"1" + b"}" * 100):
            with self.subTest(body=body[:40]):
                self.refused(400, "invalid_json", body)

    def test_H09_wrong_types_and_ranges(self):
        for field, value in (("temperature", "0"), ("temperature", -1), ("temperature", 2.5), ("top_p", 0), ("max_tokens", 16.5), ("max_tokens", -1),
                             ("max_tokens", True), ("n", 0), ("n", 17), ("stop", ""), ("stop", [1]), ("stop", ["x"] * 17), ("stream", "yes"),
                             ("logprobs", 21), ("seed", "x"), ("top_k", -2), ("min_p", 2), ("logit_bias", {"x": 1}), ("prompt", 5),
                             ("prompt", []), ("prompt", ["a", 1]), ("prompt", [1 << 40]), ("model", 7), ("stop_token_ids", [-1])):
            with self.subTest(field=field, value=value):
                error = self.refused(400, "invalid_value", {"prompt": "a", "max_tokens": 1, field: value})
                self.assertTrue(error["param"].startswith(field), error)

    def test_missing_prompt(self):
        self.refused(400, "invalid_value", {}, param="prompt")
        self.refused(400, "invalid_value", {"model": None}, "/v1/chat/completions", param="messages")
        self.refused(400, "invalid_value", {"messages": []}, "/v1/chat/completions")
        self.refused(400, "invalid_value", {"messages": [{"role": "pirate", "content": "a"}]}, "/v1/chat/completions", param="messages[0].role")

    def test_top_level_is_an_object(self):
        self.refused(400, "invalid_value", b"[1]")
        self.refused(400, "invalid_value", b'"text"')

    def test_unknown_model(self):
        error = self.refused(404, "model_not_found", {"model": "gpt-99", "prompt": "a"})
        self.assertIn(self.model, error["message"])

    def test_R03_context(self):
        """Prompt longer than the context: 400 that says how long it is, and how long it may be."""
        error = self.refused(400, "context_length_exceeded", {"prompt": [100] * 300})
        self.assertEqual((error["n_prompt_tokens"], error["n_ctx"]), (300, 256))
        self.assertIn("300", error["message"])
        self.assertIn("256", error["message"])
        self.refused(400, "context_length_exceeded", {"prompt": [100] * 256})
        self.refused(400, "context_length_exceeded", {"prompt": [100] * 10, "max_tokens": 247})
        reply = self.complete(prompt=[100] * 255, ignore_eos=True)
        self.assertEqual((reply["usage"]["completion_tokens"], reply["choices"][0]["finish_reason"]), (1, "length"))
        self.refused(400, "context_length_exceeded", {"messages": [{"role": "user", "content": "word " * 400}]}, "/v1/chat/completions")
        self.assertEqual(self.complete(prompt=[100] * 300, truncate_prompt_tokens=20, max_tokens=1)["usage"]["prompt_tokens"], 20)

    def test_H16_content_that_is_no_text(self):
        parts = [{"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/x.png"}}]
        self.refused(400, "unsupported_content", {"messages": [{"role": "user", "content": parts}]}, "/v1/chat/completions")


class Routes(ServerTest):
    def error(self, status, code, method, path, headers=None, body=None):
        got, reply_headers, data = self.server.send(method, path, body, headers)
        self.assertEqual((got, json.loads(data)["error"]["code"]), (status, code), data)
        return reply_headers

    def test_unknown(self):
        for path in ("/", "/nope", "/v1/models/", "//v1/models", "/v1%2fmodels", "/v1/models/..%2f"):
            with self.subTest(path=path):
                self.assertTrue(self.error(404, "route_not_found", "GET", path)["X-Request-Id"])

    def test_wrong_method(self):
        self.assertIn("POST", self.error(405, "method_not_allowed", "GET", "/v1/completions")["Allow"])
        self.assertIn("GET", self.error(405, "method_not_allowed", "POST", "/v1/models", body={})["Allow"])

    def test_host_and_origin(self):
        self.error(403, "host_not_allowed", "GET", "/v1/models", {"Host": "evil.example"})
        self.error(403, "origin_not_allowed", "GET", "/v1/models", {"Origin": "http://evil.example"})
        self.error(403, "origin_not_allowed", "POST", "/v1/completions", {"Origin": "null", "Content-Type": "text/plain"}, {"prompt": "a"})
        self.assertEqual(self.server.send("GET", "/livez", headers={"Host": "localhost"})[0], 200)

    def test_body_over_the_limit(self):
        """Refused from its length alone, before it is sent."""
        with socket.create_connection((self.server.host, self.server.port), timeout=10) as s:
            s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\n\r\n")
            self.assertTrue(s.recv(4096).startswith(b"HTTP/1.1 413 "))

    def test_health(self):
        status, _, data = self.server.send("GET", "/health")
        self.assertEqual((status, json.loads(data)["status"]), (200, "ok"))
        self.assertEqual(self.server.send("GET", "/livez")[0], 200)
        self.assertEqual(self.server.send("GET", "/readyz")[0], 200)
        self.assertRegex(json.loads(self.server.send("GET", "/version")[2])["version"], r"^\d+\.\d+\.\d+")

    def test_models(self):
        schemas.check(schemas.MODELS, json.loads(self.server.send("GET", "/v1/models")[2]))
        self.assertEqual(self.server.send("HEAD", "/v1/models")[0], 200)

    def test_request_id(self):
        headers = self.server.send("GET", "/v1/models", headers={"X-Request-Id": "label-17"})[1]
        self.assertTrue(headers["X-Request-Id"])
        headers = self.server.send("GET", "/v1/models", headers={"X-Request-Id": "a" * 500})[1]
        self.assertLessEqual(len(headers["X-Request-Id"]), 200)
