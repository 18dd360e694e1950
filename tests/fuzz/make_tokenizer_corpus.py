#!/usr/bin/env python3
"""Writes the seeds of fuzz_tokenizer: small vocabularies of both kinds, with a text each (layout: fuzz_tokenizer.c).

    tests/fuzz/make_tokenizer_corpus.py     rewrites tests/fuzz/corpus/tokenizer/; the same files each time

Files that were found by the fuzzer ("found-...") stay.
"""
import pathlib

LLAMA, SPACE_PREFIX, ADD_BOS, NO_TYPES, ALL_BYTES = 1, 2, 4, 8, 16
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE, MERGE = range(1, 8)
GPT2, DIGITS, FALCON, DEFAULT, LLAMA3, QWEN2, QWEN35, GPT4O, TEKKEN, DEEPSEEK3, DEEPSEEK_CODER, NONE = range(12)


def seed(flags, pattern, records, text):
    body = b"".join(bytes([kind, len(t.encode())]) + t.encode() for kind, t in records)
    return bytes([flags, pattern]) + body + b"\0" + text.encode()


words = [(NORMAL, t) for t in ("he", "ll", "hell", "hello", "Ġhello", "Ġh", "in", "ing")]
merges = [(MERGE, m) for m in ("h e", "l l", "he ll", "hell o", "Ġ h", "Ġ hello", "i n", "in g")]
turns = [(CONTROL, "<|im_start|>"), (CONTROL, "<|im_end|>"), (USER, "<think>"), (USER, "<think></think>"), (NORMAL, "<eos>")]
pieces = [(UNKNOWN, "<unk>"), (CONTROL, "<s>"), (CONTROL, "</s>"), (NORMAL, "▁"), (NORMAL, "h"), (NORMAL, "e"), (NORMAL, "he"),
          (NORMAL, "▁he"), (NORMAL, "l"), (NORMAL, "ll"), (NORMAL, "s▁h"), (USER, "\n\n"), (NORMAL, "<s>")]
chat = "<|im_start|>user\nhello <think></think> 123 don't\r\n  x<|im_end|>"
unicode = "e\u0301\u0316 É 中文 한국어 😀 \u180e\u3000\u017f's  "
seeds = {
    "gpt2-chat": seed(ALL_BYTES, GPT2, words + merges + turns, chat),
    "digits": seed(ALL_BYTES | ADD_BOS, DIGITS, words + merges + turns, "3.14159 hello hello\n\n" + unicode),
    "llama3-unicode": seed(ALL_BYTES | ADD_BOS, LLAMA3, words + merges, unicode),
    "qwen2-nfc": seed(ALL_BYTES, QWEN2, words + merges, unicode * 2),
    "o200k-case": seed(ALL_BYTES, GPT4O, words + merges, "HelloWORLDs'S aB//\n" + unicode),
    "deepseek": seed(ALL_BYTES, DEEPSEEK3, words + merges, "(word) 12345 " + unicode),
    "deepseek-coder": seed(ALL_BYTES, DEEPSEEK_CODER, words + merges, "int x;\r\n" + unicode),
    "few-bytes": seed(0, GPT2, [(NORMAL, t) for t in "helo"] + words + merges, "hello hell"),
    "twice": seed(ALL_BYTES, GPT2, words + words + merges + merges + [(MERGE, "x"), (MERGE, " "), (MERGE, "a  b")], "hello"),
    "no-types": seed(ALL_BYTES | NO_TYPES | LLAMA, GPT2, pieces, "hello<s>"),
    "llama": seed(ALL_BYTES | LLAMA | SPACE_PREFIX | ADD_BOS, GPT2, pieces, "<s>hello hes he\n\n</s> ▁h" + unicode),
    "llama-unknown": seed(LLAMA, 0, pieces, "hello ?"),
    "unknown-pattern": seed(ALL_BYTES, NONE, words, "hello"),
    "long-special": seed(ALL_BYTES, GPT2, [(USER, "b" * 255), (CONTROL, "b" * 254)], "b" * 700),
}
folder = pathlib.Path(__file__).parent / "corpus/tokenizer"
folder.mkdir(parents=True, exist_ok=True)
for old in folder.iterdir():
    if not old.name.startswith("found-"):
        old.unlink()
for name, data in seeds.items():
    (folder / name).write_bytes(data)
