"""Folders that GPTQ, AWQ and compressed-tensors have quantized: the same values and the same text as those values in float32."""
import json
import os
import struct
import tempfile
import unittest
import urllib.request

import quantized_folder
from server import Server
from test_cli import run


class QuantizedFolder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = lambda name: os.path.join(folder.name, name)

    def good(self, *words):
        done = run(*words)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def values(self, model, name):
        """Every tensor in float32, by `fourway quantize`."""
        out = self.path(name + ".gguf")
        run("quantize", model, out, "--type", "f32", "--allow-requantize")
        with open(out, "rb") as f:
            data = f.read()
        tensors = json.loads(self.good("info", "--json", "--tensors", out))["tensors"]
        return {t["name"]: data[t["offset"]:t["offset"] + t["bytes"]] for t in tensors}

    def test_same_values(self):
        for method, (*_, type_name) in quantized_folder.METHODS.items():
            with self.subTest(method):
                folder, plain = self.path(method), self.path(method + "_plain")
                quantized_folder.make(method, folder, plain)
                info = json.loads(self.good("info", "--json", folder))
                self.assertEqual({name: t["tensors"] for name, t in info["types"].items()}, {"F32": 4, type_name: 7, "BF16": 2})
                ours, theirs = self.values(folder, method), self.values(plain, method + "_plain")
                self.assertEqual(ours.keys(), theirs.keys())
                for name, data in ours.items():
                    self.assertEqual(len(data), len(theirs[name]))
                    n = len(data) // 4      # as numbers: 0 and -0 are the same
                    self.assertEqual(struct.unpack(f"<{n}f", data), struct.unpack(f"<{n}f", theirs[name]), name)
                words = ("--raw", "-p", "Once upon a time", "-n", "24", "--activations", "f32")
                text = self.good("run", folder, *words)
                self.assertTrue(text)
                self.assertEqual(text, self.good("run", plain, *words))
                self.assertEqual(text, self.good("run", folder, *words, "--virtual-nodes", "2"))

    def test_serve(self):
        folder = self.path("awq")
        quantized_folder.make("awq", folder)
        server = Server(model=folder)
        self.addCleanup(server.stop)
        body = {"messages": [{"role": "user", "content": "Tell me"}], "max_tokens": 16}
        request = urllib.request.Request(f"{server.url}/v1/chat/completions", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as reply:
            answer = json.load(reply)
        self.assertEqual((answer["model"], answer["usage"]["completion_tokens"] > 0), ("awq", True))
        self.assertEqual(server.stop(), 0)

    def test_refused(self):
        """What only the data tells is one line, too, and no server starts."""
        folder = self.path("gptq")
        quantized_folder.make("gptq", folder)
        weights = folder + "/model.safetensors"
        tensors = quantized_folder.read_tensors(weights)
        name = "model.layers.0.mlp.up_proj."

        def refused(message, **changed):
            quantized_folder.write_tensors(weights, {**tensors, **{name + part: tensor for part, tensor in changed.items()}})
            for command in ("run", "serve"):
                done = run(command, folder)
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertIn(message, done.stderr.splitlines()[-1])
                self.assertEqual(len([line for line in done.stderr.splitlines() if " info: " not in line]), 1, done.stderr)

        dtype, shape, data = tensors[name + "scales"]
        refused('tensor "blk.0.ffn_up.weight" row 0 columns 0..31: its scale is nan', scales=(dtype, shape, b"\0\x7e" + data[2:]))
        dtype, shape, data = tensors[name + "g_idx"]
        refused('act-order ("desc_act") is not supported', g_idx=(dtype, shape, data[::-1]))


if __name__ == "__main__":
    unittest.main()
