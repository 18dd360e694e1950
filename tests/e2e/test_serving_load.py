"""scripts/serving_load.py, which the comparisons measure with: what it says came back is what came back."""
import sys
import time
import unittest

from server import ServerTest

sys.path.insert(0, "scripts")
from serving_load import Client, Reply, Request, dechunk, quantile, run_load

FIELDS = {"max_tokens": 12, "temperature": 0, "ignore_eos": True}


def stream(prompt, **fields):
    return Request("/v1/completions", {"prompt": prompt, **FIELDS, "stream": True, "stream_options": {"include_usage": True}, **fields})


class Load(ServerTest):
    def test_replies(self):
        prompts = [f"Story {i} is about" for i in range(6)]
        want = {p: self.complete(prompt=p, **FIELDS)["choices"][0]["text"] for p in prompts}
        began, ended = time.monotonic(), []
        shared = iter(prompts)
        load = run_load(self.server, [Client(stream(p) for p in shared) for _ in range(3)], 60, ended.append)
        self.assertEqual({r.request.body["prompt"]: r.text for r in load.replies}, want)
        self.assertEqual(ended, load.replies)
        self.assertFalse(load.errors())
        for r in load.replies:
            self.assertEqual((r.usage["completion_tokens"], len(r.token_s), len(r.gaps_s)), (12, 12, 11))
            self.assertEqual(r.token_s, sorted(r.token_s))
            self.assertTrue(began < r.sent_s < r.token_s[0] <= r.token_s[-1] <= r.end_s <= time.monotonic())

    def test_errors_are_counted(self):
        requests = [Request("/v1/completions", {"prompt": "x", "temperature": -1}), Request("/nowhere"), Request("/v1/models")]
        load = run_load(self.server, [Client(requests)], 60)
        self.assertEqual([r.status for r in load.replies], [400, 404, 200])
        self.assertEqual([bool(r.error) for r in load.replies], [True, True, False])

    def test_time_is_over(self):
        load = run_load(self.server, [Client([stream("The sea", max_tokens=4000)] * 2)], 0.5)
        self.assertEqual(list(load.errors()), ["the time of the load was over"])
        self.assertEqual(len(load.replies), 1)

    def test_leaving(self):
        """The late client's reply ends the load: the streams are cut, which is no error."""
        clients = [Client([stream("The sea", max_tokens=4000)]), Client([Request("/v1/models", tag="last")], 0.5)]
        load = run_load(self.server, clients, 60, lambda reply: reply.request.tag == "last")
        self.assertFalse(load.errors())
        self.assertEqual([r.cut for r in load.replies], [False, True])
        self.assertGreater(len(load.replies[1].token_s), 1)
        self.assertLess(load.wall_s, 30)


class Parsing(unittest.TestCase):
    def test_times_of_events(self):
        """An event that two reads bring has the second one's time; two events in one read share it."""
        def chunk(text):
            event = b'data: {"choices":[{"text":"%s"}]}\n\n' % text
            return b"%x\r\n%s\r\n" % (len(event), event)
        raw = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        one, two, three = chunk(b"a"), chunk(b"b"), chunk(b"c")
        reply = Reply(None, 0.0)
        reply.reads = [(1.0, raw + one[:9]), (2.0, one[9:]), (3.0, two + three), (4.0, b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")]
        reply.parse()
        self.assertEqual((reply.error, reply.text, reply.token_s), (None, "abc", [2.0, 3.0, 3.0]))

    def test_cut_replies(self):
        for raw in (b"", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", b"HTTP/1.1 200 OK\r\nContent-Ty"):
            reply = Reply(None, 0.0)
            reply.reads = [(1.0, raw)]
            reply.parse()
            self.assertTrue(reply.error, raw)

    def test_dechunk(self):
        self.assertEqual(dechunk(b"3\r\nabc\r\n0\r\n\r\n", 0), ([(b"abc", 8)], True))
        self.assertEqual(dechunk(b"3\r\nabc\r\n3\r\na", 0), ([(b"abc", 8)], False))

    def test_quantile(self):
        self.assertEqual([quantile(range(1, 101), q) for q in (0, 0.5, 0.99, 1)], [1, 50, 99, 100])
