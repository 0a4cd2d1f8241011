"""What was found out about a chunk before its transaction. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from coupon.gates import Ask
    from coupon.records import Campaign


class Asked(NamedTuple):
    """What gates, locks and a first look at the rows said."""

    admitted: Mapping[str, Ask]
    """By the command's id."""
    before: frozenset[str]
    """Commands among them that were admitted when they were asked about for the first time."""
    turned_away: frozenset[str]
    """Commands that need no coupon any more: a gate is full, or the row said no."""
    fences: Mapping[str, int]
    """At which campaigns were asked about. They are saved at these alone."""
    queued: frozenset[str]
    """Campaigns that are waited for in a queue."""

    def fence_of(self, campaign: Campaign) -> int:
        """The fence that the row must still have when it is saved; `campaign` is as it is
        locked."""
        return self.fences.get(campaign.coupon_id, campaign.fence)

    def in_vain(self, issued: Iterable[str], handled: Iterable[str]) -> list[Ask]:
        """Admissions that came to nothing, to be given back.

        `issued` and `handled` are commands: those that got a coupon, and those that were decided
        in this chunk. A duplicate that was admitted before may have got its coupon then.
        """
        kept = set(issued) | (self.before - set(handled))
        return [ask for command_id, ask in self.admitted.items() if command_id not in kept]


NOTHING_ASKED: Final = Asked({}, frozenset(), frozenset(), {}, frozenset())
