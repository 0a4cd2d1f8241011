"""Events that are to be delivered. Every method is called within a step of the store."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway_simulator.records import Charge, Refund, moment

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway_simulator.store import Store

FIRST_PAUSE_MS: Final = 500
LONGEST_PAUSE_MS: Final = 30_000
GIVEN_UP_AFTER_MS: Final = 3_600_000
LEASE_MS: Final = 5_000
"""How long a delivery may be under way; after a kill, what was under way comes again then."""

_ID_BYTES = 12
_FIRST, _SECOND = 0, 1


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event to be sent."""

    number: int
    url: str
    body: bytes
    forged: bool


class Outbox:
    """The events of the book, with what befalls each."""

    def __init__(self, store: Store, clock_ms: Callable[[], int]) -> None:
        """`clock_ms` tells milliseconds since the epoch."""
        self._store = store
        self._clock_ms = clock_ms

    def tell(
        self, record: Charge | Refund, url: str | None, mishap: str | None, copies: int
    ) -> None:
        """Write down the event that tells of the record as it is now.

        Shuffled: what tells of the processing is held back until the outcome is delivered; where
        there was no processing it is told of all the same, so that there is something to shuffle.
        """
        if url is None:
            return
        is_outcome = record.status != "processing"
        if mishap != "shuffle_webhooks":
            # a subject has at most these two
            self._write(record, record.status, url, mishap, copies, _SECOND * is_outcome)
        elif not is_outcome:
            self._write(record, record.status, url, mishap, copies, _SECOND, held=True)
        else:
            self._write(record, record.status, url, mishap, copies, _FIRST)
            released = self._store.execute(
                "UPDATE event SET due_ms = ? WHERE subject = ? AND state = 'pending'"
                " AND position = ?",
                (self._clock_ms(), record.id, _SECOND),
            ).rowcount
            if not released:
                self._write(record, "processing", url, mishap, copies, _SECOND)

    def lease(self, limit: int) -> list[Delivery]:
        """Events to be sent now; each is leased for `LEASE_MS`."""
        now = self._clock_ms()
        rows = self._store.execute(
            "SELECT number, url, body, forged FROM deliverable WHERE due_ms <= ?"
            " ORDER BY due_ms LIMIT ?",
            (now, limit),
        ).fetchall()
        for row in rows:
            self._store.execute(
                "UPDATE event SET due_ms = ?, attempts = attempts + 1 WHERE number = ?",
                (now + LEASE_MS, row[0]),
            )
        return [Delivery(row[0], row[1], row[2].encode(), bool(row[3])) for row in rows]

    def next_due_ms(self) -> int | None:
        """When the next event is to be sent; None where nothing waits."""
        due: int | None = self._store.value(
            "SELECT due_ms FROM deliverable ORDER BY due_ms LIMIT 1"
        )
        return due

    def taken(self, number: int) -> None:
        """The receiver took it: further copies follow at once."""
        self._store.execute(
            "UPDATE event SET copies = copies - 1, attempts = 0, due_ms = ?,"
            " state = iif(copies > 1, 'pending', 'delivered') WHERE number = ?",
            (self._clock_ms(), number),
        )

    def failed(self, number: int) -> None:
        """The receiver didn't take it: again after a pause that doubles, or given up."""
        now = self._clock_ms()
        attempts, created_ms = self._store.execute(
            "SELECT attempts, created_ms FROM event WHERE number = ?", (number,)
        ).fetchone()
        state = "given_up" if now - created_ms > GIVEN_UP_AFTER_MS else "pending"
        self._store.execute(
            "UPDATE event SET due_ms = ?, state = ? WHERE number = ?",
            (now + pause_ms(attempts), state, number),
        )

    def _write(
        self,
        record: Charge | Refund,
        status: str,
        url: str,
        mishap: str | None,
        copies: int,
        position: int,
        *,
        held: bool = False,
    ) -> None:
        now = self._clock_ms()
        kind = "charge" if isinstance(record, Charge) else "refund"
        data = record.shown()
        if status != record.status:  # told of as it would have been before its outcome
            data |= {"status": status} | ({"declineCode": None} if kind == "charge" else {})
        body = {
            "id": f"evt_{secrets.token_hex(_ID_BYTES)}",
            "type": f"{kind}.{status}",
            "createdAt": moment(now),
            "data": data,
        }
        self._store.execute(
            "INSERT INTO event (subject, position, url, body, copies, forged, state, created_ms,"
            " due_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.id, position, url, json.dumps(body, separators=(",", ":")), copies,
                mishap == "bad_signature",
                "dropped" if mishap == "drop_webhooks" else "pending", now, None if held else now,
            ),
        )  # fmt: skip


def pause_ms(attempts: int) -> int:
    """After so many attempts in vain."""
    return min(FIRST_PAUSE_MS << min(attempts - 1, 20), LONGEST_PAUSE_MS)
