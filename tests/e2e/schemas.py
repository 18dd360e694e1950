"""What every reply must look like: the shapes that clients of the OpenAI interface parse, with our extensions."""
from jsonschema import Draft202012Validator


def shape(required, **properties):
    return {"type": "object", "required": required.split(), "properties": properties}


TEXT, COUNT, NUMBER = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "number"}
FINISH = {"enum": ["stop", "length"]}
NULL = {"type": "null"}


def maybe(schema):
    return {"anyOf": [schema, NULL]}


USAGE = shape("prompt_tokens completion_tokens total_tokens prompt_tokens_details completion_tokens_details",
              prompt_tokens=COUNT, completion_tokens=COUNT, total_tokens=COUNT,
              prompt_tokens_details=shape("cached_tokens", cached_tokens=COUNT),
              completion_tokens_details=shape("reasoning_tokens", reasoning_tokens=COUNT))
TIMINGS = shape("prompt_n prompt_ms prompt_per_second predicted_n predicted_ms predicted_per_second",
                prompt_n=COUNT, predicted_n=COUNT, prompt_ms=NUMBER, predicted_ms=NUMBER, prompt_per_second=NUMBER,
                predicted_per_second=NUMBER)
HEAD = dict(id=TEXT, created=COUNT, model=TEXT, system_fingerprint=TEXT)

TEXT_LOGPROBS = shape("tokens token_logprobs top_logprobs text_offset",
                      tokens={"type": "array", "items": TEXT}, text_offset={"type": "array", "items": COUNT},
                      token_logprobs={"type": "array", "items": maybe({"type": "number", "maximum": 0})},
                      top_logprobs={"type": "array", "items": maybe({"type": "object", "additionalProperties": NUMBER})})
CHAT_LOGPROBS = shape("content", content={"type": "array", "items": shape(
    "token logprob bytes top_logprobs", token=TEXT, logprob={"type": "number", "maximum": 0},
    bytes={"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}}, top_logprobs={"type": "array"})})


def completion(finish):
    choice = shape("index text logprobs finish_reason", index=COUNT, text=TEXT, logprobs=maybe(TEXT_LOGPROBS), finish_reason=finish)
    return {"object": {"const": "text_completion"}, "choices": {"type": "array", "items": choice}, **HEAD}


COMPLETION = shape("id object created model system_fingerprint choices usage", usage=USAGE, timings=TIMINGS, **completion(FINISH))
COMPLETION_CHUNK = shape("id object created model system_fingerprint choices", **completion(maybe(FINISH)))

MESSAGE = shape("role content refusal", role={"const": "assistant"}, content=TEXT, refusal=NULL)
CHAT = shape("id object created model system_fingerprint choices usage", object={"const": "chat.completion"}, usage=USAGE, timings=TIMINGS,
             choices={"type": "array", "minItems": 1, "items": shape(
                 "index message logprobs finish_reason", index=COUNT, message=MESSAGE, logprobs=maybe(CHAT_LOGPROBS),
                 finish_reason=FINISH)}, **HEAD)
CHAT_CHUNK = shape("id object created model system_fingerprint choices", object={"const": "chat.completion.chunk"},
                   choices={"type": "array", "items": shape(
                       "index delta finish_reason", index=COUNT, finish_reason=maybe(FINISH),
                       delta={"type": "object", "properties": {"role": {"const": "assistant"}, "content": TEXT}})}, **HEAD)

MODELS = shape("object data", object={"const": "list"}, data={"type": "array", "minItems": 1, "items": shape(
    "id object created owned_by root max_model_len meta", id=TEXT, object={"const": "model"}, created=COUNT, owned_by=TEXT, root=TEXT,
    max_model_len=COUNT, meta=maybe(shape("n_vocab n_ctx_train n_params size", n_vocab=COUNT, n_ctx_train=COUNT, n_params=COUNT, size=COUNT)))})


def check(schema, value):
    """Fails with the place and the value that do not fit."""
    errors = list(Draft202012Validator(schema).iter_errors(value))
    assert not errors, "\n".join(f"{error.json_path}: {error.message}" for error in errors)
