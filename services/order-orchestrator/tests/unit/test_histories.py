"""F23: histories recorded with released definitions replay on the code of today.

A file in `tests/histories` is one saga: its order, and after each event what came of it and the
row as it was stored. Each is replayed from its start, and picked up from every row in it, as a
deploy in the middle of the saga would. Files are never changed once their version is released;
`python tests/unit/test_histories.py` records those that are missing.
"""

import dataclasses
import json
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from order_orchestrator import events
from order_orchestrator.domain import LEGAL, Limits, SagaState
from order_orchestrator.engine import transition
from order_orchestrator.events import Refused, TimerFired, Transition
from order_orchestrator.intake import Arrival, accept
from order_orchestrator.records import from_record, to_record
from order_orchestrator.saga import DEFINITION_VERSION, Reply
from shared.contracts.base import Message, message_id
from shared.contracts.orders import CancelOrder, PayOrder, PlaceOrder

FOLDER = Path(__file__).parent.parent / "histories"
FILES = sorted(FOLDER.glob("*.json"))
TIMES = {
    "accepted_at",
    "last_sent_at",
    "deadline_at",
    "pay_by",
    "timer_at",
    "stuck_since",
    "told_at",
}
MESSAGES = {kind.__name__: kind for kind in (*Reply.__args__, PayOrder, CancelOrder)}


def encode_event(event: Any) -> dict[str, Any]:
    if isinstance(event, Message):
        return json.loads(event.to_bytes())
    fields = dataclasses.asdict(event)
    return {"type": type(event).__name__} | {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in fields.items()
    }


def decode_event(written: dict[str, Any]) -> Any:
    if written["type"] in MESSAGES:
        return MESSAGES[written["type"]].model_validate_json(json.dumps(written))
    fields = {name: value for name, value in written.items() if name != "type"}
    if written["type"] == TimerFired.__name__:
        fields = {name: datetime.fromisoformat(value) for name, value in fields.items()}
    if "outcome" in fields:
        fields["outcome"] = SagaState(fields["outcome"])
    return getattr(events, written["type"])(**fields)


def encode_row(saga) -> dict[str, Any]:
    row = to_record(saga)
    row["fingerprint"] = row["fingerprint"].hex()
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in row.items()
    }


def decode_row(written: dict[str, Any]):
    row = dict(written, fingerprint=bytes.fromhex(written["fingerprint"]))
    for name in TIMES & row.keys():
        row[name] = row[name] and datetime.fromisoformat(row[name])
    return from_record(row)


def outcome(result) -> dict[str, Any]:
    """What the world and an operator can see of a step."""
    if not isinstance(result, Transition):
        verb = "refused" if isinstance(result, Refused) else "ignored"
        return {"result": f"{verb}: {result.reason.value}"}
    saga = result.saga
    return {
        "result": "changed",
        "state": saga.state.value,
        "version": saga.version,
        "stuck": saga.stuck is not None,
        "commands": [message_id(command) for command in result.commands],
        "tells": result.event and json.loads(result.event.to_bytes()),
    }


def begin(history: dict[str, Any]) -> Transition:
    place = PlaceOrder.model_validate_json(json.dumps(history["order"]))
    now = datetime.fromisoformat(history["at"])
    arrival = Arrival(now, "KRW", bytes.fromhex(history["row"]["fingerprint"]), "00-trace")
    return accept(place, arrival, Limits(), start=history["start"])


def go_on(saga, steps: list[dict[str, Any]]):
    for step in steps:
        now = datetime.fromisoformat(step["at"])
        result = transition(saga, decode_event(step["event"]), now, Limits())
        assert outcome(result) == {name: step[name] for name in outcome(result)}, step["event"]
        if isinstance(result, Transition):
            saga = result.saga
    return saga


def load(file: Path) -> dict[str, Any]:
    history: dict[str, Any] = json.loads(file.read_text())
    return history


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_f23_recorded_histories_replay(file):
    history = load(file)
    first = begin(history)
    assert outcome(first) == history["expect"]
    assert go_on(first.saga, history["steps"]).state.value == history["ends"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_f23_a_saga_in_flight_goes_on_from_any_recorded_row(file):
    history = load(file)
    rows = [history["row"]] + [step["row"] for step in history["steps"]]
    for done, row in enumerate(rows):
        saga = decode_row(row)
        assert go_on(saga, history["steps"][done:]).state.value == history["ends"]


def test_f23_every_version_and_every_legal_change_of_state_is_recorded():
    histories = [load(file) for file in FILES]
    assert {history["definitionVersion"] for history in histories} == set(
        range(1, DEFINITION_VERSION + 1)
    )
    pairs = set()
    for history in histories:
        states = [None, history["expect"]["state"]]
        states += [step["state"] for step in history["steps"] if "state" in step]
        pairs |= set(pairwise(states))
    unreadable = (None, SagaState.REJECTED)  # has no saga to go on with
    assert {(old, new) for old, new in pairs if old != new} == set(LEGAL) - {unreadable}


# --- recording ---


def scenarios() -> dict[str, Any]:
    """Name -> the order's fields and what happens to it."""
    from order_orchestrator.events import OperatorCancel, Retry, Settle, Start, StepDeadLettered
    from shared.contracts.effects import Effect

    def finish(order):
        order.run_to("commit").complete()

    def refused(step):
        return lambda order: (order.run_to(step).feed(order.refused(step)), order.undo_all())

    def give_up(order, step):
        order.run_to(step)
        while order.saga.state is not SagaState.COMPENSATING:
            order.fire()

    def in_doubt(step, effect=Effect.UNDONE):
        def run(order):
            give_up(order, step)
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
        give_up(order, "charge")
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
    }


def one_step_per_line(history: dict[str, Any]) -> str:
    steps = ",\n  ".join(json.dumps(step) for step in history["steps"])
    parts = [
        f'"{name}": ' + (f"[\n  {steps}]" if name == "steps" else json.dumps(value))
        for name, value in history.items()
    ]
    return "{" + ",\n ".join(parts) + "}\n"


def record() -> None:
    from conftest import START, Lead

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
            },
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
