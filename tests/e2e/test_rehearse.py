"""scripts/rehearse: models of random weights in the shapes of real ones, what they take, and the table of what was measured."""
import json
import os
import subprocess
import sys
import tempfile
import time
import unittest

from server import BINARY

sys.path.insert(0, "scripts")
from model_shapes import SHAPES, file_bytes, tensor_bytes, tensors

TOKENS = 49152


def rehearse(*words, status=0):
    done = subprocess.run([sys.executable, "scripts/rehearse", "--fourway", BINARY, *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == status, (words, done)
    return done


class Rehearsal(unittest.TestCase):
    def test_table(self):
        with tempfile.TemporaryDirectory() as folder:
            report = os.path.join(folder, "report.json")
            text = rehearse("tiny-moe", "tiny-yuan", "--layers", "3", "--gen", "4", "--reps", "1", "--batch", "1,2", "--cache", folder,
                            "--json", report).stdout
            with open(report, encoding="utf-8") as f:
                rows = json.load(f)
            self.assertEqual([(r["shape"], r["layers"], r["batch"]) for r in rows],
                             [(s, 3, n) for s in ("tiny-moe", "tiny-yuan") for n in (1, 2)])
            self.assertEqual([line.split(" | ")[0] for line in text.splitlines()[4:]], ["| " + r["shape"] for r in rows])
            for r in rows:
                with self.subTest(row=r):
                    self.check_row(r)
            for name, arch in (("tiny-moe", "qwen3moe"), ("tiny-yuan", "yuan2")):
                self.check_file(os.path.join(folder, f"{name}-3-q4_0.gguf"), name, arch)

    def check_row(self, r):
        shape = SHAPES[r["shape"]]
        self.assertEqual(r["layer_experts"] if r["batch"] == 1 else None, shape.used or None if r["batch"] == 1 else None)
        # Of the experts as many as were met, all of the other matrices, and KV, which is small here.
        read = sum(tensor_bytes(dims, kind) * (r["layer_experts"] / shape.experts if "_exps" in name else 1)
                   for name, dims, kind in tensors(shape, 3, TOKENS, "Q4_0") if kind)
        self.assertTrue(0.999 * read < r["step_gb"] * 1e9 < 1.01 * read, read)
        self.assertAlmostEqual(r["mbu"], r["step_gb"] / r["step_ms"] * 1e3 / r["read_gb_per_s"], delta=1e-3 * r["mbu"])
        formula = r["step_gb"] / r["read_gb_per_s"] * 1e3 + r["barriers_per_step"] * r["barrier_us"] / 1e3
        self.assertAlmostEqual(r["formula_ms"], formula, delta=1e-6 * formula)
        self.assertAlmostEqual(r["ratio"], r["step_ms"] / formula, delta=1e-6 * r["ratio"])
        self.assertAlmostEqual(r["load_gb_per_s"] * r["load_s"], r["file_gb"], delta=1e-6)
        self.assertGreater(r["barriers_per_step"], 3)
        self.assertEqual(r["load_from"], "cache")

    def check_file(self, path, name, arch):
        done = subprocess.run([BINARY, "info", path, "--json"], capture_output=True, text=True, timeout=60)
        info = json.loads(done.stdout)
        self.assertEqual((info["architecture"], info["layers"]), (arch, 3))
        self.assertEqual(info["n_tensors"], len(tensors(SHAPES[name], 3, TOKENS, "Q4_0")))
        size, weights = os.path.getsize(path), file_bytes(SHAPES[name], 3, TOKENS, "Q4_0")
        self.assertTrue(weights < size < weights + 4e6, (size, weights))

    def test_shapes_of_real_models(self):
        """Parameters as published; a whole model has as many layers as its card says."""
        for name, layers, published in (("yuan-2b", 24, 2.089e9), ("yuan-51b-slice", 42, 51.84e9), ("yuan-102b-slice", 84, 102.58e9),
                                        ("yuan-m32-slice", 24, 40.22e9), ("qwen3-30b-a3b-slice", 48, 30.53e9)):
            with self.subTest(name=name):
                n = file_bytes(SHAPES[name], layers, SHAPES[name].vocab, "F32") / 4
                self.assertAlmostEqual(n / published, 1, delta=1e-3)

    def test_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            for words, clue in ((("yuan-2t",), "no shape \"yuan-2t\": there are tiny, "), ((), "which SHAPE?"),
                                (("8b", "--layers", "1024", "--cache", folder), "GB of memory"),
                                (("yuan-102b-slice", "--layers", "1024", "--cache", folder), "GB of memory, "),
                                (("tiny", "--cache", "/dev/null"), "/dev/null")):
                with self.subTest(words=words):
                    self.assertIn(clue, rehearse(*words, status=1).stderr)
            misused = rehearse("tiny", "--type", "Q4_K", "--batch", "x", "--cache", folder, "--delete", status=2)
            self.assertIn("argument --batch: x", misused.stderr)
            self.assertEqual(os.listdir(folder), [])

    def test_stopped(self):
        """Stopped while the file is written: nothing stays, and the writer ends."""
        with tempfile.TemporaryDirectory() as folder:
            words = ["scripts/rehearse", "--fourway", BINARY, "0.6b", "--type", "Q8_0", "--cache", folder]
            running = subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, text=True)
            deadline = time.monotonic() + 60
            while not os.listdir(folder) and time.monotonic() < deadline:
                time.sleep(0.02)
            self.assertTrue(os.listdir(folder)[0].endswith(".part"))
            running.terminate()
            said = running.communicate(timeout=60)[1]
            self.assertEqual(running.returncode, 1, said)
            self.assertTrue(said.endswith("rehearse: stopped\n"), said)
            self.assertEqual(os.listdir(folder), [])


if __name__ == "__main__":
    unittest.main()
