"""lm-eval's local-completions over a task of ours: log-likelihoods, and whether a text is what greedy decoding gives, beside what
/v1/completions says of the same text; the tokenizer is the server's."""
import importlib.util
import os
import unittest

from server import ServerTest

if not importlib.util.find_spec("lm_eval"):
    raise unittest.SkipTest("lm-eval is not installed")
import lm_eval
from lm_eval.tasks import TaskManager

FACTS = {
    "task": "fourway_facts", "dataset_path": "json", "test_split": "test",
    "dataset_kwargs": {"data_files": {"test": os.path.abspath("tests/clients/facts.jsonl")}},
    "output_type": "multiple_choice", "doc_to_text": "{{question}}", "doc_to_choice": "choices", "doc_to_target": "answer",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}


class LmEval(ServerTest):
    def score(self, context, choice):
        """(log-likelihood of the choice, is it greedy) by our own arithmetic on what the server gives."""
        ids = [self.server.post("/tokenize", {"prompt": text})[1]["tokens"] for text in (context, context + choice)]
        n = len(ids[0])
        self.assertEqual(ids[1][:n], ids[0])
        lists = self.complete(prompt=ids[1], max_tokens=0, echo=True, logprobs=1)["choices"][0]["logprobs"]
        greedy = self.complete(prompt=ids[0], max_tokens=len(ids[1]) - n, temperature=0, return_token_ids=True)["choices"][0]["token_ids"]
        return sum(lists["token_logprobs"][n:]), greedy == ids[1][n:]

    def test_task(self):
        for batch in (1, 4):
            with self.subTest(batch=batch):
                result = lm_eval.simple_evaluate(
                    model="local-completions", tasks=[FACTS], task_manager=TaskManager(include_defaults=False), bootstrap_iters=0,
                    batch_size=batch,
                    model_args={"model": self.model, "base_url": self.server.url + "/v1/completions", "tokenizer_backend": "remote",
                                "num_concurrent": 2})
                samples = result["samples"]["fourway_facts"]
                self.assertEqual(len(samples), 4)
                for sample in samples:
                    arguments = [(a["arg_0"], a["arg_1"]) if isinstance(a, dict) else tuple(a) for a in sample["arguments"]]
                    for (context, choice), (logprob, greedy) in zip(arguments, sample["filtered_resps"]):
                        want, is_greedy = self.score(context, choice)
                        self.assertAlmostEqual(float(logprob), want, places=5)
                        self.assertEqual(str(greedy), str(is_greedy), (context, choice))
                self.assertEqual(result["results"]["fourway_facts"]["acc,none"], 1.0)
