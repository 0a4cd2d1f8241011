"""Asks for a chunk before its transaction: first the rows, then gates and locks."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, cast

from coupon.asked import Asked
from coupon.campaigns import judge
from coupon.gates import Answer, Ask, Gate
from coupon.metrics import ANSWERS, AWAY, REBUILDS, RETURNS_DROPPED
from coupon.store import Store
from shared.pipeline import inbox
from shared.redis import Reach, RedisAwayError, Returns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
    from datetime import datetime

    from coupon.gates import Gates
    from coupon.locks import Locks
    from coupon.records import Campaign, Judged
    from shared.contracts.coupon import IssueCoupon
    from shared.database import Pool
    from shared.pipeline import Delivery

ASKS: Final = 3
"""So often a chunk asks where gates are closed; then Postgres decides alone."""
JUDGED_AT_ONCE_S: Final = 0.02
"""Rules of a chunk are judged for so long before others are let on."""


class Doorkeeper:
    """Knows what each kind of campaign asks for, and keeps the gates true."""

    def __init__(self, gates: Gates, locks: Locks, pool: Callable[[], Pool]) -> None:
        """`pool` is asked for when it is needed: the service that has it is made of routes that
        know the doorkeeper."""
        self.gates = gates
        self.reach = Reach("gates", AWAY, gates.probe)
        self.returns: Returns[Ask] = Returns(gates.give_back, self.reach, RETURNS_DROPPED)
        self._locks = locks
        self._pool = pool

    @asynccontextmanager
    async def ask(
        self, requests: Sequence[Delivery], stuck: Collection[str]
    ) -> AsyncIterator[Asked]:
        """Ask for these requests for coupons, in their order, and hold the locks of their
        campaigns. What the inbox knows is not asked for: its place was given away before.

        Gates of `stuck` campaigns are written anew: they turned users away too long while coupons
        were left.
        """
        async with self._pool().acquire() as connection:
            fresh = await inbox.unknown(connection, requests)
            commands = [cast("IssueCoupon", one.message) for one in fresh]
            store = Store(connection)
            ids = {command.coupon_id for command in commands}
            campaigns = {row.coupon_id: row for row in await store.read_campaigns(ids)}
            now = await store.read_clock()
        open_ = [one for one in commands if _is_giving(campaigns.get(one.coupon_id), now)]
        judged = await _judge(open_, campaigns)
        hopeful = [
            one
            for one in open_
            if one.command_id not in judged or judged[one.command_id].why_not is None
        ]
        hopeless = {one.command_id for one in commands} - {one.command_id for one in hopeful}
        ways = {one.coupon_id: campaigns[one.coupon_id].way for one in hopeful}
        locked = sorted(coupon_id for coupon_id, way in ways.items() if way.takes_lock)
        queued = frozenset(coupon_id for coupon_id, way in ways.items() if way.queues)
        gated = [one for one in hopeful if ways[one.coupon_id].asks_gate]
        async with self._locks.hold(locked, self.reach) as tokens:
            answers = _Answers()
            await self._ask_gates(gated, campaigns, stuck, answers)
            yield Asked(
                answers.admitted,
                frozenset(answers.turned_away | hopeless),
                {**answers.fences, **tokens},
                queued,
                judged,
            )

    async def rebuild(self, closed: Mapping[str, int], cause: str) -> dict[str, Campaign]:
        """Write gates anew from their rows, unless somebody did since these fences; returns the
        rows. Raises RedisAwayError, and no row has changed then."""
        async with (
            self._pool().acquire() as connection,
            connection.transaction(),
        ):
            store = Store(connection)
            rows = {row.coupon_id: row for row in await store.lock_campaigns(closed)}
            ours = [
                one for one, row in rows.items() if row.way.asks_gate and row.fence == closed[one]
            ]
            raised = await store.raise_fences(ours) if ours else {}
            if raised:
                # Under the locks: whoever issues after this finds the gate written.
                await self.gates.write(
                    [
                        (one, Gate(rows[one].issued, rows[one].limit, fence, 0))
                        for one, fence in raised.items()
                    ]
                )
        REBUILDS.labels(cause).inc(len(raised))
        return {one: row.at_fence(raised.get(one, row.fence)) for one, row in rows.items()}

    async def close(self) -> None:
        """Give back what still waits, and let go of the connections."""
        await self.returns.close()
        await self.gates.close()

    async def _ask_gates(
        self,
        commands: Sequence[IssueCoupon],
        campaigns: dict[str, Campaign],
        stuck: Collection[str],
        answers: _Answers,
    ) -> None:
        try:
            jammed = {one.coupon_id for one in commands} & set(stuck)
            if jammed and not self.reach.is_away:
                fences = {one: campaigns[one].fence for one in jammed}
                campaigns.update(await self.rebuild(fences, "stuck"))
            for _ in range(ASKS):
                asks = answers.still_open(commands, campaigns)
                if not asks or self.reach.is_away:
                    break
                closed = answers.add(asks, await self.gates.admit(asks))
                if closed:
                    campaigns.update(await self.rebuild(closed, "closed"))
        except RedisAwayError as error:
            self.reach.lost(error)
        ANSWERS.labels("left").inc(len(answers.still_open(commands, campaigns)))


class _Answers:
    """Collects what the gates say."""

    def __init__(self) -> None:
        self.admitted: dict[str, Ask] = {}
        self.turned_away: set[str] = set()
        self.fences: dict[str, int] = {}

    def still_open(
        self, commands: Sequence[IssueCoupon], campaigns: Mapping[str, Campaign]
    ) -> list[Ask]:
        """What is to be asked, or asked again."""
        return [
            Ask(one.coupon_id, one.user_id, one.command_id, campaigns[one.coupon_id].fence)
            for one in commands
            if one.command_id not in self.admitted and one.command_id not in self.turned_away
        ]

    def add(self, asks: Sequence[Ask], answers: Sequence[Answer]) -> dict[str, int]:
        """Take answers; returns the campaigns whose gates are closed, and the fences asked."""
        closed: dict[str, int] = {}
        for ask, answer in zip(asks, answers, strict=True):
            ANSWERS.labels(answer.name.lower()).inc()
            match answer:
                case Answer.CLOSED:
                    closed[ask.coupon_id] = ask.fence
                    continue
                case Answer.ADMITTED | Answer.ADMITTED_BEFORE:
                    self.admitted[ask.command_id] = ask
                case Answer.FULL | Answer.TAKEN:
                    self.turned_away.add(ask.command_id)
            self.fences[ask.coupon_id] = ask.fence
        return closed


def _is_giving(campaign: Campaign | None, now: datetime) -> bool:
    """Whether the row, as it is before the transaction, doesn't refuse everybody already."""
    return (
        campaign is not None
        and not campaign.way.draws
        and campaign.is_open(now)
        and not campaign.is_full
    )


async def _judge(
    commands: Sequence[IssueCoupon], campaigns: Mapping[str, Campaign]
) -> dict[str, Judged]:
    """What rules say, while nothing is locked; others are let on in between."""
    judged: dict[str, Judged] = {}
    let_on_at_s = time.monotonic() + JUDGED_AT_ONCE_S
    for command in commands:
        rule = campaigns[command.coupon_id].rule
        if rule is None:
            continue
        judged[command.command_id] = judge(rule, command)
        if time.monotonic() > let_on_at_s:
            await asyncio.sleep(0)
            let_on_at_s = time.monotonic() + JUDGED_AT_ONCE_S
    return judged
