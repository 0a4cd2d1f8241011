"""A dead letter is the message as it came, with its reason and its place."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pytest

from shared.pipeline.dead_letters import KEY_BYTES, VALUE_BYTES, dead_letter
from shared.pipeline.messages import Received, Refusal
from shared.pipeline.outbox import PUBLIC_TOPICS, Chunk

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def received(value: bytes | None, key: bytes | None = b"o-1") -> Received:
    return Received("stock.commands.v1", 7, 42, 1_700_000_000_123, key, value, TRACE)


@pytest.mark.parametrize("value", [None, b"", b"\xff\xfe\x00", b'{"a":1,"a":2}'])
def test_f4_the_value_is_untouched(value: bytes | None) -> None:
    row = dead_letter("stock", Refusal(received(value), "not_json", "no JSON at all"))
    assert row.value == value
    assert (row.topic, row.key, row.traceparent) == ("stock.dlq.v1", b"o-1", TRACE)
    assert row.headers == {
        "dlq-reason": "not_json",
        "dlq-error": "no JSON at all",
        "dlq-original-topic": "stock.commands.v1",
        "dlq-original-partition": "7",
        "dlq-original-offset": "42",
        "dlq-original-timestamp": "1700000000123",
        "dlq-attempts": "1",
    }


def test_the_id_is_the_place_so_that_a_second_copy_is_recognised() -> None:
    first = dead_letter("stock", Refusal(received(b"x"), "not_json", "first"))
    again = dead_letter("stock", Refusal(received(b"x"), "not_json", "again", attempts=2))
    assert first.message_id == again.message_id == "stock.commands.v1:7:42"


def test_headers_are_text_in_utf_8() -> None:
    row = dead_letter("stock", Refusal(received(b"x", key=None), "invalid", "수량 must be ≥ 1"))
    assert row.key is None
    (record,) = Chunk(1, datetime(2026, 1, 31, tzinfo=UTC), [row]).records("stock")
    headers = dict(record.headers)
    assert headers["dlq-error"].decode() == "수량 must be ≥ 1"
    assert headers["dlq-original-offset"] == b"42"
    assert "ce_subject" not in headers
    assert record.key is None


def test_f8_what_is_larger_than_its_topic_allows_is_cut_and_a_digest_stands_for_it() -> None:
    value = b"x" * (VALUE_BYTES + 1)
    row = dead_letter(
        "stock", Refusal(received(value, key=b"k" * 2 * KEY_BYTES), "too_large", "e" * 5_000)
    )
    assert row.value is not None
    assert row.key is not None
    assert row.headers is not None
    assert (len(row.value), len(row.key), len(row.headers["dlq-error"])) == (
        VALUE_BYTES, KEY_BYTES, 1_000,
    )  # fmt: skip
    assert row.headers["dlq-value-sha256"] == hashlib.sha256(value).hexdigest()


def test_dead_letters_are_kept_like_public_messages() -> None:
    assert "stock.dlq.v1" in PUBLIC_TOPICS
    assert "stock.replies.v1" not in PUBLIC_TOPICS
