"""What was found out about a chunk before its transaction. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from coupon.gates import Ask
    from coupon.records import Campaign, Judged


class Asked(NamedTuple):
    """What gates, locks and a first look at the rows said."""

    admitted: Mapping[str, Ask]
    """By the command's id."""
    turned_away: frozenset[str]
    """Commands that need no coupon any more: a gate is full, or the row said no."""
    fences: Mapping[str, int]
    """At which campaigns were asked about. They are saved at these alone."""
    queued: frozenset[str]
    """Campaigns that are waited for in a queue."""
    judged: Mapping[str, Judged]
    """What rules said, by the command's id."""

    def fence_of(self, campaign: Campaign) -> int:
        """The fence that the row must still have when it is saved; `campaign` is as it is
        locked."""
        return self.fences.get(campaign.coupon_id, campaign.fence)

    def in_vain(self, issued: Iterable[str]) -> list[Ask]:
        """Admissions that came to nothing, to be given back; `issued` are the commands that got a
        coupon."""
        kept = set(issued)
        return [ask for command_id, ask in self.admitted.items() if command_id not in kept]


NOTHING_ASKED: Final = Asked({}, frozenset(), {}, frozenset(), {})
