"""Settles what was found out about calls: whatever has arrived, in one transaction."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from payment.books import Books
from payment.calls import Lease
from payment.closing import close
from payment.handlers import REPLIES
from payment.metrics import (
    CALLBACKS,
    LATE_CAPTURES,
    NEWS_RETRIES,
    QUARANTINED,
    REFUSALS,
    UNSETTLED,
)
from payment.news import settle
from payment.store import Store, saved
from shared import backoff, crash_points
from shared.contracts.base import message_id
from shared.contracts.payment import PaymentRefused
from shared.database import faults
from shared.pipeline import Committed, Outgoing
from shared.telemetry.logs import Seldom, get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from payment.calls import Finding, Pace
    from payment.courier import Courier
    from payment.news import Settled
    from shared.database import Connection, Pool, Write
    from shared.pipeline.work import Work

_log = get_logger(__name__)
_seldom = Seldom(__name__)

FINDINGS_AT_ONCE: Final = 500
FINDINGS_WAITING: Final = 5_000
"""More callbacks are turned away, to be sent again."""


class TooManyWaitingError(Exception):
    """Callbacks come faster than they can be settled."""


class _Waiting(NamedTuple):
    finding: Finding
    event_id: str | None = None
    settled: asyncio.Future[None] | None = None


class Inflow:
    """What waits to be settled. It may be lost: its calls are asked about again."""

    def __init__(self) -> None:
        """Nothing waits."""
        self._waiting: asyncio.Queue[_Waiting] = asyncio.Queue()

    def put(self, finding: Finding) -> None:
        """The answer to a request."""
        self._waiting.put_nowait(_Waiting(finding))

    async def hear(self, finding: Finding, event_id: str) -> None:
        """A callback: returns once it is settled, raises what kept it from that."""
        if self._waiting.qsize() >= FINDINGS_WAITING:
            raise TooManyWaitingError
        settled = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait(_Waiting(finding, event_id, settled))
        await settled

    async def take(self) -> list[_Waiting]:
        """Wait for what arrives; all of it, up to a batch. `done` is told of it then."""
        batch = [await self._waiting.get()]
        while len(batch) < FINDINGS_AT_ONCE and not self._waiting.empty():
            batch.append(self._waiting.get_nowait())
        return batch

    def done(self, batch: Sequence[_Waiting]) -> None:
        """These were taken, and are settled or dropped."""
        for _ in batch:
            self._waiting.task_done()

    async def idle(self) -> None:
        """Returns once everything that arrived is settled or dropped."""
        await self._waiting.join()


class Settler:
    """One batch after the other. An answer that can't be settled is dropped and counted: its call
    stays open, and is asked about again once its lease is over."""

    def __init__(
        self,
        inflow: Inflow,
        work: Work,
        courier: Courier | None,
        pool: Pool,
        *,
        currency: str,
        pace: Pace,
        keep_s: float,
    ) -> None:
        """Refunds that become possible are handed to `courier`; without one there is no gateway,
        and payments can only be closed. News are kept for `keep_s` seconds where the database
        doesn't answer."""
        self._inflow = inflow
        self._work = work
        self._courier = courier
        self._pool = pool
        self._keep_s = keep_s
        self._currency = currency
        self._pace = pace

    async def run_once(self) -> None:
        """Wait for news, and settle them."""
        batch = await self._inflow.take()
        try:
            await self._settle_all(batch)
        finally:
            self._inflow.done(batch)

    async def close(self, order_id: str, operator: str, note: str) -> tuple[str, ...]:
        """Take an operator's word that no money of this order is at the gateway; the keys of the
        calls that are closed by it, which are none where none could be."""
        return await self._work.run(partial(self._close, order_id, operator, note))

    async def _settle_all(self, batch: Sequence[_Waiting]) -> None:
        """Again and again while the database is at fault, for as long as leases last: then their
        calls are asked about again. Where a piece of news is at fault, the others go on."""
        give_up_at_s = time.monotonic() + self._keep_s
        attempt = 0
        while True:
            try:
                await self._work.run(partial(self._settle, batch))
            except Exception as error:  # noqa: BLE001 - told apart below, and counted
                attempt += 1
                is_at_fault = faults.is_message_fault(error) or faults.is_constraint(error)
                if is_at_fault and len(batch) > 1:
                    middle = len(batch) // 2
                    await self._settle_all(batch[:middle])
                    await self._settle_all(batch[middle:])
                    return
                if is_at_fault or time.monotonic() > give_up_at_s:
                    _drop(batch, error)
                    return
                NEWS_RETRIES.labels(faults.cause(error)).inc()
                _seldom.warning("news_retried", error=type(error).__name__, detail=str(error)[:200])
                if faults.leaves_pool_stale(error):
                    await self._pool.expire_connections()
                await asyncio.sleep(backoff.delay_s(attempt))
            else:
                _end(batch)
                return

    async def _settle(
        self, batch: Sequence[_Waiting], connection: Connection
    ) -> tuple[None, Sequence[Outgoing | Write | Committed]]:
        store, begun_s = Store(connection), time.monotonic()
        findings = await self._unheard(store, batch)
        order_ids = {finding.key.partition(":")[2] for finding in findings}
        books, now = await self._load(store, order_ids)
        settled = [
            one
            for finding in findings
            if (one := settle(books, finding, now, self._pace)) is not None
        ]
        return None, self._results(store, books, settled, begun_s)

    async def _close(
        self, order_id: str, operator: str, note: str, connection: Connection
    ) -> tuple[tuple[str, ...], Sequence[Outgoing | Write | Committed]]:
        store, begun_s = Store(connection), time.monotonic()
        books, now = await self._load(store, [order_id])
        closed = close(books, order_id, now, self._pace)
        if not closed.keys:
            return (), ()
        await store.close_calls(closed.keys, operator, note, now)
        told = {"order_id": order_id, "operator": operator, "calls": closed.keys}
        return closed.keys, [
            *self._results(store, books, closed.settled, begun_s),
            Committed(partial(_log.warning, "payment_closed", **told)),
        ]

    async def _load(self, store: Store, order_ids: Iterable[str]) -> tuple[Books, datetime]:
        """These orders' rows, locked in the order of all locks; and the moment they are of."""
        order_ids = set(order_ids)
        payments = await store.lock_payments(order_ids)
        calls = await store.lock_calls(order_ids)
        crash_points.reach("after_load")
        user_ids = {one.charge.user_id for one in payments if one.charge and one.charge.points}
        now = await store.read_clock()
        lease = self._courier.lease(now) if self._courier else Lease.of_nobody(now)
        books = Books(
            self._currency,
            lease,
            payments=payments,
            calls=calls,
            wallets=await store.lock_wallets(user_ids) if user_ids else (),
        )
        return books, now

    def _results(
        self, store: Store, books: Books, settled: Sequence[Settled], begun_s: float
    ) -> list[Outgoing | Write | Committed]:
        replies = [
            Outgoing(REPLIES, call.order_id, reply, message_id(reply), call.traceparent)
            for call, reply in settled
        ]
        refused = [one.reply.reason for one in settled if isinstance(one.reply, PaymentRefused)]
        return [
            *saved(store, books),
            *replies,
            Committed.count(REFUSALS, refused),
            Committed(partial(self._committed, books, begun_s)),
        ]

    async def _unheard(self, store: Store, batch: Sequence[_Waiting]) -> list[Finding]:
        """Answers, and callbacks that were not heard before."""
        event_ids = {waiting.event_id for waiting in batch if waiting.event_id is not None}
        if not event_ids:
            return [waiting.finding for waiting in batch]
        new = await store.remember_events(event_ids)
        heard = []
        for one in batch:
            if one.event_id is None or one.event_id in new:
                new.discard(one.event_id or "")
                heard.append(one.finding)
        if repeated := len(batch) - len(heard):
            CALLBACKS.labels("repeated").inc(repeated)
        return heard

    def _committed(self, books: Books, begun_s: float) -> None:
        if self._courier is not None:
            self._courier.take(books.handed_over, begun_s)
        if books.late_captures:
            LATE_CAPTURES.inc(books.late_captures)
            _seldom.warning("late_captures", count=books.late_captures)
        for call in books.quarantined:
            QUARANTINED.inc()
            _log.error(
                "gateway_call_quarantined",
                order_id=call.order_id,
                kind=call.kind,
                why=call.quarantine,
            )


def _drop(batch: Sequence[_Waiting], error: Exception) -> None:
    UNSETTLED.inc(len(batch))
    _log.warning(
        "news_dropped", count=len(batch), error=type(error).__name__, detail=str(error)[:200]
    )
    _end(batch, error)


def _end(batch: Sequence[_Waiting], error: Exception | None = None) -> None:
    for waiting in batch:
        if waiting.settled is not None and not waiting.settled.done():
            if error is None:
                waiting.settled.set_result(None)
            else:
                waiting.settled.set_exception(error)
