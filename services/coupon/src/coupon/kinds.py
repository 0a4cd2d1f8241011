"""The five kinds of campaign, side by side. Postgres decides in each, on the campaign's row; they
differ in what comes before.

    first_come    gate ──▶ lock the row ──▶ issue           whoever is admitted first
                    └──▶ turned away: nothing is locked
    conditional   rule ──▶ gate, as above                   whoever the rule admits, and is first
    queued        queue ──▶ lock the row ──▶ issue          whoever lay first on the partition
    locked        lock in Redis, token ──▶ lock the row,    whoever comes while nobody else issues
                  compare the token ──▶ issue
    lottery       enter … close … draw ──▶ issue            whom the draw chose

A gate in Redis admits as many users as there are coupons, each once, and turns the rest away
before they queue at the row. What it says is never the last word: `sold_out` is said where the row
says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from shared.contracts.coupon import CampaignKind

if TYPE_CHECKING:
    from collections.abc import Mapping


class Way(NamedTuple):
    """What a kind does before a coupon is issued."""

    asks_gate: bool = False
    """A gate in Redis admits, before the transaction."""
    queues: bool = False
    """Chunks wait in a queue before they lock the row: they are served in the order in which they
    came, and those who wait for a row alone aren't."""
    takes_lock: bool = False
    """One instance at a time works on the campaign: it holds a lock in Redis, and a fencing token
    from the campaign's row."""
    draws: bool = False
    """Users enter, and a draw issues."""


WAYS: Final[Mapping[CampaignKind, Way]] = {
    CampaignKind.FIRST_COME: Way(asks_gate=True),
    CampaignKind.CONDITIONAL: Way(asks_gate=True),
    CampaignKind.QUEUED: Way(queues=True),
    CampaignKind.LOCKED: Way(takes_lock=True),
    CampaignKind.LOTTERY: Way(draws=True),
}
