"""Whatever sequence of requests, kills and faults: a key charges once, refunds never exceed."""

from __future__ import annotations

import itertools
import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway_simulator.admin import sums
from gateway_simulator.book import Book
from gateway_simulator.fault_memory import FaultMemory
from gateway_simulator.faults import Faults, fate
from gateway_simulator.outbox import Outbox
from gateway_simulator.problems import Refusal
from gateway_simulator.records import Charge, ChargeBody, Fate, Refund, RefundBody
from gateway_simulator.store import Store

if TYPE_CHECKING:
    from gateway_simulator.faults import Rule

RETENTION_S = 100.0
KEYS = [f"k-{number}" for number in range(4)]
REQUEST_FAULTS = ("decline", "wrong_amount", "wrong_currency", "late", "processing")
WEBHOOK_FAULTS = ("duplicate_webhooks", "shuffle_webhooks", "drop_webhooks", "bad_signature")


class Desk:
    """A book in a file, by a clock that is set by hand."""

    def __init__(self, folder: Path) -> None:
        self.now_ms = 1_000_000
        self._path = folder / "book.sqlite"
        self.open()

    def open(self) -> None:
        self.store = Store(self._path)
        self.outbox = Outbox(self.store, lambda: self.now_ms)
        self.book = Book(
            self.store, self.outbox, key_retention_s=RETENTION_S, clock_ms=lambda: self.now_ms
        )
        self.faults = FaultMemory(self.store)

    def kill(self) -> None:
        """As kill -9: what isn't committed is gone."""
        self.store._connection.close()
        self.open()

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.store.execute(statement, values).fetchall()

    def take(self, key: str, body: ChargeBody | RefundBody, what: Fate | None = None) -> Any:
        """Committed at once; the record."""
        with self.store.step():
            taken = self.book.take(key, body, what or Fate())
        self.store.commit()
        return taken.record


class Life(RuleBasedStateMachine):
    """Requests of all kinds, under faults, with kills before and after the commit."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.desk = Desk(Path(self._folder.name))
        self.charges: list[str] = []
        self.answered: dict[str, tuple[int, str, Any]] = {}
        """By key: when, with which id, and for which body it was answered first."""

    def teardown(self) -> None:
        self.desk.store.close()
        self._folder.cleanup()

    @rule(
        request=st.sampled_from([None, *REQUEST_FAULTS]),
        webhook=st.sampled_from([None, *WEBHOOK_FAULTS]),
        share=st.sampled_from([0.5, 1.0]),
        seed=st.integers(0, 3),
    )
    def set_faults(self, request: str | None, webhook: str | None, share: float, seed: int) -> None:
        rules = [
            {"fault": fault, "share": share, "seconds": 5} for fault in (request, webhook) if fault
        ]
        with self.desk.store.step():
            self.desk.faults.replace(Faults.model_validate({"seed": seed, "rules": rules}))

    @rule(
        key=st.sampled_from(KEYS),
        amount=st.sampled_from([1, 500]),
        killed=st.sampled_from([None, None, "before", "after"]),
    )
    def charge(self, key: str, amount: int, killed: str | None) -> None:
        body = ChargeBody(
            amount=amount, currency="KRW", reference="o", customer="ann",
            callbackUrl="http://127.0.0.1:1/",
        )  # fmt: skip
        self._request(key, body, killed)

    @precondition(lambda self: self.charges)
    @rule(
        key=st.sampled_from(KEYS),
        amount=st.sampled_from([1, 250, 500]),
        data=st.data(),
        killed=st.sampled_from([None, None, "before", "after"]),
    )
    def refund(self, key: str, amount: int, data: st.DataObject, killed: str | None) -> None:
        charge = data.draw(st.sampled_from(self.charges))
        self._request(key, RefundBody(amount=amount, currency="KRW", charge=charge), killed)

    @rule(seconds=st.sampled_from([1, 10, RETENTION_S + 1]))
    def time_passes(self, seconds: float) -> None:
        self.desk.now_ms += int(seconds * 1_000)

    @rule()
    def what_is_due_is_applied(self) -> None:
        with self.desk.store.step():
            self.desk.book.apply_due()
        self.desk.store.commit()

    @rule()
    def kill(self) -> None:
        self.desk.kill()

    def _request(self, key: str, body: Any, killed: str | None) -> None:
        desk = self.desk
        operation = "charge" if isinstance(body, ChargeBody) else "refund"
        try:
            with desk.store.step():
                drawn = desk.faults.draw(operation, key)  # type: ignore[arg-type]
                record = self._apply(key, body, drawn.request, drawn.webhook)
        except Refusal as refusal:
            if refusal.code == "idempotency_key_reused":
                assert not self._remembered(key) or self.answered[key][2] != body
            return
        if killed == "before":
            desk.kill()
            return
        desk.store.commit()
        if killed == "after":
            desk.kill()
        if record is not None:
            self._answer(key, body, record)

    def _apply(self, key: str, body: Any, rule: Rule | None, webhook: Rule | None) -> Any:
        what = fate(rule, webhook, body)
        if rule is not None and rule.fault == "late" and not self.desk.book.known(key, body):
            self.desk.book.postpone(key, body, what, rule.seconds or 0)
            return None
        return self.desk.book.take(key, body, what).record

    def _remembered(self, key: str) -> bool:
        return key in self.answered and self.desk.now_ms - self.answered[key][0] < RETENTION_S * 1e3

    def _answer(self, key: str, body: Any, record: Charge | Refund) -> None:
        if self._remembered(key):
            _, id_, first = self.answered[key]
            assert record.id == id_, "the same key, another answer"
            assert body == first, "another request, the same key"
        else:
            self.answered[key] = (record.created_ms, record.id, body)
        if isinstance(record, Charge) and record.id not in self.charges:
            self.charges.append(record.id)

    @invariant()
    def a_key_charges_once_while_it_is_remembered(self) -> None:
        for (key,) in self.desk.rows("SELECT DISTINCT key FROM charge"):
            moments = [
                row[0]
                for row in self.desk.rows(
                    "SELECT created_ms FROM charge WHERE key = ? ORDER BY number", key
                )
            ]
            for earlier, later in itertools.pairwise(moments):
                assert later - earlier >= RETENTION_S * 1_000

    @invariant()
    def refunds_are_counted_and_never_exceed(self) -> None:
        for amount, refunded, total in self.desk.rows(
            "SELECT amount, refunded, (SELECT coalesce(sum(amount), 0) FROM refund"
            " WHERE refund.charge = charge.number) FROM charge"
        ):
            assert refunded == total <= amount

    @invariant()
    def each_outcome_is_told_of_once(self) -> None:
        twice = self.desk.rows(
            "SELECT subject, position FROM event GROUP BY 1, 2 HAVING count(*) > 1"
        )
        assert twice == []
        untold = self.desk.rows(
            "SELECT count(*) FROM charge WHERE NOT EXISTS (SELECT 1 FROM event WHERE subject ="
            " printf('ch_%s%012d', ?, charge.number) AND json_extract(body, '$.type') ="
            " 'charge.' || status)",
            self.desk.store.tag,
        )
        assert untold == [(0,)]


Life.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestLife = Life.TestCase


@pytest.fixture
def desk(tmp_path: Path) -> Any:
    desk = Desk(tmp_path)
    yield desk
    desk.store.close()


def charge(amount: int = 1_000, **other: Any) -> ChargeBody:
    return ChargeBody(
        amount=amount, currency="KRW", reference="o-1", customer="ann",
        callbackUrl=other.get("url"),
    )  # fmt: skip


def test_the_book_refuses_what_the_code_might_let_pass(desk: Desk) -> None:
    record = desk.take("k", charge())
    refund = (
        "INSERT INTO refund (key, charge, status, amount, currency, created_ms, copies)"
        " VALUES ('r', 1, 'succeeded', ?, 'KRW', 0, 1)"
    )
    with desk.store.step():
        desk.store.execute(refund, (600,))
    for statement, values in (
        (refund, (401,)),
        ("UPDATE charge SET status = 'declined', decline_code = 'x'", ()),
        ("INSERT INTO key VALUES ('k', 'f', 1, NULL, 0)", ()),
        ("INSERT INTO key VALUES ('k2', 'f', NULL, NULL, 0)", ()),
    ):
        with pytest.raises(sqlite3.IntegrityError), desk.store.step():
            desk.store.execute(statement, values)
    assert desk.book.charge(record.id).refunded == 600


def test_a_late_charge_whose_key_was_used_meanwhile_is_none(desk: Desk) -> None:
    with desk.store.step():
        desk.book.postpone("k", charge(), Fate(), 5)
    assert desk.book.charge_by_key("k") is None
    record = desk.take("k", charge())
    desk.now_ms += 5_000
    with desk.store.step():
        assert desk.book.apply_due() is None
    assert desk.rows("SELECT count(*) FROM charge") == [(1,)]
    assert desk.book.charge_by_key("k") == record


def test_a_forgotten_key_makes_a_new_charge_and_the_old_one_stays(desk: Desk) -> None:
    first = desk.take("k", charge())
    desk.now_ms += int(RETENTION_S * 1_000)
    assert desk.book.charge_by_key("k") is None
    second = desk.take("k", charge(amount=7))
    assert second.id != first.id
    assert desk.book.charge_by_key("k") == second
    assert desk.book.charge(first.id) == first
    desk.store.commit()
    assert sums(desk.store.path)["double_charges"] == 1, "one reference, two captured charges"


def test_another_book_knows_no_id_of_this_one(desk: Desk, tmp_path: Path) -> None:
    record = desk.take("k", charge())
    (tmp_path / "other").mkdir()
    other = Desk(tmp_path / "other")
    assert other.take("k", charge()).id != record.id
    with pytest.raises(Refusal, match="charge_not_found"):
        other.book.charge(record.id)
    other.store.close()


def test_the_pages_of_the_book_hold_everything_once(desk: Desk) -> None:
    ids = [desk.take(f"k-{number}", charge()).id for number in range(5)]
    refund = desk.take("r", RefundBody(amount=10, currency="KRW", charge=ids[3]))
    found: list[dict[str, Any]] = []
    after = None
    while True:
        page = desk.book.page(after, 2)
        found += page["charges"]
        after = page["next"]
        if after is None:
            break
    assert [one["id"] for one in found] == ids
    assert [one["refunds"] for one in found] == [[], [], [], [refund.shown()], []]


def test_faults_and_their_counts_outlive_a_kill(desk: Desk) -> None:
    rules = [{"fault": "throttle", "times": 2}]
    with desk.store.step():
        desk.faults.replace(Faults.model_validate({"rules": rules}))
        assert desk.faults.draw("charge", "a").request is not None
    desk.store.commit()
    desk.kill()
    with desk.store.step():
        assert desk.faults.shown()["rules"][0]["struck"] == 1
        assert desk.faults.draw("charge", "b").request is not None
        assert desk.faults.draw("charge", "c").request is None


def sent(desk: Desk) -> list[str]:
    """The types of all events in the order in which they are sent, each taken at once."""
    found = []
    while deliveries := desk.outbox.lease(10):
        for delivery in deliveries:
            kind = desk.rows(
                "SELECT json_extract(body, '$.type') FROM event WHERE number = ?", delivery.number
            )
            found.append(kind[0][0])
            desk.outbox.taken(delivery.number)
    return found


@pytest.mark.parametrize(
    ("what", "types"),
    [
        (Fate(), ["captured"]),
        (Fate(status="declined", decline_code="x"), ["declined"]),
        (Fate(status="processing", settle_s=5), ["processing", "captured"]),
        (Fate(mishap="drop_webhooks"), []),
        (Fate(mishap="duplicate_webhooks", copies=3), ["captured"] * 3),
        (Fate(mishap="shuffle_webhooks"), ["captured", "processing"]),
        (
            Fate(status="processing", settle_s=5, mishap="shuffle_webhooks"),
            ["captured", "processing"],
        ),
    ],
)
def test_what_is_told_of_a_charge(desk: Desk, what: Fate, types: list[str]) -> None:
    desk.take("k", charge(url="http://127.0.0.1:1/"), what)
    early = sent(desk)
    desk.now_ms += 5_000
    with desk.store.step():
        desk.book.apply_due()
    assert early + sent(desk) == [f"charge.{one}" for one in types]
    assert desk.outbox.next_due_ms() is None


def test_an_event_waits_for_the_one_before_it_and_longer_each_time(desk: Desk) -> None:
    what = Fate(status="processing", settle_s=0)
    desk.take("k", charge(url="http://127.0.0.1:1/"), what)
    with desk.store.step():
        desk.book.apply_due()
    pauses = []
    for _ in range(4):
        (delivery,) = desk.outbox.lease(10)
        assert b'"charge.processing"' in delivery.body
        desk.outbox.failed(delivery.number)
        due = desk.outbox.next_due_ms()
        assert due is not None
        pauses.append(due - desk.now_ms)
        desk.now_ms = due
    assert pauses == [500, 1_000, 2_000, 4_000]
    desk.now_ms += 3_600_000
    (delivery,) = desk.outbox.lease(10)
    desk.outbox.failed(delivery.number)
    assert sent(desk) == ["charge.captured"], "the other one is given up"
