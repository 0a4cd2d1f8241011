"""Calls to the gateway: what is asked under a key, what may be sent when, and what an answer means.
Pure.

    INTENDED ─ sent, no answer ─▶ UNKNOWN ─ asked for by its key ─▶ SUCCEEDED, DECLINED
       │                           ▲   │
       │                           │   └─ the gateway doesn't know it ─▶ ABSENT
       └─ 429, expired: later      └──── sent again under the same key ────┘
    WAITING: a refund before its charge is known.  WATCHED: absent, and nobody wants it any more.
    VOID: never to be sent.  QUARANTINED: a person has to look.

What is said for certain (taken, declined, given back) counts whenever it is heard, and nothing
takes it back. That nothing was found counts only under the lease in which it was asked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, assert_never
from zlib import crc32

from shared.contracts.payment import CallKind, CallState

if TYPE_CHECKING:
    from payment.records import Charge
    from shared.contracts.payment import ChargePayment, RefundPayment


@dataclass(frozen=True, slots=True)
class Call:
    """One thing asked of the gateway, under one key for good: the row of `gateway_call`."""

    key: str
    order_id: str
    kind: CallKind
    state: CallState
    user_id: str
    amount: int
    currency: str
    command_id: str
    traceparent: str
    reference: str | None = None
    """The gateway's id of the charge."""
    callback_url: str | None = None
    """Where the gateway calls back. The request under a key is the same, whoever sends it."""
    quarantine: str | None = None
    owner: str | None = None
    """Whose lease it is under, until `next_at`."""
    attempt: int = 0
    sends: int = 0
    first_sent_at: datetime | None = None
    expires_at: datetime | None = None
    """When the gateway stops to take the last request that was sent."""
    next_at: datetime | None = None


class Captured(NamedTuple):
    """The charge was made."""

    reference: str
    amount: int
    currency: str


class Refunded(NamedTuple):
    """The money was given back."""

    amount: int
    currency: str


class Declined(NamedTuple):
    """The charge wasn't made and never will be."""

    code: str


class Absent(NamedTuple):
    """The gateway doesn't know the key."""


class Silent(NamedTuple):
    """No answer, or none that tells: a time-out, a lost connection, 5xx, still in process."""

    why: str
    is_failure: bool = True
    """Whether the gateway is at fault; it isn't where it is still at work."""


class NotTaken(NamedTuple):
    """The request came to nothing for certain: no connection, 429, expired."""

    why: str
    after_s: float | None = None
    """When the gateway asks to be left alone so long."""
    is_failure: bool = True


class Contradiction(NamedTuple):
    """The gateway says what can't be."""

    why: str


Fact: TypeAlias = Captured | Refunded | Declined | Contradiction
Answer: TypeAlias = Fact | Absent | Silent | NotTaken


class Finding(NamedTuple):
    """What was found out about a call, by asking or by a callback."""

    key: str
    answer: Answer
    attempt: int | None = None
    """Under which lease it was asked. None for a callback."""
    expires_at: datetime | None = None
    """When the request that was sent expires. None where nothing was sent."""
    leased_at: datetime | None = None
    """When that lease began: what was asked or sent under it, was so no earlier."""


class Lease(NamedTuple):
    """What a chunk may hand to the courier of its own instance as it is committed."""

    owner: str
    now: datetime
    until: datetime
    free: int
    """So many calls at most."""
    callback_url: str | None = None
    """Goes with calls that are intended now."""

    @classmethod
    def of_nobody(cls, now: datetime) -> Lease:
        """Where there is no courier: nothing is handed over."""
        return cls("", now, now, 0)


@dataclass(frozen=True, slots=True)
class Pace:
    """How calls are asked about."""

    first_pause: timedelta = timedelta(milliseconds=500)
    interval: timedelta = timedelta(seconds=15)
    """The reconciliation interval: pauses grow up to it, and what is watched is asked so often."""
    key_retention: timedelta = timedelta(hours=24)
    """The gateway knows a key for so long. A charge that is sent later could be made twice."""

    def pause(self, call: Call) -> timedelta:
        """Doubles with each attempt up to the interval, less up to half of it. The jitter comes
        from the key and the attempt."""
        doublings = min(max(call.attempt - 1, 0), 16)
        longest = min(self.first_pause * (1 << doublings), self.interval)
        return longest * (1 - crc32(f"{call.key}:{call.attempt}".encode()) / 2**33)

    def forgets(self, call: Call, now: datetime) -> bool:
        """Whether the gateway may not know the key any more."""
        return call.first_sent_at is not None and now >= call.first_sent_at + self.key_retention


CLOSED: Final = frozenset({CallState.SUCCEEDED, CallState.DECLINED, CallState.VOID})
RETURNED: Final = "returned"
"""The code of a charge that was captured and given back by somebody else: no money moved."""


def key_of(kind: CallKind, order_id: str) -> str:
    """The idempotency key, at the gateway and here."""
    return f"{'payment' if kind is CallKind.CHARGE else 'refund'}:{order_id}"


def intend(
    command: ChargePayment | RefundPayment,
    kind: CallKind,
    charge: Charge,
    lease: Lease | None,
    traceparent: str,
) -> Call:
    """A call about the gateway's part of `charge`, made for `command`, before anybody has it."""
    return Call(
        key_of(kind, command.order_id),
        command.order_id,
        kind,
        CallState.INTENDED,
        charge.user_id,
        charge.by_gateway,
        charge.currency,
        command.command_id,
        traceparent,
        callback_url=lease.callback_url if lease else None,
    )


def must_ask(call: Call, *, is_wanted: bool, until: datetime, pace: Pace) -> bool:
    """Whether the call is asked for by its key, or else sent before `until`, under the same key as
    ever. A charge that nobody wants any more is never sent, nor anything a second time where the
    gateway may have forgotten the first."""
    return not is_wanted or call.state is CallState.UNKNOWN or pace.forgets(call, until)


def learn(call: Call, finding: Finding, now: datetime, pace: Pace) -> Call:
    """What is known once `finding` is heard; the same call where it says nothing new."""
    answer = finding.answer
    match answer:
        case Captured() | Refunded() | Declined() | Contradiction():
            return _hear(_sent(call, finding, now), answer)
        case Absent() | Silent() | NotTaken():
            if call.owner is None or finding.attempt != call.attempt:
                return call
            return _release(call, finding, answer, now, pace)
        case _:
            assert_never(answer)


def _release(
    call: Call, finding: Finding, answer: Absent | Silent | NotTaken, now: datetime, pace: Pace
) -> Call:
    """Nobody has the lease any more, and it is looked at again after a pause."""
    pause = pace.pause(call)
    match answer:
        case NotTaken(after_s=after_s) if after_s is not None:
            pause = max(timedelta(seconds=after_s), pace.first_pause)
        case Absent() if call.state is not CallState.WATCHED:
            call = replace(call, state=CallState.ABSENT)
        case Silent() if call.state is CallState.WATCHED:
            pass
        case Silent() if finding.expires_at is not None or not answer.is_failure:
            call = replace(_sent(call, finding, now), state=CallState.UNKNOWN)
    return replace(call, owner=None, next_at=now + pause)


def _sent(call: Call, finding: Finding, now: datetime) -> Call:
    if finding.expires_at is None:
        return call
    return replace(
        call,
        sends=call.sends + 1,
        first_sent_at=call.first_sent_at or finding.leased_at or now,
        expires_at=finding.expires_at,
    )


def _hear(call: Call, fact: Fact) -> Call:
    match call.kind, fact:
        case CallKind.CHARGE, Captured():
            return _hear_captured(call, fact)
        case CallKind.CHARGE, Declined():
            if call.state in (CallState.SUCCEEDED, CallState.VOID):
                return call
            if call.reference is not None and fact.code != RETURNED:
                return call  # it was captured before: a person looks, whatever is said since
            return _closed(call, CallState.DECLINED)
        case CallKind.REFUND, Refunded():
            if call.state is CallState.SUCCEEDED:
                return call
            if (fact.amount, fact.currency) != (call.amount, call.currency):
                return quarantine(call, f"{fact.amount} {fact.currency} was given back")
            if call.state in (CallState.WAITING, CallState.VOID):
                return quarantine(call, "given back before it was asked for")
            return _closed(call, CallState.SUCCEEDED)
        case _, Contradiction():
            return call if call.state in CLOSED else quarantine(call, fact.why)
        case _:
            return call  # news of something else under this key


def _hear_captured(call: Call, fact: Captured) -> Call:
    if call.state is CallState.SUCCEEDED:
        return call
    if call.state is CallState.DECLINED and call.reference == fact.reference:
        return call  # it was given back since
    call = replace(call, reference=fact.reference)
    if (fact.amount, fact.currency) != (call.amount, call.currency):
        told = f"{fact.amount} {fact.currency} was captured, not {call.amount} {call.currency}"
        return quarantine(call, told)
    if call.state is CallState.DECLINED:
        return quarantine(call, "captured after it was declined")
    return _closed(call, CallState.SUCCEEDED)


def _closed(call: Call, state: CallState) -> Call:
    return replace(call, state=state, quarantine=None, owner=None, next_at=None)


def void(call: Call) -> Call:
    """Never to be sent."""
    return _closed(call, CallState.VOID)


def quarantine(call: Call, why: str) -> Call:
    """A person has to look."""
    return replace(
        call, state=CallState.QUARANTINED, quarantine=why[:200], owner=None, next_at=None
    )
