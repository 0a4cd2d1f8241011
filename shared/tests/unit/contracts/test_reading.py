"""Bytes from a topic: what is read, what is refused, and what the refusal says."""

import json
import re
import sys
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.contracts.base import Message
from shared.contracts.orders import PlaceOrder
from shared.contracts.reading import (
    MAX_BYTES,
    MAX_DEPTH,
    Reader,
    Unreadable,
    deeper_than,
    reader_of,
)
from shared.contracts.refusals import CommandRefusal, CommandRefused
from shared.contracts.topics import TOPICS

ORDERS = reader_of(TOPICS["orders.commands.v1"])
STOCK = reader_of(TOPICS["stock.commands.v1"])
LEVELS = reader_of(TOPICS["stock.levels.v1"])
ALL_READERS = [reader_of(topic) for topic in TOPICS.values() if topic.messages]

MAX_READING_S = 0.3
"""Of this process. The worst case was seen to take 0.07 s, without its guard 1.3 s."""
REASONS = {"empty", "too_large", "too_deep", "not_json", "invalid", "unknown_type"}


def order(more: str = "", quantity: str = "2") -> bytes:
    body = (
        '{"type":"PlaceOrder","orderId":"o-1","userId":"user_1",'
        f'"items":[{{"productId":"P001","quantity":{quantity}}}]{more}}}'
    )
    return body.encode()


def refused(value: bytes | None, reader: Reader = ORDERS) -> Unreadable:
    read = reader.read(value)
    assert isinstance(read, Unreadable), read
    assert read.reason in REASONS
    assert 0 < len(read.detail) <= 500
    return read


def accepted(value: bytes, reader: Reader = ORDERS) -> Message:
    read = reader.read(value)
    assert not isinstance(read, Unreadable), read
    return read


def test_the_order_of_the_design_is_read() -> None:
    read = accepted(
        b'{"type":"PlaceOrder","orderId":"o-1","userId":"user_1",\n'
        b' "items":[{"productId":"P001","quantity":2}],\n'
        b' "couponId":"WELCOME10","payment":{"method":"wallet","points":0},"pay":"now",\n'
        b' "expectedTotal":null,"reference":"anything, echoed in every event"}'
    )
    assert isinstance(read, PlaceOrder)
    assert (read.order_id, read.coupon_id, read.expected_total) == ("o-1", "WELCOME10", None)


@pytest.mark.parametrize("value", [None, b"", b" ", b"\n\t "])
def test_f4_empty(value: bytes | None) -> None:
    assert refused(value).reason == "empty"


@pytest.mark.parametrize(
    "value",
    [
        b"{",
        b"orders",
        order() + b"x",
        order() + order(),
        b"\xef\xbb\xbf" + order(),
        order(',"x":"\\ud800"'),
        order(',"x":"\\udc00\\ud800"'),
        order(',"x":' + "9" * 5_000),
        b'{"type":"PlaceOrder","orderId":"\xff"}',
        order().decode().encode("utf-16"),
        b'{"type":"PlaceOrder","x":"\x00"}',
        b"{'type':'PlaceOrder'}",
        order(",}"),
        order(" // comment"),
    ],
)
def test_f4_no_json(value: bytes) -> None:
    assert refused(value).reason == "not_json"


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (',"x":NaN', "NaN"),
        (',"x":[{"y":-Infinity}]', "-Infinity"),
        (',"x":1,"x":1', '"x" stands twice'),
        (',"x":{"a":1,"\\u0061":2}', '"a" stands twice'),
        (',"userId":"user_2"', '"userId" stands twice'),
        (',"x":"\\u0000"', "NUL"),
        (',"x":[{"\\u0000":1}]', "NUL"),
        (',"reference":"\\u0000"', "reference"),
    ],
)
def test_f4_what_parsers_read_differently_is_refused_even_in_unknown_fields(
    more: str, word: str
) -> None:
    read = refused(order(more))
    assert read.reason == "invalid"
    assert word in read.detail


@pytest.mark.parametrize("more", [',"x":"NaN"', ',"x":"\\\\u0000"', ',"x":"Infinity, NUL"'])
def test_f4_what_only_looks_like_it_is_read(more: str) -> None:
    accepted(order(more))


@pytest.mark.parametrize("token", [b"NaN", b"Infinity", b'"\\u0000"'])
def test_f4_nan_and_nul_are_refused_on_internal_topics_too(token: bytes) -> None:
    value = b'{"type":"CommitStock","commandId":"o:commit:do","orderId":"o","x":%s}'
    assert refused(value % token, STOCK).reason == "invalid"
    accepted(value % b"1", STOCK)


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":', b'{"":['])
def test_f4_deep_nesting(opening: bytes) -> None:
    assert refused(opening * (MAX_BYTES // len(opening))).reason == "too_deep"


def test_f4_depth_is_counted_outside_of_strings_only() -> None:
    accepted(order(',"x":"' + "[{" * 100 + '"'))
    accepted(order(',"x":"\\"' + "[" * 100 + '"'))
    accepted(order(',"x":' + "[" * 31 + "]" * 31))
    assert refused(order(',"x":' + "[" * 32 + "]" * 32)).reason == "too_deep"
    tricky = ',"x":' + '["]",' * 40 + "1" + "]" * 40
    assert refused(order(tricky)).reason == "too_deep"


def test_f8_size_is_looked_at_before_anything_else() -> None:
    assert refused(order(',"x":"' + "y" * MAX_BYTES + '"')).reason == "too_large"
    fitting = order()
    accepted(fitting + b" " * (MAX_BYTES - len(fitting)))
    assert refused(fitting + b" " * (MAX_BYTES - len(fitting) + 1)).reason == "too_large"


@pytest.mark.parametrize(
    "value",
    [
        order()[:-2] + b',{"productId":"a","quantity":1}' * 8_000 + b"]}",
        order()[:-2] + b",{}" * 85_000 + b"]}",
        order()[:-2] + b",5" * 120_000 + b"]}",
        b'{"type":"PlaceOrder",' + b'"a":1,' * 40_000 + b'"b":1}',
        b"[]" * 40 + b'\\"' * 131_000,
        b'"' * 262_144,
        b"{}" * 131_072,
        b"[],{" * 65_536,
        order(',"x":{' + ",".join(f'"k{i}":[0]' for i in range(20_000)) + "}"),
    ],
)
def test_f4_f8_hostile_values_are_read_in_no_time(value: bytes) -> None:
    assert len(value) <= MAX_BYTES
    started = time.process_time()
    ORDERS.read(value)
    assert time.process_time() - started < MAX_READING_S


def test_f8_facts_of_a_hundred_thousand_entries_are_read_in_no_time() -> None:
    facts = ",".join(f'"{i}":1.5' for i in range(20_000))
    value = (
        '{"type":"IssueCoupon","commandId":"c","couponId":"k","userId":"u",'
        f'"facts":{{"user":{{{facts}}}}}}}'
    ).encode()
    started = time.process_time()
    read = refused(value, reader_of(TOPICS["coupon.requests.v1"]))
    assert time.process_time() - started < MAX_READING_S
    assert "at most 50" in read.detail


def test_f5_unknown_type_says_so_and_what_is_known() -> None:
    read = refused(b'{"type":"PlaceOrderV2","orderId":"o-1"}')
    assert read.reason == "unknown_type"
    assert "PlaceOrderV2" in read.detail
    assert "CancelOrder" in read.detail
    assert read.type == "PlaceOrderV2"


@pytest.mark.parametrize("tag", ["null", "5", "[]", "{}", '["PlaceOrder"]', "true"])
def test_f5_a_type_that_is_no_text_is_invalid(tag: str) -> None:
    assert refused(f'{{"type":{tag}}}'.encode()).reason == "invalid"


def test_f5_type_is_required_also_where_a_topic_has_one_message() -> None:
    level = json.dumps(
        {
            "productId": "P001",
            "available": 1,
            "reserved": 0,
            "sold": 0,
            "received": 1,
            "version": 1,
            "at": "2026-01-31T09:00:00.000Z",
        }
    ).encode()
    assert refused(level, LEVELS).detail.startswith("type: is missing")
    accepted(b'{"type":"StockLevel",' + level[1:], LEVELS)


def test_f5_names_of_fields_are_those_of_the_wire() -> None:
    value = order().replace(b"orderId", b"order_id")
    assert refused(value).detail == "orderId: is missing; it is required"


@pytest.mark.parametrize("value", [b"null", b"[]", b"5", b'"PlaceOrder"', b"true", b"NaN"])
def test_f4_anything_but_an_object_is_invalid(value: bytes) -> None:
    assert refused(value).reason == "invalid"


@pytest.mark.parametrize(
    "quantity",
    ["0", "-1", "9223372036854775808", "true", "false", '"3"', "1.5", "3.0", "1e3", "10001", "null",
     "[]", "{}", '""', "1" * 400],
)  # fmt: skip
def test_f6_quantities_that_are_none(quantity: str) -> None:
    read = refused(order(quantity=quantity))
    assert read.reason == "invalid"
    assert read.detail.startswith("items[0].quantity: ")


@pytest.mark.parametrize("quantity", ["1", "10000"])
def test_f6_quantities_at_their_limits(quantity: str) -> None:
    accepted(order(quantity=quantity))


@pytest.mark.parametrize("total", ["1.0", "10.5", '"10"', "true", "-1", "NaN", "1e15", "1" * 17])
def test_f7_money_is_an_integer(total: str) -> None:
    assert refused(order(f',"expectedTotal":{total}')).detail.startswith("expectedTotal: ")


@pytest.mark.parametrize("currency", ["krw", "KR", "KRWX", "K1W", "", "₩₩₩", None, 410])
def test_f7_currencies_that_are_none(currency: object) -> None:
    body = {"type": "TopUpWallet", "commandId": "c", "userId": "u", "amount": 1}
    reader = reader_of(TOPICS["wallet.requests.v1"])
    accepted(json.dumps({**body, "currency": "KRW"}).encode(), reader)
    read = refused(json.dumps({**body, "currency": currency}).encode(), reader)
    assert read.detail.startswith("currency: ")


def test_null_is_absent() -> None:
    nulls = ',"couponId":null,"payment":null,"pay":null,"expectedTotal":null,"reference":null'
    assert accepted(order(nulls)) == accepted(order())
    assert accepted(order(',"payment":{"method":null,"points":null}')) == accepted(order())


@pytest.mark.parametrize("bad", ["", "a b", "a/b", "ä", "a" * 65, "a\n", "a:b", "\u0661"])
def test_ids_that_are_none(bad: str) -> None:
    value = json.dumps(
        {
            "type": "PlaceOrder",
            "orderId": bad,
            "userId": "u",
            "items": [{"productId": "P001", "quantity": 1}],
        }
    ).encode()
    read = refused(value)
    assert read.detail.startswith("orderId: ")
    assert read.order_id is None
    assert read.refused() is None


def test_what_was_sent_is_never_shown_at_length() -> None:
    read = refused(order(f',"pay":"{"secret" * 100}"'))
    assert read.detail.count("secret") < 10
    assert "\n" not in refused(b'{"type":"a\\nb\\u001b[31m"}').detail


class TestWhatCouldBeReadAllTheSame:
    def test_of_an_order(self) -> None:
        read = refused(order(',"reference":"r"', quantity="0"))
        assert (read.type, read.order_id, read.user_id) == ("PlaceOrder", "o-1", "user_1")
        assert (read.command_id, read.key, read.reference) == ("o-1", "o-1", "r")

    def test_a_long_number_elsewhere_does_not_hide_it(self) -> None:
        assert refused(order(',"x":' + "9" * 5_000)).order_id == "o-1"

    def test_an_id_given_twice_is_none(self) -> None:
        read = refused(order(',"orderId":"o-2"'))
        assert (read.order_id, read.key, read.user_id) == (None, None, "user_1")

    def test_the_default_id_of_a_command_without_one(self) -> None:
        read = refused(b'{"type":"PayOrder","orderId":"o-1","userId":7}')
        assert read.command_id == "o-1:pay"
        read = refused(b'{"type":"CancelOrder","orderId":"o-1","userId":7,"commandId":"c"}')
        assert read.command_id == "c"
        read = refused(b'{"type":"CancelOrder","orderId":"o-1","userId":7,"commandId":[]}')
        assert read.command_id is None

    def test_by_the_key_of_the_topic(self) -> None:
        value = b'{"type":"AdjustStock","commandId":"c","productId":"P001","delta":0,"reason":""}'
        read = refused(value, reader_of(TOPICS["stock.admin.v1"]))
        assert (read.key, read.command_id, read.order_id) == ("P001", "c", None)

    def test_the_answer(self) -> None:
        answer = refused(b'{"type":"PayOrder","orderId":"o-1","userId":7}').refused()
        assert answer == CommandRefused(
            command_id="o-1:pay",
            command="PayOrder",
            key="o-1",
            reason=CommandRefusal.INVALID_COMMAND,
            detail="userId: must be text, not 7",
        )


@pytest.mark.parametrize(("length", "answered"), [(64, True), (72, False), (128, False)])
def test_an_answer_is_given_only_where_it_can_be_read(length: int, answered: bool) -> None:
    value = f'{{"type":"{"T" * 32}","commandId":"{"c" * length}","orderId":"o-1"}}'
    answer = refused(value.encode()).refused()
    assert (answer is not None) is answered
    if answer is not None:
        assert accepted(answer.to_bytes(), reader_of(TOPICS["orders.events.v1"])) == answer


def test_two_messages_of_one_type_on_a_topic_are_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="same type"):
        Reader([PlaceOrder, PlaceOrder], public=True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
FIELDS = st.dictionaries(
    st.sampled_from(
        ["type", "orderId", "userId", "commandId", "items", "payment", "facts", "discount", "at",
         "currency", "amount", "couponId", "productId", "details", "reference"]
    ),
    JSON | st.sampled_from(sorted({t for r in ALL_READERS for t in r._types})),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(value=st.binary(max_size=400))
@example(value=b"[" * 1_000)
@example(value=b'{"type":"\\')
@example(value=b'"\\')
def test_f4_any_bytes_never_raise(value: bytes) -> None:
    for reader in ALL_READERS:
        assert isinstance(reader.read(value), Unreadable | Message)


@settings(max_examples=200, deadline=None)
@given(fields=FIELDS, cut=st.integers(0, 20), noise=st.binary(max_size=3))
def test_f4_almost_messages_never_raise(fields: dict[str, object], cut: int, noise: bytes) -> None:
    value = json.dumps(fields).encode()
    for hostile in (value, value[: len(value) - cut] + noise, value.replace(b'"', noise, 1)):
        for reader in ALL_READERS:
            read = reader.read(hostile)
            assert isinstance(read, Unreadable | Message)
            if isinstance(read, Unreadable):
                assert read.reason in REASONS
                read.refused()


@settings(max_examples=200, deadline=None)
@given(value=JSON)
def test_f4_depth_is_that_of_the_value(value: object) -> None:
    def depth(part: object) -> int:
        if isinstance(part, dict):
            return 1 + max((depth(inner) for inner in part.values()), default=0)
        if isinstance(part, list):
            return 1 + max((depth(inner) for inner in part), default=0)
        return 0

    levels = depth(value)
    encoded = json.dumps(value).encode()
    assert not deeper_than(encoded, levels)
    assert levels == 0 or deeper_than(encoded, levels - 1)


def counted_one_by_one(value: bytes) -> int:
    """The depth, as a loop over the brackets outside of strings tells it."""
    depth = deepest = 0
    for bracket in re.sub(rb'"(?:[^"\\]|\\.)*"?', b"", value, flags=re.DOTALL):
        if bracket in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif bracket in b"]}":
            depth -= 1
    return deepest


TEXTS = st.lists(st.sampled_from([b"[", b"}", b"x", rb"\"", rb"\\", rb"\u0022"])).map(b"".join)
TOKENS = st.sampled_from([b"[", b"{", b"]", b"}", b"[]", b"{}", b",", b"7"]) | TEXTS.map(
    lambda text: b'"' + text + b'"'
)


@settings(max_examples=500, deadline=None)
@given(tokens=st.lists(TOKENS, max_size=40), open_text=st.none() | TEXTS, cut=st.booleans())
@example(tokens=[b"[" * 9, b"]" * 9] * 3, open_text=None, cut=False)
@example(tokens=[b"]" * 5, b"[" * 9], open_text=None, cut=False)
@example(tokens=[b'"["', b'"]"', b"[", rb'"\\"', b"["], open_text=b"[", cut=True)
def test_f4_depth_is_what_a_loop_counts(
    tokens: list[bytes], open_text: bytes | None, cut: bool
) -> None:
    """Also where brackets don't match, and where the last text ends nowhere or in an escape."""
    value = b"".join(tokens)
    if open_text is not None:
        value += b'"' + open_text + (b"\\" if cut else b"")
    levels = counted_one_by_one(value)
    assert not deeper_than(value, levels)
    assert levels == 0 or deeper_than(value, levels - 1)


def nesting(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


@pytest.mark.parametrize(
    "part",
    [b"{}", b'""', rb'"\"{"', b'["["]', nesting(20), nesting(40)],
    ids=["flat", "texts", "escapes", "brackets in texts", "nested", "too deep"],
)
def test_f4_depth_is_not_counted_byte_by_byte(part: bytes) -> None:
    """No step of the interpreter a byte: counted, since a time would say what else runs."""
    value = b"[" + b",".join([part] * (240_000 // (len(part) + 1))) + b"]"
    lines = 0

    def count(frame: object, event: str, _: object) -> object:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        deeper_than(value, MAX_DEPTH)
    finally:
        sys.settrace(before)
    assert lines < 100
