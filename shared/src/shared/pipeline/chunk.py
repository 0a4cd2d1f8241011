"""Run a chunk: one transaction, again and again until it holds, halved where a message is at
fault."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from shared import backoff, crash_points
from shared.database import Write, faults
from shared.pipeline import answers, inbox, outbox
from shared.pipeline.dead_letters import dead_letter
from shared.pipeline.messages import ApartError, Committed, Delivery, Outgoing, Refusal
from shared.telemetry import metrics
from shared.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.database import Connection, Pool
    from shared.pipeline.messages import Handler, Received, Route
    from shared.pipeline.outbox import Chunk
    from shared.pipeline.relay import Relay

_log = get_logger(__name__)

FAULTY = "handling_failed"

_RACES = ("conflict", "deadlock")
RACES_BEFORE_TOLD = 5
"""A chunk that loses so many races in a row is logged, and again after as many more."""
RACES_BEFORE_HALVING = 20
"""What keeps a chunk from being saved may be one message of it: the others shall go on. Nothing is
dead-lettered for it."""


@dataclass(frozen=True, slots=True)
class _Written:
    """What one transaction wrote, and what is to follow its commit."""

    chunks: list[Chunk]
    refused: list[Refusal]
    committed: list[Committed]
    duplicates: int


class ChunkRunner:
    """Turns validated messages of one route into committed effects."""

    def __init__(self, route: Route, pool: Pool, relay: Relay, *, lease_s: float) -> None:
        """`lease_s` is how long the relay has to publish before another instance may."""
        self._route = route
        self._pool = pool
        self._relay = relay
        self._lease_s = lease_s

    async def run(
        self,
        deliveries: Sequence[Delivery],
        refusals: Sequence[Refusal],
        *,
        answers_refusals: bool = True,
    ) -> None:
        """Commit the effects of `deliveries` and the dead letters of `refusals`.

        Returns when all of it is committed and the relay has it. Never raises for a message;
        retries the infrastructure's faults without end, and counts them.
        """
        if deliveries and refusals:
            # Apart, since the answers to refusals may lock rows too: in one transaction they
            # would be locked after others, in another order than elsewhere.
            await self.run(deliveries, ())
            deliveries = ()
        attempt = 0
        reloaded = False
        while True:
            try:
                written = await self._transact(deliveries, refusals, answers_refusals)
            except ApartError as apart:
                for part in apart.split(deliveries):
                    await self.run(part, ())
                return
            except Exception as error:  # noqa: BLE001 - told apart below; nothing is swallowed
                if faults.is_constraint(error) and not reloaded:
                    # What broke it may be another instance's row that is there to be loaded now.
                    reloaded = True
                    metrics.RETRIES.labels(self._route.group, faults.cause(error)).inc()
                    continue
                if faults.is_message_fault(error):
                    if refusals:
                        await self._isolate_refusal(refusals, error, answers_refusals)
                    else:
                        await self._isolate(deliveries, error)
                    return
                attempt += 1
                await self._wait(error, attempt)
                lost_races = faults.cause(error) in _RACES and attempt >= RACES_BEFORE_HALVING
                if lost_races and len(deliveries) > 1:
                    await self._halve(deliveries)
                    return
            else:
                self._settle(deliveries, written)
                return

    async def _transact(
        self, deliveries: Sequence[Delivery], refusals: Sequence[Refusal], answers_refusals: bool
    ) -> _Written:
        begin = self._route.begin
        if begin is None or not deliveries:
            return await self._save(self._route.handler, deliveries, refusals, answers_refusals)
        async with begin(deliveries) as handler:
            return await self._save(handler, deliveries, refusals, answers_refusals)

    async def _save(
        self,
        handler: Handler,
        deliveries: Sequence[Delivery],
        refusals: Sequence[Refusal],
        answers_refusals: bool,
    ) -> _Written:
        route = self._route
        async with (
            self._pool.acquire() as connection,
            connection.transaction(),
        ):
            refused = list(refusals)
            rows: list[outbox.Row] = []
            results: Sequence[Outgoing | Write | Refusal | Committed] = ()
            effects: list[Write] = []
            duplicates = 0
            if deliveries:
                handled, reused = await inbox.remember(connection, deliveries)
                refused.extend(reused)
                known = handled
                duplicates = sum([delivery.duplicate for delivery in known])
                if route.keeps_answers:
                    rows, handled = await answers.of_duplicates(connection, known)
                results = await handler(connection, handled) if handled else ()
                turned_down = [item for item in results if isinstance(item, Refusal)]
                said = [item for item in results if isinstance(item, Outgoing)]
                answered = [outbox.Row.of(item) for item in said]
                if turned_down:
                    await self._forget(connection, handled, turned_down)
                    if route.keeps_answers:
                        turned_down = _with_copies(known, turned_down)
                    refused.extend(turned_down)
                effects = [item for item in results if isinstance(item, Write)]
                if route.keeps_answers:
                    effects.extend(answers.keep(zip(said, answered, strict=True)))
                rows.extend(answered)
            if refused and route.refused is not None and answers_refusals:
                spoken = await route.refused(connection, refused)
                rows.extend(outbox.Row.of(item) for item in spoken if isinstance(item, Outgoing))
                effects.extend(item for item in spoken if isinstance(item, Write))
                results = [*results, *spoken]
            rows.extend(dead_letter(route.group, refusal) for refusal in refused)
            chunks = await outbox.write_outbox(
                connection, rows, effects, owner=self._relay.owner, lease_s=self._lease_s
            )
            crash_points.reach("before_commit")
        committed = [item for item in results if isinstance(item, Committed)]
        return _Written(chunks, refused, committed, duplicates)

    def _settle(self, deliveries: Sequence[Delivery], written: _Written) -> None:
        """What follows the commit, in memory."""
        crash_points.reach("after_commit")
        self._count(deliveries, written.refused)
        if written.duplicates:
            metrics.DUPLICATES.labels(self._route.group).inc(written.duplicates)
        self._relay.submit(written.chunks)
        for item in written.committed:
            item.do()

    async def _forget(
        self, connection: Connection, handled: Sequence[Delivery], refusals: Sequence[Refusal]
    ) -> None:
        places = {id(refusal.received) for refusal in refusals}
        new = [
            delivery
            for delivery in handled
            if id(delivery.received) in places and not delivery.duplicate
        ]
        if new:
            await inbox.forget(connection, new)

    async def _halve(self, deliveries: Sequence[Delivery]) -> None:
        metrics.HALVINGS.labels(self._route.group).inc()
        middle = len(deliveries) // 2
        await self.run(deliveries[:middle], ())
        await self.run(deliveries[middle:], ())

    async def _isolate_refusal(
        self, refusals: Sequence[Refusal], error: Exception, answered: bool
    ) -> None:
        """Find the refusal at fault by halves. An answer that can't be said is left out, and
        what can't be written of a dead letter's reason as well. Raises `error` where that fails
        too: a process that ends is seen, a message that is dropped is not."""
        if len(refusals) > 1:
            metrics.HALVINGS.labels(self._route.group).inc()
            middle = len(refusals) // 2
            await self.run((), refusals[:middle])
            await self.run((), refusals[middle:])
            return
        (refusal,) = refusals
        self._log_fault("refusal_failed", refusal.received, error)
        plain = replace(refusal, detail=ascii(refusal.detail))
        if answered:
            await self.run((), [refusal], answers_refusals=False)
        elif plain != refusal:
            await self.run((), [plain], answers_refusals=False)
        else:
            raise error

    async def _isolate(self, deliveries: Sequence[Delivery], error: Exception) -> None:
        """Find the message at fault by halves. One that stands alone with its fault is
        dead-lettered."""
        if len(deliveries) > 1:
            await self._halve(deliveries)
            return
        delivery = deliveries[0]
        self._log_fault("message_dead_lettered", delivery.received, error)
        refusal = Refusal(
            delivery.received,
            FAULTY,
            f"handling {delivery.message.type} failed with {type(error).__name__}; this is a bug"
            " or bad stored data. The log has the trace; replay it once that is mended.",
            delivery.message,
            attempts=2 if faults.is_constraint(error) else 1,
        )
        await self.run((), [refusal])

    def _log_fault(self, event: str, place: Received, error: Exception) -> None:
        _log.error(
            event,
            group=self._route.group,
            topic=place.topic,
            partition=place.partition,
            offset=place.offset,
            error=type(error).__name__,
            exc_info=error,
        )

    async def _wait(self, error: Exception, attempt: int) -> None:
        cause = faults.cause(error)
        metrics.RETRIES.labels(self._route.group, cause).inc()
        if cause not in _RACES or attempt % RACES_BEFORE_TOLD == 0:
            _log.warning(
                "chunk_retried",
                group=self._route.group,
                cause=cause,
                error=type(error).__name__,
                detail=str(error)[:200],
                attempt=attempt,
            )
        if faults.leaves_pool_stale(error):
            await self._pool.expire_connections()
        await asyncio.sleep(backoff.delay_s(attempt))

    def _count(self, deliveries: Sequence[Delivery], refused: Sequence[Refusal]) -> None:
        group = self._route.group
        by_type: dict[str, int] = {}
        for delivery in deliveries:
            name = delivery.message.type
            by_type[name] = by_type.get(name, 0) + 1
        for name, count in by_type.items():
            metrics.MESSAGES.labels(group, name).inc(count)
        for refusal in refused:
            metrics.DEAD_LETTERS.labels(group, refusal.reason).inc()


def _with_copies(deliveries: Sequence[Delivery], refusals: Sequence[Refusal]) -> list[Refusal]:
    """The refusals, and the same of each further copy in the chunk: the handler saw one only."""
    places = {id(refusal.received): refusal for refusal in refusals}
    refused = {
        (delivery.message.type, delivery.message_id): places[id(delivery.received)]
        for delivery in deliveries
        if id(delivery.received) in places
    }
    copies = [
        replace(refusal, received=delivery.received)
        for delivery in deliveries
        if id(delivery.received) not in places
        and (refusal := refused.get((delivery.message.type, delivery.message_id))) is not None
    ]
    return [*refusals, *copies]
