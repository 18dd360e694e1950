"""What the server refuses although /openapi.json allows it, because no schema can say it. For fuzz_openapi.py and http_fields.py."""

CODES = {"context_length_exceeded", "invalid_schema"}
# Rules between fields; limits in bytes, or of the context; keys that are ids of the vocabulary.
PARAMS = {"best_of", "min_tokens", "n", "stop", "cache_salt", "truncate_prompt_tokens", "logit_bias",
          "continue_final_message", "response_format", "structured_outputs", "grammar",
          "guided_json", "guided_regex", "guided_choice", "guided_grammar", "tools", "tool_choice"}


# Where an answer has no code: a prompt that is too long; a last message of the assistant that cannot be gone on with.
MESSAGES = ("the prompt has ", "messages: ")


def blame(reply):
    """(code, name of the field) of an error. Anthropic's shape has neither, but our messages begin with the field."""
    error = reply["error"]
    path = error["param"] or "" if "param" in error else error["message"].split(" ")[0].rstrip(":")
    return error.get("code", error["type"]), path.split("[")[0].split(".")[0]


def excused(reply):
    code, field = blame(reply)
    if "beyond 2^53" in reply["error"]["message"]:      # 1e18 is an integer, too
        return True
    return code in CODES or field in PARAMS or reply["error"]["message"].startswith(MESSAGES)
