"""F23: histories recorded with released definitions replay on the code of today.

A file in `tests/histories` is one saga: its order, and after each event what came of it and the
row as it was stored. Each is replayed from its start, and picked up from every row in it, as a
deploy in the middle of the saga would. Files are never changed once their version is released;
`python tests/histories/record.py` records those that are missing.
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
