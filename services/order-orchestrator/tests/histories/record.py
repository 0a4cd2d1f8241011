"""Records the histories that are missing here, on the definition of today."""

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "unit"))

from conftest import START, Lead
from test_histories import FOLDER, encode_event, encode_row, outcome

from order_orchestrator.domain import SagaState
from order_orchestrator.events import OperatorCancel, Retry, Settle, Start, StepDeadLettered
from order_orchestrator.saga import DEFINITION_VERSION
from shared.contracts.base import message_id
from shared.contracts.effects import Effect
from shared.contracts.order_parts import PaymentChoice, PaymentMethod


def scenarios() -> dict[str, Any]:
    """Name -> the order's fields and what happens to it."""

    def finish(order):
        order.run_to("commit").complete()

    def refused(step):
        return lambda order: (order.run_to(step).feed(order.refused(step)), order.undo_all())

    def in_doubt(step, effect=Effect.UNDONE):
        def run(order):
            order.leave_in_doubt(step)
            order.feed(order.done(step))
            order.undo_all(effect)
            order.feed(order.done(step))
            order.undo_all()

        return run

    def awaiting(order):
        while order.out:
            order.feed(order.done(order.out[0].partition(":")[0]))

    def cancel_while(step, answer):
        def run(order):
            order.run_to(step).feed(order.cancel(reason="changed my mind"))
            order.feed(getattr(order, answer)(step))
            order.undo_all()

        return run

    def never_paid(order):
        awaiting(order)
        while order.saga.state is SagaState.AWAITING_PAYMENT:
            order.fire()
        order.undo_all()

    def cancel_awaiting(order):
        awaiting(order)
        order.feed(OperatorCancel("ops", "fraud"))
        order.undo_all()
        order.feed(order.pay())

    def cancel_pending(order):
        order.feed(order.cancel())
        order.feed(Start())

    def pay_twice(order):
        awaiting(order)
        order.wait(700).feed(order.pay())
        order.feed(order.pay("pay-2"))
        finish(order)
        order.feed(order.cancel())

    def early_pay(order):
        order.feed(order.pay())
        order.feed(Start())
        finish(order)

    def currency(order):
        order.run_to("hold")
        order.feed(order.done("hold").model_copy(update={"currency": "USD"}))
        order.undo_all()

    def price_changed(order):
        while order.saga.state is not SagaState.COMPENSATING:
            order.feed(order.done(order.out[0].partition(":")[0]))
        order.undo_all()

    def stick(order):
        while order.saga.stuck is None:
            order.fire()

    def stuck_retried(order):
        order.leave_in_doubt("charge")
        stick(order)
        order.feed(order.undone("hold"))
        order.feed(Retry("ops", "payment is back"))
        order.undo_all()

    def stuck_settled(order):
        order.run_to("charge").feed(order.refused("charge"))
        stick(order)
        order.feed(Settle("ops", SagaState.CANCELLED, "counted by hand"))
        order.feed(order.done("reserve"))
        order.undo_all()

    def completing_settled(order):
        order.run_to("commit").feed(order.done("use"))
        stick(order)
        order.feed(Settle("ops", SagaState.CONFIRMED, "sold by hand"))

    def dead_letter(order):
        order.run_to("charge").feed(StepDeadLettered("o-1:charge:do", "fold raised"))
        order.wait(3_600).feed(Retry("ops"))
        finish(order)

    def sent_again(order):
        for step in ("reserve", "hold", "charge"):
            order.run_to(step).fire_until_sent()
        order.run_to("commit").fire_until_sent().complete()

    def cancel_at_timer(order):
        order.run_to("hold").feed(order.cancel())
        while order.saga.state is not SagaState.COMPENSATING:
            order.fire()
        order.undo_all()

    def free_later(order):
        awaiting(order)
        order.feed(order.pay())
        finish(order)

    def answered_in_the_window(order):
        order.run_to("charge")
        while order.now <= order.saga.deadline_at:
            order.fire()
        finish(order)

    def cancel_while_unknown(order):
        order.run_to("charge").fire_until_sent(2)
        order.feed(order.cancel(reason="it takes too long"))
        order.fire()
        order.feed(order.undone("hold"))
        order.feed(order.undone("reserve"))
        order.fire_until_sent()
        order.feed(order.done("charge"))
        order.undo_all()

    gateway = {"method": PaymentMethod.GATEWAY}
    later, plain, waits = {"later": True}, {"coupon": False}, {"start": False}
    free = {"discount": 3_000}
    return {
        "confirmed": ({}, finish),
        "confirmed-without-coupon": (plain, finish),
        "confirmed-after-waiting": (waits, lambda order: (order.feed(Start()), finish(order))),
        "confirmed-paid-later": (later, pay_twice),
        "confirmed-paid-later-without-coupon": (plain | later, pay_twice),
        "confirmed-paid-before-it-started": (later | waits, early_pay),
        "confirmed-free": (free, finish),
        "confirmed-free-without-coupon": (plain | {"unit_price": 0}, finish),
        "confirmed-free-paid-later": (free | later, free_later),
        "confirmed-sent-again": ({}, sent_again),
        "confirmed-after-dead-letter": ({}, dead_letter),
        "confirmed-settled": ({}, completing_settled),
        "rejected-out-of-stock": ({}, refused("reserve")),
        "rejected-coupon": ({}, refused("hold")),
        "rejected-payment": ({}, refused("charge")),
        "rejected-price-changed": ({"expected_total": 1}, price_changed),
        "rejected-currency": ({}, currency),
        "rejected-never-paid": (later, never_paid),
        "rejected-reserve-in-doubt": ({}, in_doubt("reserve")),
        "rejected-hold-in-doubt": ({}, in_doubt("hold", Effect.NOTHING)),
        "rejected-charge-in-doubt": ({}, in_doubt("charge")),
        "rejected-stuck-retried": ({}, stuck_retried),
        "cancelled-pending": (waits, cancel_pending),
        "cancelled-awaiting-payment": (later, cancel_awaiting),
        "cancelled-then-refused": ({}, cancel_while("reserve", "refused")),
        "cancelled-then-charged": ({}, cancel_while("charge", "done")),
        "cancelled-at-timer": ({}, cancel_at_timer),
        "cancelled-settled": ({}, stuck_settled),
        "confirmed-by-gateway-in-the-window": (gateway, answered_in_the_window),
        "rejected-gateway-in-doubt": (gateway, in_doubt("charge")),
        "cancelled-gateway-unknown": (gateway, cancel_while_unknown),
    }


def one_step_per_line(history: dict[str, Any]) -> str:
    steps = ",\n  ".join(json.dumps(step) for step in history["steps"])
    parts = [
        f'"{name}": ' + (f"[\n  {steps}]" if name == "steps" else json.dumps(value))
        for name, value in history.items()
    ]
    return "{" + ",\n ".join(parts) + "}\n"


def payment_of(payment: PaymentChoice) -> dict[str, Any]:
    """Said where it isn't from the wallet, as in the histories that were recorded first."""
    plain = payment == PaymentChoice()
    return {} if plain else {"payment": payment.model_dump(mode="json")}


def record() -> None:
    class Recorder(Lead):
        def feed(self, event):
            at, result = self.now, super().feed(event)
            self.steps.append(
                {"at": at.isoformat(), "event": encode_event(event)}
                | outcome(result)
                | {"row": encode_row(self.saga)}
            )
            return result

    for name, (fields, run) in scenarios().items():
        file = FOLDER / f"v{DEFINITION_VERSION}-{name}.json"
        if file.exists():
            continue
        order = Recorder(**fields)
        order.steps = []
        first = order.saga
        place = order.saga.order
        history = {
            "definitionVersion": DEFINITION_VERSION,
            "order": {
                "type": "PlaceOrder",
                "orderId": place.order_id,
                "userId": place.user_id,
                "items": [json.loads(line.model_dump_json()) for line in place.lines],
                "couponId": place.coupon_id,
                "pay": place.pay.value,
                "expectedTotal": place.expected_total,
                "reference": place.reference,
            }
            | payment_of(place.payment),
            "start": fields.get("start", True),
            "at": START.isoformat(),
            "expect": {
                "result": "changed",
                "state": first.state.value,
                "version": first.version,
                "stuck": False,
                "commands": [message_id(command) for command in order.commands],
                "tells": json.loads(order.events[0].to_bytes()),
            },
            "row": encode_row(first),
        }
        run(order)
        history |= {"steps": order.steps, "ends": order.saga.state.value}
        file.write_text(one_step_per_line(history))


if __name__ == "__main__":
    record()
