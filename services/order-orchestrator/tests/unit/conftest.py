"""A saga on a lead: feeds it events, keeps what came out, and checks each transition."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from order_orchestrator.domain import LEGAL, Limits, Saga, SagaState
from order_orchestrator.engine import transition
from order_orchestrator.events import (
    Event,
    HistoryEntry,
    Result,
    TimerFired,
    Transition,
)
from order_orchestrator.intake import Arrival, accept
from order_orchestrator.moves import outstanding
from order_orchestrator.records import from_record, to_record
from order_orchestrator.saga import STEPS
from order_orchestrator.telling import Line as HistoryLine
from order_orchestrator.telling import messages_written
from shared.contracts.base import Message, message_id
from shared.contracts.coupon import (
    CouponHeld,
    CouponRefusal,
    CouponRefused,
    CouponRestored,
    CouponUsed,
)
from shared.contracts.effects import Effect
from shared.contracts.order_parts import Line, PaymentChoice, PaymentMethod, PayTiming, PricedLine
from shared.contracts.orders import CancelOrder, PayOrder, PlaceOrder
from shared.contracts.payment import (
    PaymentCharged,
    PaymentPart,
    PaymentRefunded,
    PaymentRefusal,
    PaymentRefused,
    PaymentSource,
)
from shared.contracts.stock import (
    StockCommitted,
    StockRefusal,
    StockRefused,
    StockReleased,
    StockReserved,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = [step.name for step in STEPS]
BEFORE_PIVOT = [step.name for step in STEPS if step.undo]


class Lead:
    """One saga, the participants' replies at hand, and a clock that stands until it is moved."""

    def __init__(
        self,
        *,
        coupon: bool = True,
        later: bool = False,
        start: bool = True,
        unit_price: int = 1_000,
        discount: int = 300,
        expected_total: int | None = None,
        method: PaymentMethod = PaymentMethod.WALLET,
        points: int = 0,
        order_id: str = "o-1",
        limits: Limits | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.now = START
        self.unit_price, self.discount = unit_price, discount
        self.commands: list[Message] = []
        self.events: list[Message] = []
        self.history: list[HistoryEntry] = []
        self.wrote: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
        place = PlaceOrder(
            order_id=order_id,
            user_id="user_1",
            items=(Line(product_id="P001", quantity=2), Line(product_id="P002", quantity=1)),
            coupon_id="WELCOME10" if coupon else None,
            pay=PayTiming.LATER if later else PayTiming.NOW,
            payment=PaymentChoice(method=method, points=points),
            expected_total=expected_total,
            reference="ref",
        )
        arrival = Arrival(self.now, "KRW", place.fingerprint(), "00-trace")
        self.saga: Saga = self._keep(None, accept(place, arrival, self.limits, start=start)).saga

    def _keep(self, before: Saga | None, result: Transition) -> Transition:
        after = result.saga
        pair = (before.state if before else None, after.state)
        assert pair[0] == pair[1] or pair in LEGAL, pair
        assert after.version == (before.version if before else 0) + 1
        assert result.history[:4] == (
            after.version,
            after.state,
            result.history.cause,
            self.now,
        )
        assert from_record(to_record(after)) == after
        self.saga = after
        self.commands.extend(result.commands)
        self.history.append(result.history)
        if result.event is not None:
            self.events.append(result.event)
        events = (result.event.type,) if result.event else ()
        self.wrote.append((tuple(self.ids(result.commands)), events))
        lines = [HistoryLine(entry.state, entry.cause, entry.note) for entry in self.history]
        assert messages_written(after, lines) == self.wrote, lines
        return result

    def feed(self, event: Event) -> Result:
        result = transition(self.saga, event, self.now, self.limits)
        return self._keep(self.saga, result) if isinstance(result, Transition) else result

    def sent(self, event: Event) -> list[str]:
        """Feeds, and gives the commands that came out: `charge:undo`."""
        before = len(self.commands)
        result = self.feed(event)
        assert isinstance(result, Transition), result
        return self.ids(self.commands[before:])

    def ids(self, commands: list[Message] | tuple[Message, ...]) -> list[str]:
        return [message_id(command).partition(":")[2] for command in commands]

    @property
    def out(self) -> list[str]:
        """What is out and unanswered."""
        return self.ids(outstanding(self.saga))

    @property
    def told(self) -> list[str]:
        return [event.type for event in self.events]

    def status(self, step: str) -> str:
        return self.saga.steps[NAMES.index(step)].value

    def _key(self, step: str, direction: str) -> dict[str, Any]:
        order_id = self.saga.order.order_id
        return {"command_id": f"{order_id}:{step}:{direction}", "order_id": order_id}

    def done(self, step: str) -> Any:
        key = self._key(step, "do")
        match step:
            case "reserve":
                items = tuple(
                    PricedLine(
                        product_id=line.product_id,
                        quantity=line.quantity,
                        unit_price=self.unit_price,
                    )
                    for line in self.saga.order.lines
                )
                return StockReserved(**key, items=items, currency="KRW")
            case "hold":
                subtotal = self.saga.price.subtotal if self.saga.price else 0
                discount = min(self.discount, subtotal)
                return CouponHeld(**key, discount=discount, currency="KRW")
            case "charge":
                total = self.saga.price.total if self.saga.price else 1
                source = PaymentSource(self.saga.payment.method)
                part = PaymentPart(source=source, amount=max(total, 1))
                return PaymentCharged(**key, currency="KRW", parts=(part,))
            case "use":
                return CouponUsed(**key)
            case _:
                return StockCommitted(**key)

    def refused(self, step: str, reason: Any = None) -> Any:
        key = self._key(step, "do")
        match step:
            case "reserve" | "commit":
                return StockRefused(**key, reason=reason or StockRefusal.OUT_OF_STOCK)
            case "hold" | "use":
                return CouponRefused(**key, reason=reason or CouponRefusal.EXPIRED)
            case _:
                return PaymentRefused(**key, reason=reason or PaymentRefusal.PAYMENT_DECLINED)

    def undone(self, step: str, effect: Effect = Effect.UNDONE) -> Any:
        reply = {"reserve": StockReleased, "hold": CouponRestored, "charge": PaymentRefunded}[step]
        return reply(**self._key(step, "undo"), effect=effect)

    def pay(self, command_id: str = "pay-1", user_id: str = "user_1", **fields: Any) -> PayOrder:
        return PayOrder(
            order_id=self.saga.order.order_id, user_id=user_id, command_id=command_id, **fields
        )

    def cancel(self, user_id: str = "user_1", reason: str | None = None) -> CancelOrder:
        return CancelOrder(order_id=self.saga.order.order_id, user_id=user_id, reason=reason)

    def run_to(self, step: str) -> "Lead":
        """Replies done until the `do` of `step` is out. Pays where payment is awaited."""
        for _ in range(len(STEPS) + 1):
            if f"{step}:do" in self.out:
                return self
            self.feed(self.pay() if not self.out else self.done(self.out[0].partition(":")[0]))
        raise AssertionError(f"{step} was never reached")

    def leave_in_doubt(self, step: str) -> "Lead":
        """The step was sent, was never answered, and the saga gave it up."""
        self.run_to(step)
        for _ in range(20):
            if self.saga.state is SagaState.COMPENSATING:
                return self
            self.fire()
        raise AssertionError(f"{step} was never given up")

    def undo_all(self, effect: Effect = Effect.UNDONE) -> "Lead":
        for name in self.out:
            step, _, direction = name.partition(":")
            if direction == "undo":
                self.feed(self.undone(step, effect))
        return self

    def complete(self) -> "Lead":
        for name in self.out:
            self.feed(self.done(name.partition(":")[0]))
        return self

    def wait(self, seconds: float) -> "Lead":
        self.now += timedelta(seconds=seconds)
        return self

    def fire(self, read_up_to: datetime | None = None) -> Result:
        """Moves the clock to the timer and lets it fire, all replies read unless told otherwise."""
        assert self.saga.timer_at is not None
        self.now = max(self.now, self.saga.timer_at)
        return self.feed(TimerFired(read_up_to or self.now, read_up_to or self.now))

    def fire_until_sent(self, times: int = 1) -> "Lead":
        """Fires until the outstanding commands were sent so many times more."""
        goal = self.saga.sends + times
        for _ in range(50):
            if self.saga.sends >= goal:
                return self
            self.fire()
        raise AssertionError("nothing was sent again")


@pytest.fixture(scope="session")
def lead() -> type[Lead]:
    return Lead
