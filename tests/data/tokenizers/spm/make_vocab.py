#!/usr/bin/env python3
"""Writes vocab.gguf beside this file: tokenizer.json as the "llama" vocabulary of a GGUF file.

usage: make_vocab.py

Every token of this vocabulary comes from one merge, so the score -rank makes SentencePiece's order that of the merges.
Letters have the lowest scores, special tokens and bytes 0, as in published files.
"""
import json
import struct
from pathlib import Path

here = Path(__file__).parent
u32, f32, boolean, string, array, i32 = 4, 6, 7, 8, 9, 5


def text(s):
    data = s.encode()
    return struct.pack("<Q", len(data)) + data


def key(name, kind, value):
    return text(name) + struct.pack("<I", kind) + value


def list_of(kind, values):
    return struct.pack("<IQ", kind, len(values)) + b"".join(values)


source = json.loads((here / "tokenizer.json").read_text())
vocab = source["model"]["vocab"]
tokens = sorted(vocab, key=vocab.get)
ranks = {left + right: i for i, (left, right) in enumerate(source["model"]["merges"])}
special = {t["content"]: 2 if t["content"] == "<unk>" else 3 for t in source["added_tokens"]}


def is_byte(t):
    return len(t) == 6 and t.startswith("<0x")


types = [special.get(t, 6 if is_byte(t) else 1) for t in tokens]
scores = [0.0 if kind != 1 else -float(ranks.get(t, len(ranks))) for t, kind in zip(tokens, types)]
prefix = "tokenizer.ggml."
keys = [
    key("general.architecture", string, text("llama")),
    key(prefix + "model", string, text("llama")),
    key(prefix + "tokens", array, list_of(string, [text(t) for t in tokens])),
    key(prefix + "scores", array, list_of(f32, [struct.pack("<f", s) for s in scores])),
    key(prefix + "token_type", array, list_of(i32, [struct.pack("<i", t) for t in types])),
    key(prefix + "bos_token_id", u32, struct.pack("<I", vocab["<s>"])),
    key(prefix + "eos_token_id", u32, struct.pack("<I", vocab["</s>"])),
    key(prefix + "unknown_token_id", u32, struct.pack("<I", vocab["<unk>"])),
    key(prefix + "add_bos_token", boolean, b"\1"),
]
(here / "vocab.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(keys)) + b"".join(keys))
