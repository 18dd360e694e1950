"""The tiny llama's first layer in the layouts of GPTQ, AWQ, compressed-tensors and FP8, each beside a folder of the same values in float32.

usage: quantized_folder.py METHOD OUT_FOLDER [PLAIN_FOLDER]
"""
import bisect
import json
import math
import os
import random
import shutil
import struct
import sys
from array import array

SOURCE = "tests/data/golden/llama"
AWQ_SLOT = (0, 4, 1, 5, 2, 6, 3, 7)
GROUP = 32


def read_tensors(path):
    """{name: (dtype, shape, bytes)}"""
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = f.read()
    header.pop("__metadata__", None)
    return {name: (t["dtype"], t["shape"], data[slice(*t["data_offsets"])]) for name, t in header.items()}


def write_tensors(path, tensors):
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        f.writelines(data for _, _, data in tensors.values())


def floats(bf16):
    words = array("H", bf16)
    return array("f", struct.pack(f"<{2 * len(words)}H", *(half for word in words for half in (0, word))))


def as_half(x):
    return struct.unpack("<e", struct.pack("<e", x))[0]


def as_bf16(x):
    return struct.unpack("<f", b"\0\0" + struct.pack("<f", x)[2:])[0]


class Matrix:
    """Codes q[out][in] of `bits`, scales s[out][group] and zero points z[out][group] of float values; symmetric: z is the middle."""

    def __init__(self, values, n_rows, n_columns, bits, symmetric, round_scale):
        self.n_rows, self.n_columns, self.bits = n_rows, n_columns, bits
        most, middle = (1 << bits) - 1, 1 << bits - 1
        self.q, self.s, self.z = [], [], []
        for o in range(n_rows):
            row = values[o * n_columns:(o + 1) * n_columns]
            codes, scales, zeros = [], [], []
            for first in range(0, n_columns, GROUP):
                group = row[first:first + GROUP]
                low, high = min(0, *group), max(0, *group)
                scale = round_scale(max(-low, high) / (middle - 1) if symmetric else (high - low) / most)
                zero = middle if symmetric else max(1, round(-low / scale))
                codes += [min(most, max(0, round(x / scale) + zero)) for x in group]
                scales.append(scale)
                zeros.append(zero)
            self.q.append(codes)
            self.s.append(scales)
            self.z.append(zeros)

    def decoded(self):
        return struct.pack(f"<{self.n_rows * self.n_columns}f", *(
            self.s[o][i // GROUP] * (self.q[o][i] - self.z[o][i // GROUP]) for o in range(self.n_rows) for i in range(self.n_columns)))


def as_float(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


E4M3 = [math.ldexp(8 + (v & 7), (v >> 3) - 10) if v >> 3 else math.ldexp(v, -9) for v in range(127)]


class Fp8:
    """Codes q[out][in] of E4M3 and a scale for each 128 by 128 of them."""

    def __init__(self, values, n_rows, n_columns):
        self.n_rows, self.n_columns, self.n_wide = n_rows, n_columns, -(-n_columns // 128)
        most = [0] * (-(-n_rows // 128) * self.n_wide)
        for i, x in enumerate(values):
            most[self.block(i)] = max(most[self.block(i)], abs(x))
        self.scales = [as_float(x / 448) for x in most]
        self.codes = bytes(self.code(x / self.scales[self.block(i)]) for i, x in enumerate(values))

    def block(self, i):
        return i // self.n_columns // 128 * self.n_wide + i % self.n_columns // 128

    @staticmethod
    def code(x):
        above = bisect.bisect(E4M3, abs(x), 1, 126)
        return (above if E4M3[above] - abs(x) < abs(x) - E4M3[above - 1] else above - 1) + (128 if x < 0 else 0)

    def decoded(self):
        signed = E4M3 + [math.nan] + [-x for x in E4M3]
        return struct.pack(f"<{len(self.codes)}f", *(signed[q] * self.scales[self.block(i)] for i, q in enumerate(self.codes)))

    def layout(self):
        n = len(self.scales)
        return {"weight": ("F8_E4M3", [self.n_rows, self.n_columns], self.codes),
                "weight_scale_inv": ("F32", [n // self.n_wide, self.n_wide], struct.pack(f"<{n}f", *self.scales))}


def words(codes, bits, slots=range(32)):
    """32-bit words of the codes, the first in the lowest bits."""
    per = 32 // bits
    groups = (codes[k:k + per] for k in range(0, len(codes), per))
    return struct.pack(f"<{len(codes) // per}I", *(sum(code << bits * slot for code, slot in zip(group, slots)) for group in groups))


def columns(rows):
    return list(zip(*rows))


def gptq(m, zero_plus):
    per = 32 // m.bits
    q = b"".join(words([m.q[o][i + j] for o in range(m.n_rows) for j in range(per)], m.bits) for i in range(0, m.n_columns, per))
    n_groups = m.n_columns // GROUP
    zeros = b"".join(words([z - zero_plus for z in group], m.bits) for group in columns(m.z))
    return {"qweight": ("I32", [m.n_columns // per, m.n_rows], q), "qzeros": ("I32", [n_groups, m.n_rows // per], zeros),
            "scales": ("F16", [n_groups, m.n_rows], struct.pack(f"<{n_groups * m.n_rows}e", *(s for group in columns(m.s) for s in group))),
            "g_idx": ("I32", [m.n_columns], struct.pack(f"<{m.n_columns}i", *(i // GROUP for i in range(m.n_columns))))}


def awq(m):
    n_groups = m.n_columns // GROUP
    parts = gptq(m, 0)
    return {"qweight": ("I32", [m.n_columns, m.n_rows // 8], b"".join(words(column, 4, AWQ_SLOT) for column in columns(m.q))),
            "qzeros": ("I32", [n_groups, m.n_rows // 8], b"".join(words(group, 4, AWQ_SLOT) for group in columns(m.z))),
            "scales": parts["scales"]}


def packed(m, asymmetric):
    n_groups = m.n_columns // GROUP
    scales = b"".join(struct.pack("<f", s)[2:] for row in m.s for s in row)
    parts = {"weight_packed": ("I32", [m.n_rows, m.n_columns // 8], b"".join(words(row, 4) for row in m.q)),
             "weight_scale": ("BF16", [m.n_rows, n_groups], scales),
             "weight_shape": ("I64", [2], struct.pack("<2q", m.n_rows, m.n_columns))}
    if asymmetric:
        zeros = [[m.z[o + j][g] for g in range(n_groups) for j in range(8)] for o in range(0, m.n_rows, 8)]
        parts["weight_zero_point"] = ("I32", [m.n_rows // 8, n_groups], b"".join(words(row, 4) for row in zeros))
    return parts


def int8(m):
    n_groups = m.n_columns // GROUP
    return {"weight": ("I8", [m.n_rows, m.n_columns], bytes((q - 128) % 256 for row in m.q for q in row)),
            "weight_scale": ("BF16", [m.n_rows, n_groups], b"".join(struct.pack("<f", s)[2:] for row in m.s for s in row))}


GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False, "sym": False}
COMPRESSED = {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"targets": ["Linear"]}}, "ignore": ["lm_head"]}
FP8_CONFIG = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}


def integers(bits, symmetric, round_scale):
    return lambda *values: Matrix(*values, bits, symmetric, round_scale)


# method: (quantization_config, codes and scales of a matrix, their layout, the type that has its values exactly)
METHODS = {
    "gptq": (GPTQ, integers(4, False, as_half), lambda m: gptq(m, 1), "Q5_0"),
    "gptq_symmetric": ({**GPTQ, "sym": True}, integers(4, True, as_half), lambda m: gptq(m, 1), "Q4_0"),
    "gptq_8_bits": ({**GPTQ, "bits": 8, "sym": True, "checkpoint_format": "gptq_v2"}, integers(8, True, as_half), lambda m: gptq(m, 0),
                    "Q8_0"),
    "awq": ({"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm"}, integers(4, False, as_half),
            awq, "Q5_0"),
    "packed": ({**COMPRESSED, "format": "pack-quantized"}, integers(4, True, as_bf16), lambda m: packed(m, False), "Q4_0"),
    "packed_asymmetric": ({**COMPRESSED, "format": "pack-quantized"}, integers(4, False, as_bf16), lambda m: packed(m, True), "Q5_0"),
    "int8": ({**COMPRESSED, "format": "int-quantized"}, integers(8, True, as_bf16), int8, "Q8_0"),
    "fp8": (FP8_CONFIG, Fp8, Fp8.layout, "F8_E4M3"),
}


def make(method, out, plain=None):
    config, matrix, layout, _ = METHODS[method]
    quantized, decoded = {}, {}
    for name, (dtype, shape, data) in read_tensors(f"{SOURCE}/model.safetensors").items():
        if "layers." in name and "layers.0." not in name:
            continue
        if not name.endswith("_proj.weight"):
            quantized[name] = decoded[name] = (dtype, shape, data)
            continue
        m = matrix(floats(data), *shape)
        quantized |= {name.removesuffix("weight") + part: tensor for part, tensor in layout(m).items()}
        decoded[name] = ("F32", shape, m.decoded())
    names = list(quantized)
    random.Random(method).shuffle(names)        # in no order that a reader could rely on
    for folder, tensors in ((out, {name: quantized[name] for name in names}), (plain, decoded)):
        if not folder:
            continue
        os.makedirs(folder, exist_ok=True)
        for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
            shutil.copyfile(f"{SOURCE}/{name}", f"{folder}/{name}")
        with open(f"{SOURCE}/config.json", encoding="utf-8") as f:
            model = json.load(f)
        model["num_hidden_layers"] = 1
        if folder == out:
            model["quantization_config"] = config
        with open(f"{folder}/config.json", "w", encoding="utf-8") as f:
            json.dump(model, f)
        write_tensors(f"{folder}/model.safetensors", tensors)


if __name__ == "__main__":
    make(*sys.argv[1:])
