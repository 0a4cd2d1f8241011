"""Charges, refunds and keys. Every method is called within a step of the store."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from gateway_simulator.problems import Refusal, invalid
from gateway_simulator.records import (
    Charge,
    ChargeBody,
    Fate,
    Refund,
    RefundBody,
    number_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from gateway_simulator.outbox import Outbox
    from gateway_simulator.store import Store

_CHARGE: Final = (
    "number, key, status, amount, currency, reference, customer, refunded, decline_code, created_ms"
)
_REFUND: Final = "number, key, charge, status, amount, currency, created_ms"
_APPLIED_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Taken:
    """What a request came to: a new record, or the one that its key stands for."""

    record: Charge | Refund
    replayed: bool


class Book:
    """What was charged and refunded, under which key."""

    def __init__(
        self, store: Store, outbox: Outbox, *, key_retention_s: float, clock_ms: Callable[[], int]
    ) -> None:
        """`clock_ms` tells milliseconds since the epoch."""
        self._store = store
        self._outbox = outbox
        self._retention_ms = int(key_retention_s * 1_000)
        self._clock_ms = clock_ms

    def take(self, key: str, body: ChargeBody | RefundBody, fate: Fate) -> Taken:
        """Charge or refund, or tell what was done under this key.

        Raises Refusal: `idempotency_key_reused`, `charge_not_found`, `charge_not_captured`,
        `refund_exceeds_charge`, `invalid_request`; then nothing is remembered.
        """
        known = self.known(key, body)
        if known is not None:
            return Taken(known, replayed=True)
        if isinstance(body, ChargeBody):
            return Taken(self._charge(key, body, fate), replayed=False)
        return Taken(self._refund(key, body, fate), replayed=False)

    def known(self, key: str, body: ChargeBody | RefundBody) -> Charge | Refund | None:
        """What the key stands for. Raises Refusal where that was another request."""
        row = self._remembered(key, "fingerprint, charge, refund")
        if row is None:
            return None
        fingerprint, charge, refund = row
        if fingerprint != fingerprint_of(body):
            raise Refusal(
                422, "idempotency_key_reused", f"key {key!r} was used with another request"
            )
        return self._charge_at(charge) if charge is not None else self._refund_at(refund)

    def postpone(self, key: str, body: ChargeBody | RefundBody, fate: Fate, late_s: float) -> None:
        """Take the request without a trace, to be applied `late_s` seconds from now."""
        self._store.execute(
            "INSERT INTO late (operation, key, body, mishap, copies, due_ms)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (
                operation_of(body), key, body.model_dump_json(by_alias=True),
                fate.mishap, fate.copies, self._clock_ms() + int(late_s * 1_000),
            ),
        )  # fmt: skip

    def apply_due(self) -> int | None:
        """Apply what is late and settle what is processing, as far as it is due.

        Returns when the next is due, in milliseconds since the epoch; None where nothing waits.
        """
        now = self._clock_ms()
        for number, operation, key, text, mishap, copies in self._store.execute(
            "SELECT number, operation, key, body, mishap, copies FROM late WHERE due_ms <= ?"
            " ORDER BY due_ms, number LIMIT ?",
            (now, _APPLIED_AT_ONCE),
        ).fetchall():
            model = ChargeBody if operation == "charge" else RefundBody
            self._store.execute("DELETE FROM late WHERE number = ?", (number,))
            try:
                self.take(key, model.model_validate_json(text), Fate(mishap=mishap, copies=copies))
            except Refusal:  # there is nobody any more who could be told
                continue
        for table, settled in (("charge", "captured"), ("refund", "succeeded")):
            for (number,) in self._store.execute(
                f"SELECT number FROM {table} WHERE settle_ms <= ? LIMIT ?",  # noqa: S608
                (now, _APPLIED_AT_ONCE),
            ).fetchall():
                self._settle(table, number, settled)
        due: int | None = self._store.value(
            "SELECT min(due) FROM (SELECT min(due_ms) AS due FROM late"
            " UNION ALL SELECT min(settle_ms) FROM charge WHERE settle_ms IS NOT NULL"
            " UNION ALL SELECT min(settle_ms) FROM refund WHERE settle_ms IS NOT NULL)"
        )
        return due

    def charge_by_key(self, key: str) -> Charge | None:
        """The inquiry. A key that is forgotten, or was used for a refund, finds nothing."""
        row = self._remembered(key, "charge")
        return None if row is None or row[0] is None else self._charge_at(row[0])

    def refund_by_key(self, key: str) -> Refund | None:
        """The same for refunds."""
        row = self._remembered(key, "refund")
        return None if row is None or row[0] is None else self._refund_at(row[0])

    def charge(self, id_: str) -> Charge:
        """Raises Refusal `charge_not_found`."""
        number = number_of(self._store.tag, id_)
        row = None
        if number is not None:
            row = self._store.execute(
                f"SELECT {_CHARGE} FROM charge WHERE number = ?",  # noqa: S608
                (number,),
            ).fetchone()
        if row is None:
            raise Refusal(404, "charge_not_found", f"there is no charge {id_!r}")
        return Charge.of(self._store.tag, row)

    def page(self, starting_after: str | None, limit: int) -> dict[str, Any]:
        """Charges with their refunds in the order in which they were written.

        Raises Refusal where `starting_after` is no charge.
        """
        after = 0
        if starting_after is not None:
            self.charge(starting_after)
            after = number_of(self._store.tag, starting_after) or 0
        rows = self._store.execute(
            f"SELECT {_CHARGE} FROM charge WHERE number > ? ORDER BY number LIMIT ?",  # noqa: S608
            (after, limit + 1),
        ).fetchall()
        more, rows = len(rows) > limit, rows[:limit]
        charges = [Charge.of(self._store.tag, row).shown() | {"refunds": []} for row in rows]
        by_id = {charge["id"]: charge["refunds"] for charge in charges}
        if rows:
            for row in self._store.execute(
                f"SELECT {_REFUND} FROM refund WHERE charge BETWEEN ? AND ?"  # noqa: S608
                " ORDER BY number",
                (rows[0][0], rows[-1][0]),
            ):
                refund = Refund.of(self._store.tag, row)
                by_id[refund.charge].append(refund.shown())
        return {"charges": charges, "next": charges[-1]["id"] if more else None}

    def _charge(self, key: str, body: ChargeBody, fate: Fate) -> Charge:
        now = self._clock_ms()
        status = "captured" if fate.status == "done" else fate.status
        number = self._store.execute(
            "INSERT INTO charge (key, status, amount, currency, reference, customer, decline_code,"
            " created_ms, settle_ms, callback_url, mishap, copies)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                key, status, fate.amount or body.amount, fate.currency or body.currency,
                body.reference, body.customer, fate.decline_code, now,
                now + int(fate.settle_s * 1_000) if status == "processing" else None,
                body.callback_url, fate.mishap, fate.copies,
            ),
        ).lastrowid  # fmt: skip
        assert number is not None
        self._remember(key, body, "charge", number, now)
        charge = self._charge_at(number)
        self._outbox.tell(charge, body.callback_url, fate.mishap, fate.copies)
        return charge

    def _refund(self, key: str, body: RefundBody, fate: Fate) -> Refund:
        charge = self.charge(body.charge)
        if charge.status != "captured":
            raise Refusal(422, "charge_not_captured", f"{charge.id} is {charge.status}")
        if body.currency != charge.currency:
            raise invalid(f"currency: {charge.id} is in {charge.currency}")
        amount = fate.amount or body.amount
        left = charge.amount - charge.refunded
        if max(amount, body.amount) > left:
            raise Refusal(
                422, "refund_exceeds_charge", f"{left} {charge.currency} of {charge.id} are left"
            )
        now = self._clock_ms()
        processing = fate.status == "processing"
        number = self._store.execute(
            "INSERT INTO refund (key, charge, status, amount, currency, created_ms, settle_ms,"
            " callback_url, mishap, copies) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                key, number_of(self._store.tag, charge.id),
                "processing" if processing else "succeeded", amount, fate.currency or body.currency,
                now, now + int(fate.settle_s * 1_000) if processing else None,
                body.callback_url, fate.mishap, fate.copies,
            ),
        ).lastrowid  # fmt: skip
        assert number is not None
        self._remember(key, body, "refund", number, now)
        refund = self._refund_at(number)
        self._outbox.tell(refund, body.callback_url, fate.mishap, fate.copies)
        return refund

    def _settle(self, table: str, number: int, status: str) -> None:
        callback_url, mishap, copies = self._store.execute(
            f"UPDATE {table} SET status = ?, settle_ms = NULL WHERE number = ?"  # noqa: S608
            " RETURNING callback_url, mishap, copies",
            (status, number),
        ).fetchone()
        record = self._charge_at(number) if table == "charge" else self._refund_at(number)
        self._outbox.tell(record, callback_url, mishap, copies)

    def _remember(
        self,
        key: str,
        body: ChargeBody | RefundBody,
        kind: Literal["charge", "refund"],
        number: int,
        now: int,
    ) -> None:
        # A key that is remembered never gets here: what is replaced is past its retention.
        self._store.execute(
            "INSERT INTO key VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET fingerprint ="
            " excluded.fingerprint, charge = excluded.charge, refund = excluded.refund,"
            " created_ms = excluded.created_ms",
            (
                key, fingerprint_of(body),
                number if kind == "charge" else None, number if kind == "refund" else None, now,
            ),
        )  # fmt: skip

    def _remembered(self, key: str, columns: str) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._store.execute(
            f"SELECT {columns} FROM key WHERE name = ? AND created_ms > ?",  # noqa: S608
            (key, self._clock_ms() - self._retention_ms),
        ).fetchone()
        return row

    def _charge_at(self, number: int) -> Charge:
        statement = f"SELECT {_CHARGE} FROM charge WHERE number = ?"  # noqa: S608
        return Charge.of(self._store.tag, self._store.execute(statement, (number,)).fetchone())

    def _refund_at(self, number: int) -> Refund:
        statement = f"SELECT {_REFUND} FROM refund WHERE number = ?"  # noqa: S608
        return Refund.of(self._store.tag, self._store.execute(statement, (number,)).fetchone())


def operation_of(body: ChargeBody | RefundBody) -> Literal["charge", "refund"]:
    return "charge" if isinstance(body, ChargeBody) else "refund"


def fingerprint_of(body: ChargeBody | RefundBody) -> str:
    """The same for the same members, in whatever order and form they were written."""
    text = f"{operation_of(body)}{body.model_dump_json(by_alias=True)}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
