"""fourway doctor: on trees of other machines, whose findings are known, and on this one, of which only the shape is."""
import json
import os
import struct
import subprocess
import sys
import tempfile
import unittest

from server import BINARY, MODEL

sys.path.insert(0, "tests/numa")
import make_topology  # noqa: E402

LINES, COLUMNS = 50, 120    # one screen


def doctor(*words):
    return subprocess.run([BINARY, "doctor", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)


class Doctor(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
        self.addCleanup(folder.cleanup)
        self.root = folder.name

    def put(self, path, text):
        path = os.path.join(self.root, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if os.path.exists(path):
            os.unlink(path)         # it may be a link to the text of many files
        with open(path, "w", encoding="ascii") as f:
            f.write(text)

    def examine(self, machine, status, *words, **files):
        make_topology.write(machine, self.root)
        for path, text in files.items():
            self.put(path, text)
        done = doctor("--root", self.root, *words)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        lines = done.stdout.splitlines()
        if "--json" not in words:
            self.assertLessEqual(len(lines), LINES, done.stdout)
            self.assertLessEqual(max(map(len, lines)), COLUMNS, done.stdout)
        return done.stdout

    def test_healthy_server(self):
        text = self.examine("xeon-2s-snc2", 0)
        for clue in ("Platinum 8480+", "112 cores on 4 nodes, 2 sockets (SNC2)", "scalar, avx2, avx512, avx512bf16, amx\n",
                     "210 MiB in all", "\nOK    numa_balancing  off\n", "\nNothing to change.\n"):
            self.assertIn(clue, text)
        self.assertNotIn("WARN", text)

    def test_clusters_of_amd(self):
        text = self.examine("epyc-2s-nps4", 0)
        self.assertIn("(NPS4)", text)
        self.assertIn("off: amx: no amx_tile among the processor's flags", text)

    def test_memory_without_cores(self):
        self.assertRegex(self.examine("cxl", 0), r"\n3 +memory +549\.8 +343\.6 +no cores: not used\n")

    def test_changes_in_order_of_gain(self):
        text = self.examine("two-sockets", 1, **{"proc/sys/kernel/numa_balancing": "1\n", "sys/fs/cgroup/cpu.max": "200000 100000\n",
                                                 "sys/kernel/mm/transparent_hugepage/enabled": "always madvise [never]\n"})
        changes = text[text.index("What to change"):].splitlines()[1:]
        self.assertEqual([line.split(":")[0].split("%")[1].strip() for line in changes], ["cpu quota", "huge pages", "numa_balancing"])
        self.assertIn("sysctl -w kernel.numa_balancing=0", changes[2])
        self.assertIn("echo madvise > /sys/kernel/mm/transparent_hugepage/enabled", changes[1])

    def put_modules(self, modules):
        """A firmware's table of (locator, GiB, rated MT/s, configured MT/s), as SMBIOS 3.3 has it."""
        table = struct.pack("<BBHBBBIHHBB", 16, 15, 0x1000, 3, 3, 6, 0x80000000, 0xFFFE, len(modules), 0, 0)[:15] + b"\0\0"
        for i, (locator, gib, rated, configured) in enumerate(modules):
            body = struct.pack("<BBHHHHHHBBBBBHHBBBBBIH", 17, 0x22, 0x1100 + i, 0x1000, 0xFFFE, 72, 64, gib * 1024, 9, 0, 1, 0, 0x22, 0, rated,
                               0, 0, 0, 0, 0, 0, configured)
            table += body.ljust(0x22, b"\0") + locator.encode() + b"\0\0"
        table += struct.pack("<BBH", 127, 4, 0xFEFF) + b"\0\0"
        path = os.path.join(self.root, "sys/firmware/dmi/tables/DMI")
        os.makedirs(os.path.dirname(path))
        with open(path, "wb") as f:
            f.write(table)

    def test_memory_modules(self):
        alike = [(f"CPU{s}_DIMM_{c}1", 16, 4800, 4800) for s in range(2) for c in "ABCDEFGH"]
        self.put_modules(alike)
        text = self.examine("xeon-2s-snc2", 0)
        self.assertIn("\nOK    memory modules  16 x DDR5 on 16 channels", text)

    def test_memory_modules_that_are_uneven_and_slow(self):
        modules = [(f"CPU{s}_DIMM_{c}1", 24 if c == "A" else 8, 4800, 4000) for s in range(2) for c in "ABCDEFGH"]
        self.put_modules(modules)
        text = self.examine("xeon-2s-snc2", 0)
        # 16 x 8 of 160 GiB are on all channels: the rest at half speed costs 10 %; 4000 instead of 4800 MT/s 16.7 %
        self.assertRegex(text, r"\nWARN +memory modules  16 x DDR5, but their 16 channels hold unequal amounts\n")
        self.assertRegex(text, r"\nWARN +memory speed    4000 MT/s, the slowest module could do 4800\n")
        changes = text[text.index("What to change"):].splitlines()[1:]
        self.assertEqual([line.split("%")[0].strip() for line in changes], ["17", "10"])

    def test_no_table_of_modules(self):
        self.assertIn("memory modules  not told: no table of the firmware here", self.examine("epyc-2s-nps4", 0))

    def test_small_costs_are_no_failure(self):
        text = self.examine("two-sockets", 0, **{"proc/sys/kernel/numa_balancing": "1\n"})
        self.assertIn("\nWARN  numa_balancing", text)

    def test_container_of_one_core(self):
        text = self.examine("container", 1)
        self.assertIn("this process may use 1 of 128 cores", text)
        self.assertIn("of 17.2 GB that the cgroup allows", text)

    def test_json(self):
        report = json.loads(self.examine("granite-2s-snc3", 0, "--json"))
        self.assertEqual([len(node["cpus"]) for node in report["nodes"]], [43, 43, 42] * 2)
        self.assertEqual(report["nodes"][5]["distances"], [21, 21, 21, 12, 12, 10])
        self.assertEqual(report["cpu"]["llc_total_bytes"], 2 * 504 << 20)
        self.assertEqual({level["level"]: level["on"] for level in report["levels"]}["amx"], True)
        self.assertEqual({finding["level"] for finding in report["findings"]}, {"OK"})
        self.assertIsNone(report["read_gb_per_s"])
        self.assertIsNone(report["model"])

    def test_model(self):
        small = {"proc/meminfo": "MemTotal: 200000 kB\nMemAvailable: 60000 kB\n"}
        self.assertRegex(self.examine("two-sockets", 0, MODEL), r"\nOK    model +fits: 0\.10 GB of weights, 0\.19 GB for a context of 8192")
        self.assertRegex(self.examine("two-sockets", 1, MODEL, **small),
                         r"\nFAIL  model +the weights do not fit: 0\.10 GB needed, 0\.06 are available: 0\.04 too few\n")
        small["proc/meminfo"] = "MemTotal: 200000 kB\nMemAvailable: 150000 kB\n"
        text = self.examine("two-sockets", 0, MODEL, **small)
        self.assertRegex(text, r"\nWARN  model +a whole context does not fit")
        self.assertIn("--ctx", text)
        node = {"sys/devices/system/node/node1/meminfo": "Node 1 MemTotal: 90000 kB\nNode 1 MemFree: 40000 kB\n"}
        text = self.examine("two-sockets", 1, MODEL, **node)
        self.assertRegex(text, r"\nFAIL  model +the weights do not fit: node 1 needs 0\.05 GB and has 0\.04 free")

    def test_this_machine(self):
        done = doctor()
        self.assertIn(done.returncode, (0, 1), done.stderr)
        self.assertRegex(done.stdout, r"\n(OK|WARN|FAIL) +reads +")
        self.assertEqual(done.returncode == 1, "\nFAIL" in done.stdout, done.stdout)
        report = json.loads(doctor("--json", MODEL).stdout)
        self.assertGreater(report["read_gb_per_s"], 0)
        self.assertGreater(report["model"]["weight_bytes"], 90e6)
        bench = subprocess.run([BINARY, "bench", MODEL, "-p", "8", "-n", "0", "-r", "1", "--json"], capture_output=True, timeout=120)
        best = [level["level"] for level in report["levels"] if level["on"]][-1]
        self.assertEqual(json.loads(bench.stdout)["isa"], best)
        unmeasured = doctor("--no-measure")
        self.assertNotIn("GB/s", unmeasured.stdout)

    def test_bad_input(self):
        for words, status, clue in ((("--root", "/none"), 1, "no machine is recorded there"), (("/none.gguf",), 1, "none.gguf"),
                                    (("--frobnicate",), 2, "--frobnicate"), ((MODEL, "more"), 2, "more"),
                                    (("README.md",), 1, "not a GGUF file")):
            with self.subTest(words=words):
                done = doctor(*words)
                self.assertEqual((done.returncode, done.stdout), (status, ""), done.stderr)
                self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
                self.assertIn(clue, done.stderr)
        make_topology.write("two-sockets", self.root)
        self.put("sys/devices/system/node/node1/cpulist", "4-\n")
        done = doctor("--root", self.root)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("node1/cpulist", done.stderr)
