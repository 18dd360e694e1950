"""model_shapes: the shapes of real models as lists of a GGUF file's tensors, and what those take. synthetic_model.py makes weights."""
import math
from dataclasses import dataclass

# Type: bytes and weights of a block.
BLOCKS = {"F32": (4, 1), "F16": (2, 1), "BF16": (2, 1), "Q8_0": (34, 32), "Q4_0": (18, 32), "Q4_1": (20, 32), "Q4_K": (144, 256)}


@dataclass(frozen=True)
class Shape:
    arch: str
    layers: int                 # by default; slices have fewer than the model
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head: int
    experts: int = 0
    used: int = 0
    expert_ffn: int = 0         # 0: ffn
    vocab: int = 0              # 0: the tokenizer's
    tied: bool = True
    context: int = 8192
    rope: int = 0               # dims that are rotated; 0: all of a head
    rope_base: float = 100000.0
    eps: float = 1e-5


# Those with "slice" have the layers of the model of that name, but fewer: a layer is what takes the time, and all are alike. Sizes are
# those of the config.json of meta-llama, Qwen and IEIT-Yuan (Yuan 2.0: examples/pretrain_*.sh, arXiv:2311.15786).
SHAPES = {
    "tiny": Shape("llama", 2, 256, 512, 8, 4, 32),
    "tiny-moe": Shape("qwen3moe", 2, 256, 512, 8, 4, 32, 8, 2, 256),
    "tiny-yuan": Shape("yuan2", 2, 256, 512, 8, 8, 32, rope_base=10000.0),
    "135m": Shape("llama", 30, 576, 1536, 9, 3, 64),
    "0.6b": Shape("llama", 28, 1024, 3072, 16, 8, 64),
    "1b": Shape("llama", 16, 2048, 8192, 32, 8, 64),
    "3b": Shape("llama", 28, 3072, 8192, 24, 8, 128),
    "8b": Shape("llama", 32, 4096, 14336, 32, 8, 128),
    "moe-3b": Shape("llama", 16, 1536, 1024, 16, 8, 96, 32, 4),
    "yuan-2b": Shape("yuan2", 24, 2048, 8192, 32, 32, 64, vocab=135040, rope_base=10000.0, eps=1e-6),
    "yuan-51b-slice": Shape("yuan2", 10, 8192, 32768, 64, 64, 128, vocab=135040, context=4096, rope_base=10000.0, eps=1e-6),
    "yuan-102b-slice": Shape("yuan2", 20, 8192, 32768, 64, 64, 128, vocab=135040, context=4096, rope_base=10000.0, eps=1e-6),
    "yuan-m32-slice": Shape("yuan2", 12, 2048, 8192, 16, 16, 256, 32, 2, vocab=135040, tied=False, context=16384, rope=128,
                            rope_base=40890.0, eps=1e-6),
    "qwen3-30b-a3b-slice": Shape("qwen3moe", 24, 2048, 6144, 32, 4, 128, 128, 8, 768, vocab=151936, tied=False, context=32768,
                                 rope_base=1e6, eps=1e-6),
}


def filter_tensors(s, name, quant):
    """Yuan's localized filter before q and k: two convolutions over two tokens, a tap each, halving and doubling the width."""
    half = s.hidden // 2
    return [(name + "attn_lfa_first_previous.weight", (half, s.hidden), quant), (name + "attn_lfa_first.weight", (half, s.hidden), quant),
            (name + "attn_lfa_first.bias", (half,), None), (name + "attn_lfa_second_previous.weight", (s.hidden, half), quant),
            (name + "attn_lfa_second.weight", (s.hidden, half), quant), (name + "attn_lfa_second.bias", (s.hidden,), None),
            (name + "attn_lfa_norm.weight", (s.hidden,), None)]


def ffn_tensors(s, name, quant):
    if not s.experts:
        return [(name + "ffn_gate.weight", (s.ffn, s.hidden), quant), (name + "ffn_up.weight", (s.ffn, s.hidden), quant),
                (name + "ffn_down.weight", (s.hidden, s.ffn), quant)]
    width, routers = s.expert_ffn or s.ffn, 3 if s.arch == "yuan2" else 1       # Yuan's router has three products of each expert
    return [(name + "ffn_gate_inp.weight", (routers * s.experts, s.hidden), "F32"),
            (name + "ffn_gate_exps.weight", (s.experts, width, s.hidden), quant),
            (name + "ffn_up_exps.weight", (s.experts, width, s.hidden), quant),
            (name + "ffn_down_exps.weight", (s.experts, s.hidden, width), quant)]


def tensors(s, layers, vocab, quant):
    """(name, shape, type) of all tensors, in the order of the file; type None: a norm or a bias, in F32."""
    head_quant = "Q8_0" if quant.startswith("Q4") else quant
    q, kv = s.heads * s.head, s.kv_heads * s.head
    all_of = [("token_embd.weight", (vocab, s.hidden), head_quant)]
    for i in range(layers):
        name = f"blk.{i}."
        all_of += [(name + "attn_norm.weight", (s.hidden,), None), (name + "attn_q.weight", (q, s.hidden), quant),
                   (name + "attn_k.weight", (kv, s.hidden), quant), (name + "attn_v.weight", (kv, s.hidden), quant),
                   (name + "attn_output.weight", (s.hidden, q), quant), (name + "ffn_norm.weight", (s.hidden,), None)]
        if s.arch == "yuan2":
            all_of += filter_tensors(s, name, quant)
        if s.arch == "qwen3moe":
            all_of += [(name + "attn_q_norm.weight", (s.head,), None), (name + "attn_k_norm.weight", (s.head,), None)]
        all_of += ffn_tensors(s, name, quant)
    all_of.append(("output_norm.weight", (s.hidden,), None))
    return all_of if s.tied else all_of + [("output.weight", (vocab, s.hidden), head_quant)]


def tensor_bytes(shape, quant):
    block_bytes, block = BLOCKS[quant or "F32"]
    if shape[-1] % block:
        raise ValueError(f"rows of {shape[-1]} weights are not whole blocks of {quant}")
    return math.prod(shape) // block * block_bytes


def file_bytes(s, layers, vocab, quant):
    """Of all tensors; the header and the tokenizer add a few MB."""
    return sum(tensor_bytes(shape, kind) for _, shape, kind in tensors(s, layers, vocab, quant))
