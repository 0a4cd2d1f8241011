"""`CommandRefused`: said of every refusal whose sender can be told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.contracts.reading import Unreadable, reader_of
from shared.contracts.stock import AdjustStock
from shared.contracts.topics import TOPICS
from shared.pipeline.answers import command_refused
from shared.pipeline.messages import Received, Refusal

if TYPE_CHECKING:
    from shared.contracts.base import Message

ADMIN = reader_of(TOPICS["stock.admin.v1"])


def refusal(value: bytes, reason: str, detail: str) -> Refusal:
    read = ADMIN.read(value)
    received = Received("stock.admin.v1", 0, 0, 0, None, value, "")
    if isinstance(read, Unreadable):
        return Refusal(received, read.reason, read.detail, unreadable=read)
    message: Message = read
    return Refusal(received, reason, detail, message)


GOOD = AdjustStock(command_id="c-1", product_id="P1", delta=-9, reason="broken").to_bytes()


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("insufficient_stock", "insufficient_stock"),
        ("command_id_reused", "command_id_reused"),
        ("handling_failed", "invalid_command"),
    ],
)
def test_a_readable_command_is_answered_under_its_key(reason: str, said: str) -> None:
    answer = command_refused(refusal(GOOD, reason, "3 units are available" + "." * 1_000))
    assert answer is not None
    assert (answer.command_id, answer.command, answer.key) == ("c-1", "AdjustStock", "P1")
    assert answer.reason == said
    assert answer.detail.startswith("3 units are available")
    assert len(answer.detail) <= 500


@pytest.mark.parametrize(
    ("value", "answered"),
    [
        (b'{"type":"AdjustStock","commandId":"c-1","productId":"P1","delta":0}', True),
        (b'{"type":"AdjustStockV9","commandId":"c-1","productId":"P1"}', True),
        (b'{"type":"AdjustStock","commandId":"c-1","delta":1}', False),
        (b'{"type":"AdjustStock","productId":"P1","delta":1}', False),
        (b'{"type":"AdjustStock","commandId":"c-1","commandId":"c-2","productId":"P1"}', False),
        (b"[]", False),
        (b"\xff", False),
        (b"", False),
    ],
)
def test_an_unreadable_command_is_answered_where_its_sender_can_be_told(
    value: bytes, answered: bool
) -> None:
    answer = command_refused(refusal(value, "", ""))
    assert (answer is not None) is answered
    if answer is not None:
        assert answer.reason == "invalid_command"
