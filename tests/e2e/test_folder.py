"""Hugging Face folders: every command takes one where it takes a model file, and gives what the GGUF file made of it gives."""
import json
import os
import shutil
import subprocess
import tempfile
import unittest
import urllib.request

from server import BINARY, Server

GOLDEN = "tests/data/golden/llama"
FILE = f"{GOLDEN}/model-bf16.gguf"


def run(*words, status=0, text=b""):
    done = subprocess.run([BINARY, *words], input=text, capture_output=True, timeout=120)
    assert done.returncode == status, (words, done)
    return done


class Folder(unittest.TestCase):
    def test_commands(self):
        info = json.loads(run("info", GOLDEN, "--json").stdout)
        self.assertEqual((info["architecture"], info["parts"], info["n_tensors"]), ("llama", 1, 31))
        text = run("info", GOLDEN, "--tensors").stdout.decode()
        self.assertRegex(text, r"format +Hugging Face folder, safetensors, 1 file\n")
        self.assertRegex(text, r"rope_freqs.weight +F32 +\{8\} +32 bytes, computed\n")
        for words in (["tokenize"], ["run", "-p", "Once upon a time", "-n", "24"],
                      ["run", "--raw", "-p", "hello", "-n", "24", "--virtual-nodes", "2"]):
            with self.subTest(words=words):
                of_folder, of_file = (run(words[0], model, *words[1:], text=b"Hello <|im_end|> 12345").stdout for model in (GOLDEN, FILE))
                self.assertTrue(of_folder)
                self.assertEqual(of_folder, of_file)

    def test_serve(self):
        answers = []
        body = {"messages": [{"role": "user", "content": "Tell me"}], "max_tokens": 16, "logprobs": True, "seed": 1, "temperature": 0.8}
        for model, name in ((GOLDEN + "/", "llama"), (FILE, "model-bf16")):
            server = Server(model=model)
            self.addCleanup(server.stop)
            with urllib.request.urlopen(f"{server.url}/v1/models") as reply:
                self.assertEqual(json.load(reply)["data"][0]["id"], name)
            request = urllib.request.Request(f"{server.url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
            with urllib.request.urlopen(request) as reply:
                answers.append(json.load(reply)["choices"])
            self.assertEqual(server.stop(), 0)
        self.assertEqual(answers[0], answers[1])

    def test_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in os.listdir(GOLDEN):
                if not name.endswith(".gguf"):
                    shutil.copy(f"{GOLDEN}/{name}", folder)
            run("info", folder)
            weights = os.path.join(folder, "model.safetensors")
            size = os.path.getsize(weights)
            os.truncate(weights, size - 1)
            self.refused(folder, f"/model.safetensors: tensor \"model.norm.weight\": ends at {size - 8 - self.header(weights)}, the file has")
            os.rename(weights, weights + ".part")
            self.refused(folder, ": none of model.safetensors, model.safetensors.index.json, pytorch_model.bin and")
            config = os.path.join(folder, "config.json")
            with open(config, encoding="utf-8") as f:
                text = f.read()
            with open(config, "w", encoding="utf-8") as f:
                f.write(text.replace('"model_type": "llama"', '"model_type": "mamba"'))
            self.refused(folder, 'model_type "mamba" is not supported (supported: llama, ')

    def test_contradictions(self):
        """What config.json says and the weights do not: one line, and no text from a part of the model."""
        source = "tests/data/golden/deepseek_v3"
        for change, message in (({"hidden_size": 64}, 'tensor "output.weight" is {96, 512}, expected {64, 512}'),
                                ({"num_hidden_layers": 2}, "belongs to layer 2, deepseek2.block_count is 2"),
                                ({"n_routed_experts": 4}, "has another shape than its configuration says"),
                                ({"n_shared_experts": 0}, "is of a shared expert, deepseek2.expert_shared_count is 0"),
                                ({"num_experts_per_tok": 9}, 'key "deepseek2.expert_used_count" is 9, expected 1..8')):
            with self.subTest(change), tempfile.TemporaryDirectory() as folder:
                for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json"):
                    shutil.copy(f"{source}/{name}", folder)
                with open(f"{source}/config.json", encoding="utf-8") as f:
                    config = json.load(f)
                with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as f:
                    json.dump(config | change, f)
                done = run("run", folder, "-p", "x", "-n", "1", status=1)
                self.assertEqual(done.stderr.count(b"\n"), 1, done.stderr)
                self.assertIn(message, done.stderr.decode())

    def header(self, path):
        with open(path, "rb") as f:
            return int.from_bytes(f.read(8), "little")

    def refused(self, folder, message):
        for command in ("info", "tokenize", "run", "serve"):
            done = run(command, folder, status=1)
            self.assertEqual(done.stderr.count(b"\n"), 1, done.stderr)
            self.assertIn(message, done.stderr.decode())


if __name__ == "__main__":
    unittest.main()
