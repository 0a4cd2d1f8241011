"""Both books in a temporary file that is gone with the connection: lines may be millions."""

from __future__ import annotations

import sqlite3
from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple

from shared.contracts.payment import CallKind as Kind
from shared.contracts.payment import CallState as State
from shared.reconciliation.rules import Ours, Status, Theirs, judge

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from shared.reconciliation.gateway import Charge, Refund
    from shared.reconciliation.rules import Finding

_TABLES: Final = """
PRAGMA journal_mode = OFF;
CREATE TABLE ours (
    kind TEXT, key TEXT, order_id TEXT, state TEXT, amount INTEGER, currency TEXT, reference TEXT,
    quarantine TEXT, closed_by TEXT, age_s REAL, PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE INDEX ours_closed ON ours (order_id) WHERE closed_by IS NOT NULL;
CREATE TABLE theirs (
    kind TEXT, id TEXT, key TEXT, status TEXT, amount INTEGER, currency TEXT, charge TEXT,
    order_id TEXT, refunded INTEGER, PRIMARY KEY (kind, key, id)
) WITHOUT ROWID;
CREATE INDEX theirs_charge ON theirs (charge);
CREATE INDEX theirs_captured ON theirs (order_id)
    WHERE kind = 'charge' AND status = 'captured' AND refunded <> amount;
CREATE TABLE again (kind TEXT, key TEXT, PRIMARY KEY (kind, key)) WITHOUT ROWID;
"""
_PUT_OURS: Final = "INSERT OR REPLACE INTO ours VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_PUT_THEIRS: Final = "INSERT OR REPLACE INTO theirs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_PAIRED: Final = """
SELECT ours.*, theirs.* FROM ours LEFT JOIN theirs USING (kind, key)
ORDER BY ours.kind, ours.key
"""
_THEIRS_ALONE: Final = """
SELECT * FROM theirs
WHERE NOT EXISTS (SELECT 1 FROM ours WHERE ours.kind = theirs.kind AND ours.key = theirs.key)
ORDER BY kind, key
"""
_OURS_OF_KEY: Final = "SELECT * FROM ours WHERE kind = ? AND key = ?"
_THEIRS_OF_KEY: Final = "SELECT * FROM theirs WHERE kind = ? AND key = ? ORDER BY id"
_OF_CHARGE: Final = "SELECT * FROM theirs WHERE charge = ? AND kind = ? ORDER BY id"
_RETURNED: Final = """
SELECT key FROM theirs INDEXED BY theirs_charge
WHERE charge = ? AND kind = 'charge' AND status = 'captured' AND refunded >= amount
"""
_IS_CLOSED: Final = """
SELECT 1 FROM ours INDEXED BY ours_closed
WHERE closed_by IS NOT NULL
  AND order_id = (SELECT order_id FROM ours WHERE kind = 'charge' AND key = ?)
"""
_TWICE: Final = """
SELECT order_id FROM theirs INDEXED BY theirs_captured
WHERE kind = 'charge' AND status = 'captured' AND refunded <> amount AND order_id IS NOT NULL
GROUP BY order_id HAVING count(*) > 1
"""
_CAPTURES: Final = """
SELECT * FROM theirs
WHERE kind = 'charge' AND status = 'captured' AND refunded <> amount AND order_id = ?
ORDER BY id
"""
_SUMS: Final = """
SELECT currency, sum(CASE kind WHEN 'charge' THEN amount ELSE 0 END),
       sum(CASE kind WHEN 'refund' THEN amount ELSE 0 END)
FROM {} GROUP BY currency ORDER BY currency
"""
_OURS_COLUMNS: Final = 10


class Sums(NamedTuple):
    """Money that moved, in minor units of one currency."""

    captured: int
    refunded: int

    @property
    def net(self) -> int:
        """What was taken and not given back."""
        return self.captured - self.refunded


class Group(NamedTuple):
    """All lines of one kind under one key."""

    kind: Kind
    key: str
    ours: Ours | None
    theirs: list[Theirs]
    age_s: float
    """How long ago we wrote ours; 0 where there is none."""
    returned: frozenset[str] = frozenset()
    """The charges that these lines are of, where their order was closed by hand and nothing of them
    is left at the gateway."""

    def judged(self) -> list[Finding]:
        """What is found of them."""
        return judge(self.ours, self.theirs, self.returned)


class Lines:
    """What was read of both books. Threads may use it one after the other."""

    def __init__(self) -> None:
        """Empty."""
        self._file = sqlite3.connect("", check_same_thread=False)
        self._file.executescript(_TABLES)

    def close(self) -> None:
        """Let go of all of it."""
        self._file.close()

    def put_ours(self, rows: Iterable[tuple[Ours, float]]) -> None:
        """Calls as we know them, each with its age in seconds; they replace what was known."""
        self._file.executemany(_PUT_OURS, [(*ours, age_s) for ours, age_s in rows])

    def put_charges(self, charges: Iterable[Charge]) -> None:
        """Charges as the gateway tells them, with what refunds it tells; they replace likewise."""
        rows: list[Theirs] = []
        for charge in charges:
            rows.append(charge_line(charge))
            rows.extend(refund_line(refund, charge.reference) for refund in charge.refunds)
        self.put_theirs(rows)

    def put_theirs(self, rows: Iterable[Theirs]) -> None:
        """Lines of the gateway's book; they replace what was known of them."""
        self._file.executemany(_PUT_THEIRS, rows)

    def groups(self) -> Iterator[Group]:
        """All lines by their keys."""
        for _, same in groupby(self._file.execute(_PAIRED), lambda row: row[:2]):
            pairs = list(same)
            told = [row[_OURS_COLUMNS:] for row in pairs if row[_OURS_COLUMNS] is not None]
            ours, age_s = _ours(pairs[0][:_OURS_COLUMNS])
            yield self._group(ours.kind, ours.key, ours, list(map(_theirs, told)), age_s)
        alone = map(_theirs, self._file.execute(_THEIRS_ALONE))
        for (kind, key), lines in groupby(alone, lambda line: (line.kind, line.key)):
            yield self._group(kind, key, None, list(lines), 0.0)

    def group(self, kind: Kind, key: str) -> Group:
        """The lines under one key, or none."""
        row = self._file.execute(_OURS_OF_KEY, (kind, key)).fetchone()
        theirs = list(map(_theirs, self._file.execute(_THEIRS_OF_KEY, (kind, key))))
        ours, age_s = (None, 0.0) if row is None else _ours(row)
        return self._group(kind, key, ours, theirs, age_s)

    def _group(
        self, kind: Kind, key: str, ours: Ours | None, theirs: list[Theirs], age_s: float
    ) -> Group:
        charges: set[str] = set()
        if ours is not None and ours.closed_by is not None:
            charges = {line.charge for line in theirs} | {ours.reference or ""}
        elif kind is Kind.REFUND and (ours is None or ours.state is State.VOID):
            charges = {line.charge for line in theirs}
        returned = frozenset(charge for charge in charges if self._is_returned(charge))
        return Group(kind, key, ours, theirs, age_s, returned)

    def _is_returned(self, charge_id: str) -> bool:
        """Whether an order's charge was given back whole, and the order was closed by hand."""
        key: tuple[str] | None = self._file.execute(_RETURNED, (charge_id,)).fetchone()
        return key is not None and self._file.execute(_IS_CLOSED, key).fetchone() is not None

    def refunds_of(self, charge_id: str) -> list[Theirs]:
        """The refunds that are known of a charge."""
        return list(map(_theirs, self._file.execute(_OF_CHARGE, (charge_id, Kind.REFUND))))

    def charge(self, charge_id: str) -> Theirs | None:
        """A charge, as the gateway tells of it."""
        row = self._file.execute(_OF_CHARGE, (charge_id, Kind.CHARGE)).fetchone()
        return None if row is None else _theirs(row)

    def mark(self, kind: Kind, key: str) -> None:
        """To be looked at again."""
        self._file.execute("INSERT OR IGNORE INTO again VALUES (?, ?)", (kind, key))

    def marked(self) -> Iterator[tuple[Kind, str]]:
        """What is to be looked at again, by kind and key."""
        for kind, key in self._file.execute("SELECT kind, key FROM again ORDER BY kind, key"):
            yield Kind(kind), key

    def charged_twice(self) -> Iterator[list[Theirs]]:
        """The captures of each order of which several stand."""
        for (order_id,) in self._file.execute(_TWICE):
            yield self.captures(order_id)

    def captures(self, order_id: str) -> list[Theirs]:
        """The captures of an order in the gateway's book that weren't wholly given back."""
        return [_theirs(row) for row in self._file.execute(_CAPTURES, (order_id,))]

    def counts(self) -> tuple[int, int]:
        """How many lines there are of ours, and of theirs."""
        asked = "SELECT (SELECT count(*) FROM ours), (SELECT count(*) FROM theirs)"
        ours, theirs = self._file.execute(asked).fetchone()
        return ours, theirs

    def sums(self) -> tuple[dict[str, Sums], dict[str, Sums]]:
        """What moved by currency, as we know it and as they tell it."""
        moved = "(SELECT * FROM ours WHERE state = 'SUCCEEDED')"
        told = "(SELECT * FROM theirs WHERE status IN ('captured', 'succeeded'))"
        ours, theirs = (
            {currency: Sums(taken, back) for currency, taken, back in self._file.execute(asked)}
            for asked in (_SUMS.format(moved), _SUMS.format(told))
        )
        return ours, theirs


def charge_line(charge: Charge) -> Theirs:
    """A charge as a line of the book."""
    return Theirs(
        Kind.CHARGE, charge.id, charge.idempotency_key, Status(charge.status), charge.amount,
        charge.currency, charge.id, charge.reference, charge.refunded,
    )  # fmt: skip


def refund_line(refund: Refund, order_id: str | None) -> Theirs:
    """A refund as a line of the book. One that failed moved nothing, as a charge that was
    declined."""
    status = Status.DECLINED if refund.status == "failed" else Status(refund.status)
    return Theirs(
        Kind.REFUND, refund.id, refund.idempotency_key, status, refund.amount,
        refund.currency, refund.charge, order_id,
    )  # fmt: skip


def _ours(row: Iterable[object]) -> tuple[Ours, float]:
    kind, key, order_id, state, *rest, age_s = row
    ours = Ours(Kind(kind), key, order_id, State(state), *rest)  # type: ignore[arg-type]
    return ours, float(age_s)  # type: ignore[arg-type]


def _theirs(row: Iterable[object]) -> Theirs:
    kind, line, key, status, *rest = row
    return Theirs(Kind(kind), line, key, Status(status), *rest)  # type: ignore[arg-type]
