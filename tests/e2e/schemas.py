"""What every reply must look like: the schemas of /openapi.json, closed, so that a field that is not described there is an error."""
import json
import os

from jsonschema import Draft202012Validator

with open(os.path.join(os.path.dirname(__file__), "../../server/openapi/schemas.json"), encoding="utf-8") as file:
    DESCRIBED = json.load(file)


def closed(schema):
    """The description lets later versions add fields; a test of this one must not."""
    if isinstance(schema, list):
        return [closed(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        inner.setdefault("additionalProperties", False)
    return inner


CLOSED = closed(DESCRIBED)


def named(name):
    return {"$ref": f"#/components/schemas/{name}", "components": {"schemas": CLOSED}}


COMPLETION, COMPLETION_CHUNK = named("Completion"), named("CompletionChunk")
CHAT, CHAT_CHUNK = named("ChatCompletion"), named("ChatCompletionChunk")
MODELS, USAGE, EMBEDDINGS = named("ModelList"), named("Usage"), named("Embeddings")


def check(schema, value):
    """Fails with the place and the value that do not fit."""
    errors = list(Draft202012Validator(schema).iter_errors(value))
    assert not errors, "\n".join(f"{error.json_path}: {error.message}" for error in errors)
