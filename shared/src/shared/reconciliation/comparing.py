"""Reads both books, compares them, and looks once more at each difference.

Ours is read first and then theirs, so what is charged meanwhile looks unknown to us. No lock and no
long snapshot would mend that, as the two books are on different machines. So each key under which
something differs is looked at again by itself: our row, the gateway's lines, and our row once more.
What differs while our row stood still does differ.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from shared.contracts.payment import CallKind as Kind
from shared.contracts.payment import CallState as State
from shared.reconciliation.lines import Lines, Sums, refund_line
from shared.reconciliation.rules import (
    DIFFERENCES,
    UNMOVED,
    Finding,
    Ours,
    Status,
    Theirs,
    Verdict,
    given_back_otherwise,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import asyncpg

    from shared.database import Connection
    from shared.reconciliation.gateway import Charge, GatewayBook
    from shared.reconciliation.lines import Group

ROWS_AT_ONCE: Final = 10_000
LISTED: Final = 100
"""Differences of one kind that are kept whole; of the others there is the number."""
STANDING_AT_MOST: Final = 1_000
"""Once so many differences stood the second look, the others are told as they were read: a book
that is gone would be asked for line by line."""
LOOKS_AT_MOST: Final = 5
"""At a row that changes each time: it is under way, which is no difference."""

_OURS: Final = """
SELECT kind, key, order_id, state, amount, currency, reference, quarantine, closed_by,
       extract(epoch FROM clock_timestamp() - created_at)::float8 AS age_s
FROM payment.gateway_call
"""
_PAGE: Final = f"{_OURS} WHERE key > $1 ORDER BY key LIMIT $2"
_ONE: Final = f"{_OURS} WHERE key = $1"
_KEYS: Final = {Kind.CHARGE: "payment:{}", Kind.REFUND: "refund:{}"}
"""Under which keys payment asks the gateway; the table's CHECK says the same."""


@dataclass(slots=True)
class Reconciliation:
    """What came of comparing the books."""

    our_lines: int = 0
    their_lines: int = 0
    ours: dict[str, Sums] = field(default_factory=dict)
    """Money that moved, by currency, as we know it."""
    theirs: dict[str, Sums] = field(default_factory=dict)
    """The same as the gateway tells it."""
    open: int = 0
    """Calls of which nobody knows yet what comes of them."""
    oldest_open_s: float | None = None
    """How long ago the oldest of those was intended."""
    counts: Counter[Verdict] = field(default_factory=Counter)
    """How many differences of each kind there are."""
    listed: dict[Verdict, list[Finding]] = field(default_factory=dict)
    """The first of each kind."""
    by_hand: int = 0
    """Lines that an operator closed, or that belong to those: no difference."""
    listed_by_hand: list[Finding] = field(default_factory=list)
    """The first of those."""

    @property
    def is_equal(self) -> bool:
        """Whether the books agree on all that is known."""
        return not self.counts

    @property
    def differences(self) -> list[Finding]:
        """Those that are listed, the worst first."""
        return [one for kind in DIFFERENCES for one in self.listed.get(kind, ())]

    def add(self, finding: Finding) -> None:
        """One more difference."""
        self.counts[finding.verdict] += 1
        listed = self.listed.setdefault(finding.verdict, [])
        if len(listed) < LISTED:
            listed.append(finding)

    def add_by_hand(self, finding: Finding) -> None:
        """One more line that an operator saw to."""
        self.by_hand += 1
        if len(self.listed_by_hand) < LISTED:
            self.listed_by_hand.append(finding)

    def add_open(self, age_s: float) -> None:
        """One more call without an outcome."""
        self.open += 1
        self.oldest_open_s = max(age_s, self.oldest_open_s or 0.0)


async def reconcile(
    database: Connection, book: GatewayBook, *, order_id: str | None = None
) -> Reconciliation:
    """Compare our book with the gateway's, or the lines of one order.

    `database` is the operator's. An order's lines are asked for by their keys, and by the charge
    that we were told of: a charge under a key that isn't ours shows in the whole book alone. Raises
    GatewayError and the errors of the database.
    """
    lines = Lines()
    try:
        comparing = _Comparing(database, book, lines)
        if order_id is None:
            await comparing.read()
            # It takes a while: who looks meanwhile whether the database answers has to run.
            await asyncio.to_thread(comparing.compare)
        else:
            for kind, key in _KEYS.items():
                lines.mark(kind, key.format(order_id))
        await comparing.look_again()
        return await asyncio.to_thread(comparing.result)
    finally:
        lines.close()


class _Comparing:
    """One comparison of the books."""

    def __init__(self, database: Connection, book: GatewayBook, lines: Lines) -> None:
        self._database = database
        self._book = book
        self._lines = lines
        self._found = Reconciliation()

    async def read(self) -> None:
        """All of both books, ours in the order of the keys."""
        after = ""
        while rows := await self._database.fetch(_PAGE, after, ROWS_AT_ONCE):
            self._lines.put_ours(_read(row) for row in rows)
            after = rows[-1]["key"]
        async for charges in self._book.pages():
            self._lines.put_charges(charges)

    def compare(self) -> None:
        """Count what is open, and mark the keys under which something differs."""
        for group in self._lines.groups():
            found = group.judged()
            if any(one.verdict.is_difference for one in found):
                self._lines.mark(group.kind, group.key)
            else:
                self._count(group, found)

    async def look_again(self) -> None:
        """At each key that is marked, and keep what stands."""
        for kind, key in self._lines.marked():
            stood = True
            if self._found.counts.total() < STANDING_AT_MOST:
                stood = await self._look(kind, key)
            group = self._lines.group(kind, key)
            if not stood:
                self._found.add_open(group.age_s)
                continue
            found = group.judged()
            self._count(group, found)
            for finding in found:
                if finding.verdict.is_difference and not self._is_told_otherwise(finding):
                    self._found.add(finding)

    def result(self) -> Reconciliation:
        """What was found, once everything was looked at."""
        found = self._found
        for captures in self._lines.charged_twice():
            ours = self._lines.group(Kind.CHARGE, captures[0].key).ours
            found.add(Finding(Verdict.CHARGED_TWICE, ours, tuple(captures)))
        found.our_lines, found.their_lines = self._lines.counts()
        found.ours, found.theirs = self._lines.sums()
        return found

    def _count(self, group: Group, found: Iterable[Finding]) -> None:
        """What is open, and what was closed by hand."""
        for finding in found:
            if finding.verdict is Verdict.OPEN:
                self._found.add_open(group.age_s)
            elif finding.verdict is Verdict.BY_HAND:
                self._found.add_by_hand(finding)

    def _is_told_otherwise(self, finding: Finding) -> bool:
        """Whether it is no difference, or one that says more, beside other lines of its charge."""
        ours, line = finding.ours, finding.theirs[0] if finding.theirs else None
        if finding.verdict is Verdict.MISSING_THERE and ours is not None:
            return ours.kind is Kind.REFUND and self._was_given_back_otherwise(ours)
        if finding.verdict is not Verdict.UNKNOWN_TO_US or line is None:
            return False
        if line.kind is Kind.CHARGE:
            captures = self._lines.captures(line.order_id) if line.order_id else ()
            return len(captures) > 1 and line in captures
        return self._is_accounted_for(line)

    def _is_accounted_for(self, refund: Theirs) -> bool:
        """Whether a refund that nobody here asked for is that of a charge which so moved nothing,
        here as there, or stands for the one that we asked for."""
        charge = self._lines.charge(refund.charge)
        if charge is None:
            return False
        own = self._lines.group(Kind.CHARGE, charge.key).ours
        if charge.is_returned and (own is None or own.state in UNMOVED):
            return True
        if own is None:
            return False
        asked = self._lines.group(Kind.REFUND, _KEYS[Kind.REFUND].format(own.order_id))
        if asked.ours is None or asked.theirs:
            return False
        return self._was_given_back_otherwise(asked.ours)

    def _was_given_back_otherwise(self, ours: Ours) -> bool:
        reference = ours.reference
        if reference is None:
            own = self._lines.group(Kind.CHARGE, _KEYS[Kind.CHARGE].format(ours.order_id)).ours
            reference = own.reference if own else None
        return reference is not None and given_back_otherwise(
            ours, self._lines.refunds_of(reference)
        )

    async def _look(self, kind: Kind, key: str) -> bool:
        """Read the lines under a key by themselves; whether ours stood still meanwhile."""
        for _ in range(LOOKS_AT_MOST):
            before = await self._own(key)
            await self._ask(kind, key, before)
            row = await self._database.fetchrow(_ONE, key)
            if row is not None:
                self._lines.put_ours([_read(row)])
            if before == (None if row is None else _read(row)[0]):
                return True
        return False

    async def _own(self, key: str) -> Ours | None:
        row = await self._database.fetchrow(_ONE, key)
        return None if row is None else _read(row)[0]

    async def _ask(self, kind: Kind, key: str, ours: Ours | None) -> None:
        """The gateway, by the key and by what else is known: a key may be forgotten, and a charge
        never is."""
        known = self._lines.group(kind, key).theirs
        charges = {line.charge for line in known}
        if ours is not None and ours.reference is not None:
            charges.add(ours.reference)
        asked = [await self._book.charge(charge_id) for charge_id in sorted(charges)]
        told: list[Charge] = [charge for charge in asked if charge is not None]
        if kind is Kind.CHARGE:
            told += await self._book.charges_of(key)
        self._lines.put_charges(told)
        if kind is Kind.REFUND:
            await self._ask_for_refunds(key, ours, told)

    async def _ask_for_refunds(
        self, key: str, ours: Ours | None, charges: Iterable[Charge]
    ) -> None:
        refunds = await self._book.refunds_of(key)
        owner = ours.order_id if ours else None
        for refund in refunds:
            charge = self._lines.charge(refund.charge)
            self._lines.put_theirs([refund_line(refund, charge.order_id if charge else owner)])
        if ours is not None and not self._lines.group(Kind.REFUND, key).theirs:
            self._lines.put_theirs(_forgotten(ours, charges, self._lines))


def _forgotten(ours: Ours, charges: Iterable[Charge], lines: Lines) -> Iterator[Theirs]:
    """What of a charge's refunds no line is known of, as a line: where one order alone is looked
    at, and the gateway has forgotten the key."""
    for charge in charges:
        left = charge.refunded - sum(line.amount for line in lines.refunds_of(charge.id))
        if left > 0:
            yield Theirs(
                Kind.REFUND, f"of {charge.id}", ours.key, Status.SUCCEEDED, left, charge.currency,
                charge.id, charge.reference,
            )  # fmt: skip


def _read(row: asyncpg.Record) -> tuple[Ours, float]:
    kind, key, order_id, state, *rest, age_s = row
    return Ours(Kind(kind), key, order_id, State(state), *rest), age_s
