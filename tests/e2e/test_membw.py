"""fourway membw: the shapes read as scripts for MLC, STREAM and likwid-bench read them, every option, and wrong ones. No rate is judged."""
import json
import os
import re
import signal
import subprocess
import tempfile
import time
import unittest
import xml.dom.minidom

from server import BINARY

PARTS = ("latency", "bandwidth", "matrix", "stream", "loaded", "sweep", "c2c", "barrier", "peak")


def membw(*words, timeout=300, **options):
    return subprocess.run([BINARY, "membw", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, **options)


def mlc_matrix(text, title):
    """Rows as scripts take them: from the title on, each line whose first word is a number, up to the next section."""
    section = re.split(r"\n(?=Measuring )", text[text.index(title):])[0]
    rows = [line.split() for line in section.splitlines() if line.strip()[:1].isdigit()]
    return [[float(word) for word in row[1:]] for row in rows]


class Membw(unittest.TestCase):
    def good(self, *words, **options):
        done = membw(*words, **options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def check_mlc(self, text, n):
        self.assertTrue(text.startswith("fourway membw "), text)
        for title in ("Measuring idle latencies", "Measuring Memory Bandwidths between nodes"):
            matrix = mlc_matrix(text, title)
            self.assertEqual([len(row) for row in matrix], [n] * n, text)
            self.assertTrue(all(x > 0 for row in matrix for x in row), text)
        mixes = re.split(r"\n\n", text[text.index("Measuring Peak Injection"):])[0].splitlines()[-5:]
        self.assertEqual([line.split(":\t")[0].strip() for line in mixes],
                         ["ALL Reads", "3:1 Reads-Writes", "2:1 Reads-Writes", "1:1 Reads-Writes", "Stream-triad like"])
        self.assertTrue(all(float(line.split("\t")[1]) > 0 for line in mixes), mixes)
        loaded = [line.split() for line in text.splitlines() if re.match(r" \d{5}\t", line)]
        self.assertEqual([int(row[0]) for row in loaded],
                         [0, 2, 8, 15, 50, 100, 200, 300, 400, 500, 700, 1000, 1300, 1700, 2500, 3500, 5000, 9000, 20000])
        self.assertEqual(len(re.findall(r"^ 00000\t.*$", text, re.M)), 1)
        self.assertIn("Measuring cache-to-cache transfer latency (in ns)...", text)
        self.assertEqual(text.count("Local Socket L2->L2 HIT"), 2)

    def test_everything(self):
        """The default text: MLC's sections, STREAM's table, ours."""
        with tempfile.TemporaryDirectory() as folder:
            picture, machine = os.path.join(folder, "a.svg"), os.path.join(folder, "machine.json")
            text = self.good("--quick", "--svg", picture, "--write-machine", machine, "--channels", "8", "--mts", "4800").stdout
            self.check_mlc(text, text.count("\nnode ") and len(mlc_matrix(text, "Measuring idle latencies")))
            rates = dict(re.findall(r"^(Copy|Scale|Add|Triad): +(\d+\.\d) +\d+\.\d{6} +\d+\.\d{6} +\d+\.\d{6}$", text, re.M))
            self.assertEqual(set(rates), {"Copy", "Scale", "Add", "Triad"}, text)
            self.assertIn("Solution Validates", text)
            self.assertIn("theory      307.2 GB/s: 8 channels x 4800 MT/s x 8 bytes (options)", text)
            for words in ("ALL reads", "write nt", "reads by number of cores", "barrier of all workers", "peak GOP/s", "2 MiB pages"):
                self.assertIn(words, text)
            self.assertEqual(sorted(os.listdir(folder)), ["a.svg", "machine.json"])
            self.assertGreater(len(xml.dom.minidom.parse(picture).getElementsByTagName("path")), 10)
            with open(machine, encoding="utf-8") as f:
                report = json.load(f)
        self.assertEqual(report["fourway_machine"], 1)
        self.assertEqual(len(report["link_gb_per_s"]), len(report["nodes"]))
        self.assertGreater(report["all_reads_gb_per_s"], 0)
        self.assertIn("scalar", report["peak_gop_per_s"])

    def test_mlc(self):
        for nodes in (1, 3):
            done = self.good("--quick", "--format", "mlc", "--virtual-nodes", str(nodes), "--reps", "1")
            self.check_mlc(done.stdout, nodes)
            self.assertNotIn("STREAM", done.stdout)
            self.assertNotIn("theory", done.stdout)

    def test_stream(self):
        done = self.good("--quick", "--format", "stream", "--threads", "1")
        lines = done.stdout.splitlines()
        self.assertEqual(lines[:2], ["-" * 61, "STREAM version $Revision: 5.10 $"])
        head = lines.index("Function    Best Rate MB/s  Avg time     Min time     Max time")
        for line, label in zip(lines[head + 1:head + 5], ("Copy:", "Scale:", "Add:", "Triad:")):
            name, rate, mean, least, most = line.split()
            self.assertEqual(name, label)
            self.assertGreater(float(rate), 0)
            self.assertTrue(float(least) <= float(mean) <= float(most), line)
        self.assertEqual(lines[head + 5:], ["-" * 61, "Solution Validates: avg error less than 1.000000e-13 on all three arrays", "-" * 61])
        self.assertIn("Number of Threads counted = 1", lines)

    def test_likwid(self):
        done = self.good("--quick", "--format", "likwid", "--isa", "scalar")
        self.assertEqual(done.stdout.splitlines()[:3], ["-" * 80, "LIKWID MICRO BENCHMARK", "Test: load"])
        rates = [float(x) for x in re.findall(r"^MByte/s:\t\t(\d+\.\d\d)$", done.stdout, re.M)]
        tests = re.findall(r"^Test: (\w+)$", done.stdout, re.M)
        self.assertEqual(tests, ["load", "store", "store_mem", "update", "copy", "copy_mem", "stream", "stream_mem"])
        self.assertEqual(len(rates), len(tests))
        self.assertGreater(min(rates), 0)

    def test_json(self):
        report = json.loads(self.good("--quick", "--json", "--virtual-nodes", "2", "--threads", "3").stdout)
        self.assertGreaterEqual(set(report), {"theory_gb_per_s", "all_reads_gb_per_s", "nodes", "matrix_gb_per_s", "mixes_gb_per_s",
                                              "write_gb_per_s", "stream_mb_per_s", "latency_ns", "loaded", "c2c_ns", "conditions", "sweep",
                                              "barrier_ns", "peak_gop_per_s", "all_remote_gb_per_s"})
        self.assertEqual([len(row) for row in report["matrix_gb_per_s"]], [2, 2])
        self.assertEqual(sum(node["workers"] for node in report["nodes"]), 3)
        self.assertEqual(report["conditions"]["threads"], 3)
        self.assertTrue(report["conditions"]["valid"])
        self.assertEqual([row[0] for row in report["loaded"]][:3], [0, 2, 8])
        self.assertEqual([[point[0] for point in node] for node in report["sweep"]], [[1, 2], [1]])

    def test_parts(self):
        keys = {"latency": "latency_ns", "bandwidth": "mixes_gb_per_s", "matrix": "matrix_gb_per_s", "stream": "stream_mb_per_s",
                "loaded": "loaded", "sweep": "sweep", "c2c": "c2c_ns", "barrier": "barrier_ns", "peak": "peak_gop_per_s"}
        for part in PARTS:
            with self.subTest(part):
                report = json.loads(self.good("--quick", "--json", "--part", part, "--reps", "1").stdout)
                self.assertEqual({key for key in keys.values() if key in report}, {keys[part]})
        text = self.good("--quick", "--part", "matrix,barrier", "--reps", "1").stdout
        self.assertIn("between nodes", text)
        self.assertNotIn("idle latencies", text)

    def test_explain(self):
        text = self.good("--explain").stdout
        for word in ("4 x the sum of the last-level caches", "move_pages", "barrier", "median", "clipped"):
            self.assertIn(word, text)

    def test_help(self):
        text = self.good("--help").stdout
        self.assertTrue(text.startswith("usage: fourway membw [options]"), text)
        self.assertLessEqual(max(map(len, text.splitlines())), 100)
        for option in ("--quick", "--part", "--reps", "--threads", "--nodes", "--virtual-nodes", "--isa", "--format", "--json", "--svg",
                       "--write-machine", "--channels", "--mts", "--explain"):
            self.assertIn(option, text)
        self.assertTrue(all(part in text for part in PARTS))

    def test_wrong_usage(self):
        for words, clue in ((("--part", "latncy"), "none of latency"), (("--part", ""), "none of"), (("--part", "latency,"), "none of"),
                            (("--format", "mcl"), "mlc"), (("--svg", "a.svg", "--part", "peak,c2c"), "none of them"),
                            (("--reps", "0"), "from 1"), (("--channels", "8"), "--mts"),
                            (("--mts", "4800"), "--channels"), (("--channels", "0", "--mts", "4800"), "from 1"),
                            (("--json", "-f", "mlc"), "--json"),
                            (("-f", "stream", "--part", "latency"), "shows nothing"), (("--isa", "avx9"), "avx2"), (("--qick",), "--quick"),
                            (("model.gguf",), "model.gguf"), (("--threads", "5000"), "4096"), (("--virtual-nodes", "65"), "64")):
            with self.subTest(words=words):
                done = membw(*words)
                self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
                self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
                self.assertIn(clue, done.stderr)

    def test_failures(self):
        quick = ("--quick", "--reps", "1", "--part", "matrix")
        for words, clue in ((("--nodes", "77"), "77"), (("--svg", "/nonexistent/a.svg"), "/nonexistent/a.svg"),
                            (("--write-machine", "/"), "machine file /")):
            with self.subTest(words=words):
                done = membw(*quick, *words)
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
                self.assertIn(clue, done.stderr)
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = subprocess.run([BINARY, "membw", *quick], stdout=full, stderr=subprocess.PIPE, text=True, timeout=300)
        self.assertEqual(done.returncode, 1, done.stderr)

    def test_interrupted(self):
        """Ctrl-C at any time ends it, and leaves no file."""
        with tempfile.TemporaryDirectory() as folder:
            for wait in (0.01, 0.3, 1.5):
                process = subprocess.Popen([BINARY, "membw", "--write-machine", os.path.join(folder, "machine.json")],
                                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                time.sleep(wait)
                process.send_signal(signal.SIGINT)
                out, _ = process.communicate(timeout=60)
                self.assertEqual((process.returncode, out), (-signal.SIGINT, b""))
            self.assertEqual(os.listdir(folder), [])


if __name__ == "__main__":
    unittest.main()
