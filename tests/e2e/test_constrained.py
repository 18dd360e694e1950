"""response_format: finished answers satisfy their schemas, whatever else runs; docs/constrained.md has the subset.

FOURWAY_SCHEMAS=200 takes 200 random schemas instead of 40.
"""
import concurrent.futures
import json
import os
import unittest

import jsonschema
import openai

import random_schemas
from server import ServerTest

N_SCHEMAS = int(os.environ.get("FOURWAY_SCHEMAS", "40"))
PERSON = {"type": "object",
          "properties": {"name": {"type": "string", "maxLength": 30}, "age": {"type": "integer", "minimum": 0, "maximum": 120},
                         "hobbies": {"type": "array", "items": {"type": "string", "maxLength": 20}, "maxItems": 3}},
          "required": ["name", "age", "hobbies"], "additionalProperties": False}


def json_schema(schema):
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


class Constrained(ServerTest):
    options = ("--max-batch", "16")

    def ask(self, content="Describe a person as JSON.", **fields):
        return self.chat(content, **{"max_tokens": 200, "temperature": 0, "response_format": json_schema(PERSON), **fields})["choices"]

    def test_random_schemas(self):
        def one(i):
            schema = random_schemas.numbered(i)
            fields = {"temperature": 0} if i % 4 == 0 else {"temperature": 1, "seed": i}
            return i, schema, self.chat("Answer in JSON.", max_tokens=300, response_format=json_schema(schema), **fields)["choices"][0]
        n_finished = 0
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            for i, schema, choice in pool.map(one, range(N_SCHEMAS)):
                with self.subTest(i=i, schema=json.dumps(schema)):
                    self.assertIn(choice["finish_reason"], ("stop", "length"))
                    if choice["finish_reason"] == "stop":
                        jsonschema.Draft202012Validator(schema).validate(json.loads(choice["message"]["content"]))
                        n_finished += 1
        print(f"\n{n_finished} of {N_SCHEMAS} answers finished within 300 tokens", flush=True)
        self.assertGreaterEqual(n_finished, N_SCHEMAS // 2)

    def test_json_object(self):
        for fields in ({"temperature": 0}, {"temperature": 1.5, "seed": 4}):
            choice = self.ask("Give me a small JSON object.", response_format={"type": "json_object"}, max_tokens=400, **fields)[0]
            text = choice["message"]["content"]
            self.assertTrue(text.startswith("{"), text)
            if choice["finish_reason"] == "stop":
                self.assertIsInstance(json.loads(text), dict)
        choice = self.ask(response_format={"type": "json_object", "schema": PERSON})[0]
        jsonschema.validate(json.loads(choice["message"]["content"]), PERSON)
        self.assertEqual(self.ask(response_format={"type": "text"}, max_tokens=4)[0]["finish_reason"], "length")

    def test_same_text_beside_others(self):
        """Neither batch mates nor masks that are cached change a text; streamed it is the same."""
        fields = dict(temperature=0.9, seed=11, n=2)
        want = [c["message"]["content"] for c in self.ask(**fields)]
        self.assertNotEqual(want[0], want[1])
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            others = [pool.submit(self.ask, f"Person {i}", seed=i, temperature=1) for i in range(8)]
            again = [pool.submit(self.ask, **fields) for _ in range(3)]
            for f in again:
                self.assertEqual([c["message"]["content"] for c in f.result()], want)
            for f in others:
                jsonschema.validate(json.loads(f.result()[0]["message"]["content"]), PERSON)
        texts = ["", ""]
        body = {"messages": [{"role": "user", "content": "Describe a person as JSON."}], "max_tokens": 200,
                "response_format": json_schema(PERSON), **fields}
        for chunk in self.server.stream("/v1/chat/completions", body):
            for c in chunk["choices"]:
                texts[c["index"]] += c["delta"].get("content") or ""
        self.assertEqual(texts, want)

    def test_fields_beside_it(self):
        choice = self.ask(logprobs=True, top_logprobs=2)[0]
        entries = choice["logprobs"]["content"]
        self.assertEqual(b"".join(bytes(e["bytes"]) for e in entries).decode(), choice["message"]["content"])
        self.assertLess(min(e["logprob"] for e in entries), -1)     # of the model, as if there were no constraint
        jsonschema.validate(json.loads(self.ask(ignore_eos=True)[0]["message"]["content"]), PERSON)
        self.assertEqual(self.ask(stop=['"age"'])[0]["finish_reason"], "stop")
        self.assertEqual(json.loads(self.ask(min_tokens=30)[0]["message"]["content"]).keys(), PERSON["properties"].keys())
        number = json_schema({"type": "integer", "minimum": 5, "maximum": 99999})
        self.assertIn(json.loads(self.ask("A number?", response_format=number)[0]["message"]["content"]), range(5, 100000))
        yes = json_schema({"enum": ["yes", "no"]})
        reply = self.complete(prompt="Is the sky blue? Answer:", response_format=yes, temperature=0)
        self.assertIn(reply["choices"][0]["text"], ('"yes"', '"no"'))
        choice = self.ask(max_tokens=5)[0]
        self.assertEqual(choice["finish_reason"], "length")

    def test_H10_refused(self):
        def refused(code, form, param):
            body = {"messages": [{"role": "user", "content": "a"}], "response_format": form}
            return self.refused(400, code, body, "/v1/chat/completions", param)
        at = "response_format.json_schema.schema"
        error = refused("invalid_schema", json_schema({"properties": {"a": {"not": {}}}}), at)
        self.assertIn("#/properties/a: the keyword \"not\"", error["message"])
        deep = {}
        for _ in range(40):
            deep = {"items": deep}
        self.assertIn("deep", refused("invalid_schema", json_schema(deep), at)["message"])
        refused("invalid_schema", json_schema({"enum": [str(i) for i in range(100000)]}), at)
        refused("invalid_schema", json_schema({"$ref": "#"}), at)
        refused("invalid_schema", json_schema({"type": "string", "maxLength": 2**31}), at)
        refused("invalid_schema", {"type": "json_object", "schema": {"type": "x"}}, "response_format.schema")
        refused("invalid_value", {"type": "json_schema"}, "response_format.json_schema")
        refused("invalid_value", {"type": "json_schema", "json_schema": {"name": "x"}}, at)
        # Nothing can be drawn: a bias has forbidden the only byte.
        quote = self.server.post("/tokenize", {"prompt": "{", "add_special_tokens": False})[1]["tokens"]
        status, reply = self.server.post("/v1/completions", {"prompt": "a", "response_format": json_schema({"const": {}}),
                                                             "logit_bias": {str(i): False for i in quote}})
        self.assertIn(status, (200, 500), reply)
        if status == 500:
            self.assertIn("response_format", reply["error"]["message"])

    def structured(self, content="Answer:", stream=False, **kind):
        body = {"messages": [{"role": "user", "content": content}], "max_tokens": 120, "temperature": 0.8, "seed": 5,
                "structured_outputs": kind}
        if not stream:
            return self.chat(content, **{k: body[k] for k in body if k != "messages"})["choices"][0]["message"]["content"]
        return "".join(c["delta"].get("content") or "" for chunk in self.server.stream("/v1/chat/completions", body)
                       for c in chunk["choices"])

    def test_structured_outputs(self):
        cases = (({"choice": ["positive", "negative", "neutral"]}, "positive|negative|neutral"),
                 ({"regex": r"(19|20)\d{2}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"}, r"(19|20)\d{2}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"),
                 ({"grammar": 'root ::= item{2,3}\nitem ::= "- " word (" " word){0,3} "\\n"\nword ::= [a-zé]{1,9}'},
                  "(- [a-zé]{1,9}( [a-zé]{1,9}){0,3}\n){2,3}"),
                 ({"json": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"}}, '"[A-Z]{2}-[0-9]{3}"'),
                 ({"json": json.dumps({"const": "ok"})}, '"ok"'))
        for kind, pattern in cases:
            with self.subTest(kind=kind):
                text = self.structured("When, and how was it?", **kind)
                self.assertRegex(text, "^(?:" + pattern + ")\\Z")
                self.assertEqual(self.structured("When, and how was it?", stream=True, **kind), text)
                name, value = next(iter(kind.items()))
                alias = self.ask("When, and how was it?", response_format=None, temperature=0.8, seed=5, max_tokens=120,
                                 **{"guided_" + name: value})[0]
                self.assertEqual(alias["message"]["content"], text)
        gbnf = self.complete(prompt="Is water wet?", temperature=0, grammar='root ::= " " ("yes" | "no")')["choices"][0]
        self.assertIn(gbnf["text"], (" yes", " no"))
        self.assertEqual(gbnf["finish_reason"], "stop")

    def test_structured_outputs_refused(self):
        def refused(code, param, word, **fields):
            error = self.refused(400, code, {"prompt": "a", **fields}, "/v1/completions", param)
            self.assertIn(word, error["message"])
        at = "structured_outputs"
        refused("invalid_value", at, "exactly one", structured_outputs={"regex": "a", "choice": ["a"]})
        refused("invalid_value", at, "exactly one", structured_outputs={})
        refused("invalid_value", at + ".xml", "not supported", structured_outputs={"xml": "a"})
        refused("invalid_value", "grammar", "only one", structured_outputs={"regex": "a"}, grammar='root ::= "a"')
        refused("invalid_value", at + ".choice[1]", "string", structured_outputs={"choice": ["a", 1]})
        refused("invalid_schema", at + ".choice", "1 to", structured_outputs={"choice": []})
        refused("invalid_schema", at + ".regex", "position 1", structured_outputs={"regex": "a(?=b)"})
        refused("invalid_schema", at + ".regex", "10000", structured_outputs={"regex": "a{1,1000000}"})
        refused("invalid_schema", at + ".regex", "4096", structured_outputs={"regex": "a" * 5000})
        refused("invalid_schema", at + ".json", "JSON", structured_outputs={"json": "{"})
        refused("invalid_schema", "guided_grammar", "line 2, column 7", guided_grammar='root ::= a\na ::= a "x" | "y"')
        refused("invalid_schema", "grammar", "100 deep", grammar="root ::= " + "(" * 60000)

    def test_client(self):
        client = openai.OpenAI(base_url=self.server.url + "/v1", api_key="none", max_retries=0)
        self.addCleanup(client.close)
        reply = client.chat.completions.create(model=self.model, messages=[{"role": "user", "content": "A person."}], max_tokens=200,
                                               temperature=0, response_format=json_schema(PERSON))
        jsonschema.validate(json.loads(reply.choices[0].message.content), PERSON)


class Preempted(ServerTest):
    """There are 11 pages of 64 tokens, and two answers need 12: one is put back, computed again, and goes on with the text that it has."""
    options = ("--ctx", "512", "--kv-bytes", "16M", "--max-batch", "8")

    def test_R02_same_text(self):
        form = json_schema({"type": "array", "items": {"type": "string", "maxLength": 40}, "minItems": 60})
        body = dict(max_tokens=330, temperature=1, ignore_eos=True, response_format=form)

        def text(seed):
            return self.complete(prompt=f"List {seed}:", seed=seed, **body)["choices"][0]["text"]
        want = {seed: text(seed) for seed in (1, 2)}
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            got = list(pool.map(lambda seed: (seed, text(seed)), range(1, 4)))
        for seed, got_text in got:
            self.assertEqual(got_text, want.get(seed, got_text))
            self.assertTrue(got_text.startswith("[") and '"' in got_text)


if __name__ == "__main__":
    unittest.main()
