"""Bytes that no friendly client sends, over a raw socket. After each the server must answer the next one as if nothing had been."""
import contextlib
import json
import socket
import time
import unittest

import http_peer
from http_peer import Reply, Server, ServerTest, head

SECOND = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: smuggled\r\n\r\n"
BODY = json.dumps({"prompt": "Hello world", "max_tokens": 4, "temperature": 0}).encode()


def post(*lines, body=BODY, version="1.1"):
    return b"POST /v1/completions HTTP/" + version.encode() + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


class Framing(ServerTest):
    def closed_after(self, data, *statuses):
        """The server answers with one of these statuses (None: not at all), then closes; a request behind is never answered."""
        with self.server.connect() as s:
            s.sendall(data)
            reply = Reply(s)
            self.assertIn(reply.status, statuses, reply.body)
            try:
                rest = s.recv(65536) + reply.file.read()
            except ConnectionResetError:
                rest = b""
            self.assertNotIn(b"smuggled", rest)
            self.assertNotIn(b"200 OK", rest)
        self.assertEqual(self.server.request("GET", "/livez").status, 200)
        return reply

    HOST = b"Host: localhost"
    LENGTH = b"Content-Length: %d" % len(BODY)

    def test_H04_two_framings(self):
        chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
        for lines in ([self.LENGTH, b"Transfer-Encoding: chunked"], [b"Transfer-Encoding: chunked", self.LENGTH],
                      [b"Transfer-Encoding: chunked, gzip"], [b"Transfer-Encoding: identity"], [b"Transfer-Encoding: gzip, chunked"],
                      [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], [b"Transfer-Encoding: xchunked"],
                      [b"Transfer-Encoding:"], [b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"]):
            with self.subTest(lines=lines):
                reply = self.closed_after(post(self.HOST, *lines, body=chunked) + SECOND, 400)
                self.refused(reply, 400, "bad_request")
                self.assertEqual(reply.headers["connection"].lower(), "close")

    def test_H03_lengths(self):
        twice = [self.LENGTH, self.LENGTH]
        for lines, status in ((twice, 400), ([self.LENGTH, b"Content-Length: 5"], 400), ([b"Content-Length: -1"], 400),
                              ([b"Content-Length: 12abc"], 400), ([b"Content-Length: +5"], 400), ([b"Content-Length: 0x5"], 400),
                              ([b"Content-Length: 18446744073709551615"], 413), ([b"Content-Length: 18446744073709551616"], 413),
                              ([b"Content-Length: 99999999999999999999999"], 413), ([b"Content-Length: 999999999999"], 413)):
            with self.subTest(lines=lines):
                # Some are refused by libmicrohttpd itself, with a body of its own: the status and the close count.
                self.closed_after(post(self.HOST, *lines) + SECOND, status, 400)

    def test_H04_chunk_size_overflow(self):
        self.closed_after(post(self.HOST, b"Transfer-Encoding: chunked", body=b"10000000000000000\r\nx\r\n0\r\n\r\n") + SECOND, 413, 400)

    def test_bad_chunks(self):
        for body in (b"zz\r\nx\r\n0\r\n\r\n", b"-1\r\nx\r\n", b"5\r\nabcdefgh\r\n0\r\n\r\n"):
            with self.subTest(body=body):
                self.closed_after(post(self.HOST, b"Transfer-Encoding: chunked", body=body) + SECOND, 400, None)

    def test_H04_bare_line_feeds_in_chunks(self):
        """Served or refused, then closed: the bytes behind are never a request."""
        body = b"%x\n%s\n0\n\n" % (len(BODY), BODY)
        self.closed_after(post(self.HOST, b"Transfer-Encoding: chunked", body=body) + SECOND, 200, 400, None)

    def test_chunked_body_is_served_and_closed(self):
        body = b"".join(b"1\r\n%c\r\n" % c for c in BODY) + b"0\r\n\r\n"
        reply = self.closed_after(post(self.HOST, b"Transfer-Encoding: chunked", body=body) + SECOND, 200)
        self.assertEqual(reply.json()["choices"][0]["text"], "Hello world")

    def test_H14_host(self):
        for lines, status, code in (([], 400, "bad_request"), ([self.HOST, self.HOST], 400, "bad_request"),
                                    ([self.HOST, b"Host: evil.example"], 400, "bad_request"),
                                    ([b"Host: evil.example"], 403, "host_not_allowed"), ([b"Host: localhost.evil.example"], 403, "host_not_allowed"),
                                    ([b"Host: 127.0.0.1.evil.example"], 403, "host_not_allowed"), ([b"Host: localhost:80:80"], 403, "host_not_allowed"),
                                    ([b"Host: localhost:80x"], 403, "host_not_allowed"), ([b"Host:"], 403, "host_not_allowed")):
            with self.subTest(lines=lines):
                self.refused(self.closed_after(post(*lines, self.LENGTH) + SECOND, status), status, code)
        for host in ("localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:80"):
            self.assertEqual(self.server.request("GET", "/livez", headers={"Host": host}).status, 200)

    def test_H05_header_names_and_values(self):
        for line in (b"X-A : b", b"X A: b", b"X-A: a\x01b", b"X-\xc3\xa4: b", b"X-A: a\x7fb", b"Content-Length : 5"):
            with self.subTest(line=line):
                self.closed_after(post(self.HOST, self.LENGTH, line) + SECOND, 400, None)

    def test_H05_nul_in_header(self):
        """The value may end at the NUL; no harm may come of it."""
        with self.server.connect() as s:
            s.sendall(post(self.HOST, self.LENGTH, b"X-A: a\x00b", b"Connection: close"))
            self.assertIn(Reply(s).status, (200, 400, None))

    def test_H05_large_headers(self):
        for data, statuses in ((post(self.HOST, b"X-A: " + b"a" * 40000), (431,)), (post(self.HOST, b"X-A: " + b"a" * 70000), (431,)),
                               (post(self.HOST, *(b"X-%d: b" % i for i in range(10000))), (431,)),
                               (b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", (414, 431))):
            with self.subTest(size=len(data)), self.server.connect() as s:
                try:
                    s.sendall(data)
                except (BrokenPipeError, ConnectionResetError):
                    pass
                try:
                    self.assertIn(Reply(s).status, statuses)
                except ConnectionResetError:
                    pass            # closed with our bytes unread
        self.assertEqual(self.server.request("GET", "/livez").status, 200)

    def test_request_lines(self):
        for line, statuses in ((b"GET http://localhost/livez HTTP/1.1", (404,)), (b"CONNECT localhost:80 HTTP/1.1", (404, 405)),
                               (b"OPTIONS * HTTP/1.1", (404,)), (b"BREW /livez HTTP/1.1", (405,)), (b"GET /livez HTTP/2.0", (505,)),
                               (b"GET /health%00x HTTP/1.1", (404,)), (b"GET /health\x01 HTTP/1.1", (400, 404, None)),
                               (b"get /livez HTTP/1.1", (405,)), (b"GET  HTTP/1.1", (400, 404, 505, None)), (b"\x16\x03\x00\x00\x10", (400, 405, 505, None)),
                               (b"A" * 100 + b" /livez HTTP/1.1", (405, 404))):
            with self.subTest(line=line), self.server.connect() as s:
                s.sendall(line + b"\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                s.shutdown(socket.SHUT_WR)
                self.assertIn(Reply(s).status, statuses)
        self.assertEqual(self.server.request("GET", "/livez").status, 200)

    def test_H06_expect_continue(self):
        """17 MiB announced: 413 at once, no 100. A body that fits gets its 100."""
        with self.server.connect() as s:
            s.sendall(post(self.HOST, b"Content-Length: %d" % (17 << 20), b"Expect: 100-continue", body=b""))
            self.refused(Reply(s), 413, "body_too_large")
        with self.server.connect() as s:
            s.sendall(post(self.HOST, self.LENGTH, b"Expect: 100-continue", body=b""))
            self.assertTrue(s.recv(1024).startswith(b"HTTP/1.1 100 "))
            s.sendall(BODY)
            self.assertEqual(Reply(s).status, 200)

    def test_pipelined_requests_are_answered_in_order(self):
        with self.server.connect() as s:
            s.sendall(post(self.HOST, self.LENGTH) + SECOND + head("GET", "/nope"))
            replies = []
            reader = s.makefile("rb")
            for _ in range(3):
                line = reader.readline()
                length = 0
                while (header := reader.readline()) not in (b"\r\n", b""):
                    if header.lower().startswith(b"content-length:"):
                        length = int(header.split(b":")[1])
                reader.read(length)
                replies.append(int(line.split()[1]))
            self.assertEqual(replies, [200, 200, 404])


class Limits(ServerTest):
    settings = dict(header_s=1, body_s=2, idle_s=2, max_body=100000)

    def closes_within(self, s, seconds):
        s.settimeout(seconds)
        started = time.monotonic()
        while s.recv(65536):
            pass
        return time.monotonic() - started

    def test_H01_slow_headers(self):
        """One byte now and then does not keep a connection: the deadline is absolute. Others are served meanwhile."""
        sockets = [self.server.connect() for _ in range(10)]
        started = time.monotonic()
        for i in range(8):
            for s in sockets:
                try:
                    s.send(b"GET / HTTP/1.1\r\nX-A: 1\r\n"[i:i + 1])
                except OSError:
                    pass
            self.assertEqual(self.server.request("GET", "/livez").status, 200)
            time.sleep(0.1)
        for s in sockets:
            self.closes_within(s, 5)
            s.close()
        self.assertLess(time.monotonic() - started, 3)

    def test_H02_body_that_stops(self):
        with self.server.connect() as s:
            s.sendall(post(b"Host: localhost", b"Content-Length: 1000", body=b"{"))
            self.assertLess(self.closes_within(s, 6), 4)

    def test_H02_slow_body(self):
        started = time.monotonic()
        with self.server.connect() as s:
            s.sendall(post(b"Host: localhost", b"Content-Length: 1000", body=b"{"))
            with self.assertRaises(OSError):
                while time.monotonic() - started < 10:
                    s.send(b" ")
                    time.sleep(0.05)
        self.assertLess(time.monotonic() - started, 5)

    def test_idle_connection(self):
        with self.server.connect() as s:
            s.sendall(head("GET", "/livez"))
            self.assertEqual(Reply(s).status, 200)
            elapsed = self.closes_within(s, 6)
            self.assertGreater(elapsed, 1)
            self.assertLess(elapsed, 5)

    def test_chunked_body_over_the_limit(self):
        """Read to its end, dropped, refused; far beyond the limit the connection is cut."""
        chunk = b"10000\r\n" + b"a" * 65536 + b"\r\n"
        with self.server.connect() as s:
            s.sendall(post(b"Host: localhost", b"Transfer-Encoding: chunked", body=chunk * 2 + b"0\r\n\r\n"))
            self.refused(Reply(s), 413, "body_too_large")
        with self.server.connect() as s, self.assertRaises(OSError):
            for _ in range(200):
                s.sendall(post(b"Host: localhost", b"Transfer-Encoding: chunked", body=b"") if _ == 0 else chunk)
                time.sleep(0.001)
        self.assertEqual(self.server.request("GET", "/livez").status, 200)


class Crowd(ServerTest):
    settings = dict(max_connections=20, header_s=60)        # silent ones are not closed meanwhile

    def reply_of(self, status):
        """The first reply with this status: connections are counted, and forgotten, by another thread than the one that accepts them."""
        deadline = time.monotonic() + 10
        while True:
            try:
                with self.server.connect() as s:
                    s.sendall(head("GET", "/livez"))
                    reply = Reply(s)
                if reply.status == status:
                    return reply
            except OSError:             # with TLS: too many still
                pass
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)

    def test_connections_over_the_limit(self):
        with contextlib.ExitStack() as crowd:
            for _ in range(20):
                crowd.enter_context(self.server.connect())
            self.refused(self.reply_of(503), 503, "server_overloaded")
        self.reply_of(200)


class Bodies(ServerTest):
    settings = dict(n_ctx=512)

    def test_H07_not_json(self):
        values = b"[" + b",".join([b"1.5"] * 200001) + b"]"
        for body, offset in ((b"", 0), (b"  ", 2), (b"{", 1), (b'{"a":1} x', 8), (b"\xef\xbb\xbf{}", 0), (b'{"a":NaN}', 5), (b'{"a":Infinity}', 5),
                             (b'{"a":-Infinity}', 6), (b'{"a":1e999}', None), (b'{"a":"\xff"}', 6), (b'{"a":"\xc0\xaf"}', 6), (b'{"a":"\xed\xa0\x80"}', 6),
                             (b'{"a":"\xe2\x82"}', 6), (b'{"a":"\\ud800"}', 6), (b'{"a":"\\udc00\\ud800"}', 6), (b'{"a":"\\ud800\\u0041"}', 6),
                             (b'{"a":"\\u0000"}', 6), (b'{"a":1,"a":2}', None), (b'{"b":{"a":1,"\\u0061":2}}', None), (b"[" * 100000, 64),
                             (b'{"a":' * 65, 64 * 5), (b'{"a":' + values + b"}", None), (b'{"a":01}', 6), (b'{"a":.5}', 5), (b'{"a":1.}', 7), (b'{"a":1e}', 7),
                             (b'{"a":+1}', 5), (b"{'a':1}", 1), (b'{"a":1,}', 7), (b'[1,]', 3), (b'{"a":tru}', 5), (b'{"a":"\n"}', 6),
                             (b'{"a":"\x00"}', 6), (b'{"a":1}\x00', 7), (b'{"a":"b', 7), (b'{"a":"\\x41"}', 6), (b'{"a" 1}', 5), (b"{1:2}", 1), (b"nul", 0)):
            with self.subTest(body=body[:40]):
                error = self.refused(self.server.post("/v1/completions", body), 400, "invalid_json")
                self.assertIn("byte", error["message"])
                if offset is not None:
                    self.assertIn(f"(byte {offset})", error["message"])

    def test_H07_no_object(self):
        for body in (b"null", b"[]", b"1", b'"a"', b"true", b" [1] "):
            self.refused(self.server.post("/v1/completions", body), 400, "invalid_value", None)

    def test_H07_a_million_keys(self):
        body = b"{" + b",".join(b'"k%d":1' % i for i in range(1000000)) + b"}"
        started = self.server.cpu_s()
        self.refused(self.server.post("/v1/completions", body), 400, "invalid_json")
        self.assertLess(self.server.cpu_s() - started, 2)

    def test_many_unknown_fields(self):
        body = b'{"prompt":"Hello","max_tokens":1,' + b",".join(b'"k%d":1' % i for i in range(190000)) + b"}"
        started = self.server.cpu_s()
        self.assertEqual(self.server.post("/v1/completions", body).status, 200)
        self.assertLess(self.server.cpu_s() - started, 3)

    def test_many_token_ids(self):
        """Integers of arrays do not count as values: the context decides. Ten times as many take ten times as long, not a hundred."""
        spent = []
        for n in (300000, 3000000):
            started = self.server.cpu_s()
            error = self.refused(self.server.post("/v1/completions", {"prompt": [100] * n}), 400, "context_length_exceeded", "prompt")
            self.assertEqual((error["n_prompt_tokens"], error["n_ctx"]), (n, 512))
            spent.append(self.server.cpu_s() - started)
        self.assertLess(spent[1], 30 * spent[0] + 0.5)

    def test_H09_wrong_values(self):
        for field, value in (("n", 10**9), ("n", 0), ("n", 1.5), ("n", True), ("n", "1"), ("best_of", 2), ("logprobs", 10**6), ("logprobs", -1),
                             ("stop", ["x"] * 10000), ("stop", ""), ("stop", ["a", ""]), ("stop", "x" * 257), ("stop", 5), ("stop", [1]),
                             ("logit_bias", {"49152": 1}), ("logit_bias", {"-1": 1}), ("logit_bias", {"01": 1}), ("logit_bias", {"x": 1}),
                             ("logit_bias", {"5": 101}), ("logit_bias", {"5": "1"}), ("logit_bias", [[5, 1], [5, 2]]), ("logit_bias", [[5]]),
                             ("logit_bias", {str(i): 1 for i in range(1025)}), ("logit_bias", "x"), ("max_tokens", 2**31), ("max_tokens", -1),
                             ("max_tokens", 0), ("max_tokens", 16.5), ("max_tokens", "16"), ("max_tokens", True), ("max_tokens", []),
                             ("seed", 2**63), ("seed", -2**63 - 1), ("seed", 0.5), ("top_p", 0), ("top_p", 1.1), ("top_p", "1"), ("temperature", 1e308),
                             ("temperature", -1), ("temperature", 2.1), ("temperature", "0"), ("temperature", None), ("top_k", -2), ("top_k", 2**31),
                             ("min_p", -0.1), ("min_p", 1.1), ("presence_penalty", 2.1), ("frequency_penalty", -2.1), ("repetition_penalty", 0),
                             ("repeat_penalty", 11), ("min_tokens", -1), ("min_tokens", 17), ("stop_token_ids", [49152]), ("stop_token_ids", [-1]),
                             ("stop_token_ids", list(range(17))), ("stop_token_ids", 5), ("stream", 1), ("stream", "true"), ("stream_options", []),
                             ("stream_options", {"include_usage": 1}), ("prompt", 5), ("prompt", {}), ("prompt", []), ("prompt", [[]]), ("prompt", ["a", 1]),
                             ("prompt", [1, "a"]), ("prompt", [[1], 2]), ("prompt", [[1], "a"]), ("prompt", [[["a"]]]), ("prompt", [49152]), ("prompt", [-1]),
                             ("prompt", [1.5]), ("prompt", ["a"] * 129), ("prompt", [None]), ("echo", "yes"), ("timeout", 0), ("timeout", 86401),
                             ("truncate_prompt_tokens", 0), ("truncate_prompt_tokens", -2), ("truncate_prompt_tokens", 513), ("cache_salt", ""),
                             ("cache_salt", "a/b"), ("cache_salt", "x" * 129), ("priority", 2**31), ("sse_ping_interval", 3601), ("suffix", "x"),
                             ("prompt_embeds", "x"), ("modalities", ["audio"]), ("model", 5), ("ignore_eos", "x"), ("response_format", "x"),
                             ("response_format", {}), ("response_format", {"type": "xml"}), ("skip_special_tokens", 1), ("request_id", 5)):
            if value is None:
                continue
            with self.subTest(field=field, value=str(value)[:60]):
                reply = self.server.post("/v1/completions", {"prompt": "Hello", field: value})
                code = "unsupported_content" if field == "modalities" else "invalid_value"
                error = self.refused(reply, 400, code)
                self.assertTrue(error["param"].startswith(field), error)
        self.refused(self.server.post("/v1/completions", {"prompt": ["a"] * 16, "n": 9}), 400, "invalid_value", "n")
        self.refused(self.server.post("/v1/completions", {"prompt": [[5], [6, 49152]]}), 400, "invalid_value", "prompt[1][1]")
        self.refused(self.server.post("/v1/completions", {"prompt": "a", "n": 2, "best_of": 1}), 400, "invalid_value", "best_of")
        self.refused(self.server.post("/v1/completions", {}), 400, "invalid_value", "prompt")

    def test_H08_null_is_absent(self):
        fields = ("n best_of logprobs stop logit_bias max_tokens seed top_p temperature top_k min_p presence_penalty frequency_penalty repetition_penalty "
                  "repeat_penalty min_tokens stop_token_ids stream stream_options echo timeout truncate_prompt_tokens cache_salt priority "
                  "sse_ping_interval suffix prompt_embeds modalities model ignore_eos response_format skip_special_tokens request_id grammar "
                  "structured_outputs use_beam_search user prompt_logprobs").split()
        self.assertEqual(self.server.post("/v1/completions", {"prompt": "Hello", **dict.fromkeys(fields)}).status, 200)

    def test_not_built(self):
        self.refused(self.server.post("/v1/completions", {"prompt": "a", "use_beam_search": True}), 501, "not_supported", "use_beam_search")

    def test_H09_chat_values(self):
        def chat(**fields):
            return self.server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], **fields})
        for messages, param in ((None, "messages"), ([], "messages"), ({}, "messages"), ([1], "messages[0]"), ([{}], "messages[0].role"),
                                ([{"role": "user"}], "messages[0].content"), ([{"role": "pirate", "content": "a"}], "messages[0].role"),
                                ([{"role": "user", "content": None}], "messages[0].content"), ([{"role": "user", "content": 5}], "messages[0].content"),
                                ([{"role": "user", "content": ["a"]}], "messages[0].content[0]"), ([{"role": "user", "content": [{}]}], "messages[0].content[0]"),
                                ([{"role": "user", "content": "a", "name": 5}], "messages[0].name"),
                                ([{"role": "assistant", "content": None, "tool_calls": [{}]}], "messages[0].tool_calls[0]")):
            with self.subTest(messages=messages):
                self.refused(chat(messages=messages), 400, "invalid_value", param)
        for url in ("http://169.254.169.254/", "file:///etc/passwd", "data:image/png;base64,AAAA"):
            parts = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": url}}]
            self.refused(chat(messages=[{"role": "user", "content": parts}]), 400, "unsupported_content", "messages[0].content[1]")
        tool = {"type": "function", "function": {"name": "f"}}
        self.refused(chat(tools=[tool] * 129), 400, "invalid_value", "tools")
        self.refused(chat(top_logprobs=3), 400, "invalid_value", "top_logprobs")
        self.refused(chat(logprobs=True, top_logprobs=-1), 400, "invalid_value", "top_logprobs")
        self.refused(chat(logprobs=True, top_logprobs=21), 400, "invalid_value", "top_logprobs")
        self.refused(chat(logprobs=5), 400, "invalid_value", "logprobs")
        self.refused(chat(chat_template="{{ 1 }}"), 400, "invalid_value", "chat_template")
        self.refused(chat(chat_template_kwargs={"evil": 1}), 400, "invalid_value", "chat_template_kwargs.evil")
        self.refused(chat(reasoning_effort="enormous"), 400, "invalid_value", "reasoning_effort")
        self.refused(chat(add_generation_prompt=True, continue_final_message=True), 400, "invalid_value", "continue_final_message")
        self.refused(chat(max_completion_tokens=0), 400, "invalid_value", "max_completion_tokens")
        self.refused(chat(messages=[{"role": "user", "content": "word " * 2000}]), 400, "context_length_exceeded", "messages")
        self.assertEqual(chat(tools=[], tool_choice="auto", max_tokens=2).status, 200)

    def test_tools(self):
        def chat(**fields):
            return self.server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "max_tokens": 2, **fields})
        def tool(name="f", **fields):
            return {"type": "function", "function": {"name": name, **fields}}
        for tools, param in (({}, "tools"), ([5], "tools[0]"), ([tool(), {}], "tools[1].type"), ([{"type": "web_search"}], "tools[0].type"),
                             ([{"type": "function"}], "tools[0].function"), ([{"type": "function", "function": []}], "tools[0].function"),
                             ([{"type": "function", "function": {}}], "tools[0].function.name"), ([tool("a b")], "tools[0].function.name"),
                             ([tool("")], "tools[0].function.name"), ([tool("x" * 65)], "tools[0].function.name"), ([tool(5)], "tools[0].function.name"),
                             ([tool("f\n"), tool()], "tools[0].function.name"), ([tool(), tool("g"), tool()], "tools[2].function.name"),
                             ([tool(description=5)], "tools[0].function.description"), ([tool(strict="yes")], "tools[0].function.strict"),
                             ([tool(parameters=[])], "tools[0].function.parameters")):
            with self.subTest(tools=tools):
                self.refused(chat(tools=tools), 400, "invalid_value", param)
                self.refused(self.server.post("/tokenize", {"messages": [{"role": "user", "content": "a"}], "tools": tools}), 400, "invalid_value", param)
        deep = {"type": "object"}
        for _ in range(40):
            deep = {"type": "object", "properties": {"a": deep}}
        for schema in ({"type": "string"}, {"anyOf": [{"type": "object"}]}, {"type": "object", "properties": {"a": {"multipleOf": 2}}},
                       {"type": "object", "properties": {"a": {"$ref": "https://example.com/x"}}}, {"type": "object", "properties": 5},
                       {"type": ["object", "null"]}, {"type": "object", "required": 5}):
            with self.subTest(schema=schema):
                self.refused(chat(tools=[tool("g"), tool(parameters=schema)]), 400, "invalid_schema", "tools[1].function.parameters")
        self.assertEqual(chat(tools=[tool(parameters=deep)]).status, 400)
        for choice, param in (("maybe", "tool_choice"), (5, "tool_choice"), ("required", "tool_choice"), ({}, "tool_choice.type"),
                              ({"type": "function"}, "tool_choice.function.name"), ({"type": "allowed_tools"}, "tool_choice.type"),
                              ({"type": "function", "function": {"name": "f"}}, "tool_choice.function.name")):
            with self.subTest(choice=choice):
                self.refused(chat(tool_choice=choice), 400, "invalid_value", param)
        named = {"type": "function", "function": {"name": "g"}}
        self.refused(chat(tools=[tool()], tool_choice=named), 400, "invalid_value", "tool_choice.function.name")
        self.refused(chat(tools=[tool()], tool_choice="required", response_format={"type": "json_object"}), 400, "invalid_value", "tool_choice")
        self.refused(chat(tools=[tool()], tool_choice="required", continue_final_message=True), 400, "invalid_value", "tool_choice")
        self.refused(chat(tools=[tool()], parallel_tool_calls=1), 400, "invalid_value", "parallel_tool_calls")
        many = [tool(f"f{i}", parameters={"type": "object", "properties": {"a": {"type": "string"}, "b": True}}) for i in range(128)]
        for fields in (dict(tools=[tool(parameters=None, strict=None, description=None)]), dict(tools=many, truncate_prompt_tokens=9),
                       dict(tools=many, tool_choice="required", truncate_prompt_tokens=9),
                       dict(tools=[tool()], tool_choice="none"), dict(tool_choice="none"), dict(tools=None, tool_choice=None),
                       dict(tools=[tool()], response_format={"type": "json_object"}), dict(tools=[tool("g")], tool_choice=named)):
            reply = chat(**fields)
            self.assertEqual(reply.status, 200, (str(fields)[:200], reply.body))
        calls = [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": [1"}}]
        for history in ([{"role": "tool", "content": "x"}] * 2000, [{"role": "assistant", "content": None, "tool_calls": calls * 500}],
                        [{"role": "tool", "tool_call_id": "c", "content": ""}, {"role": "tool", "content": "</tool_response>"}]):
            self.assertIn(self.server.post("/apply-template", {"messages": history, "tools": [tool()]}).status, (200, 400))

    def test_form_content_type(self):
        """curl -d says so, and means JSON."""
        self.assertEqual(self.server.post("/v1/completions", BODY, {"Content-Type": "application/x-www-form-urlencoded"}).status, 200)


if __name__ == "__main__":
    http_peer.main()
