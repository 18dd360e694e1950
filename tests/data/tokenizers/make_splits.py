#!/usr/bin/env python3
"""Writes splits.json beside this file: how the tokenizers library splits texts by the patterns of each pre-tokenizer.

usage: make_splits.py [TEXTS_PER_PATTERN [OUTPUT]]        needs: pip install tokenizers (0.23.3 was used)

The patterns are the published ones as published, with \\s: the library's engine is the authority on its meaning.
Characters are those of Unicode 3.2, so that no two engines differ by their tables.
"""
import json
import random
import sys
import unicodedata
from pathlib import Path

from tokenizers import Regex, pre_tokenizers

C = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
Z = r"\s*[\r\n]+|\s+(?!\S)|\s+"
U = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
W = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
G = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
PUNCT = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"""
patterns = {
    "gpt-2": [G],
    "smollm": [r"\p{N}", G],
    "falcon": [r"[\p{P}\$\+<=>\^~\|`]+", G, r"[0-9][0-9][0-9]"],
    "default": [r"[\p{P}\$\+<=>\^~\|]+", G, r"\p{N}+", r"[0-9][0-9][0-9]"],
    "llama3": [C + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + Z],
    "qwen2": [C + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + Z],
    "qwen35": [C + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|" + Z],
    "gpt-4o": [rf"[^\r\n\p{{L}}\p{{N}}]?{U}*{W}+{C}?|[^\r\n\p{{L}}\p{{N}}]?{U}+{W}*{C}?|\p{{N}}{{1,3}}"
               r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + Z],
    "tekken": [rf"[^\r\n\p{{L}}\p{{N}}]?{U}*{W}+|[^\r\n\p{{L}}\p{{N}}]?{U}+{W}*|\p{{N}}"
               r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + Z],
    "deepseek-v3": [r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
                    PUNCT + r"[A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|" + Z],
    "deepseek-coder": [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+", r"\p{N}"],
}
old = unicodedata.ucd_3_2_0
by_category = {}
for c in map(chr, range(0x110000)):
    if old.category(c) == unicodedata.category(c) and old.category(c) not in ("Cn", "Cs", "Co"):
        by_category.setdefault(old.category(c), []).append(c)
categories = list(by_category.values())
frequent = list("aabcdeéAZ 019'.,!?-$<`/\n\r\t\u00a0\u1680\u180e\u2028\u3000\u0301\u4e2d\u3042\uac00\u01c5\u02b0\u0660\u2160\u017f")
words = ["'s", "'LL", "'\u017f", " don't", "HelloWorld", "123456", "  ", "   \n", "\r\n\r\n", " ...\n", "//\n", "😀", "e\u0301"]


def text(rng):
    parts = ([frequent], [words], categories)
    return "".join(rng.choice(rng.choice(rng.choices(parts, (6, 3, 4))[0])) for _ in range(rng.randint(1, 24)))


count = int(sys.argv[1]) if len(sys.argv) > 1 else 40
output = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parent / "splits.json"
result = {}
for name, stages in patterns.items():
    rng = random.Random(name)
    split = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(p), "isolated") for p in stages])
    result[name] = []
    for _ in range(count):
        s = text(rng)
        result[name].append([piece for piece, _ in split.pre_tokenize_str(s)])
lines = [f'"{name}": [\n' + ",\n".join(json.dumps(c) for c in cases) + "\n]" for name, cases in result.items()]
output.write_text("{\n" + ",\n".join(lines) + "\n}\n")
