"""openvino_rates: OpenVINO GenAI's side of compare-openvino, which runs it with the Python of the environment that holds it.

    python openvino_rates.py MODEL.gguf THREADS VOCABULARY PROMPT GENERATE

Reads the model and warms up, then measures one round for each line on stdin; each answer is one line of JSON on stdout: first
{"version", "load_s", "first_pp"} or {"error"}, then {"pp", "tg"} in tok/s.
"""
import json
import sys
import time

import numpy
import openvino
import openvino_genai


class Rates:
    def __init__(self, model, threads, vocabulary, prompt, generate):
        # What would make the figures another thing: a prefix cache answers a prompt it has seen, and by default a prompt is
        # read 256 tokens a step.
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.enable_prefix_caching = False
        scheduler.max_num_batched_tokens = max(256, prompt)
        self.pipeline = openvino_genai.LLMPipeline(model, "CPU", INFERENCE_NUM_THREADS=threads, scheduler_config=scheduler)
        self.random = numpy.random.default_rng(1)
        self.vocabulary, self.prompt, self.generate = vocabulary, prompt, generate

    def call(self, n_prompt, n_new):
        """Performance metrics of one call with random token ids."""
        ids = self.random.integers(0, self.vocabulary, (1, n_prompt), dtype=numpy.int64)
        inputs = openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(numpy.ones_like(ids)))
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens, config.ignore_eos, config.do_sample = n_new, True, False
        metrics = self.pipeline.generate(inputs, config).perf_metrics
        if (metrics.get_num_input_tokens(), metrics.get_num_generated_tokens()) != (n_prompt, n_new):
            raise RuntimeError(f"{n_prompt} tokens in and {n_new} out were asked for, not "
                               f"{metrics.get_num_input_tokens()} and {metrics.get_num_generated_tokens()}")
        return metrics

    def round(self):
        """Prompt over the time to the first token; the steps after the first token, at nearly empty context as in llama-bench. Before
        each a call that does not count, as fourway's bench has one: memory and caches were the other program's meanwhile."""
        self.call(self.prompt, 1)
        prefill = self.call(self.prompt, 1).get_ttft().mean / 1e3
        self.call(1, self.generate + 1)
        return {"pp": self.prompt / prefill, "tg": 1e3 / self.call(1, self.generate + 1).get_tpot().mean}


def main():
    model, numbers = sys.argv[1], list(map(int, sys.argv[2:]))
    started = time.monotonic()
    try:
        rates = Rates(model, *numbers)
    except RuntimeError as error:
        print(json.dumps({"error": str(error).strip().splitlines()[-1]}), flush=True)
        return
    loaded = time.monotonic() - started
    # Kernels are made at the first call of a shape: 2 to 3 times slower than all later ones, of which the second is already one.
    first = rates.call(rates.prompt, 1).get_ttft().mean / 1e3
    rates.round()
    print(json.dumps({"version": openvino_genai.__version__, "load_s": loaded, "first_pp": rates.prompt / first}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(rates.round()), flush=True)


if __name__ == "__main__":
    main()
