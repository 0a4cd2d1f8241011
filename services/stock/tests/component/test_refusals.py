"""One instance of stock, from Kafka to Kafka: what it refuses, what it can't read, and what is seen
of both from outside."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.contracts.refusals import CommandRefused
from shared.contracts.stock import StockAdjusted, StockRefusal, StockRefused
from shared.testing.builders import (
    adjust_stock,
    commit_stock,
    new_id,
    put_product,
    release_stock,
    reserve_stock,
    wire,
)
from shared.testing.kafka import Record

COMMANDS = "stock.commands.v1"
ADMIN = "stock.admin.v1"
EVENTS = "stock.events.v1"
LETTERS = "stock.dlq.v1"
ADMIN_LETTERS = "stock-requests.dlq.v1"

pytestmark = pytest.mark.usefixtures("running")


def orders(count: int) -> list[str]:
    return [new_id("o") for _ in range(count)]


async def test_f3_what_was_refused_stays_refused_when_stock_came(shop: Any) -> None:
    (lamp,) = await shop.put(1)
    (order_id,) = orders(1)
    command = reserve_stock(order_id, items={lamp: 2})
    await shop.publish(command)
    (first,) = await shop.verdicts([command])
    assert isinstance(first, StockRefused)
    assert first.reason is StockRefusal.OUT_OF_STOCK
    more = adjust_stock(lamp, delta=50)
    await shop.topics.publish(ADMIN, [more])
    await shop.said(EVENTS, [more.command_id])
    await shop.publish(command)
    assert await shop.verdicts([command], times=2) == [first]
    assert await shop.counters(lamp) == (51, 0, 0, 51)


GOOD = wire(reserve_stock("o-bad", items={"P404": 1}))
PUT = wire(put_product("P405"))


def body(value: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps(value | changes).encode()


def spoiled(value: dict[str, Any], place: str, raw: str) -> bytes:
    """The message with raw JSON in the place of a field's value."""
    return json.dumps(value | {place: "<here>"}).replace('"<here>"', raw).encode()


def item(quantity: str) -> bytes:
    return spoiled(GOOD, "items", f'[{{"productId":"P404","quantity":{quantity}}}]')


BAD_COMMANDS: list[tuple[str, bytes | None, str]] = [
    ("f4 tombstone", None, "empty"),
    ("f4 empty", b"", "empty"),
    ("f4 no utf-8", b"\xff\xfe\x00", "not_json"),
    ("f4 cut off", body(GOOD)[:-9], "not_json"),
    ("f4 byte order mark", b"\xef\xbb\xbf" + body(GOOD), "not_json"),
    ("f4 text behind it", body(GOOD) + b" x", "not_json"),
    ("f4 a list", b"[1,2]", "invalid"),
    ("f4 null", b"null", "invalid"),
    ("f4 deep", spoiled(GOOD, "note", "[" * 40 + "]" * 40), "too_deep"),
    ("f4 very deep", b"[" * 200_000, "too_deep"),
    ("f4 long integer", item("9" * 5_000), "not_json"),
    ("f4 nan", item("NaN"), "invalid"),
    ("f4 lone surrogate", spoiled(GOOD, "userId", r'"\ud800"'), "not_json"),
    ("f4 lone surrogate in the type", spoiled(GOOD, "type", r'"\udfff"'), "not_json"),
    ("f4 nul", spoiled(GOOD, "userId", r'"a\u0000b"'), "invalid"),
    ("f5 missing field", body({k: v for k, v in GOOD.items() if k != "orderId"}), "invalid"),
    ("f5 mistyped field", body(GOOD, orderId=7), "invalid"),
    ("f5 no type", body({k: v for k, v in GOOD.items() if k != "type"}), "invalid"),
    ("f5 f12 unknown type", body(GOOD, type="ReserveStockV9"), "unknown_type"),
    ("f5 type of another topic", body(GOOD, type="ChargePayment"), "unknown_type"),
    ("f6 zero", item("0"), "invalid"),
    ("f6 negative", item("-1"), "invalid"),
    ("f6 2 to the 63", item(str(2**63)), "invalid"),
    ("f6 true", item("true"), "invalid"),
    ("f6 text", item('"3"'), "invalid"),
    ("f6 fraction", item("1.5"), "invalid"),
    ("f6 float", item("3.0"), "invalid"),
    ("f6 over the limit", item("10001"), "invalid"),
    ("unsorted lines", spoiled(GOOD, "items", json.dumps(
        [{"productId": "P2", "quantity": 1}, {"productId": "P1", "quantity": 1}])), "invalid"),
    ("f68 an id that is none", body(GOOD, orderId="o'; DROP TABLE product; --"), "invalid"),
    ("f8 over 256 KiB", body(GOOD, note="x" * 270_000), "too_large"),
    ("f8 too many lines", spoiled(GOOD, "items", json.dumps(
        [{"productId": f"P{n:06}", "quantity": 1} for n in range(6_000)])), "invalid"),
]  # fmt: skip

BAD_REQUESTS: list[tuple[str, bytes | None, str]] = [
    ("f4 key twice", body(PUT)[:-1] + b',"price":1}', "invalid"),
    ("f4 nan in an unknown field", spoiled(PUT, "note", "NaN"), "invalid"),
    ("f4 nul in a name", spoiled(PUT, "name", r'"a\u0000b"'), "invalid"),
    ("f6 negative quantity", body(PUT, quantity=-1), "invalid"),
    ("f7 float price", spoiled(PUT, "price", "9.99"), "invalid"),
    ("f7 price as text", body(PUT, price="100"), "invalid"),
    ("f7 price over the limit", body(PUT, price=10**9 + 1), "invalid"),
    ("f7 no currency", body({k: v for k, v in PUT.items() if k != "currency"}), "invalid"),
    ("f7 no such currency", body(PUT, currency="won"), "invalid"),
    ("f7 another currency", body(PUT, currency="USD"), "currency_mismatch"),
    ("no such strategy", body(PUT, strategy="lucky"), "invalid"),
]


async def check_letters(
    shop: Any, topic: str, letters: str, cases: list[tuple[str, bytes | None, str]], good: Any
) -> None:
    """Each case on a partition of its own choice, with a good message behind it."""
    mixed: list[Any] = []
    for at, (name, value, _) in enumerate(cases):
        mixed.append(Record(value, f"case-{at}", {"x-case": name}))
        mixed.append(Record(good(at).to_bytes(), f"case-{at}"))
    await shop.topics.publish(topic, mixed)
    sent = {
        one.headers["x-case"]: one
        for one in await shop.topics.read(topic)
        if "x-case" in (one.headers or {})
    }
    places = {(one.partition, one.offset): name for name, one in sent.items()}

    def case_of(letter: Record) -> str | None:
        headers = letter.headers or {}
        if headers.get("dlq-original-topic") != topic:
            return None
        place = [int(str(headers[f"dlq-original-{part}"])) for part in ("partition", "offset")]
        return places.get((place[0], place[1]))

    found = await shop.topics.wait_for(letters, case_of, count=len(cases), within_s=30)
    by_case = {case_of(letter): letter for letter in found}
    assert set(by_case) == {name for name, _, _ in cases}
    for name, value, reason in cases:
        letter, original = by_case[name], sent[name]
        assert letter.value == value, name
        assert letter.key == original.key, name
        headers = letter.headers
        assert headers["dlq-reason"] == reason, (name, headers["dlq-reason"], headers["dlq-error"])
        assert headers["dlq-original-timestamp"] == str(original.timestamp_ms), name
        assert headers["dlq-attempts"] == "1", name
        assert headers["ce_id"] == f"{topic}:{original.partition}:{original.offset}", name
        assert 0 < len(headers["dlq-error"]) <= 1_000, name
        assert "\ufffd" not in headers["dlq-error"], f"{name}: no text in UTF-8"


async def test_f4_f5_f6_f8_a_bad_command_is_a_dead_letter_and_the_partition_moves_on(
    shop: Any,
) -> None:
    before = await shop.metric("dlq_messages_total", group="stock", reason="unknown_type")
    good = {at: release_stock(new_id("o")) for at in range(len(BAD_COMMANDS))}
    await check_letters(shop, COMMANDS, LETTERS, BAD_COMMANDS, good.__getitem__)
    await shop.verdicts(good.values(), within_s=20)
    after = await shop.metric("dlq_messages_total", group="stock", reason="unknown_type")
    assert after == before + 2


async def test_f4_f6_f7_a_bad_request_is_answered_where_its_sender_can_be_told(shop: Any) -> None:
    good = {at: put_product(new_id("P")) for at in range(len(BAD_REQUESTS))}
    cases: list[tuple[str, bytes | None, str]] = [
        (name, (value or b"").replace(PUT["commandId"].encode(), f"bad-{at}".encode()), reason)
        for at, (name, value, reason) in enumerate(BAD_REQUESTS)
    ]
    await check_letters(shop, ADMIN, ADMIN_LETTERS, cases, good.__getitem__)
    await shop.said(EVENTS, [command.command_id for command in good.values()])
    answers = await shop.said(EVENTS, [f"bad-{at}" for at in range(len(cases))])
    for at, (name, _, reason) in enumerate(cases):
        (answer,) = answers[f"bad-{at}"]
        assert isinstance(answer, CommandRefused), name
        assert (answer.command, answer.key) == ("PutProduct", "P405"), name
        assert answer.reason == ("invalid_command" if reason == "invalid" else reason), name


async def test_f11_a_dead_letter_may_be_replayed_as_often_as_one_likes(shop: Any) -> None:
    (lamp,) = await shop.put(3)
    (order_id,) = orders(1)
    sold = [reserve_stock(order_id, items={lamp: 1}), commit_stock(order_id)]
    await shop.publish(*sold)
    await shop.verdicts(sold)
    # a bug of the sender: what is sold can't be released
    await shop.publish(release_stock(order_id))
    letter = await shop.letter(LETTERS, lambda one: one.key == order_id)
    assert letter.headers["dlq-reason"] == "handling_failed"
    too_much = adjust_stock(lamp, delta=-9)
    await shop.topics.publish(ADMIN, [too_much])
    refused = await shop.letter(ADMIN_LETTERS, lambda one: one.key == lamp)
    assert refused.headers["dlq-reason"] == "insufficient_stock"

    for _ in range(2):
        await shop.topics.publish(COMMANDS, [Record(letter.value, letter.key)])
        await shop.topics.publish(ADMIN, [Record(refused.value, refused.key)])
    await shop.topics.wait_for(LETTERS, lambda one: one.key == order_id, count=3)
    await shop.topics.wait_for(ADMIN_LETTERS, lambda one: one.key == lamp, count=3)
    assert await shop.counters(lamp) == (2, 0, 1, 3)

    # once the cause is mended, the replay is obeyed, and once
    more = adjust_stock(lamp, delta=20)
    await shop.topics.publish(ADMIN, [more])
    await shop.said(EVENTS, [more.command_id])
    for _ in range(3):
        await shop.topics.publish(ADMIN, [Record(refused.value, refused.key)])
    # refused three times and obeyed; copies within one chunk are answered together
    await shop.rest()
    answers = await shop.said(EVENTS, [too_much.command_id], times=4)
    adjusted = [one for one in answers[too_much.command_id] if isinstance(one, StockAdjusted)]
    assert {one.available for one in adjusted} == {13}
    assert await shop.counters(lamp) == (13, 0, 1, 14)


async def test_an_id_with_other_content_is_refused_on_both_topics(shop: Any) -> None:
    (lamp,) = await shop.put(9)
    (order_id,) = orders(1)
    await shop.publish(reserve_stock(order_id, items={lamp: 1}))
    await shop.verdicts([reserve_stock(order_id)])
    await shop.publish(reserve_stock(order_id, items={lamp: 2}))
    letter = await shop.letter(LETTERS, lambda one: one.key == order_id)
    assert letter.headers["dlq-reason"] == "command_id_reused"

    first = adjust_stock(lamp, delta=1)
    await shop.topics.publish(ADMIN, [first, first.model_copy(update={"delta": 2})])
    answers = await shop.said(EVENTS, [first.command_id], times=2)
    refused = [one for one in answers[first.command_id] if isinstance(one, CommandRefused)]
    assert [one.reason for one in refused] == ["command_id_reused"]
    assert await shop.counters(lamp) == (9, 1, 0, 10)


async def test_health_and_metrics_are_there(shop: Any) -> None:
    async with shop.instance(0).admin() as admin:
        assert (await admin.get("/livez")).status_code == 200
        ready = await admin.get("/readyz")
        text = (await admin.get("/metrics")).text
    assert ready.status_code == 200
    assert ready.json() == {"ready": True, "checks": {"postgres": "ok", "kafka": "ok"}}
    for name in (
        "outbox_pending", "outbox_oldest_age_seconds", "consumer_lag_records",
        "consumer_last_progress_timestamp_seconds", "dlq_messages_total",
        "inbox_duplicates_total", "stock_errors_total", "pipeline_messages_total",
    ):  # fmt: skip
        assert f"\n{name}" in text, name
    assert 'stock_errors_total{reason="out_of_stock"}' in text
    assert "o-bad" not in text, "no label carries an id"


async def test_f69_no_log_line_carries_what_a_message_said(shop: Any) -> None:
    log = shop.instance(0).log()
    assert "message_dead_lettered" in log, "the replayed release is logged with its trace"
    assert "user_1" not in log
    assert "DROP TABLE" not in log
    for line in log.splitlines():
        json.loads(line)
