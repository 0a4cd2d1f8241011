"""Routes of coupons and lotteries: asked for once, answered the same for good."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from shared.contracts.base import message_id
from shared.contracts.coupon import (
    CouponIssued,
    CouponRefusal,
    CouponRequestRefused,
    EnterLottery,
    IssueCoupon,
    LotteryEntered,
)
from shared.contracts.ids import is_id
from shared.contracts.refusals import CommandRefusal, CommandRefused
from shared.kafka.cloudevents import record_of
from shared.kafka.outbound import NeverPublishedError, NotPublishedError
from storefront.asking import SOURCE
from storefront.describing import HTTP_JSON
from storefront.documents import AsUser, CouponDocument, EntryDocument, json_bytes
from storefront.domain import key_id
from storefront.endpoint import Says, route
from storefront.metrics import LATE
from storefront.problems import ProblemError, not_sent, unavailable, unknown
from storefront.requests import traceparent

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Route

    from shared.contracts.base import Message
    from shared.contracts.facts import Facts
    from shared.kafka.outbound import Outbound
    from storefront.admission import Admission
    from storefront.bodies import Bodies
    from storefront.identity import Identity
    from storefront.listening import Listeners
    from storefront.patience import Patience

REQUESTS: Final = "coupon.requests.v1"
_NOT_NOW: Final = {CouponRefusal.TEMPORARILY_UNAVAILABLE, CommandRefusal.TEMPORARILY_UNAVAILABLE}
_UNKNOWN: Final = {CouponRefusal.UNKNOWN_CAMPAIGN, CommandRefusal.UNKNOWN_CAMPAIGN}


class CouponsApi:
    """What users ask of campaigns. The command's id is that of user, campaign and facts: whoever
    asks again hears the same answer, and with other facts it is another request."""

    def __init__(
        self,
        events: Listeners,
        outbound: Outbound,
        bodies: Bodies,
        identity: Identity,
        admission: Admission,
        patience: Patience,
    ) -> None:
        """What takes longer than `patience` lasts is answered 503: asking again hears the
        answer."""
        self._events = events
        self._outbound = outbound
        self._bodies = bodies
        self._identity = identity
        self._admission = admission
        self._patience = patience

    def routes(self) -> list[Route]:
        """What is served."""
        refused = (403, 404, 409)
        return [
            route("POST", "/api/coupons/{coupon_id}/issue", self.issue,
                  Says("coupons", CouponDocument, refused, AsUser)),
            route("POST", "/api/lotteries/{coupon_id}/entries", self.enter,
                  Says("coupons", EntryDocument, refused, AsUser)),
        ]  # fmt: skip

    async def issue(self, request: Request) -> Response:
        """Ask for a coupon of a campaign."""
        return await self._ask(request, IssueCoupon)

    async def enter(self, request: Request) -> Response:
        """Enter a lottery."""
        return await self._ask(request, EnterLottery)

    async def _ask(self, request: Request, model: type[IssueCoupon | EnterLottery]) -> Response:
        caller = self._identity.caller(request)
        wish = await self._bodies.read(request, AsUser)
        user_id = caller.acting_as(wish.user_id)
        coupon_id: str = request.path_params["coupon_id"]
        if not is_id(coupon_id):
            raise unknown("such campaign")
        command = model(
            command_id=key_id(model.__name__, coupon_id, user_id, *_digest(caller.facts)),
            coupon_id=coupon_id,
            user_id=user_id,
            facts=caller.facts,
        )
        with self._admission.admitted():
            answer = await self._answered(command, traceparent(request))
        return _response(answer, coupon_id)

    async def _answered(self, command: IssueCoupon | EnterLottery, trace: str | None) -> Message:
        record = record_of(REQUESTS, command, SOURCE, datetime.now(UTC), trace)
        until = self._patience.begin()
        with self._events.listen(command.coupon_id, message_id(command)) as ear:
            try:
                await self._outbound.publish(record)
                async with self._patience.lasting(until):
                    return await ear.next()
            except NeverPublishedError as error:
                raise not_sent() from error
            except NotPublishedError as error:
                raise unavailable(
                    "the broker has not acknowledged; ask again, and hear how it went",
                    reason="broker_away",
                ) from error
            except TimeoutError:
                LATE.labels("coupon").inc()
                raise unavailable(
                    "not answered yet; ask again, and hear how it went", reason="under_way"
                ) from None


def _digest(facts: Facts | None) -> tuple[str, ...]:
    return () if facts is None else (facts.model_dump_json(),)


def about(event: Any) -> str | None:
    """Which request an event of coupons answers."""
    command_id: str | None = getattr(event, "command_id", None)
    return command_id


def _response(answer: Message, coupon_id: str) -> Response:
    match answer:
        case CouponIssued():
            document: CouponDocument | EntryDocument = CouponDocument(
                coupon_id=coupon_id,
                user_id=answer.user_id,
                sequence=answer.sequence,
                issued_at=answer.issued_at,
            )
        case LotteryEntered():
            document = EntryDocument(
                coupon_id=coupon_id, user_id=answer.user_id, seed_hash=answer.seed_hash
            )
        case CouponRequestRefused() | CommandRefused():
            raise _refused(answer, coupon_id)
        case _:
            raise TypeError(f"{answer.type} answers no request")
    return Response(json_bytes(document), media_type=HTTP_JSON)


def _refused(answer: CouponRequestRefused | CommandRefused, coupon_id: str) -> ProblemError:
    if answer.reason in _UNKNOWN:
        return unknown(f"campaign {coupon_id}")
    detail = answer.detail or answer.reason.replace("_", " ")
    if answer.reason in _NOT_NOW:
        return unavailable(detail, reason=answer.reason)
    return ProblemError(HTTPStatus.CONFLICT, detail, reason=answer.reason)
