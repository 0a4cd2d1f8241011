"""First outcomes of charges, kept in Redis for a day once somebody asked again.

Postgres has them for good; this spares it the rows when a whole topic comes again. Nobody looks
here as long as nothing is asked twice, so the first charge of an order never waits for Redis. What
is kept is final, so it can't be out of date: a charge, a refusal for good. What may yet change (no
answer, 5xx, 429, an open breaker) is no outcome and is kept nowhere.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ValidationError

from payment.metrics import OUTCOMES, OUTCOMES_AWAY, OUTCOMES_DROPPED
from payment.records import FINGERPRINTED, fingerprint
from shared.contracts.payment import PaymentCharged, PaymentRefused
from shared.redis import RETRIES, Cache, Reach, RedisAwayError, Returns

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from payment.records import Payment
    from shared.contracts.payment import ChargePayment

KEEP_S: Final = 86_400
REDIS_INTERVAL_S: Final = 1.0
"""A Redis that was lost is looked for so often."""
WARM_S: Final = 60.0
"""Commands are looked up for so long after one came again."""


class _Kept(BaseModel):
    fingerprint_version: int
    fingerprint: str
    reply: PaymentCharged | PaymentRefused


class Outcomes:
    """A cache of replies by order."""

    def __init__(self, redis_url: str, *, retries: int = RETRIES) -> None:
        """Connects when something is asked twice; `retries` as in the settings."""
        self._cache = Cache(redis_url, "payment:outcome:", keep_s=KEEP_S, retries=retries)
        self.reach = Reach("outcomes", OUTCOMES_AWAY, self._cache.probe)
        self.kept: Returns[Mapping[str, str]] = Returns(
            self._cache.write, self.reach, OUTCOMES_DROPPED
        )
        self._warm_until_s = 0.0

    async def recall(
        self, commands: Iterable[ChargePayment]
    ) -> dict[str, PaymentCharged | PaymentRefused]:
        """The outcomes of those that ask what was asked before, by order; none of one that asks
        for something else."""
        if time.monotonic() > self._warm_until_s or self.reach.is_away:
            return {}
        asked = {command.order_id: command for command in commands}
        try:
            found = await self._cache.read(list(asked))
        except RedisAwayError as error:
            self.reach.lost(error)
            return {}
        OUTCOMES.inc(len(found))
        recalled = {}
        for order_id, text in found.items():
            reply = _reply(text, asked[order_id])
            if reply is not None:
                recalled[order_id] = reply
        return recalled

    def keep(self, asked_again: Sequence[tuple[Payment, PaymentCharged | PaymentRefused]]) -> None:
        """Remember these for a day, soon."""
        self._warm_until_s = time.monotonic() + WARM_S
        self.kept.add(
            [
                {
                    payment.order_id: _Kept(
                        fingerprint_version=payment.charge.fingerprint_version,
                        fingerprint=payment.charge.fingerprint.hex(),
                        reply=reply,
                    ).model_dump_json(by_alias=True, exclude_none=True)
                    for payment, reply in asked_again
                    if payment.charge is not None
                }
            ]
        )

    async def find_redis(self) -> None:
        """Look for Redis where it was lost."""
        if self.reach.is_away:
            with contextlib.suppress(RedisAwayError):
                await self.reach.find()

    async def close(self) -> None:
        """Let go of the connections."""
        await self._cache.close()


def _reply(text: str, command: ChargePayment) -> PaymentCharged | PaymentRefused | None:
    try:
        kept = _Kept.model_validate_json(text)
    except ValidationError:
        return None  # of another version
    if kept.fingerprint_version not in FINGERPRINTED:
        return None
    if kept.fingerprint != fingerprint(command, kept.fingerprint_version).hex():
        return None
    return kept.reply
