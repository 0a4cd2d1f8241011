"""Headers of requests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from storefront.problems import ProblemError
from storefront.requests import KEY_CHARS, idempotency_key, traceparent

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def having(name: str, *values: str) -> Request:
    headers = [(name.encode(), value.encode("latin-1")) for value in values]
    return Request({"type": "http", "headers": headers})


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=KEY_CHARS))
def test_a_key_is_taken_as_it_is(key: str) -> None:
    assert idempotency_key(having("idempotency-key", key)) == key


def test_without_a_key_there_is_none() -> None:
    assert idempotency_key(having("other", "x")) is None


@pytest.mark.parametrize(
    "keys", [[""], [" "], ["a b"], ["a\tb"], ["é"], ["k" * (KEY_CHARS + 1)], ["one", "two"], ["\n"]]
)
def test_another_key_is_refused(keys: list[str]) -> None:
    with pytest.raises(ProblemError) as refused:
        idempotency_key(having("idempotency-key", *keys))
    assert refused.value.status == 400
    assert refused.value.document.detail.startswith("Idempotency-Key: ")


@pytest.mark.parametrize("flags", ["00", "01", "ff"])
def test_a_trace_goes_on_and_whether_it_is_sampled_is_not_for_anybody_to_say(flags: str) -> None:
    assert traceparent(having("traceparent", f"{TRACE[:-2]}{flags}")) == f"{TRACE[:-2]}00"


@pytest.mark.parametrize(
    "sent",
    [
        "",
        TRACE + "\n",
        TRACE.upper(),
        TRACE[:-1],
        "0" + TRACE,
        "é",
        "x" * 300_000,
        f"00-{'0' * 32}-{TRACE[36:]}",
        f"{TRACE[:36]}{'0' * 16}-01",
    ],
)
def test_what_is_no_trace_goes_nowhere(sent: str) -> None:
    """A header goes into a record, which has its limits, beside those of others."""
    assert traceparent(having("traceparent", sent)) is None
