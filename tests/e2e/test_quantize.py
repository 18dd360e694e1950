"""fourway quantize: files of every type load and say much the same as their source, whatever goes wrong leaves nothing behind."""
import json
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from server import BINARY, MODEL
from test_cli import model_path, run

TINY = "tests/data/golden/llama/model-bf16.gguf"
TEXT = ("The tower stands in the middle of the old town. It was built of grey stone eight hundred years ago, when the river was the only "
        "road, and whoever wanted to trade had to pay at its gate. Today a museum shows what merchants carried: salt, cloth, iron and "
        "wine. From the top one sees the harbour, the railway station and, on clear days, the mountains in the south. ") * 6
FILE_TYPES = {"f32": 0, "f16": 1, "bf16": 32, "q8_0": 7, "q4_0": 2, "q4_1": 3, "q5_0": 8, "q5_1": 9, "q4_k": 14, "q5_k": 16, "q6_k": 18}


class Quantize(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.out = os.path.join(self.folder, "out.gguf")

    def good(self, *words, **options):
        done = run(*words, **options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def bad(self, *words, status=1, clue=None, **options):
        done = subprocess.run([BINARY, "quantize", *words], capture_output=True, text=True, timeout=60, **options)
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertEqual(done.stdout, "")
        if clue:
            self.assertIn(clue, done.stderr)
        return done.stderr

    def test_every_type(self):
        source = json.loads(self.good("info", "--json", "--tensors", TINY))
        for name, number in FILE_TYPES.items():
            with self.subTest(name):
                out = os.path.join(self.folder, name + ".gguf")
                summary = json.loads(self.good("quantize", TINY, out, "--type", name, "--json"))
                info = json.loads(self.good("info", "--json", "--tensors", out))
                self.assertEqual(info["metadata"]["general.file_type"], number)
                self.assertEqual(info["metadata"]["general.quantization_version"], 2)
                for key, value in source["metadata"].items():
                    if key not in ("general.file_type", "general.quantization_version"):
                        self.assertEqual(info["metadata"][key], value, key)
                self.assertEqual(info["file_bytes"], summary["output_bytes"])
                self.assertEqual({key: value["tensors"] for key, value in info["types"].items()}, summary["tensors"])
                for old, new in zip(source["tensors"], info["tensors"], strict=True):
                    self.assertEqual((old["name"], old["shape"]), (new["name"], new["shape"]))
                    if len(old["shape"]) == 1:
                        self.assertEqual(old["type"], new["type"], old["name"])
                    elif "blk" in old["name"] and not name.endswith("_k"):
                        self.assertEqual(new["type"].lower(), name, old["name"])

    def test_threads_change_no_byte(self):
        files = []
        for threads in ("1", "3"):
            out = os.path.join(self.folder, threads)
            self.good("quantize", TINY, out, "--type", "q4_0", "--threads", threads)
            with open(out, "rb") as f:
                files.append(f.read())
        self.assertEqual(files[0], files[1])

    def test_loading_with_type_is_the_same(self):
        """--type of the other commands: logits bit for bit those of the file that quantize writes, and of the folder."""
        text = os.path.join(self.folder, "text")
        with open(text, "w", encoding="utf-8") as f:
            f.write(TEXT)

        def logits(*args):
            base = os.path.join(self.folder, "base")
            self.good("perplexity", args[0], text, "--ctx", "64", "--save-logits", base, *args[1:])
            with open(base, "rb") as f:
                return f.read()
        plain = logits(TINY)
        for name in ("q4_0", "q8_0", "q4_k", "q6_k", "f16"):
            with self.subTest(name):
                self.good("quantize", TINY, self.out, "--type", name, "--overwrite")
                want = logits(self.out)
                self.assertNotEqual(want, plain)
                self.assertEqual(logits(TINY, "--type", name), want)
                self.assertEqual(logits(os.path.dirname(TINY), "--type", name, "--virtual-nodes", "2", "--threads", "3"), want)
                if name != "f16":
                    self.assertEqual(logits(self.out, "--type", "q5_1"), want)      # quantised already: stays

    def test_plain_types_lose_nothing(self):
        """bf16 to f32 and back: the bytes of the source's tensors."""
        wide, back = os.path.join(self.folder, "wide.gguf"), os.path.join(self.folder, "back.gguf")
        self.good("quantize", TINY, wide, "--type", "f32")
        self.good("quantize", wide, back, "--type", "bf16")

        def tensors(path):
            info = json.loads(self.good("info", "--json", "--tensors", path))
            with open(path, "rb") as f:
                data = f.read()
            total = sum(-(-t["bytes"] // info["alignment"]) * info["alignment"] for t in info["tensors"])
            start = len(data) - total
            return {t["name"]: (t["type"], data[t["offset"]:t["offset"] + t["bytes"]] if t["offset"] >= start else None)
                    for t in info["tensors"]}
        self.assertEqual(tensors(TINY), tensors(back))

    def test_requantised_model_still_speaks(self):
        """SmolLM2 is Q4_1: as Q8_0 the same model but for 0.002 nat; rows of 576 fall back to Q5_1 and Q5_0, other grids for 4-bit values."""
        text, base = os.path.join(self.folder, "text"), os.path.join(self.folder, "base")
        with open(text, "w", encoding="utf-8") as f:
            f.write(TEXT)
        self.good("perplexity", MODEL, text, "--ctx", "128", "--save-logits", base)
        self.bad(model_path(), self.out, "--type", "q8_0", clue="--allow-requantize")
        for name, bound in (("q8_0", 0.005), ("q5_k", 0.08), ("q4_k", 0.18)):
            with self.subTest(name):
                self.good("quantize", MODEL, self.out, "--type", name, "--allow-requantize", "--overwrite")
                far = json.loads(self.good("perplexity", self.out, text, "--kl-divergence", base, "--json"))
                self.assertLess(far["kl_divergence"]["value"], bound)
                self.assertGreaterEqual(far["kl_divergence"]["value"], 0)
                if name == "q8_0":      # of so small a model, 4-bit weights rounded twice do not always know, nor do int8 activations
                    answer = self.good("run", self.out, "-p", "What is the capital of France?", "-n", "32", "--temp", "0",
                                       "--activations", "bf16")
                    self.assertIn("Paris", answer)

    def test_wrong_usage(self):
        self.bad(TINY, self.out, status=2, clue="--type is missing")
        self.bad(TINY, self.out, "--type", "q9_0", status=2, clue="q4_0")
        self.bad(TINY, "--type", "q8_0", status=2)
        self.bad(TINY, "", "--type", "q8_0", status=2, clue="is empty")
        self.assertEqual(os.listdir(self.folder), [])

    def test_bad_places(self):
        self.bad(TINY, TINY, "--type", "q8_0", "--overwrite", clue="is a file of the model")
        link = os.path.join(self.folder, "link.gguf")
        os.symlink(os.path.abspath(TINY), link)
        self.bad(TINY, link, "--type", "q8_0", "--overwrite", clue="is a file of the model")
        os.remove(link)
        self.bad(TINY, self.folder, "--type", "q8_0", "--overwrite", clue="directory")
        self.bad(TINY, "/dev/full", "--type", "q8_0", "--overwrite", clue="not a regular file")
        self.bad(TINY, "/nowhere/out.gguf", "--type", "q8_0", clue="/nowhere/out.gguf")
        self.bad(os.path.join(self.folder, "none.gguf"), self.out, "--type", "q8_0", clue="none.gguf")
        with open(self.out, "w") as f:
            f.write("precious")
        self.bad(TINY, self.out, "--type", "q8_0", clue="--overwrite")
        with open(self.out) as f:
            self.assertEqual(f.read(), "precious")
        self.good("quantize", TINY, self.out, "--type", "q8_0", "--overwrite")
        self.good("info", self.out)

    def test_source_is_kept(self):
        """A folder's own files, by any path, are no place for the output; other names in it are."""
        source = os.path.join(self.folder, "model")
        shutil.copytree(os.path.dirname(TINY), source)
        shards = [name for name in os.listdir(source) if name.endswith(".safetensors")]
        link = os.path.join(self.folder, "link.gguf")
        os.symlink(os.path.join(source, shards[0]), link)
        for out in [link, *(os.path.join(source, name) for name in ["config.json", "tokenizer.json", *shards])]:
            with self.subTest(out):
                with open(out, "rb") as f:
                    before = f.read()
                self.bad(source, out, "--type", "q8_0", "--overwrite", clue="choose another name")
                with open(out, "rb") as f:
                    self.assertEqual(f.read(), before)
        for _ in range(2):
            self.good("quantize", source, os.path.join(source, "q8_0.gguf"), "--type", "q8_0", "--overwrite")

    def test_full_disk(self):
        """A limit on the size of files stands for it: at the reservation, before any work."""
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (100000, resource.RLIM_INFINITY))
        self.bad(TINY, self.out, "--type", "q8_0", preexec_fn=limit, clue="File too large")
        self.assertEqual(os.listdir(self.folder), [])

    def test_stopped(self):
        """A signal in the middle: status 1, one line, and no file."""
        for number in signal.SIGTERM, signal.SIGQUIT:
            with self.subTest(number):
                self.stop_with(number)

    def test_stopped_when_nobody_listens(self):
        """What is said goes to a pipe that is closed: the half file goes all the same."""
        process = subprocess.Popen([BINARY, "quantize", model_path(), self.out, "--type", "q6_k", "--allow-requantize", "--threads", "1"],
                                   stderr=subprocess.PIPE)
        process.stderr.close()
        try:
            self.wait_for_file()
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(30), 1)
        finally:
            process.kill()
            process.wait()
        self.assertEqual(os.listdir(self.folder), [])

    def wait_for_file(self):
        deadline = time.monotonic() + 30
        while not os.listdir(self.folder) and time.monotonic() < deadline:
            time.sleep(0.005)
        self.assertNotIn("out.gguf", os.listdir(self.folder))

    def stop_with(self, number):
        process = subprocess.Popen([BINARY, "quantize", model_path(), self.out, "--type", "q6_k", "--allow-requantize", "--threads", "1"],
                                   stderr=subprocess.PIPE, text=True)
        try:
            self.wait_for_file()
            process.send_signal(number)
            _, messages = process.communicate(timeout=30)
        finally:
            process.kill()
            process.wait()
        self.assertEqual(process.returncode, 1, messages)
        self.assertEqual(messages.splitlines()[-1:], [f"fourway: stopped: {self.out} was not written"])
        self.assertEqual(os.listdir(self.folder), [])


if __name__ == "__main__":
    unittest.main()
