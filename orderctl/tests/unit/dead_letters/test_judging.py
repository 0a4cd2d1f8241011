"""What is said of a dead letter, and whether it is replayed: pure, without a broker."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from order_orchestrator import dead_letters as orchestrator
from orderctl.dead_letters.advice import (
    BY_REASON,
    OTHER_ORDER,
    UNREADABLE_REASONS,
    UNREADABLE_SAGA,
    Remedy,
    advise,
    used_up,
)
from orderctl.dead_letters.inboxes import Known
from orderctl.dead_letters.judging import Due, Left, Rules, judge, judge_edited, read_value
from orderctl.dead_letters.letter import Identity, Letter, Place, identity_of
from orderctl.dead_letters.sending import records
from orderctl.errors import OperatorError
from shared.contracts.reading import MAX_BYTES, Unreadable
from shared.contracts.refusals import CommandRefusal
from shared.pipeline.chunk import FAULTY
from shared.testing.builders import adjust_stock, cancel_order, place_order, reserve_stock

if TYPE_CHECKING:
    from shared.contracts.base import Message

NOW_MS = 1_800_000_000_000
DAY_MS = 86_400_000
RULES = Rules(NOW_MS)
GROUP = Rules(NOW_MS, chosen=False)
REQUESTS = "order-orchestrator-requests.dlq.v1"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def letter(
    value: bytes | Message | None,
    reason: str,
    *,
    topic: str = REQUESTS,
    origin: str = "orders.commands.v1",
    key: bytes | None = b"o-1",
    at_ms: int = NOW_MS - 1_000,
    **headers: str,
) -> Letter:
    content = value if value is None or isinstance(value, bytes) else value.to_bytes()
    own = {
        "dlq-reason": reason,
        "dlq-error": "why",
        "dlq-original-topic": origin,
        "dlq-original-partition": "3",
        "dlq-original-offset": "17",
    }
    return Letter(Place(topic, 3, 1_234), at_ms, key, content, own | headers)


def of_stock(value: bytes | Message, reason: str, **headers: str) -> Letter:
    return letter(value, reason, topic="stock.dlq.v1", origin="stock.commands.v1", **headers)


def edited(
    dead: Letter, value: bytes | Message, known: Known = Known.NOTHING, rules: Rules = RULES
) -> Due | Left:
    return judge_edited(dead, value if isinstance(value, bytes) else value.to_bytes(), known, rules)


@pytest.mark.parametrize(
    "text",
    ["", "stock.dlq.v1", "stock.dlq.v1/3", "stock.dlq.v1/3/-1", "stock.dlq.v1/a/1", "x/1/2",
     "stock.commands.v1/1/2", "stock.dlq.v1/1/2/3"],
)  # fmt: skip
def test_what_is_no_place_is_told_with_what_is(text: str) -> None:
    with pytest.raises(ValueError, match=r"stock\.dlq\.v1"):
        Place.parse(text)


def test_a_place_reads_as_it_is_written() -> None:
    assert str(Place.parse("stock.dlq.v1/3/1234")) == "stock.dlq.v1/3/1234"


@pytest.mark.parametrize(
    ("value", "key", "expected"),
    [
        (place_order("o-2"), b"o-1", "o-2"),  # the body wins
        (b"{", b"o-1", "o-1"),
        (b'{"orderId":"not an id"}', b"o-1", "o-1"),
        (b"{", None, None),
        (b"{", b"\xff", None),
        (None, b"o-1", "o-1"),
    ],
)
def test_the_order_is_told_by_the_body_or_the_key(
    value: bytes | Message | None, key: bytes | None, expected: str | None
) -> None:
    assert letter(value, "invalid", key=key).order_id() == expected


def test_a_product_is_no_order() -> None:
    dead = letter(
        adjust_stock("P001", delta=1), "unknown_product",
        topic="stock-requests.dlq.v1", origin="stock.admin.v1", key=b"P001",
    )  # fmt: skip
    assert dead.order_id() is None


def test_every_reason_that_a_service_may_give_is_known() -> None:
    assert set(CommandRefusal) <= BY_REASON.keys()
    assert {FAULTY, OTHER_ORDER, UNREADABLE_SAGA} <= BY_REASON.keys()
    assert (OTHER_ORDER, UNREADABLE_SAGA) == (
        orchestrator.OTHER_ORDER,
        orchestrator.UNREADABLE_SAGA,
    )
    assert not BY_REASON.keys() & set(UNREADABLE_REASONS)
    documented = (Unreadable.__doc__ or "").split("`reason` is one of ")[1].split(":")[0]
    assert {word.strip(" `\n") for word in documented.split(",")} == set(UNREADABLE_REASONS)


@pytest.mark.parametrize(
    ("dead", "known", "remedy", "says"),
    [
        (letter(cancel_order("o-1"), "too_late"), Known.NOTHING, Remedy.NOTHING, "final"),
        (of_stock(reserve_stock("o-1"), FAULTY), Known.NOTHING, Remedy.REPLAY, "mend the bug"),
        (of_stock(reserve_stock("o-1"), FAULTY), Known.OBEYED, Remedy.NOTHING, "inbox of stock"),
        (of_stock(b"{}", "invalid"), Known.NOTHING, Remedy.EDIT, "a saga waits for it"),
        (of_stock(b"{}", "invalid"), Known.OTHERWISE, Remedy.NOTHING, "which counts"),
        (letter(b"{}", "invalid"), Known.NOTHING, Remedy.EDIT, "nobody can read it"),
        (letter(b'{"type":"X"}', "unknown_type"), Known.NOTHING, Remedy.EDIT, "that type"),
        (letter(cancel_order("o-1"), "invalid"), Known.NOTHING, Remedy.REPLAY, "by now"),
        (letter(place_order("o-1"), "invalid"), Known.NOTHING, Remedy.EDIT, "another orderId"),
        (
            letter(b'{"type":"PlaceOrder","orderId":"o-1"}', "invalid"),
            Known.NOTHING, Remedy.EDIT, "another orderId",
        ),
        (letter(place_order("o-1"), "someday"), Known.NOTHING, Remedy.REPLAY, "see the error"),
        (
            letter(b"x", "too_large", **{"dlq-value-sha256": "0"}),
            Known.NOTHING, Remedy.EDIT, "only the beginning",
        ),
        (letter(b"x", "invalid", origin="else.v1"), Known.NOTHING, Remedy.NOTHING, "it came"),
        (
            letter(b"x", "invalid", origin="stock.dlq.v1"),
            Known.NOTHING, Remedy.NOTHING, "letter at stock.dlq.v1/3/17",
        ),
    ],
)  # fmt: skip
def test_advice(dead: Letter, known: Known, remedy: Remedy, says: str) -> None:
    found = advise(dead, known)
    assert (found.remedy, says in found.why) == (remedy, True), found


def test_what_was_obeyed_or_is_too_old_is_sent_with_force_only() -> None:
    dead = of_stock(reserve_stock("o-1"), FAULTY)
    assert isinstance(judge(dead, Known.NOTHING, RULES), Due)
    assert judge(dead, Known.OBEYED, RULES).kind == "obeyed already"  # type: ignore[union-attr]
    assert isinstance(judge(dead, Known.OBEYED, RULES._replace(force=True)), Due)
    old = letter(cancel_order("o-1"), "unknown_order", at_ms=NOW_MS - 8 * DAY_MS - 1)
    left = judge(old, Known.NOTHING, RULES)
    assert isinstance(left, Left)
    assert (left.kind, "--force" in left.why) == ("too old", True)
    assert isinstance(judge(old, Known.NOTHING, RULES._replace(force=True)), Due)
    assert isinstance(judge(old, Known.NOTHING, RULES._replace(remembered_s=9 * 86_400)), Due)
    just = letter(cancel_order("o-1"), "unknown_order", at_ms=NOW_MS - 8 * DAY_MS)
    assert isinstance(judge(just, Known.NOTHING, RULES), Due)


@pytest.mark.parametrize("rules", [RULES, GROUP])
def test_a_saga_s_letter_that_no_inbox_was_asked_for_needs_force(rules: Rules) -> None:
    dead = of_stock(reserve_stock("o-1"), FAULTY)
    broken = of_stock(b'{"type":"ReserveStock","commandId":"o-1:reserve:do"}', "invalid")
    for left in (
        judge(dead, Known.NOT_ASKED, rules),
        edited(broken, reserve_stock("o-1"), Known.NOT_ASKED, rules),
    ):
        assert isinstance(left, Left)
        assert left.kind == "not asked for"
        assert "only the inbox of stock tells, and DATABASE_URL is not set" in left.why
        assert "`export $(make -s env)` sets it; --force" in left.why
    forced = rules._replace(force=True)
    assert isinstance(judge(dead, Known.NOT_ASKED, forced), Due)
    assert isinstance(edited(broken, reserve_stock("o-1"), Known.NOT_ASKED, forced), Due)
    request = letter(cancel_order("o-1"), "unknown_order")
    assert isinstance(judge(request, Known.NOT_ASKED, rules), Due), "nobody sends it again"


def test_a_group_leaves_what_would_be_refused_again_and_a_place_does_not() -> None:
    final = letter(cancel_order("o-1"), "too_late")
    assert isinstance(judge(final, Known.NOTHING, RULES), Due)
    left = judge(final, Known.NOTHING, GROUP)
    assert isinstance(left, Left)
    assert left.kind == "of no use"


@pytest.mark.parametrize("rules", [RULES, GROUP, RULES._replace(force=True)])
def test_what_nobody_can_read_is_never_sent_as_it_is(rules: Rules) -> None:
    left = judge(letter(b"{}", "invalid"), Known.NOTHING, rules)
    assert isinstance(left, Left)
    assert left.kind == "unreadable"
    assert f"orderctl dlq replay {REQUESTS}/3/1234 --value" in left.why
    cut = letter(cancel_order("o-1"), "too_large", **{"dlq-value-sha256": "0"})
    assert isinstance(judge(cut, Known.NOTHING, rules), Left)


def test_an_edited_value_is_read_first_and_gets_its_own_key() -> None:
    dead = letter(b"{", "not_json", key=None)
    with pytest.raises(OperatorError, match=r"orderId: is missing; .* Nothing was sent"):
        edited(dead, b'{"type":"PlaceOrder"}')
    with pytest.raises(OperatorError, match="obeyed as PlaceOrder o-5"):
        edited(dead, place_order("o-5"), Known.OTHERWISE)
    due = edited(dead, place_order("o-5"))
    assert isinstance(due, Due)
    assert due.key == b"o-5"
    assert isinstance(edited(dead, place_order("o-5"), Known.OBEYED), Left)


def test_a_rejected_order_needs_another_id() -> None:
    dead = letter(b'{"type":"PlaceOrder","orderId":"o-1"}', "invalid")
    assert used_up(dead) == "o-1"
    with pytest.raises(OperatorError, match="another orderId"):
        edited(dead, place_order("o-1"))
    assert isinstance(edited(dead, place_order("o-9")), Due)
    assert used_up(letter(b'{"type":"CancelOrder","orderId":"o-1"}', "invalid")) is None
    assert used_up(letter(place_order("o-1"), "order_id_reused")) is None


def test_a_saga_message_keeps_its_ids() -> None:
    dead = of_stock(b'{"type":"ReserveStock","commandId":"o-1:reserve:do"}', "invalid")
    with pytest.raises(OperatorError, match="keep their commandId"):
        edited(dead, reserve_stock("o-2"))
    nameless = of_stock(b"{}", "invalid")
    with pytest.raises(OperatorError, match="keep their orderId"):
        edited(nameless, reserve_stock("o-2"))
    assert isinstance(edited(dead, reserve_stock("o-1")), Due)


def test_a_replay_has_its_own_ids_its_trace_and_where_it_comes_from() -> None:
    message = reserve_stock("o-1")
    due = judge(of_stock(message, FAULTY, traceparent=TRACE), Known.NOTHING, RULES)
    assert isinstance(due, Due)
    (record,) = records([due], "ann", datetime(2026, 1, 31, tzinfo=UTC))
    assert (record.topic, record.key) == ("stock.commands.v1", b"o-1")
    assert record.value == message.to_bytes()
    assert dict(record.headers) == {
        "ce_specversion": b"1.0",
        "ce_source": b"orderctl",
        "ce_time": b"2026-01-31T00:00:00.000Z",
        "content-type": b"application/json",
        "ce_id": b"o-1:reserve:do",
        "ce_type": b"ReserveStock",
        "ce_subject": b"o-1",
        "traceparent": TRACE.encode(),
        "dlq-replayed-from": b"stock.dlq.v1/3/1234",
        "dlq-replayed-by": b"ann",
    }


def test_without_a_trace_none_is_made_up() -> None:
    due = judge(of_stock(reserve_stock("o-1"), FAULTY), Known.NOTHING, RULES)
    assert isinstance(due, Due)
    (record,) = records([due], "ann", datetime(2026, 1, 31, tzinfo=UTC))
    assert "traceparent" not in dict(record.headers)


def test_a_value_loses_the_line_end_of_its_editor_and_has_a_limit() -> None:
    assert read_value(b"{}\n") == b"{}"
    assert read_value(b"{}\r\n") == b"{}"
    assert read_value(b"x" * MAX_BYTES) == b"x" * MAX_BYTES
    with pytest.raises(OperatorError, match="at most 262144"):
        read_value(b"x" * (MAX_BYTES + 1))


def test_identities() -> None:
    message = place_order("o-1")
    found = identity_of(message)
    assert found == Identity("PlaceOrder", "o-1", message.fingerprint())
    broken = of_stock(b'{"type":"ReserveStock","commandId":"o-1:reserve:do"}', "invalid").read()
    assert identity_of(broken) == Identity("ReserveStock", "o-1:reserve:do", None)
    assert identity_of(letter(b"{", "not_json").read()) is None
