"""The other subcommands, and what each gives for a bad file or a bad option: one clear line and the right exit status."""
import json
import os
import re
import struct
import subprocess
import tempfile
import unittest

from server import BINARY, MODEL


def run(*words, stdin=None, timeout=300, env=None):
    return subprocess.run([BINARY, *words], input=stdin, stdin=None if stdin is not None else subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=timeout, env={**os.environ, **(env or {})})


def model_path():
    return os.path.join(os.environ.get("FOURWAY_MODELS") or os.path.expanduser("~/.cache/fourway/models"), MODEL + ".gguf")


def scale_norm(data, name, factor):
    """The GGUF file `data` with every value of a float32 vector `factor` times as large."""
    start = at = data.index(struct.pack("<Q", len(name)) + name)
    while True:         # to the end of the last tensor's entry: values begin at the next multiple of 32
        length = struct.unpack_from("<Q", data, at)[0]
        if not data[at + 8:at + 8 + min(length, 64)].endswith(b".weight"):
            break
        n_dims = struct.unpack_from("<I", data, at + 8 + length)[0]
        at += 8 + length + 4 + 8 * n_dims + 4 + 8
    n_dims, n, dtype, offset = struct.unpack_from("<IQIQ", data, start + 8 + len(name))
    assert (n_dims, dtype) == (1, 0)
    first = (at + 31) // 32 * 32 + offset
    values = struct.unpack_from(f"<{n}f", data, first)
    return data[:first] + struct.pack(f"<{n}f", *(x * factor for x in values)) + data[first + 4 * n:]


class Commands(unittest.TestCase):
    def good(self, *words, **options):
        done = run(*words, **options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def test_help_and_version(self):
        self.assertRegex(self.good("--version").stdout, r"^fourway \d+\.\d+\.\d+\n$")
        commands = [line.split()[0] for line in self.good("--help").stdout.splitlines() if line.startswith("  ")]
        self.assertGreaterEqual(set(commands), {"serve", "run", "bench", "membw", "info", "tokenize", "perplexity", "doctor", "quantize"})
        for command in ("serve", "run", "bench", "info", "tokenize", "perplexity", "doctor", "quantize"):
            text = self.good(command, "--help").stdout
            self.assertRegex(text, rf"^usage: fourway {command} \[?MODEL")
            self.assertLessEqual(max(map(len, text.splitlines())), 100)

    def test_wrong_usage(self):
        for words, clue in ((("serv",), "serve"), (("serve", "--prot", "1", MODEL), "--port"), (("serve",), "usage"), (("run", MODEL, "--temp", "x"), "--temp"),
                            (("serve", MODEL, "--port", "70000"), "65535"), (("serve", MODEL, "--isa", "avx9"), "avx2"),
                            (("serve", MODEL, "--gemm", "mkl"), "onednn"), (("info", MODEL, "extra"), "extra"),
                            (("serve", MODEL, "--max-batch", "4096"), "1024"), (("bench", MODEL, "-p", "0", "-n", "0"), "nothing to measure"),
                            (("bench", MODEL, "--ctx", "64", "-p", "128"), "--ctx")):
            with self.subTest(words=words):
                done = run(*words)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
                self.assertIn(clue, done.stderr)

    def test_bad_files(self):
        with open(model_path(), "rb") as f:
            whole = f.read()
        head = whole[:4 << 20]
        key = b"general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0"       # a string of 5 bytes
        self.assertEqual(whole.count(key + b"llama"), 1)
        files = {"truncated": (head, "truncated"), "magic": (b"GGML" + head[4:100], "not a GGUF file"),
                 "empty": (b"", "truncated"), "short": (head[:20], "truncated"), "version": (head[:4] + b"\x63\0\0\0" + head[8:1000], "99"),
                 "architecture": (whole.replace(key + b"llama", key + b"mamba", 1), "gemma3")}
        with tempfile.TemporaryDirectory() as folder:
            for name, (data, clue) in files.items():
                path = os.path.join(folder, name + ".gguf")
                with open(path, "wb") as f:
                    f.write(data)
                with self.subTest(name):
                    done = run("run", path, "-p", "Hello", "-n", "1")
                    self.assertEqual(done.returncode, 1, done.stderr)
                    self.assertEqual(done.stdout, "")
                    self.assertIn(path, done.stderr)
                    self.assertIn(clue, done.stderr)
                    self.assertLessEqual(len(done.stderr.splitlines()), 2, done.stderr)
            blocks = b"llama.block_count\x04\0\0\0"
            self.assertEqual(whole.count(blocks + b"\x1e\0\0\0"), 1)
            path = os.path.join(folder, "layers.gguf")
            with open(path, "wb") as f:
                f.write(whole.replace(blocks + b"\x1e\0\0\0", blocks + b"\x1d\0\0\0", 1))
            done = run("run", path, "-p", "Hello", "-n", "1")
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn("block_count is 29", done.stderr)
            done = run("serve", os.path.join(folder, "none.gguf"))
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn("none.gguf", done.stderr)

    def test_run(self):
        done = self.good("run", MODEL, "-p", "What is the capital of France?", "-n", "48", "--temp", "0")
        self.assertIn("Paris", done.stdout)
        raw = self.good("run", MODEL, "--raw", "-p", "The capital of France is", "-n", "6", "--temp", "0")
        self.assertIn("Paris", raw.stdout)
        again = self.good("run", MODEL, "--raw", "-p", "Once upon a time", "-n", "24", "--temp", "1", "--seed", "9").stdout
        self.assertEqual(self.good("run", MODEL, "--raw", "-p", "Once upon a time", "-n", "24", "--temp", "1", "--seed", "9").stdout, again)

    def test_same_bits(self):
        """Threads, virtual nodes and KV memory change no byte."""
        words = ("run", MODEL, "--raw", "-p", "A list of three colours:", "-n", "24", "--temp", "0.8", "--seed", "4")
        want = self.good(*words).stdout
        for options in (("--threads", "1"), ("--threads", "3"), ("--virtual-nodes", "2"), ("--virtual-nodes", "4", "--threads", "4")):
            self.assertEqual(self.good(*words, *options).stdout, want, options)

    def test_too_little_memory(self):
        """More than there is, and less than is needed, in the cache of keys and values: the numbers, and no crash."""
        for words, clue in ((("bench", MODEL, "--kv-bytes", "12M", "-b", "16", "-p", "64", "-n", "128"), "KV cache"),
                            (("run", MODEL, "-p", "Hello", "--kv-bytes", "18446744073709551615"), "available"),
                            (("run", MODEL, "-p", "Hello", "--kv-bytes", "1M"), "--kv-bytes")):
            with self.subTest(words=words):
                done = run(*words)
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertIn(clue, done.stderr)

    def test_empty_chat_template(self):
        done = run("run", MODEL, "-p", "Hello", "--chat-template", "/dev/null")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("empty", done.stderr)

    def test_closed_standard_files(self):
        """The model file must not take the number of a closed standard file: it would be read as the prompt."""
        done = subprocess.run(["sh", "-c", '"$0" run "$1" -n 4 <&-', BINARY, MODEL], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("stdin", done.stderr)
        done = subprocess.run(["sh", "-c", '"$0" run "$1" -n 4 -p Hello 2>&-', BINARY, MODEL], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0)
        self.assertTrue(done.stdout.strip())

    def test_run_reads_a_pipe(self):
        done = self.good("run", MODEL, "-n", "32", "--temp", "0", stdin="What is the capital of France?")
        self.assertIn("Paris", done.stdout)

    def test_info(self):
        text = self.good("info", MODEL).stdout
        for word in ("llama", "Q4_1"):
            self.assertIn(word, text)
        self.assertIsInstance(json.loads(self.good("info", MODEL, "--json").stdout), dict)

    def test_tokenize(self):
        self.assertTrue(self.good("tokenize", MODEL, stdin="Hello, world!").stdout.split())

    def test_sharding_takes_no_memory(self):
        """Each row has one copy: on four nodes the weights take no more than their norms and page ends add."""
        def weights(nodes):
            return json.loads(self.good("bench", MODEL, "--prompt", "0", "--gen", "1", "--batch", "1", "--reps", "1", "--virtual-nodes",
                                        str(nodes), "--json").stdout)["weight_bytes"]

        self.assertLessEqual(weights(4), 1.02 * weights(1))

    def test_bench(self):
        report = json.loads(self.good("bench", MODEL, "--prompt", "32", "--gen", "8", "--batch", "1,2", "--reps", "2", "--json",
                                      "--profile").stdout)
        self.assertGreaterEqual(set(report), {"model", "params", "file_bytes", "isa", "gemm", "nodes", "threads", "load_s", "rss_bytes",
                                              "read_gb_per_s", "peak_gop_per_s", "decode_peak_gop_per_s", "results"})
        tests = {(r["test"], r["batch"]) for r in report["results"]}
        self.assertGreaterEqual(tests, {("pp32", 1), ("tg8", 1), ("tg8", 2)})
        for result in report["results"]:
            rates = result["tok_per_s"]
            self.assertTrue(0 < rates["min"] <= rates["median"] <= rates["max"])
            profile = result["profile"]
            self.assertEqual(set(profile), {"step_ms", "parts", "nodes", "barriers_per_step", "barriers_per_token"})
            for node in profile["nodes"]:
                self.assertEqual(set(node), {"barrier", "copy", "compute"})
                self.assertGreater(node["compute"], 0)
                self.assertTrue(0.95 < sum(node.values()) < 1.05, profile)
            self.assertGreater(profile["parts"]["weights"], 0)
            self.assertGreater(profile["barriers_per_step"], 30)        # several a layer
            self.assertTrue(0.98 < sum(profile["parts"].values()) < 1.02, profile)

    def test_bench_experts(self):
        bench = ("bench", "tests/data/golden/qwen3_moe", "--prompt", "256", "--gen", "8", "--batch", "1,4", "--reps", "12")
        with open("tests/data/golden/qwen3_moe/config.json", encoding="utf-8") as f:
            config = json.load(f)
        one = config["num_experts_per_tok"]
        text = self.good(*bench).stdout
        self.assertRegex(text, rf"(?m)^tg8 +1 +{one}\.0$")
        busiest = float(re.search(r"(?m)^busiest expert of any layer: ([\d.]+) of the mean$", text)[1])       # counts were halved once
        self.assertTrue(1 <= busiest <= config["num_local_experts"] / one, text)
        results = {(r["test"], r["batch"]): r for r in json.loads(self.good(*bench, "--json").stdout)["results"]}
        self.assertEqual(results["tg8", 1]["layer_experts"], one)
        for other in (("tg8", 4), ("pp256", 1)):
            self.assertTrue(one < results[other]["layer_experts"] <= config["num_local_experts"], results)
        more = results["tg8", 4]["layer_experts"] - one
        expert_bytes = 3 * config["hidden_size"] * config["moe_intermediate_size"] * 2
        n_layers = config["num_hidden_layers"] - len(config["mlp_only_layers"])
        self.assertGreater(results["tg8", 4]["step_bytes"] - results["tg8", 1]["step_bytes"],
                           0.99 * more * n_layers * expert_bytes)

    def test_libraries(self):
        """A library says at start what it does to the bits of answers; the answers stay near enough to be the same text."""
        native = self.good("run", MODEL, "-p", "The capital of France is", "--raw", "-n", "8", "--temp", "0")
        self.assertNotIn("same bits", native.stderr)
        bench = ("bench", MODEL, "--prompt", "32", "--gen", "2", "--batch", "1", "--reps", "1", "--json")
        report = json.loads(self.good(*bench).stdout)
        best = report["isa"]
        self.assertEqual((report["peak_unit"], report["decode_peak_unit"]), ("bf16 dots" if best == "amx" else "int8 dots", "int8 dots"))
        for library, isa in (("onednn", best), ("onednn", "scalar" if best == "scalar" else "avx2"), ("openblas", best)):
            with self.subTest(library=library, isa=isa):
                options = ("--gemm", library, "--isa", isa)
                done = self.good("run", MODEL, "-p", "The capital of France is", "--raw", "-n", "8", "--temp", "0", *options)
                self.assertIn("Paris", done.stdout)
                keeps = library == "onednn" and isa.startswith(("avx512", "amx"))
                (self.assertNotIn if keeps else self.assertIn)("same bits: off", done.stderr)
                report = json.loads(self.good(*bench, *options).stdout)
                self.assertEqual((report["gemm"], report["isa"], report["peak_unit"]), (library, isa, "float32"))
                self.assertEqual(report["decode_peak_unit"], "int8 dots")      # a library serves prompts alone

    def test_perplexity(self):
        with open("README.md", encoding="utf-8") as readme, tempfile.NamedTemporaryFile("w", suffix=".txt") as f:
            f.write(readme.read())
            f.flush()
            report = json.loads(self.good("perplexity", MODEL, f.name, "--json").stdout)
        self.assertTrue(2 < report["perplexity"] < 200, report)

    def test_perplexity_beyond_numbers(self):
        """Logits a thousand times as large: thousands of nats a token, whose exp is infinite, which JSON cannot say."""
        with open(model_path(), "rb") as f, tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "sure.gguf")
            with open(path, "wb") as scaled:
                scaled.write(scale_norm(f.read(), b"output_norm.weight", 1000))
            done = run("perplexity", path, "README.md", "--ctx", "64", "--windows", "1", "--json")
        self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertIn("nats a token", done.stderr)

    def test_kl_divergence(self):
        """Against float32: small, and nothing for the same arithmetic; a wrong file of log-probabilities gets one line."""
        with tempfile.TemporaryDirectory() as folder:
            base, short, magic = (os.path.join(folder, name) for name in ("base", "short", "magic"))
            words = ("perplexity", MODEL, "README.md", "--ctx", "64")
            made = json.loads(self.good(*words, "--windows", "8", "--activations", "f32", "--save-logits", base, "--json").stdout)
            self.assertEqual((made["windows"], made["tokens"]), (8, 8 * 31))
            report = json.loads(self.good("perplexity", MODEL, "README.md", "--kl-divergence", base, "--json").stdout)
            self.assertTrue(1e-5 < report["kl_divergence"]["value"] < 0.02, report)
            self.assertTrue(0 < report["kl_divergence"]["median"] < report["kl_divergence"]["p99"] <= report["kl_divergence"]["max"], report)
            self.assertTrue(0.8 < report["same_top"]["value"] <= 1, report)
            self.assertAlmostEqual(report["base_perplexity"]["value"], made["perplexity"], delta=0.01)
            same = json.loads(self.good(*words, "--activations", "f32", "--kl-divergence", base, "--json").stdout)
            self.assertLess(abs(same["kl_divergence"]["value"]), 1e-5)
            self.assertEqual((same["same_top"]["value"], same["tokens"]), (1, 8 * 31))
            self.assertRegex(self.good(*words, "--windows", "2", "--kl-divergence", base).stdout, r"\nKL divergence 0\.\d+ \+/- ")

            with open(base, "rb") as f:
                whole = f.read()
            for path, data in ((short, whole[:-100]), (magic, b"GGUF" + whole[4:])):
                with open(path, "wb") as f:
                    f.write(data)
            for text, options, clue in (("README.md", (short,), "truncated"), ("README.md", (magic,), "_logits_"),
                                        ("docs/design.md", (base,), "another text"), ("README.md", (base, "--ctx", "128"), "--ctx"),
                                        ("README.md", (os.path.join(folder, "none"),), "No such file")):
                with self.subTest(options=options):
                    done = run("perplexity", MODEL, text, "--kl-divergence", *options)
                    self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
                    self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
                    self.assertIn(clue, done.stderr)
            self.assertEqual(run(*words, "--kl-divergence", base, "--save-logits", short).returncode, 2)

    def test_environment(self):
        self.assertEqual(run("run", MODEL, "-p", "x", "-n", "1", env={"FOURWAY_ISA": "avx9"}).returncode, 2)
