"""A check beside those of schemathesis: what the description allows is accepted, but for what no schema can say."""
import schemathesis

from excused import excused


@schemathesis.check
def accepts_what_is_described(ctx, response, case):
    meta = case.meta
    if meta is None or not meta.generation.mode.is_positive or case.method != case.operation.method.upper():
        return
    if response.status_code == 400 and not excused(response.json()):
        raise AssertionError(f"the description allows it, the server refuses it: {response.json()['error']['message']}")
