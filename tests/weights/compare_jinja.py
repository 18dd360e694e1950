#!/usr/bin/env python3
"""Renders the templates of tests/data/template-cases.json with jinja2, set up as transformers does it.

    tests/weights/compare_jinja.py             says which recorded results differ from jinja2's
    tests/weights/compare_jinja.py --update    writes jinja2's results into the file; then run check_chat_template

To add a case, append {"template": "..."} to "cases" and run with --update. Recorded with jinja2 3.1.6 on Python 3.11.
"""
import datetime
import json
import pathlib
import sys

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

CASES = pathlib.Path(__file__).parent.parent / "data" / "template-cases.json"
NOW = datetime.datetime(2026, 11, 21, 9, 5, 7)


class Generation(Extension):
    """{% generation %} marks what the assistant wrote; it changes no text."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


def render(env, case, variables):
    try:
        return {"expected": env.from_string(case["template"]).render(**variables)}
    except Exception as error:  # whatever Python raises ends the rendering
        return {"error": f"{type(error).__name__}: {error}"}


def main():
    data = json.loads(CASES.read_text())
    env = environment()
    results = [{"template": case["template"], **render(env, case, data["vars"])} for case in data["cases"]]
    different = [(old, new) for old, new in zip(data["cases"], results) if old != new]
    for old, new in different:
        print(f"{old['template']!r}\n  recorded {old.get('expected', old.get('error'))!r}\n"
              f"  jinja2   {new.get('expected', new.get('error'))!r}")
    if "--update" in sys.argv[1:]:
        data["cases"] = results
        CASES.write_text(json.dumps(data, ensure_ascii=False, indent=0) + "\n")
        return 0
    print(f"{len(results)} cases, {len(different)} differ")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
