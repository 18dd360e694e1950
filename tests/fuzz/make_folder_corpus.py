#!/usr/bin/env python3
"""Writes the seeds of fuzz_safetensors, fuzz_folder, fuzz_tokenizer_json and fuzz_torch: small files that are right, and one of each kind
that is wrong.

usage: make_folder_corpus.py
"""
import json
import struct
from pathlib import Path

corpus = Path(__file__).parent / "corpus"


def write(target, name, data):
    folder = corpus / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def safetensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


a = tensor("F16", [2, 1], 0, 4)
for name, data in {
    "right": safetensors({"__metadata__": {"format": "pt"}, "a.b": a, "c": tensor("U8", [3], 4, 7)}, bytes(7)),
    "spaces": safetensors(b' {"a" : {"shape":[], "dtype":"F32", "data_offsets":[0, 4], "x":[1,{"y":null}]} }  ', bytes(4)),
    "escapes": safetensors(b'{"\\u00e4\\ud83d\\ude00\\n":{"dtype":"I8","shape":[0,7],"data_offsets":[0,0]}}'),
    "gap": safetensors({"a": a, "b": tensor("U8", [1], 5, 6)}, bytes(6)),
    "overlap": safetensors({"a": a, "b": tensor("U8", [1], 3, 4)}, bytes(4)),
    "backwards": safetensors({"a": tensor("U8", [4], 4, 0)}, bytes(4)),
    "twice": safetensors(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', bytes(1)),
    "overflow": safetensors({"a": tensor("F64", [2**31, 2**31, 2], 0, 4)}, bytes(4)),
    "half-a-byte": safetensors({"a": tensor("F4", [3], 0, 1)}, bytes(1)),
    "deep": safetensors(b'{"a":{"x":' + b"[" * 70 + b"]" * 70 + b"}}"),
    "length": safetensors({}, length=2**60),
    "short": b"\2\0\0",
}.items():
    write("safetensors", name, data)

# A layer of each family: what stands in several tensors, or in another order.
sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 4, "rms_norm_eps": 1e-5,
         "max_position_embeddings": 8, "vocab_size": 4, "tie_word_embeddings": True, "num_experts_per_tok": 1, "num_experts": 2}
latent = {"qk_nope_head_dim": 4, "qk_rope_head_dim": 2, "v_head_dim": 2, "kv_lora_rank": 3, "n_routed_experts": 2, "moe_intermediate_size": 4}
gpt_oss = {"num_local_experts": 2, "quantization_config": {"quant_method": "mxfp4"}}
qkv = ["self_attn.q_proj.weight F16 8,32", "self_attn.k_proj.weight F16 8,32", "input_layernorm.weight BF16 32"]
biases = ["mlp.experts.gate_up_proj_bias BF16 2,4", "mlp.experts.down_proj_bias BF16 2,32", "self_attn.sinks BF16 2"]
experts = [f"EXPERTS.{e}.{part}.weight BF16 4,4" for e in (0, 1) for part in ("A", "B", "C")]


def routed(block, parts):
    lines = [line.replace("EXPERTS", f"{block}.experts") for line in experts] + [f"{block}.gate.weight BF16 2,4",
                                                                                 f"{block}.gate.e_score_correction_bias F32 2"]
    for old, new in zip("ABC", parts):
        lines = [line.replace(f".{old}.", f".{new}.") for line in lines]
    return lines


# What the methods make of a matrix of 32 columns.
compressed, fp8 = {"quant_method": "compressed-tensors"}, {"quant_method": "fp8", "weight_block_size": [128, 128]}
gptq = ["qzeros I32 1,1", "scales F16 1,8"]
quantized = (
    ("gptq", "llama", {"quant_method": "gptq", "bits": 4}, ["self_attn.q_proj", "mlp.up_proj"], gptq + ["qweight I32 4,8", "g_idx I32 32"]),
    ("gptq_8_bits", "qwen3", {"quant_method": "gptq", "bits": 8, "sym": True}, ["mlp.up_proj"],
     ["qzeros I32 1,2", "scales F16 1,8", "qweight I32 8,8"]),
    ("awq", "llama", {"quant_method": "awq", "bits": 4}, ["self_attn.k_proj"], gptq + ["qweight I32 32,1"]),
    ("zero_points", "qwen3", compressed, ["mlp.up_proj"],
     ["weight_packed I32 8,4", "weight_scale BF16 8,1", "weight_shape I64 2", "weight_zero_point I32 1,1"]),
    ("int8", "qwen3_moe", compressed, [f"mlp.experts.{e}.{part}_proj" for e in (0, 1) for part in ("gate", "up", "down")],
     ["weight I8 32,32", "weight_scale F16 32,1"]),
    ("mxfp4", "qwen3", compressed, ["mlp.up_proj"], ["weight_packed U8 8,16", "weight_scale U8 8,1"]),
    ("fp8", "llama", fp8, ["mlp.down_proj"], ["weight F8_E4M3 40,160", "weight_scale_inv F32 1,2"]),
)

for name, config, lines in (
    ("llama", {"model_type": "llama"}, qkv),
    ("gemma3_text", {"model_type": "gemma3_text", "num_key_value_heads": 2}, qkv),
    ("mixtral", {"model_type": "mixtral", "num_local_experts": 2}, routed("block_sparse_moe", ("w1", "w2", "w3"))),
    ("qwen3_moe", {"model_type": "qwen3_moe", "moe_intermediate_size": 4, "norm_topk_prob": True},
     routed("mlp", ("gate_proj", "up_proj", "down_proj"))),
    ("deepseek_v3", {"model_type": "deepseek_v3", **latent},
     ["self_attn.kv_b_proj.weight BF16 12,3"] + routed("mlp", ("gate_proj", "up_proj", "down_proj"))),
    ("gpt_oss", {"model_type": "gpt_oss", **gpt_oss}, biases + [
        "mlp.experts.gate_up_proj_blocks U8 2,4,1,16", "mlp.experts.gate_up_proj_scales U8 2,4,1",
        "mlp.experts.down_proj_blocks U8 2,32,1,16", "mlp.experts.down_proj_scales U8 2,32,1"]),
    ("gpt_oss_bf16", {"model_type": "gpt_oss", **gpt_oss}, biases + [
        "mlp.experts.gate_up_proj BF16 2,32,4", "mlp.experts.down_proj BF16 2,2,32"]),
    *((f"quantized_{name}", {"model_type": model, **latent, "norm_topk_prob": True, "quantization_config": quantization}, [
        f"{matrix}.{part}" for matrix in matrices for part in parts]) for name, model, quantization, matrices, parts in quantized),
    ("yuan", {"model_type": "yuan"}, ["self_attn.q_proj.weight F16 8,32", "self_attn.k_proj.weight F16 8,32",
                                      "self_attn.lf_gate.conv1.weight F16 4,32,2,1", "self_attn.lf_gate.conv2.weight F16 32,4,2,1"]),
):
    tensors = "".join(f"model.layers.0.{line}\n" for line in lines) + "model.norm.weight F32 32\n"
    write("folder", name, json.dumps({**sizes, **config}).encode() + b"\0" + tensors.encode())

byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
llama3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
bpe = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "\u0120": 4}, "merges": [["a", "b"], "a b"]}
special = {"id": 3, "content": "<|x|>", "special": True, "lstrip": True}
template = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|x|>"}}, {"Sequence": {"id": "A"}}]}
sequence = [{"type": "Split", "pattern": {"Regex": llama3}, "behavior": "Isolated", "invert": False}, byte_level]
characters = {"type": "BPE", "byte_fallback": True, "unk_token": "<unk>", "merges": ["\u2581 a"],
              "vocab": {"<unk>": 0, "<0x0A>": 1, "\u2581": 2, "a": 3, "\u2581a": 4}}
prepend = [{"type": "Prepend", "prepend": "\u2581"}, {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]


def piece(text, score, kind):
    body = b"\x0a" + bytes([len(text.encode())]) + text.encode() + b"\x15" + struct.pack("<f", score) + b"\x18" + bytes([kind])
    return b"\x0a" + bytes([len(body)]) + body


pieces = piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("<0x0A>", 0, 6) + piece("\u2581a", -1, 1) + piece("a", -2, 1)
for name, letter, data in (
    ("bytes", "t", {"model": {**bpe, "ignore_merges": True}, "added_tokens": [special], "post_processor": template,
                    "pre_tokenizer": {"type": "Sequence", "pretokenizers": sequence}}),
    ("characters", "t", {"model": characters, "normalizer": {"type": "Sequence", "normalizers": prepend}}),
    ("metaspace", "t", {"model": characters, "pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always",
                                                               "split": False}}),
    ("unigram", "t", {"model": {"type": "Unigram", "vocab": [["a", 0.5]]}}),
    ("same-id", "t", {"model": {**bpe, "vocab": {"a": 0, "b": 0}}, "pre_tokenizer": byte_level}),
    ("config", "s", {"bos_token": {"content": "<|x|>"}, "add_bos_token": True, "model_max_length": 10**30, "unk_token": None,
                     "chat_template": [{"name": "default", "template": "x"}, {"name": "tool_use", "template": "y"}]}),
    ("ends", "g", {"eos_token_id": [3, 2]}),
    ("model", "m", pieces + b"\x12\x02\x18\x02\x1a\x04\x18\x01\x20\x00"),
    ("model-unigram", "m", pieces + b"\x12\x02\x18\x01"),
    ("model-cut", "m", pieces[:20]),
    ("phi3", "c", {"model_type": "phi3", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
                   "rms_norm_eps": 1e-5, "max_position_embeddings": 8, "vocab_size": 300, "original_max_position_embeddings": 4,
                   "rope_scaling": {"type": "longrope", "long_factor": [1, 2], "short_factor": [1, 1]}}),
    ("gemma", "c", {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", "hidden_size": 8, "intermediate_size": 8,
                    "num_hidden_layers": 2, "vocab_size": 300, "layer_types": ["full_attention", "sliding_attention"]}}),
    ("gptq", "c", {"model_type": "qwen2", "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": -1, "sym": True,
                   "checkpoint_format": "gptq_v2"}}),
    ("compressed", "c", {"model_type": "qwen2", "quantization_config": {"quant_method": "compressed-tensors", "format": "int-quantized",
                         "config_groups": {"a": {"weights": {"block_structure": [128, 128]}}}, "sparsity_config": {"format": "dense"}}}),
):
    write("tokenizer_json", name, letter.encode() + (data if isinstance(data, bytes) else json.dumps(data).encode()))


def entry(name, data):
    name = name.encode()
    local = struct.pack("<IHHHHHIIIHH", 0x04034B50, 0, 8, 0, 0, 0, 0, 0, 0, len(name), 0) + name + data
    return local, struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 0, 0, 8, 0, 0, 0, 0, len(data), len(data), len(name), 0, 0, 0, 0, 0, 0)[:42], name


def archive(*entries):
    body = directory = b""
    for name, data in entries:
        local, head, name = entry(name, data)
        directory += head + struct.pack("<I", len(body)) + name
        body += local
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, len(entries), len(entries), len(directory), len(body), 0)
    return body + directory + end


def view(name, key, n, first, size, stride):
    return (b"X" + struct.pack("<I", len(name)) + name + b"ctorch._utils\n_rebuild_tensor_v2\n(("
            b"U\7storagectorch\nFloatStorage\nU\1" + key + b"U\3cpuK" + bytes([n]) + b"tQK" + bytes([first])
            + b"(" + b"".join(b"K" + bytes([x]) for x in size) + b"t(" + b"".join(b"K" + bytes([x]) for x in stride) + b"t\x89)tR")


begin, end = b"\x80\2ccollections\nOrderedDict\n)R(", b"u."
state = begin + view(b"a", b"0", 6, 0, [2, 3], [1, 2]) + view(b"b", b"0", 6, 1, [3], [2]) + end
for name, letter, data in (
    ("right", "z", archive(("m/data.pkl", state), ("m/byteorder", b"little"), ("m/data/0", bytes(24)))),
    ("beyond", "z", archive(("m/data.pkl", begin + view(b"a", b"0", 6, 1, [2, 3], [1, 2]) + end), ("m/data/0", bytes(24)))),
    ("no-storage", "z", archive(("m/data.pkl", state))),
    ("state", "p", state),
    ("nested", "p", b"}(U\5model" + state[2:-1] + b"U\1xN\x88\x89J\1\2\3\4G\0\0\0\0\0\0\0\0u."),
    ("memo", "p", b"}q\0(U\1aq\1\x8c\1b\x94h\0](K\1e\x8f(K\1\x90\x85\x86\x87u."),
    ("system", "p", b"cos\nsystem\nX\2\0\0\0idR."),
    ("globals", "p", b"\x80\4\x95\0\0\0\0\0\0\0\0\x8c\5torch\x8c\4Size\x93(K\1t\x85R."),
    ("instance", "p", b"cargparse\nNamespace\n)\x81}(U\1aK\1ub."),
):
    write("torch", name, letter.encode() + data)
