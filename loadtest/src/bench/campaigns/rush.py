"""One rush: what the users ask, what they are told, and what the broker knows of both."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bench.bus import Answer, kind_of
from bench.campaigns.fairness import Arrival, fairness
from bench.campaigns.plan import Keying
from bench.campaigns.record import RushRepeat
from bench.errors import BenchError
from bench.latencies import counted
from bench.phases import SILENCE_S, binned, expect
from bench.record import Repeat, Usage
from shared.contracts.coupon import CouponRefusal
from shared.contracts.lottery import winners

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.bus import Outgoing, Stored
    from bench.campaigns.crowd import Rush
    from bench.phases import Ground

ADMIN, REQUESTS, EVENTS = "coupon.admin.v1", "coupon.requests.v1", "coupon.events.v1"
STAMPED: Final = (ADMIN, REQUESTS, EVENTS)
"""Topics whose timestamps have to be the broker's."""
ISSUED, REFUSED = "CouponIssued", "CouponRefused"
ENTERED, DRAWN = "LotteryEntered", "LotteryDrawn"
PERIOD_S: Final = 0.2
"""Between readings of processor times: a rush lasts about a second."""


class Event(NamedTuple):
    """A message as it lies on the broker."""

    kind: str
    body: Mapping[str, Any]
    arrival: Arrival

    @property
    def command_id(self) -> str:
        """Its own, or that of the command which it answers."""
        return str(self.body["commandId"])


class Exchange(NamedTuple):
    """What was asked at once, and what came of it."""

    asked: Sequence[Event]
    answers: Sequence[Event]
    usage: Usage
    """From the first message to the last answer."""
    wal_bytes: int

    @property
    def began_ms(self) -> int:
        """When the broker had the first message."""
        return min(one.arrival.at_ms for one in self.asked)


async def rush(ground: Ground, wanted: Rush) -> RushRepeat:
    """Let all users ask at once. Raises BenchError where other answers come than expected."""
    keyed = wanted.keying is Keying.CAMPAIGN
    entries = {ENTERED: wanted.users}
    verdicts = {ISSUED: wanted.coupons, REFUSED: wanted.users - wanted.coupons}
    expected = entries if wanted.draws else verdicts
    asked = await exchange(ground, REQUESTS, wanted.requests(), expected, keyed=keyed)
    if not wanted.draws:
        return found(wanted, asked, asked)
    drawn = await exchange(ground, ADMIN, [wanted.draw()], {DRAWN: 1, ISSUED: wanted.coupons})
    return found(wanted, asked, drawn)


async def exchange(
    ground: Ground,
    topic: str,
    messages: Sequence[Outgoing],
    expected: Mapping[str, int],
    *,
    keyed: bool = True,
) -> Exchange:
    """Publish messages at once to readers that are at rest, and read what came of them."""
    async with ground.phase():
        asked_since, since = await ground.bus.ends(topic), await ground.bus.ends(EVENTS)
        async with ground.meter.reading(PERIOD_S):
            start = time.time()
            await ground.bus.publish_in_turn(topic, messages, keyed=keyed)
            await ground.bus.grown(since, sum(expected.values()), within_s=SILENCE_S)
    answers = [_event(one) for one in await ground.bus.records(since)]
    expect([Answer(one.kind, "", one.arrival.at_ms) for one in answers], expected)
    last_ms = max(one.arrival.at_ms for one in answers)
    return Exchange(
        asked=[_event(one) for one in await ground.bus.records(asked_since)],
        answers=answers,
        usage=ground.meter.usage(start, last_ms / 1000),
        wal_bytes=ground.wal_bytes,
    )


def found(wanted: Rush, asked: Exchange, given: Exchange) -> RushRepeat:
    """The figures of a rush; `given` is where coupons were given out. Raises BenchError where they
    would be of other work."""
    coupons = [one for one in given.answers if one.kind == ISSUED]
    sequences = {one.command_id: int(one.body["sequence"]) for one in coupons}
    _expect_right(wanted, asked, given, sequences)
    arrivals = {one.command_id: one.arrival for one in asked.asked}
    fair = fairness(arrivals, sequences)
    first_ms = asked.began_ms
    answered = sorted(
        (one for one in asked.answers if one.kind in (ISSUED, REFUSED, ENTERED)),
        key=lambda one: one.arrival.at_ms,
    )
    moments_ms = [one.arrival.at_ms for one in answered]
    usage, wal_bytes = asked.usage, asked.wal_bytes
    if given is not asked:
        usage, wal_bytes = _both(usage, given.usage), wal_bytes + given.wal_bytes
    return RushRepeat(
        done=Repeat(
            messages=wanted.users,
            per_second=len(answered) / _took_ms(first_ms, moments_ms) * 1000,
            usage=usage,
            wal_bytes=wal_bytes,
            bins=binned(moments_ms),
            latency_ms=counted(
                one.arrival.at_ms + 1 - arrivals[one.command_id].at_ms for one in answered
            ),
        ),
        moments=len({one.at_ms for one in arrivals.values()}),
        asked_in_ms=_took_ms(first_ms, [one.at_ms for one in arrivals.values()]),
        issued=len(coupons),
        issued_in_ms=_took_ms(given.began_ms, [one.arrival.at_ms for one in coupons]),
        overtaken=fair.overtaken,
        inversions=fair.inversions,
        early=fair.early,
    )


def _took_ms(first_ms: int, moments_ms: Sequence[int]) -> int:
    """To the end of the last millisecond."""
    return max(moments_ms) + 1 - first_ms


def _expect_right(
    wanted: Rush, asked: Exchange, given: Exchange, sequences: Mapping[str, int]
) -> None:
    """Every request has one answer, numbers have no gap, and nobody is refused for another reason
    than that all coupons are gone; a draw is the one that anyone recomputes."""
    told = Counter(one.command_id for one in asked.answers)
    if told != Counter(one.command_id for one in asked.asked):
        raise BenchError(f"not every request of {wanted.campaign} has one answer")
    if sorted(sequences.values()) != list(range(1, wanted.coupons + 1)):
        raise BenchError(f"the coupons of {wanted.campaign} are not numbered without a gap")
    reasons = {one.body["reason"] for one in asked.answers if one.kind == REFUSED}
    if reasons - {CouponRefusal.SOLD_OUT}:
        raise BenchError(f"{wanted.campaign} refused users for {', '.join(sorted(reasons))}")
    for draw in (one for one in given.answers if one.kind == DRAWN):
        users = {str(one.body["userId"]): one.command_id for one in asked.answers}
        right = winners(str(draw.body["seed"]), users, wanted.coupons)
        if [users[one] for one in right] != sorted(sequences, key=sequences.__getitem__):
            raise BenchError(f"the winners of {wanted.campaign} are not those of its seed")


def _event(record: Stored) -> Event:
    arrival = Arrival(record.timestamp, record.partition, record.offset)
    return Event(kind_of(record), json.loads(record.value or b"{}"), arrival)


def _both(one: Usage, other: Usage) -> Usage:
    """What was used in two windows."""
    names = {**one.cpu_s, **other.cpu_s}
    return Usage(
        window_s=one.window_s + other.window_s,
        cpu_s={name: one.cpu_s.get(name, 0.0) + other.cpu_s.get(name, 0.0) for name in names},
        others_s=one.others_s + other.others_s,
        stolen_s=one.stolen_s + other.stolen_s,
    )
