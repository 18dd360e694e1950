#!/usr/bin/env python3
"""Writes the seeds of fuzz_gguf: small GGUF files, right ones and one for each rule that a wrong one breaks.

    tests/fuzz/make_gguf_corpus.py          rewrites tests/fuzz/corpus/gguf/; the same files each time

The names say what a seed is for; "cve-..." are the claims of published bugs in other readers. Files that were found by the fuzzer
("found-...") stay.
"""
import pathlib
import struct

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
FORMATS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", I64: "q", F64: "d"}
F32_TENSOR, F16_TENSOR, Q4_0, Q8_0, Q2_K, Q3_K, Q6_K, IQ4_NL, IQ4_XS, MXFP4 = 0, 1, 2, 8, 10, 11, 14, 20, 23, 39
BLOCKS = {F32_TENSOR: (1, 4), F16_TENSOR: (1, 2), Q4_0: (32, 18), Q8_0: (32, 34), Q6_K: (256, 210),
          Q2_K: (256, 84), Q3_K: (256, 110), IQ4_NL: (32, 18), IQ4_XS: (256, 136), MXFP4: (32, 17)}


def string(text):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(data)) + data


def value(kind, v):
    return string(v) if kind == STRING else struct.pack("<" + FORMATS[kind], v)


def kv(key, kind, v):
    return string(key) + struct.pack("<I", kind) + value(kind, v)


def array(key, kind, values, count=None):
    count = len(values) if count is None else count
    return string(key) + struct.pack("<IIQ", ARRAY, kind, count) + b"".join(value(kind, v) for v in values)


def info(name, shape, kind, offset):
    return string(name) + struct.pack("<I", len(shape)) + struct.pack("<%dQ" % len(shape), *shape) + struct.pack("<IQ", kind, offset)


def file(kvs=(), infos=(), data=b"", version=3, alignment=32, n_kv=None, n_tensors=None, magic=b"GGUF"):
    head = magic + struct.pack("<IQQ", version, len(infos) if n_tensors is None else n_tensors, len(kvs) if n_kv is None else n_kv)
    body = head + b"".join(kvs) + b"".join(infos)
    return body + bytes(-len(body) % alignment) + data if infos else body


def tensors(specs, alignment=32):
    """The infos and the data of (name, shape, type), one after the other."""
    infos, data = [], b""
    for name, shape, kind in specs:
        data += bytes(-len(data) % alignment)
        infos.append(info(name, shape, kind, len(data)))
        block, size = BLOCKS[kind]
        n = 1
        for dim in shape:
            n *= dim
        data += bytes(i % 251 for i in range(n // block * size))
    return infos, data


def seeds():
    every = [kv("t.%d" % kind, kind, 1) for kind in FORMATS] + [kv("text", STRING, "x")]
    every += [array("a.%d" % kind, kind, [0, 1, 1]) for kind in FORMATS] + [array("texts", STRING, ["a", "", "\u4f60", b"\xff"])]
    small = tensors([("a", [4], F32_TENSOR), ("b", [32, 2], Q4_0), ("c", [3, 1, 2, 1], F16_TENSOR)])
    one = info("t", [4], F32_TENSOR, 0)
    yield "all-types", file(every)
    yield "tensors", file([kv("general.architecture", STRING, "llama")], *small)
    yield "version-2", file([kv("general.name", STRING, "old")], *small, version=2)
    yield "alignment-64", file([kv("general.alignment", U32, 64)], *tensors([("a", [5], F32_TENSOR), ("b", [2], F32_TENSOR)], 64),
                               alignment=64)
    yield "k-quants", file([], *tensors([("q6", [256, 2], Q6_K), ("q8", [64], Q8_0)]))
    yield "tables-and-fewer-bits", file([], *tensors([("mx", [32, 3], MXFP4), ("nl", [64], IQ4_NL), ("xs", [256], IQ4_XS),
                                                      ("q3", [256], Q3_K), ("q2", [256, 2], Q2_K)]))
    yield "tokenizer", file([kv("tokenizer.ggml.model", STRING, "gpt2"),
                             array("tokenizer.ggml.tokens", STRING, ["<s>", "a", "b", "ab"]),
                             array("tokenizer.ggml.token_type", I32, [3, 1, 1, 1]),
                             array("tokenizer.ggml.scores", F32, [0.0, -1.0, -2.0, -3.0]),
                             array("tokenizer.ggml.merges", STRING, ["a b"])])
    yield "split", file([kv("split.no", U16, 0), kv("split.count", U16, 2), kv("split.tensors.count", I32, 3)], *small)
    yield "merged", file([kv("split.count", U16, 0)], *small)
    yield "empty", file()
    yield "magic", file(magic=b"GGML")
    yield "version-1", file(version=1)
    yield "big-endian", file(version=0x03000000)
    yield "cve-2024-23605-kv-count", file([kv("k", U8, 1)], n_kv=1 << 60)
    yield "tensor-count", file([], [one], bytes(16), n_tensors=1 << 60)
    yield "cve-2025-52566-string", file([string("k") + struct.pack("<IQ", STRING, 0xffffffffffffffff)])
    yield "key-length", file([struct.pack("<QI", 0xfffffffffffffff0, U8)], n_kv=0)
    yield "array-length", file([array("k", U32, [1, 2], count=1 << 62)])
    yield "array-of-arrays", file([string("k") + struct.pack("<IIQ", ARRAY, ARRAY, 1) + bytes(16)])
    yield "key-twice", file([kv("k", U8, 1), kv("k", U8, 2)])
    yield "tensor-twice", file([], *tensors([("t", [4], F32_TENSOR), ("t", [4], F32_TENSOR)]))
    yield "key-bytes", file([kv(b"a\0\xff", U8, 1)])
    yield "name-64", file([], *tensors([("n" * 64, [4], F32_TENSOR)]))
    yield "alignment-0", file([kv("general.alignment", U32, 0)], [one], bytes(16))
    yield "alignment-type", file([kv("general.alignment", U64, 32)], [one], bytes(16))
    yield "cve-2024-21802-dims", file([], [info("t", [1] * 5, F32_TENSOR, 0)], bytes(16))
    yield "dimension-0", file([], [info("t", [4, 0], F32_TENSOR, 0)], bytes(16))
    yield "product", file([], [info("t", [1 << 30] * 4, F32_TENSOR, 0)], bytes(16))
    yield "cve-2026-33298-row", file([], [info("t", [0x7fffffff, 0x7fffffff], Q8_0, 0)], bytes(16))
    yield "half-a-block", file([], [info("t", [31], Q4_0, 0)], bytes(32))
    yield "type-unknown", file([], [info("t", [4], 0xffffffff, 0)], bytes(16))
    yield "cve-2026-7482-beyond", file([], [info("t", [4096], F32_TENSOR, 0)], bytes(16))
    yield "offset-wraps", file([], [info("t", [4], F32_TENSOR, 0xffffffffffffffe0)], bytes(16))
    yield "overlap", file([], [one, info("u", [4], F32_TENSOR, 0)], bytes(64))
    yield "cve-2025-53630-sum", file([], [info("t%d" % i, [1 << 24, 1 << 24], 28, i << 51) for i in range(3)], bytes(64))


def main():
    folder = pathlib.Path(__file__).parent / "corpus" / "gguf"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        if not old.name.startswith("found-"):
            old.unlink()
    for name, data in seeds():
        (folder / name).write_bytes(data)


main()
