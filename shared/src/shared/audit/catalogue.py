"""The ten invariants as sentences, and what to do first where one is violated.

Which check covers which sentence: `docs/invariants.md`. What a violation means and how to go on:
`docs/runbooks/invariant-violated.md`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

RUNBOOK: Final = "docs/runbooks/invariant-violated.md"


class Sentence(NamedTuple):
    """An invariant in short, and the first step where it is violated."""

    text: str
    to_do: str


INVARIANTS: Final[dict[int, Sentence]] = {
    1: Sentence(
        "units: available + reserved + sold = received, none negative, and the ledger agrees",
        "stop selling the product (`orderctl stock write-off` what is available) and compare it"
        " with its movements",
    ),
    2: Sentence(
        "units sold exactly where confirmed, line by line; one live reservation per order and"
        " product, none of an ended order",
        "`orderctl show` the order, then `retry` it where it is stuck",
    ),
    3: Sentence(
        "coupons: at most N, N where as many asked, one per user, numbered 1 to their count;"
        " held and used by their orders",
        "end the campaign (PutCampaign with endsAt) before more are given out",
    ),
    4: Sentence(
        "money: each transaction sums to zero, no balance is negative, each is the sum of its"
        " entries",
        "stop the payment service; no entry is deleted, a wrong one is corrected by another",
    ),
    5: Sentence(
        "at most one capture per order: its total where it is confirmed, nothing elsewhere",
        "`orderctl payment show` the order: what is open settles by itself, what is quarantined or"
        " differs stands in docs/runbooks/gateway-differs.md; refund nothing by hand before",
    ),
    6: Sentence(
        "every accepted order has exactly one outcome event; every order that was told of exists",
        "`orderctl list` for stuck orders; else compare the order with its events",
    ),
    7: Sentence(
        "the history of each order is legal and gapless; what was done is undone, in reverse",
        "`orderctl show` the order and keep what it says before anybody acts on it",
    ),
    8: Sentence(
        "outboxes are empty; every consumed message is in an inbox or a dead-letter topic, not"
        " both",
        "look whether the service publishes (outbox_oldest_age_seconds) and what its log says",
    ),
    9: Sentence(
        "consumer lag is 0, and the counters in Redis equal Postgres",
        "look whether the group's service runs and is ready; then wait and audit again",
    ),
    10: Sentence(
        "no service's role can read another's schema",
        "take the right away (REVOKE) and find out who gave it",
    ),
}
"""Number -> sentence."""
