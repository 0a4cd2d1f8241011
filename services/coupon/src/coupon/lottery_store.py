"""The tables of lotteries: one typed method for each named query."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from coupon.store import keys_of
from shared.database import Queries

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from coupon.records import CouponKey, Entry
    from shared.database import Connection, Write

queries = Queries("coupon", "sql/lotteries.sql")


class Owing(NamedTuple):
    """A drawn lottery that still owes coupons."""

    coupon_id: str
    issued: int
    winners: int


class Winner(NamedTuple):
    """Whom the draw chose; `command_id` is of the entry."""

    user_id: str
    command_id: str


class LotteryStore:
    """Loads and saves on one connection, inside the caller's transaction."""

    def __init__(self, connection: Connection) -> None:
        """Work on `connection`."""
        self._connection = connection

    async def entered(self, keys: Iterable[CouponKey]) -> set[CouponKey]:
        """Those of these users who entered already."""
        rows = await queries.entered.rows(self._connection, **keys_of(list(keys)))
        return {(row["coupon_id"], row["user_id"]) for row in rows}

    async def seeds(self, coupon_ids: Iterable[str]) -> dict[str, str]:
        """The seeds of these lotteries."""
        rows = await queries.read_seeds.rows(self._connection, coupon_ids=list(coupon_ids))
        return {row["coupon_id"]: row["seed"] for row in rows}

    async def lock_owing(self) -> Owing | None:
        """A drawn lottery that still owes coupons, locked; None where there is none, or others
        are at it."""
        row = await queries.lock_owing.row(self._connection)
        return None if row is None else Owing(*row)

    async def next_winners(self, owing: Owing, at_most: int) -> list[Winner]:
        """Those who get theirs next, in the order of the draw."""
        rows = await queries.next_winners.rows(
            self._connection, coupon_id=owing.coupon_id, issued=owing.issued, at_most=at_most
        )
        return [Winner(*row) for row in rows]

    def insert_entries(self, entries: Sequence[Entry]) -> Write:
        """Adds users to locked lotteries."""
        return queries.insert_entries.write(
            len(entries),
            **keys_of([row.key for row in entries]),
            numbers=[row.number for row in entries],
            command_ids=[row.command_id for row in entries],
            entered_ats=[row.entered_at for row in entries],
        )

    def insert_tickets(self, entries: Sequence[Entry]) -> Write:
        """Puts new entries into the order of the draw."""
        return queries.insert_tickets.write(
            len(entries),
            **keys_of([row.key for row in entries]),
            tickets=[row.ticket for row in entries],
        )

    def insert_seeds(self, seeds: Mapping[str, str]) -> Write:
        """Saves the seeds of new lotteries."""
        return queries.insert_seeds.write(
            len(seeds), coupon_ids=list(seeds), seeds=list(seeds.values())
        )

    def issue_to_winners(self, owing: Owing, issued: int) -> Write:
        """Saves how many coupons of a locked lottery are given out by now."""
        return queries.issue_to_winners.write(1, coupon_id=owing.coupon_id, issued=issued)
