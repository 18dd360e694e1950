"""compare_re.py GRAMMAR_LINES [N [SEED]]: compiled regular expressions beside python's re, over N (100) random patterns.

For each: is every text a match that its masks let through, drawn token by token; and does it accept exactly those strings over a small
alphabet that match, random ones and mutations of what was drawn? Half of the patterns are asked once more as "pattern" of a JSON schema,
which means a search.
"""
import json
import random
import re
import subprocess
import sys

tool, n, seed = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 100, int(sys.argv[3]) if len(sys.argv) > 3 else 1
process = subprocess.Popen([tool, "tests/data/tokenizers/smollm/vocab.gguf"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
ALPHABET = 'ab01 -_é中😀"\\\n\t'
failures, counts = [], dict.fromkeys(("patterns", "refused", "drawn", "unfinished", "accepted", "rejected"), 0)


def ask(line):
    process.stdin.write(line.encode() + b"\n")
    process.stdin.flush()
    return process.stdout.readline().decode("utf-8", "backslashreplace").rstrip("\n")


def atom(r, depth):
    kind = r.randrange(12)
    if kind < 4:
        return re.escape(r.choice(ALPHABET))
    if kind == 4:
        return r.choice([r"\d", r"\w", r"\s", r"\D", r"\W", r"\S", ".", r"\x61", r"\u00e9", r"\n"])
    if kind < 7:
        members = [r.choice(["a-b", "0-1", r"\d", r"\s", r"\w", "é", "中-丰", "😀", r"\-", r"\"", r"\\"])
                   for _ in range(r.randint(1, 3))]
        return "[" + r.choice(["", "", "^"]) + "".join(members) + "]"
    if kind == 7:
        return r.choice(["^", "$", ""])
    return r.choice(["(", "(?:", "(?P<g%d>" % r.randrange(1 << 40)]) + choice(r, depth + 1) + ")" if depth < 2 else "b"


def sequence(r, depth):
    parts = []
    for _ in range(r.randint(0, 4) if depth else r.randint(1, 5)):
        part = atom(r, depth)
        if part not in ("^", "$", "") and r.random() < 0.4:
            part += r.choice(["*", "+", "?", "{2}", "{1,}", "{0,3}", "{1,2}", "*?", "{2,3}?"])
        parts.append(part)
    return "".join(parts)


def choice(r, depth=0):
    return "|".join(sequence(r, depth) for _ in range(r.choice([1, 1, 1, 2, 3])))


def check(r, pattern, start, draw, match, as_text):
    answer = ask(start)
    if answer != "ok":
        counts["refused"] += 1
        if "no text matches" not in answer and "too ambiguous" not in answer:
            failures.append(("pattern", pattern, answer))
        return
    counts["patterns"] += 1
    texts = ["".join(r.choice(ALPHABET) for _ in range(r.randrange(8))) for _ in range(30)]
    for _ in range(4):
        line = ask(f"G {r.randrange(1 << 40)}")
        if line.startswith(("? ", "stuck")):
            counts["unfinished"] += 1
            if "stuck" in line:
                failures.append(("stuck", pattern, line[-200:]))
            continue
        counts["drawn"] += 1
        text = draw(line)
        if text is None:
            continue
        if not match(text):
            failures.append(("drawn", pattern, text))
        for _ in range(6):      # near misses and near hits
            at = r.randrange(len(text) + 1)
            texts.append(text[:at] + r.choice([r.choice(ALPHABET), ""]) + text[at + r.randrange(2):])
    for text in texts:
        accepted, matches = ask("J " + json.dumps(as_text(text))) == "yes", bool(match(text))
        counts["accepted" if accepted else "rejected"] += 1
        # What this engine takes for the end of a line, Python does not: . has fewer characters here. JSON strings have no U+0000.
        if accepted != matches and (accepted or not any(c in text for c in "\r\u2028\u2029\0")):
            failures.append(("text", pattern, repr(text), f"accepted {accepted}"))


for i in range(n):
    r = random.Random(seed * 1000003 + i)
    pattern = choice(r)
    # Python's $ also matches before a line break at the end; that of ECMA 262 does not.
    compiled = re.compile(re.sub(r"\$", r"\\Z", pattern) if "\\$" not in pattern else pattern, re.ASCII)
    # grammar_lines writes line breaks as blanks: such a text says nothing.
    check(r, pattern, "R " + json.dumps(pattern), lambda line: None if " " in line or "\\" in line else line,
          compiled.fullmatch, lambda t: t)
    if i % 2:
        schema = json.dumps({"type": "string", "pattern": pattern, "maxLength": 12})
        check(r, schema, "S " + schema, json.loads, lambda t: len(t) <= 12 and compiled.search(t),
              lambda t: json.dumps(t, ensure_ascii=False))
process.stdin.close()
print(", ".join(f"{v} {k}" for k, v in counts.items()))
for f in failures[:10]:
    print("FAILED", *f, sep="\n  ")
sys.exit(bool(failures) or counts["refused"] > counts["patterns"] / 5 or counts["drawn"] < counts["patterns"] or process.wait() != 0)
