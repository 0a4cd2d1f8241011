"""Differences between the books in words: what each book says, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shared.contracts.payment import CallKind as Kind
from shared.contracts.payment import CallState as State
from shared.reconciliation.rules import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.reconciliation.rules import Finding, Ours, Theirs

RUNBOOK: Final = "docs/runbooks/gateway-differs.md"

TO_DO: Final[Mapping[Verdict, str]] = {
    Verdict.CHARGED_TWICE: (
        "somebody paid twice for one order: give all captures but one back at the gateway, at once"
    ),
    Verdict.CONTRADICTS: (
        "the books name one line differently: the gateway's says what moved; find out who is wrong"
        " before anything is sent"
    ),
    Verdict.MISSING_THERE: (
        "we hold that money moved and the gateway doesn't: ask its operator whether its book is"
        " whole"
    ),
    Verdict.UNKNOWN_TO_US: (
        "nobody here asked for it: find out who did, and give a capture back at the gateway"
    ),
    Verdict.LATE_CAPTURE: (
        "payment has not seen this capture yet: it is refunded within one reconciliation interval;"
        " `orderctl payment ask ORDER` where it stays"
    ),
    Verdict.QUARANTINED: (
        "a person has to look: `orderctl payment show ORDER`; once all is given back at the gateway"
        " `orderctl payment close ORDER`, once it is right there `orderctl payment ask ORDER`"
    ),
}
"""Of each difference, the first step."""


def here(finding: Finding) -> str:
    """What our book says."""
    return "nothing" if finding.ours is None else _ours(finding.ours)


def there(finding: Finding) -> str:
    """What the gateway's book says."""
    return "; ".join(map(_theirs, finding.theirs)) or "nothing"


def title(verdict: Verdict) -> str:
    """A difference by its name, as people read it."""
    return verdict.replace("_", " ")


def _ours(ours: Ours) -> str:
    parts = [ours.kind, ours.state, f"{ours.amount:,} {ours.currency}"]
    if ours.reference is not None:
        parts.append(ours.reference)
    if ours.state is State.QUARANTINED:
        parts.append(f"({ours.quarantine})")
    elif ours.closed_by is not None:
        parts.append(f"(closed by {ours.closed_by})")
    return " ".join(parts)


def _theirs(line: Theirs) -> str:
    told = f"{line.kind} {line.status} {line.amount:,} {line.currency} {line.id}"
    return f"{told} of {line.charge}" if line.kind is Kind.REFUND else told
