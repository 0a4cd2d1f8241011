"""Bodies of requests: bounded, and as strict as messages are (F4 to F6, F65, F67)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from storefront.bodies import Bodies, parse
from storefront.documents import (
    AsUser,
    CancelRequest,
    CartRequest,
    PayRequest,
    PlaceRequest,
    json_bytes,
)
from storefront.problems import ProblemError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.contracts.base import Record

MODELS = [AsUser, CancelRequest, CartRequest, PayRequest, PlaceRequest]


def placed(**line: Any) -> bytes:
    fields = {"productId": "P001", "quantity": 1} | line
    return json.dumps({"userId": "ann", "items": [fields]}).encode()


def with_quantity(text: str) -> bytes:
    return b'{"userId":"ann","items":[{"productId":"P001","quantity":%s}]}' % text.encode()


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "blank": (b"  ", "blank"),
    "no JSON": (b"{", "no JSON"),
    "no object": (b"[]", "an object"),
    "null": (b"null", "an object"),
    "a number": (b"7", "an object"),
    "no UTF-8": (b'{"userId":"\xff"}', "no UTF-8 at byte 11"),
    "byte order mark": (b"\xef\xbb\xbf{}", "byte order mark"),
    "text behind": (b"{} {}", "no JSON"),
    "key twice": (b'{"userId":"ann","userId":"bob","items":[{"productId":"P","quantity":1}]}',
                  '"userId" stands twice'),
    "key twice inside": (
        b'{"userId":"a","items":[{"productId":"P","quantity":1,"quantity":2}]}',
        '"quantity" stands twice'),
    "NaN in a field that nobody reads": (
        b'{"x":NaN,"userId":"a","items":[{"productId":"P","quantity":1}]}', "NaN is no JSON"),
    "nested deep": (b'{"x":' + b"[" * 5_000 + b"]" * 5_000 + b"}", "nested deeper than 32"),
    "nested and not closed": (b"[" * 60_000, "nested deeper than 32"),
    "5,000 digits": (with_quantity("9" * 5_000), "number out of range at line 1"),
    "half a surrogate pair": (b'{"userId":"\\ud800","items":[]}', "surrogate"),
    "NUL": (b'{"userId":"a","reference":"x\\u0000","items":[{"productId":"P","quantity":1}]}',
            "reference: must not hold the character NUL"),
    "NUL in a field that nobody reads": (
        b'{"userId":"a","x":"\\u0000","items":[{"productId":"P","quantity":1}]}', "NUL"),
    "no items": (b'{"userId":"a"}', "items: is missing"),
    "null items": (b'{"userId":"a","items":null}', "items: is missing"),
    "an empty order": (b'{"userId":"a","items":[]}', "items: must have at least 1"),
    "1,001 lines": (
        json.dumps({"items": [{"productId": "P", "quantity": 1}] * 1_001}).encode(),
        "items: must have at most 1000"),
    "user no text": (b'{"userId":7,"items":[]}', "userId: must be text, not 7"),
    "user no id": (b'{"userId":"a b","items":[]}', "userId: must be 1 to 64 characters"),
    "user too long": (
        json.dumps({"userId": "a" * 65, "items": []}).encode(), "userId: must be 1 to 64"),
    "user with a line end": (b'{"userId":"ann\\n","items":[]}', "userId: must be 1 to 64"),
    "product missing": (b'{"items":[{"quantity":1}]}', "items[0].productId: is missing"),
    "quantity missing": (b'{"items":[{"productId":"P"}]}', "items[0].quantity: is missing"),
    "a line is no object": (b'{"items":["P001"]}', "items[0]: must be an object"),
    "points negative": (
        b'{"items":[{"productId":"P","quantity":1}],"payment":{"points":-1}}', "payment.points"),
    "method unknown": (
        b'{"items":[{"productId":"P","quantity":1}],"payment":{"method":"gold"}}',
        "payment.method"),
    "timing unknown": (b'{"items":[{"productId":"P","quantity":1}],"pay":"never"}', "pay: "),
    "total no integer": (
        b'{"items":[{"productId":"P","quantity":1}],"expectedTotal":1.5}', "expectedTotal: "),
    **{f"quantity {text[:20]}": (with_quantity(text), "items[0].quantity: ")
       for text in ("true", '"3"', "3.0", "1.5", "1e1", "0", "-1", "10001", str(2**63),
                    "null", "[]", "{}", '""')},
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_f4_f5_f6_what_can_not_be_read_is_told_by_its_field(kind: str) -> None:
    value, said = BAD[kind]
    with pytest.raises(ProblemError) as refused:
        parse(value, PlaceRequest)
    problem = refused.value
    assert (problem.status, problem.document.reason) == (400, "invalid_request")
    assert said in problem.document.detail
    json.loads(problem.response().body)


@pytest.mark.parametrize("model", MODELS)
@given(value=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_f4_nothing_raises_anything_else(model: type[Record], value: bytes) -> None:
    with contextlib.suppress(ProblemError):
        assert isinstance(parse(value, model), model)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
fields = st.sampled_from(
    ["userId", "items", "couponId", "payment", "pay", "expectedTotal", "reference", "quantity"]
)


@given(st.dictionaries(fields, values, max_size=6))
def test_f5_what_is_taken_is_within_every_limit(body: dict[str, Any]) -> None:
    with contextlib.suppress(ProblemError):
        wish = parse(json.dumps(body).encode(), PlaceRequest)
        assert all(1 <= line.quantity <= 10_000 for line in wish.items)
        assert parse(json_bytes(wish), PlaceRequest) == wish


def test_f67_what_is_not_the_clients_to_say_is_ignored() -> None:
    plain = {"userId": "ann", "items": [{"productId": "P001", "quantity": 1}]}
    more = plain | {
        "orderId": "o-mine", "status": "CONFIRMED", "total": 1, "discount": 9, "unitPrice": 1,
        "facts": {"user": {"tier": "gold"}},
        "items": [{"productId": "P001", "quantity": 1, "unitPrice": 1, "price": 1}],
    }  # fmt: skip
    assert parse(json.dumps(more).encode(), PlaceRequest) == parse(
        json.dumps(plain).encode(), PlaceRequest
    )


def request_of(parts: AsyncIterator[bytes], **headers: str) -> Request:
    async def receive() -> dict[str, Any]:
        try:
            return {"type": "http.request", "body": await anext(parts), "more_body": True}
        except StopAsyncIteration:
            return {"type": "http.request", "body": b"", "more_body": False}

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": raw}, receive)


async def whole(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


BODIES = Bodies(bytes_at_most=1_024, within_s=5.0)


async def test_a_body_comes_in_pieces() -> None:
    value = placed()
    wish = await BODIES.read(request_of(whole(value[:9], value[9:])), PlaceRequest)
    assert wish.items[0].quantity == 1


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
async def test_a_body_of_another_kind_is_refused(media_type: str) -> None:
    with pytest.raises(ProblemError) as refused:
        await BODIES.read(request_of(whole(placed()), content_type=media_type), PlaceRequest)
    assert refused.value.status == 415
    assert refused.value.headers == {"accept-post": "application/json"}


@pytest.mark.parametrize("media_type", ["application/json", "Application/JSON; charset=utf-8"])
async def test_json_is_told_however_it_is_written(media_type: str) -> None:
    assert await BODIES.read(request_of(whole(placed()), content_type=media_type), PlaceRequest)


async def test_f65_a_body_that_is_too_large_is_not_read_to_its_end() -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 512
            yield b" " * 512

    for headers in ({}, {"content_length": "100"}):
        with pytest.raises(ProblemError) as refused:
            await BODIES.read(request_of(endless(), **headers), PlaceRequest)
        assert refused.value.status == 413
        assert refused.value.headers == {"connection": "close"}
    assert read <= 4 * 1_024
    read = 0
    with pytest.raises(ProblemError) as refused:
        await BODIES.read(request_of(endless(), content_length="1025"), PlaceRequest)
    assert (refused.value.status, read) == (413, 0)
    exact = placed().ljust(1_024)
    assert await BODIES.read(request_of(whole(exact)), PlaceRequest)


async def test_f65_a_body_that_does_not_end_is_given_up() -> None:
    async def stuck() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    with pytest.raises(ProblemError) as refused:
        await Bodies(bytes_at_most=1_024, within_s=0.05).read(request_of(stuck()), PlaceRequest)
    assert refused.value.status == 408
    assert refused.value.headers == {"connection": "close"}
