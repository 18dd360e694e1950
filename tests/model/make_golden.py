#!/usr/bin/env python3
"""make_golden.py FOLDER: reference logits for check_golden, by transformers in float32.

    pip install torch transformers
    tests/model/make_golden.py tests/data/golden/NAME

FOLDER is a Hugging Face folder. Where it has no weights yet, model.safetensors is made of random ones in bf16 after its config.json: keep
the sizes there tiny (d_model near 100, 3 layers, 512 tokens), a few MB in all. golden.json gets three prompts of 1, 17 and 70 tokens; of
each the 8 most likely next tokens with their logprobs after every position, the greedy continuation of 16 tokens, and by how much each of
those leads. Everything comes from the stored weights, decoded to float32.
"""
import json
import sys
from pathlib import Path

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

LENGTHS, N_TOP, N_GREEDY = (1, 17, 70), 8, 16


def add_weights(folder):
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():        # as initialised every norm is 1 and every bias 0: a mistake there would not show
            parameter.copy_(torch.randn_like(parameter) * (0.2 if parameter.dim() == 1 else 0.08) + (parameter.dim() == 1))
    model.to(torch.bfloat16).save_pretrained(folder)


def prompt(model, ids):
    with torch.no_grad():
        rows = torch.log_softmax(model(torch.tensor([ids])).logits[0], -1)
        top = [[[int(i), round(float(p), 6)] for p, i in zip(*row.topk(N_TOP))] for row in rows]
        greedy, gaps = [], []
        for _ in range(N_GREEDY):
            best = torch.log_softmax(model(torch.tensor([ids + greedy])).logits[0, -1], -1).topk(2)
            greedy.append(int(best.indices[0]))
            gaps.append(round(float(best.values[0] - best.values[1]), 6))
    return {"ids": ids, "top": top, "greedy": greedy, "greedy_gap": gaps}


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("pytorch_model*.bin")):
        add_weights(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    random = torch.Generator().manual_seed(2)
    prompts = [torch.randint(model.config.vocab_size, (n,), generator=random).tolist() for n in LENGTHS]
    golden = {"source": f"transformers {transformers.__version__} {type(model).__name__} float32 eager, torch {torch.__version__}",
              "model_type": model.config.model_type, "vocab_size": model.config.vocab_size,
              "prompts": [prompt(model, ids) for ids in prompts]}
    (folder / "golden.json").write_text(json.dumps(golden) + "\n", encoding="utf-8")


main()
