#!/usr/bin/env python3
"""check_bench.py PROGRAM: does `check_kernels --bench` run, and are its figures all there? How large they are is not tested."""
import json
import subprocess
import sys
import unittest

KEYS = {
    "matmul": {"type", "m", "gb_per_s", "median_gb_per_s", "read_gb_per_s", "of_read", "ask_of_read", "gop_per_s", "peak_gop_per_s",
               "of_peak", "ask_of_peak"},
    "attention": {"kind", "kv_type", "group", "head_dim", "context", "gb_per_s", "median_gb_per_s", "read_gb_per_s", "of_read",
                  "gop_per_s", "peak_gop_per_s", "of_peak"},
    "rest": {"operation", "cache", "elements", "ns_per_1000", "median_ns_per_1000", "gb_per_s"},
}


def run(*options):
    return subprocess.run([sys.argv[1], *options], capture_output=True, text=True)


class Bench(unittest.TestCase):
    def test_json_has_every_key(self):
        done = run("--bench", "--quick", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        report = json.loads(done.stdout)
        self.assertEqual(set(report), {"machine", "isa", "threads", "nodes", *KEYS})
        self.assertEqual(set(report["machine"]["peak_gop_per_s"]), {"q8", "bf16", "f32"})
        self.assertGreater(report["machine"]["read_gb_per_s"], 0)
        for section, keys in KEYS.items():
            self.assertTrue(report[section])
            for row in report[section]:
                self.assertEqual(set(row), keys)
        self.assertEqual({row["m"] for row in report["matmul"]}, {1, 2, 4, 8, 16, 32, 64, 256, 512})
        self.assertEqual({row["kind"] for row in report["attention"]}, {"decode", "prefill"})
        self.assertEqual(len(report["rest"]), 2 * len({row["operation"] for row in report["rest"]}))

    def test_tables_fit_and_options_choose(self):
        done = run("--bench", "--quick", "--threads", "1", "--type", "Q6_K", "--only", "matmul", "--isa", "scalar")
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = done.stdout.splitlines()
        self.assertEqual(sum(line.startswith("Q6_K") for line in lines), 9)
        self.assertLessEqual(max(map(len, lines)), 100)
        self.assertNotIn("rest:", done.stdout)

    def test_wrong_use(self):
        for options in ([], ["--bench", "--isa", "mmx"], ["--bench", "--type", "Q9"], ["--bench", "--only", "x"],
                        ["--bench", "--threads", "0"], ["--bench", "more"]):
            self.assertEqual(run(*options).returncode, 2, options)
        self.assertEqual(run("--help").returncode, 0)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
