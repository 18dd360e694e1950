"""GET /metrics of a real server, read by Prometheus' own parser: every family parses, counters only grow, counts are those of the requests."""
import collections
import json
import subprocess
import tempfile
import threading
import time

from prometheus_client.parser import text_string_to_metric_families

import server
from server import ServerTest

# The names that dashboards are built on, from the reference of the interface.
COUNTERS = """requests prefix_cache_queries prefix_cache_hits requests_finished admission_rejections disconnects prompt_tokens generation_tokens preemptions corrupted_requests read_bytes
              node_seconds profiled_steps draft_tokens""".split()
GAUGES = """build_info model_info ready model_load_ratio requests_running requests_waiting waiting_tokens kv_usage_ratio open_connections kv_pages
            weight_bytes numa_read_bandwidth_bytes_per_second decode_read_bytes_per_second mbu_ratio barrier_ratio""".split()
HISTOGRAMS = """time_to_first_token_seconds inter_token_latency_seconds time_per_output_token_seconds e2e_request_latency_seconds
                request_queue_seconds request_prefill_seconds request_decode_seconds request_prompt_tokens request_generation_tokens step_seconds
                step_tokens""".split()


class Scrapes(ServerTest):
    def setUp(self):
        """Until what the test before this one asked for is counted: a request's end is, just after its reply."""
        ended, before = 1, 0
        while ended != before:
            before = ended
            time.sleep(0.1)
            ended = self.scrape()[0]["fourway_e2e_request_latency_seconds_count", ()]

    def scrape(self):
        """{(name, labels): value}, and {family: type}."""
        status, headers, data = self.server.send("GET", "/metrics")
        self.assertEqual((status, headers["Content-Type"]), (200, "text/plain; version=0.0.4; charset=utf-8"))
        samples, types = {}, {}
        for family in text_string_to_metric_families(data.decode()):
            self.assertTrue(family.documentation, family.name)
            self.assertNotIn(family.name, types)
            types[family.name] = family.type
            for s in family.samples:
                key = s.name, tuple(sorted(s.labels.items()))
                self.assertNotIn(key, samples)
                samples[key] = s.value
        self.check_histograms(samples, types)
        return samples, types

    def check_histograms(self, samples, types):
        series = collections.defaultdict(list)
        for (name, labels), value in samples.items():
            if name.endswith("_bucket"):
                rest = tuple(kv for kv in labels if kv[0] != "le")
                series[name[:-len("_bucket")], rest].append((float(dict(labels)["le"]), value))
        self.assertEqual({name for name, _ in series}, {name for name, kind in types.items() if kind == "histogram"})
        for (name, labels), buckets in series.items():
            self.assertEqual(buckets, sorted(buckets), name)
            self.assertEqual([v for _, v in buckets], sorted(v for _, v in buckets), name)
            self.assertEqual(buckets[-1], (float("inf"), samples[f"{name}_count", labels]), name)

    def check_growth(self, before, after, types):
        kinds = {**types, **{n + s: "counter" for n, kind in types.items() if kind == "histogram" for s in ("_bucket", "_count", "_sum")},
                 **{n + "_total": "counter" for n, kind in types.items() if kind == "counter"}}
        for key, value in before.items():
            if kinds.get(key[0]) == "counter":
                self.assertGreaterEqual(after[key], value, key)

    def value(self, samples, name, **labels):
        return samples["fourway_" + name, tuple(sorted(labels.items()))]

    def wait_for(self, name, value):
        """The first scrape where this sample has that value: the end of a request is counted just after its reply."""
        deadline = time.monotonic() + 10
        while True:
            samples, types = self.scrape()
            if self.value(samples, name) == value:
                return samples, types
            self.assertLess(time.monotonic(), deadline, (name, self.value(samples, name), value))
            time.sleep(0.02)

    def grown(self, before, after, name, **labels):
        key = "fourway_" + name, tuple(sorted(labels.items()))
        return after[key] - before.get(key, 0)


class Metrics(Scrapes):
    @classmethod
    def setUpClass(cls):
        cls.machine = tempfile.NamedTemporaryFile(suffix=".json")
        subprocess.run([server.BINARY, "membw", "--quick", "--write-machine", cls.machine.name], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, timeout=300)
        cls.options = ("--machine", cls.machine.name)
        super().setUpClass()
        cls.addClassCleanup(cls.machine.close)

    def test_families(self):
        self.complete(prompt="The sea is", max_tokens=8)
        samples, types = self.scrape()
        self.assertEqual(types, {f"fourway_{n}": kind for names, kind in ((COUNTERS, "counter"), (GAUGES, "gauge"), (HISTOGRAMS, "histogram")) for n in names})
        info = [dict(labels) for name, labels in samples if name == "fourway_model_info"]
        self.assertEqual([(i["model_name"], i["arch"], i["quant"]) for i in info], [(self.model, "llama", "Q4_1")])
        self.assertEqual(self.value(samples, "ready"), 1)

    def test_counts_are_those_of_the_requests(self):
        before, _ = self.scrape()
        usage = [self.complete(prompt="The sea is", max_tokens=n, ignore_eos=True, temperature=0)["usage"] for n in (1, 7, 40)]
        usage.append(self.chat("Say yes.", max_tokens=5, temperature=0)["usage"])
        for n in (3, 9):
            list(self.server.stream("/v1/completions", {"prompt": "One two", "max_tokens": n, "ignore_eos": True}))
        self.server.post("/v1/completions", {"prompt": "x", "temperature": -1})
        n = len(usage) + 2
        prompts = sum(u["prompt_tokens"] for u in usage) + 2 * 2
        tokens = sum(u["completion_tokens"] for u in usage) + 3 + 9
        after, types = self.wait_for("e2e_request_latency_seconds_count", before["fourway_e2e_request_latency_seconds_count", ()] + n)
        self.check_growth(before, after, types)
        for name in ("time_to_first_token", "request_queue", "request_prefill", "request_decode"):
            self.assertEqual(self.grown(before, after, name + "_seconds_count"), n, name)
        self.assertEqual(self.grown(before, after, "time_per_output_token_seconds_count"), n - 1)       # one request had a single token
        self.assertEqual(self.grown(before, after, "inter_token_latency_seconds_count"), tokens - n)
        self.assertEqual(self.grown(before, after, "request_prompt_tokens_count"), n)
        self.assertEqual(self.grown(before, after, "request_generation_tokens_sum"), tokens)
        self.assertEqual(self.grown(before, after, "generation_tokens_total"), tokens)
        self.assertEqual(self.grown(before, after, "request_prompt_tokens_sum"), prompts)
        self.assertEqual(self.grown(before, after, "requests_total", route="/v1/completions", status="200"), 5)
        self.assertEqual(self.grown(before, after, "requests_total", route="/v1/chat/completions", status="200"), 1)
        self.assertEqual(self.grown(before, after, "requests_total", route="/v1/completions", status="400"), 1)
        steps = sum(self.grown(before, after, "step_seconds_count", phase=p) for p in ("prefill", "decode", "mixed"))
        self.assertEqual(self.grown(before, after, "step_tokens_count"), steps)
        self.assertEqual(self.grown(before, after, "step_tokens_sum"), self.grown(before, after, "prompt_tokens_total", source="computed") + tokens - n)
        self.wait_for("kv_usage_ratio", 0)         # pages go back between two steps

    def test_where_time_goes(self):
        before, _ = self.scrape()
        self.complete(prompt="The sea is", max_tokens=200, ignore_eos=True)
        after, _ = self.scrape()
        nodes = {dict(labels)["node"] for name, labels in after if name == "fourway_weight_bytes"}
        step = sum(self.grown(before, after, "step_seconds_sum", phase=p) for p in ("prefill", "decode", "mixed"))
        for node in nodes:
            of = {s: self.grown(before, after, "node_seconds_total", node=node, state=s) for s in ("compute", "copy", "barrier")}
            self.assertGreater(of["compute"], 0)
            self.assertTrue(0.5 * step < sum(of.values()) <= step, (of, step))      # the rest is sampling
            self.assertTrue(0 <= self.value(after, "barrier_ratio", node=node) < 1)
        weights = sum(self.grown(before, after, "read_bytes_total", node=node, phase="decode") for node in nodes) / 199
        self.assertTrue(7e7 < weights < 1.2e8, weights)         # SmolLM2's file has 98 MB with its embedding
        rate = sum(self.value(after, "decode_read_bytes_per_second", node=node) for node in nodes)
        reads = sum(self.value(after, "numa_read_bandwidth_bytes_per_second", node=node) for node in nodes)
        self.assertTrue(1e8 < rate < 1e12, rate)
        self.assertAlmostEqual(self.value(after, "mbu_ratio"), rate / reads, delta=0.02 * rate / reads)

    def test_scrapes_while_it_works(self):
        """Nothing falls from scrape to scrape, and the cache is seen in use."""
        workers = [threading.Thread(target=self.complete, kwargs=dict(prompt=f"Number {i}", max_tokens=60, ignore_eos=True)) for i in range(8)]
        before, types = self.scrape()
        for w in workers:
            w.start()
        usage = []
        while any(w.is_alive() for w in workers):
            after, types = self.scrape()
            self.check_growth(before, after, types)
            usage.append(self.value(after, "kv_usage_ratio"))
            before = after
        for w in workers:
            w.join()
        self.assertGreater(max(usage), 0)


class Replicas(Scrapes):
    """Two copies on virtual nodes: sums where they make sense, and no sample twice."""
    options = ("--virtual-nodes", "2", "--replicas", "2", "--threads", "2")

    def test_sums(self):
        before, _ = self.scrape()
        for _ in range(4):
            self.complete(prompt="The sea is", max_tokens=10, ignore_eos=True)
        after, types = self.wait_for("request_decode_seconds_count", before["fourway_request_decode_seconds_count", ()] + 4)
        self.check_growth(before, after, types)
        self.assertEqual(self.grown(before, after, "generation_tokens_total"), 40)
        nodes = sorted(dict(labels)["node"] for name, labels in after if name == "fourway_weight_bytes")
        self.assertEqual(nodes, ["0", "1"])
        for node in nodes:
            self.assertGreater(self.value(after, "read_bytes_total", node=node, phase="decode"), 0)     # idle ones take turns
        self.assertFalse([key for key in after if key[0] in ("fourway_mbu_ratio", "fourway_numa_read_bandwidth_bytes_per_second")])


class Experts(Scrapes):
    """A mixture of experts: which of them tokens went to, and what steps read of them. Nodes count once, replicas together."""
    GOLDEN = "tests/data/golden/qwen3_moe"
    OPTIONS = ((), ("--virtual-nodes", "2", "--threads", "2"), ("--virtual-nodes", "2", "--threads", "2", "--replicas", "2"))

    @classmethod
    def setUpClass(cls):
        cls.server, cls.model = None, cls.GOLDEN
        with open(f"{cls.GOLDEN}/config.json", encoding="utf-8") as f:
            config = json.load(f)
        cls.n_experts, cls.n_used = config["num_local_experts"], config["num_experts_per_tok"]
        cls.layers = [i for i in range(config["num_hidden_layers"]) if i not in config["mlp_only_layers"]]
        cls.n_layers = len(cls.layers)
        cls.expert_bytes = 3 * config["hidden_size"] * config["moe_intermediate_size"] * 2       # BF16

    def setUp(self):
        pass

    def test_use(self):
        for options in self.OPTIONS:
            with self.subTest(options=options):
                server_of = server.Server(*options, model=self.GOLDEN)
                self.addCleanup(server_of.stop)
                self.server = server_of
                self.check()
                self.assertEqual(server_of.stop(), 0)

    def check(self):
        self.assertEqual(self.value(self.scrape()[0], "expert_tokens_total"), 0)
        for n in (1, 60):
            status, answer = self.server.post("/v1/completions", {"prompt": "The sea is wide", "max_tokens": n, "ignore_eos": True})
            self.assertEqual(status, 200, answer)
        after, types = self.wait_for("e2e_request_latency_seconds_count", 2)
        self.assertEqual({n for n in types if "expert" in n}, {"fourway_expert_tokens", "fourway_expert_reads", "fourway_expert_read_bytes",
                                                               "fourway_step_experts", "fourway_expert_busiest_ratio"})
        tokens, reads = self.value(after, "expert_tokens_total"), self.value(after, "expert_reads_total")
        self.assertEqual(tokens, self.value(after, "step_tokens_sum") * self.n_used * self.n_layers)
        decodes = self.value(after, "step_seconds_count", phase="decode")
        self.assertEqual(decodes, 59)
        self.assertEqual(self.value(after, "expert_read_bytes_total", phase="decode"),       # one token: as many as it goes to
                         decodes * self.n_used * self.n_layers * self.expert_bytes)
        self.assertEqual(sum(self.value(after, "expert_read_bytes_total", phase=p) for p in ("prefill", "decode", "mixed")),
                         reads * self.expert_bytes)
        self.assertTrue(decodes * self.n_used * self.n_layers < reads < tokens, (reads, tokens))         # a prompt's tokens share some
        self.assertEqual(self.value(after, "step_experts_count"), self.value(after, "step_tokens_count"))
        self.assertGreaterEqual(self.value(after, "step_experts_bucket", le="5"), decodes)
        busiest = {labels: v for (name, labels), v in after.items() if name == "fourway_expert_busiest_ratio"}
        self.assertEqual({dict(labels)["layer"] for labels in busiest}, {str(i) for i in self.layers})
        for v in busiest.values():
            self.assertTrue(1 <= v <= self.n_experts / self.n_used, busiest)


class NamesOfVllm(Scrapes):
    options = ("--metrics-compat", "vllm")

    def test_parses_and_agrees(self):
        self.complete(prompt="The sea is", max_tokens=5)
        self.wait_for("e2e_request_latency_seconds_count", 1)
        samples, _ = self.wait_for("requests_running", 0)       # told once the step is over, after the reply
        labels = ("engine", "0"), ("model_name", self.model)
        for name in ("e2e_request_latency_seconds", "time_to_first_token_seconds", "inter_token_latency_seconds"):
            self.assertEqual(samples[f"vllm:{name}_count", labels], samples[f"fourway_{name}_count", ()])
        self.assertEqual(samples["vllm:iteration_tokens_total_sum", labels], samples["fourway_step_tokens_sum", ()])
        self.assertEqual(samples["vllm:num_requests_running", labels], 0)


class Keys(ServerTest):
    @classmethod
    def setUpClass(cls):
        cls.keys = tempfile.NamedTemporaryFile(mode="w", suffix=".keys")
        cls.keys.write("key-for-tests\n")
        cls.keys.flush()
        cls.server = server.Server("--api-key-file", cls.keys.name)
        cls.addClassCleanup(cls.keys.close)
        cls.addClassCleanup(cls.server.stop)

    def test_a_key_is_needed(self):
        self.assertEqual(self.server.send("GET", "/metrics")[0], 401)
        status, _, data = self.server.send("GET", "/metrics", headers={"Authorization": "Bearer key-for-tests"})
        self.assertEqual(status, 200)
        self.assertNotIn(b"key-for-tests", data)
