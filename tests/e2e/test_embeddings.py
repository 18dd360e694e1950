"""/v1/embeddings: vectors as floats and base64, inputs in all forms, the same bits in any company, and what is refused."""
import base64
import math
import os
import shutil
import struct
import tempfile

import openai

import schemas
from server import MODEL, Server, ServerTest

WORDS = "The capital of France is Paris, a city of two million people on the Seine. "
TEXTS = ["Hello world", "Paris is the capital of France", "France's capital city is Paris", "I like bananas", WORDS * 12, "a"]


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b))


def packed(vector):
    return struct.pack(f"<{len(vector)}f", *vector)


class Embeddings(ServerTest):
    options = ("--prefill-chunk", "64", "--max-batch", "4")

    def setUp(self):
        self.client = openai.OpenAI(base_url=self.server.url + "/v1", api_key="none", max_retries=0)
        self.addCleanup(self.client.close)

    def embed(self, text, **fields):
        return [d.embedding for d in self.client.embeddings.create(model=self.model, input=text, **fields).data]

    def tokens(self, text):
        return self.server.post("/tokenize", {"prompt": text})[1]["tokens"]

    def test_reply(self):
        status, reply = self.server.post("/v1/embeddings", {"model": self.model, "input": TEXTS[0], "user": "somebody"})
        self.assertEqual(status, 200, reply)
        schemas.check(schemas.EMBEDDINGS, reply)
        n = len(self.tokens(TEXTS[0]))
        self.assertEqual(reply["usage"], {"prompt_tokens": n, "total_tokens": n})
        self.assertEqual(len(reply["data"][0]["embedding"]), self.n_embd())

    def n_embd(self):
        return self.client.models.retrieve(self.model).meta["n_embd"]

    def test_meaning(self):
        """The texts that say the same are nearer than others; all are of unit length."""
        vectors = self.embed(TEXTS)
        for v in vectors:
            self.assertAlmostEqual(math.hypot(*v), 1, places=6)
        same = cosine(vectors[1], vectors[2])
        for i, j in ((0, 1), (0, 2), (1, 3), (2, 3), (0, 3)):
            self.assertLess(cosine(vectors[i], vectors[j]), same - 0.05)

    def test_same_bits(self):
        """Alone, in a batch, again (from the prefix cache), as token ids, as floats and as base64, beside texts that are generated."""
        alone = [packed(self.embed(t, encoding_format="float")[0]) for t in TEXTS]
        self.assertEqual(len(set(alone)), len(TEXTS))
        stream = self.server.stream("/v1/completions", dict(prompt="Once upon a time", max_tokens=200, ignore_eos=True))
        self.addCleanup(stream.close)
        next(iter(stream))
        for form in (TEXTS, [self.tokens(t) for t in TEXTS]):
            for encoding in ("float", "base64"):
                got = self.client.embeddings.with_raw_response.create(model=self.model, input=form, encoding_format=encoding)
                data = got.parse().data
                self.assertEqual([d.index for d in data], list(range(len(TEXTS))))
                self.assertEqual([packed(d.embedding) if encoding == "float" else self.decode(d.embedding) for d in data], alone)
        self.assertEqual([packed(v) for v in self.embed(TEXTS)], alone)         # the client's own choice of form
        self.assertEqual(packed(self.embed(self.tokens(TEXTS[1]))[0]), alone[1])

    def decode(self, text):
        return base64.b64decode(text, validate=True)

    def test_truncated(self):
        ids = self.tokens(WORDS * 12)
        self.assertEqual(packed(self.embed(ids, extra_body={"truncate_prompt_tokens": 9})[0]), packed(self.embed(ids[-9:])[0]))

    def test_refused(self):
        for body, param in (({}, "input"), ({"input": ""}, "input"), ({"input": []}, "input"), ({"input": ["a", ""]}, "input[1]"),
                            ({"input": [1, 10 ** 9]}, "input[1]"), ({"input": ["a"] * 2049}, "input"),
                            ({"input": "a", "dimensions": 64}, "dimensions"), ({"input": "a", "encoding_format": "x"}, "encoding_format")):
            with self.subTest(body=str(body)[:60]):
                self.refused(400, "invalid_value", body, "/v1/embeddings", param)
        error = self.refused(400, "context_length_exceeded", {"input": ["a", "a " * 9000]}, "/v1/embeddings", "input[1]")
        self.assertEqual(error["n_ctx"], 8192)
        with self.assertRaises(openai.BadRequestError):
            self.embed("a", dimensions=64)


class Pooling(ServerTest):
    """Copies of the model's file that say how to pool, beside the file itself, which does not: its last token is taken."""
    path = os.path.expanduser(os.path.join(os.environ.get("FOURWAY_MODELS", "~/.cache/fourway/models"), MODEL + ".gguf"))

    def copy(self, pooling):
        """Two more metadata entries, together 64 bytes, so that tensors stay aligned."""
        key, fill = b"llama.pooling_type", b"test.fill"
        entries = struct.pack(f"<Q{len(key)}sII", len(key), key, 4, pooling)
        entries += struct.pack(f"<Q{len(fill)}sIQ1s", len(fill), fill, 8, 1, b"x")
        self.assertEqual(len(entries), 64)
        copy = tempfile.NamedTemporaryFile(suffix=".gguf")
        self.addCleanup(copy.close)
        with open(self.path, "rb") as f:
            magic, version, n_tensors, n_values = struct.unpack("<4sIQQ", f.read(24))
            copy.write(struct.pack("<4sIQQ", magic, version, n_tensors, n_values + 2) + entries)
            shutil.copyfileobj(f, copy)
        copy.flush()
        server = Server("--ctx", "512", model=copy.name)
        self.addCleanup(server.stop)
        return server

    def vectors(self, server, inputs):
        status, reply = server.post("/v1/embeddings", {"input": inputs})
        self.assertEqual(status, 200, reply)
        return [d["embedding"] for d in reply["data"]]

    def test_first_token(self):
        """It has seen no other: the vector of that token alone."""
        server = self.copy(2)
        ids = [[19556, 905], [19556] * 100, [19556]]
        for vector in self.vectors(server, ids) + self.vectors(server, ids):
            self.assertEqual(packed(vector), packed(self.vectors(self.server, ids[-1:])[0]))

    def test_mean(self):
        """Of two tokens it lies between the states of the first and of the second."""
        ids = [19556, 905]
        mean = self.vectors(self.copy(1), [ids, ids[:1]])
        first, last = self.vectors(self.server, [ids[:1], ids])
        self.assertEqual(packed(mean[1]), packed(first))
        c = cosine(first, last)
        a, b = ((cosine(mean[0], x) - c * cosine(mean[0], y)) / (1 - c * c) for x, y in ((first, last), (last, first)))
        self.assertGreater(min(a, b), 0)
        for m, x, y in zip(mean[0], first, last):
            self.assertAlmostEqual(m, a * x + b * y, places=6)

    def test_none(self):
        """Such files are of models that give no embeddings; they still write."""
        server = self.copy(0)
        status, reply = server.post("/v1/embeddings", {"input": "a"})
        self.assertEqual((status, reply["error"]["code"]), (501, "not_supported"))
        self.assertEqual(server.post("/v1/completions", {"prompt": "a", "max_tokens": 1})[0], 200)
