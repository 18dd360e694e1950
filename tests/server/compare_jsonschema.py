"""compare_jsonschema.py GRAMMAR_LINES [N [SEED]]: compiled schemas beside python's jsonschema, over N (200) random schemas.

Two questions. Is every text valid that a grammar lets through: texts drawn token by token from its masks, at random? And does it accept
what is valid, in the forms that it promises (docs/constrained.md): instances with their keys in order? What it refuses although valid must
be of a kind that is known: other properties where it has none.
"""
import json
import os
import random
import subprocess
import sys

import jsonschema

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "e2e"))
import random_schemas  # noqa: E402

tool, n, seed = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 200, int(sys.argv[3]) if len(sys.argv) > 3 else 1
process = subprocess.Popen([tool, "tests/data/tokenizers/smollm/vocab.gguf"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
failures, counts = [], dict.fromkeys(("schemas", "drawn", "unfinished", "accepted", "refused"), 0)


def ask(line):
    process.stdin.write(line.encode() + b"\n")
    process.stdin.flush()
    return process.stdout.readline().decode("utf-8", "backslashreplace").rstrip("\n")


def known_restriction(schema, instance):
    """May the grammar refuse this valid instance: a property that its schema does not list, in an object or one within?"""
    listed = set(random_schemas.WORDS + ["value", "children", "k"])
    text = json.dumps(schema)
    if isinstance(instance, dict):
        return any(k not in listed or json.dumps(k) not in text or '"properties"' in text for k in instance)
    return isinstance(instance, list) and any(known_restriction(schema, i) for i in instance)


for i in range(n):
    r = random.Random(seed * 1000003 + i)
    schema = random_schemas.root(r) if i % 3 else random_schemas.schema(r)
    answer = ask("S " + json.dumps(schema))
    if answer != "ok":
        failures.append(("schema", schema, answer))
        continue
    counts["schemas"] += 1
    validator = jsonschema.Draft202012Validator(schema)
    for k in range(8):
        text = ask(f"G {r.randrange(1 << 40)}")
        if text.startswith("? "):
            counts["unfinished"] += 1
            if text.startswith("? stuck") or text.startswith("stuck"):
                failures.append(("stuck", schema, text[-200:]))
            continue
        try:
            validator.validate(json.loads(text))
            counts["drawn"] += 1
        except Exception as e:
            failures.append(("drawn", schema, text, str(e)[:200]))
    for k in range(20):
        instance = random_schemas.value(r, schema, schema)
        text = json.dumps(instance, separators=r.choice([(",", ":"), (", ", ": ")]), ensure_ascii=False)
        if '"enum"' in json.dumps(schema) or '"const"' in json.dumps(schema):
            text = json.dumps(instance, separators=(",", ":"), ensure_ascii=False)      # those are compact
        accepted, valid = ask("T " + text) == "yes", validator.is_valid(instance)
        counts["accepted" if accepted else "refused"] += 1
        if accepted and not valid or valid and not accepted and not known_restriction(schema, instance):
            failures.append(("instance", schema, text, f"accepted {accepted}, valid {valid}"))
process.stdin.close()
print(", ".join(f"{v} {k}" for k, v in counts.items()))
for f in failures[:10]:
    print("FAILED", *f, sep="\n  ")
sys.exit(bool(failures) or counts["drawn"] < 4 * counts["schemas"] or process.wait() != 0)
