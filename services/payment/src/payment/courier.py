"""Carries calls to the gateway: one request for each call it has the lease of.

A call comes here either straight from the transaction that intended it, or from the rows that are
due, which any instance may claim. Between a claim and its answer nothing is written: what becomes
of a request is settled afterwards, by `settler.py`, and where it isn't, the lease ends and the
next one asks the gateway by the key.
"""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from payment.breaker import Breaker, RetryBudget
from payment.calls import Finding, Lease, NotTaken, Silent, must_ask
from payment.metrics import BREAKER, CALL_SECONDS, CALLS
from payment.store import Store
from shared import crash_points
from shared.contracts.payment import CallState
from shared.telemetry.logs import Seldom, get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from payment.calls import Answer, Call
    from payment.gateway import Gateway
    from payment.settings import GatewaySettings
    from payment.settler import Inflow
    from shared.database import Pool

_log = get_logger(__name__)
_seldom = Seldom(__name__)

CLAIM_INTERVAL_S: Final = 0.1


class Errand(NamedTuple):
    """A call with the lease under which it may be made."""

    call: Call
    is_wanted: bool
    """Whether the payment still waits for it: a charge that nobody wants is asked for, not sent."""
    until: datetime
    """The end of the lease by the database's clock: the request is not taken after it."""
    until_s: float
    """The same by this process's clock, at the latest."""


class Courier:
    """A bounded number of requests at once, while the circuit breaker lets them through."""

    def __init__(
        self,
        gateway: Gateway,
        inflow: Inflow,
        pool: Callable[[], Pool],
        owner: str,
        settings: GatewaySettings,
    ) -> None:
        """`owner` is this instance's id; answers go into `inflow`."""
        self.breaker = Breaker()
        self._gateway = gateway
        self._inflow = inflow
        self._pool = pool
        self._owner = owner
        self._settings = settings
        self._budget = RetryBudget(settings.retries_per_s)
        self._watching = RetryBudget(settings.watches_per_s)
        self._errands: set[asyncio.Task[None]] = set()
        self._quiet_until_s = 0.0
        """The gateway asked to be left alone until then."""
        self._is_stopping = False

    def lease(self, now: datetime) -> Lease:
        """What a transaction may hand over, as things are; `now` is the database's clock, read in
        that transaction."""
        now_s = time.monotonic()
        is_calm = self.breaker.room(now_s) is None and not self._is_left_alone(now_s)
        free = self._settings.calls_at_once - len(self._errands) if is_calm else 0
        until = now + timedelta(seconds=self._settings.lease_s)
        return Lease(self._owner, now, until, max(free, 0), self._settings.callback_url)

    def take(self, calls: Sequence[Call], begun_s: float) -> None:
        """Make these calls, which a transaction that began at `begun_s` has handed over."""
        self._budget.spend(retries=0, news=len(calls))
        for call in calls:
            self._begin(call, begun_s, is_wanted=True)

    async def run_once(self) -> int:
        """Claim what is due, and make these calls; how many."""
        now_s = time.monotonic()
        BREAKER.state(self.breaker.state)
        room = self._settings.calls_at_once - len(self._errands)
        admitted = self.breaker.room(now_s)
        room = room if admitted is None else min(room, admitted)
        if room <= 0 or self._is_left_alone(now_s):
            return 0
        retries = min(room, self._budget.room(now_s))
        watches = min(room, self._watching.room(now_s))
        async with self._pool().acquire() as connection:
            begun_s = time.monotonic()
            claimed = await Store(connection).claim_calls(
                self._owner,
                self._settings.lease_s,
                calls=room,
                retries=retries,
                watches=watches,
            )
        watched = sum([call.state is CallState.WATCHED for call, _ in claimed])
        again = sum([call.attempt > 1 for call, _ in claimed]) - watched
        self._watching.spend(retries=watched, news=0)
        self._budget.spend(retries=again, news=len(claimed) - again - watched)
        for call, is_wanted in claimed:
            self._begin(call, begun_s, is_wanted=is_wanted)
        return len(claimed)

    async def finish(self) -> None:
        """Begin nothing any more, and wait until what is under way is answered and settled."""
        self._is_stopping = True
        while self._errands:
            await asyncio.wait(self._errands)
        await self._inflow.idle()

    async def close(self) -> None:
        """Give up what is under way: its calls are asked about once their leases are over."""
        for errand in self._errands:
            errand.cancel()
        await asyncio.gather(*self._errands, return_exceptions=True)
        await self._gateway.close()

    def _is_left_alone(self, now_s: float) -> bool:
        return self._is_stopping or now_s < self._quiet_until_s

    def _begin(self, call: Call, begun_s: float, *, is_wanted: bool) -> None:
        assert call.next_at is not None  # it has a lease
        until_s = begun_s + self._settings.lease_s
        task = asyncio.create_task(self._run(Errand(call, is_wanted, call.next_at, until_s)))
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    async def _run(self, errand: Errand) -> None:
        call = errand.call
        asks = must_ask(
            call, is_wanted=errand.is_wanted, until=errand.until, pace=self._settings.pace
        )
        crash_points.reach("before_request")
        now_s = time.monotonic()
        # Looked at right before the request: a process that was frozen sends nothing.
        if now_s + self._settings.timeout_s > errand.until_s:
            CALLS.labels(call.kind, "lease_over").inc()
            return
        begun_in = self.breaker.enter(now_s)
        if begun_in is None:
            left_alone = NotTaken("the circuit breaker is open", is_failure=False)
            self._inflow.put(Finding(call.key, left_alone, call.attempt))
            return
        answer: Answer = Silent("given up")
        try:
            if asks:
                answer = await self._gateway.find(call)
            else:
                answer = await self._gateway.send(call, errand.until)
        finally:
            self._leave(call, answer, begun_in, asks=asks, begun_s=now_s)
        crash_points.reach("after_request")
        sent_until = None if asks else errand.until
        leased_at = errand.until - timedelta(seconds=self._settings.lease_s)
        self._inflow.put(Finding(call.key, answer, call.attempt, sent_until, leased_at))

    def _leave(
        self, call: Call, answer: Answer, begun_in: int, *, asks: bool, begun_s: float
    ) -> None:
        now_s = time.monotonic()
        is_failure = False
        if isinstance(answer, Silent | NotTaken):
            is_failure = answer.is_failure
            _seldom.warning("gateway_answered_nothing", kind=call.kind, why=answer.why)
        before = self.breaker.state
        self.breaker.leave(begun_in, now_s, is_failure=is_failure)
        if self.breaker.state is not before:
            _log.warning("breaker", state=self.breaker.state, answer=str(answer)[:200])
            BREAKER.state(self.breaker.state)
        if isinstance(answer, NotTaken) and answer.after_s is not None:
            self._quiet_until_s = max(self._quiet_until_s, now_s + answer.after_s)
        what = f"ask_{call.kind}" if asks else str(call.kind)
        CALLS.labels(what, type(answer).__name__.lower()).inc()
        CALL_SECONDS.labels(what).observe(now_s - begun_s)
