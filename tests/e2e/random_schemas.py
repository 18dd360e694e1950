"""Random JSON schemas of the subset of docs/constrained.md, and values that may or may not satisfy them."""
import random

WORDS = ["name", "age", "city", "tags", "price", "is_open", "zip code", "größe", "id", "notes", "a", "ab", "abc", "x-1"]


def schema(r, depth=3):
    kinds = ["string", "integer", "number", "boolean", "null", "enum", "const", "types"]
    if depth:
        kinds += ["object"] * 6 + ["array"] * 3 + ["anyOf"]
    kind = r.choice(kinds)
    if kind == "string":
        out = {"type": "string"}
        if r.random() < 0.6:
            out["maxLength"] = r.randint(1, 24)
        if r.random() < 0.3:
            out["minLength"] = r.randint(0, out.get("maxLength", 5))
        return out
    if kind == "integer":
        low = r.randint(-1200, 1200)
        out = {"type": "integer"}
        if r.random() < 0.5:
            out[r.choice(["minimum", "exclusiveMinimum"])] = low
        if r.random() < 0.5:
            out[r.choice(["maximum", "exclusiveMaximum"])] = low + r.choice([2, 9, 90, 5000])
        return out
    if kind == "number":
        return {"type": "number", "minimum": 0} if r.random() < 0.3 else {"type": "number"}
    if kind in ("boolean", "null"):
        return {"type": kind}
    if kind == "enum":
        values = [r.choice([r.choice(WORDS), r.randint(-5, 300), None, True, [1, "a"], {"k": 1.5}]) for _ in range(r.randint(1, 6))]
        return {"enum": values}
    if kind == "const":
        return {"const": r.choice(WORDS + [1, None, {"k": []}])}
    if kind == "types":
        return {"type": r.sample(["string", "integer", "null", "boolean"], 2), "maxLength": 8}
    if kind == "array":
        out = {"type": "array", "items": schema(r, depth - 1), "maxItems": r.randint(1, 4)}
        if r.random() < 0.5:
            out["minItems"] = r.randint(0, out["maxItems"])
        return out
    if kind == "anyOf":
        return {r.choice(["anyOf", "anyOf", "allOf"]): [schema(r, depth - 1)]} if r.random() < 0.3 else {
            "anyOf": [schema(r, depth - 1) for _ in range(r.randint(2, 3))]}
    names = r.sample(WORDS, r.randint(0, 5))
    out = {"type": "object", "properties": {n: schema(r, depth - 1) for n in names}, "title": "T"}
    if names and r.random() < 0.8:
        out["required"] = r.sample(names, r.randint(0, len(names)))
    more = r.random()
    if more < 0.6:
        out["additionalProperties"] = False
    elif more < 0.75:
        out["additionalProperties"] = r.choice([True, {"type": "integer"}])
    return out


def root(r):
    """A schema of an object, as clients ask for; some with recursion."""
    if r.random() < 0.15:
        node = {"type": "object", "properties": {"value": schema(r, 1), "children": {"type": "array", "items": {"$ref": "#/$defs/node"},
                                                                                     "maxItems": 2}}, "required": ["value"],
                "additionalProperties": False}
        return {"$ref": "#/$defs/node", "$defs": {"node": node}}
    while True:
        out = schema(r)
        if out.get("type") == "object" and out["properties"]:
            return out


def value(r, s, top, depth=6):
    """Something like an instance of s: mostly one, in the order of its properties."""
    if s is True or depth == 0 or r.random() < 0.03:
        return r.choice([None, True, 5, -1.5, "x", [], {}, {"a": 1}])
    if "$ref" in s:
        return value(r, top["$defs"]["node"], top, depth - 1)
    for k in ("anyOf", "allOf"):
        if k in s:
            return value(r, r.choice(s[k]), top, depth)
    if "enum" in s:
        return r.choice(s["enum"])
    if "const" in s:
        return s["const"]
    kind = s["type"] if isinstance(s["type"], str) else r.choice(s["type"])
    if kind == "string":
        n = r.randint(s.get("minLength", 0), s.get("maxLength", 9) + r.randint(0, 1))
        return "".join(r.choice("ab \"\\\näß😀/") for _ in range(n))
    if kind == "integer":
        low = s.get("minimum", s.get("exclusiveMinimum", s.get("maximum", s.get("exclusiveMaximum", 0)) - 9))
        return r.randint(low, s.get("maximum", s.get("exclusiveMaximum", low + 1000)))
    if kind == "number":
        return r.choice([0, 1.5, -2, 1e10, 0.001, 7])
    if kind == "boolean":
        return r.random() < 0.5
    if kind == "null":
        return None
    if kind == "array":
        n = r.randint(s.get("minItems", 0), s.get("maxItems", 3) + r.randint(0, 1))
        return [value(r, s.get("items", True), top, depth - 1) for _ in range(n)]
    out = {n: value(r, p, top, depth - 1) for n, p in s["properties"].items() if n in s.get("required", []) or r.random() < 0.6}
    if r.random() < 0.1:
        out[r.choice(WORDS)] = r.choice([1, "x"])
    return out


def numbered(seed):
    return root(random.Random(seed))
