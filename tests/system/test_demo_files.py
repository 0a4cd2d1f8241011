"""The example files: generated, complete, and true to each other."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from local_stack.demo.expectations import ExpectationsError, differences, kind_of, load, story_of
from local_stack.demo.placing import Placing
from local_stack.seed import POINTS, POINTS_USERS
from orderctl.order_files import read_lines
from shared.contracts.reading import Unreadable, reader_of
from shared.contracts.topics import TOPICS

if TYPE_CHECKING:
    from orderctl.order_files import Line

EXAMPLES = Path(__file__).parents[2] / "examples"
ORDERS, EXPECTATIONS = EXAMPLES / "orders.jsonl", EXAMPLES / "expectations.json"


@pytest.fixture(scope="module")
def generator() -> Any:
    spec = importlib.util.spec_from_file_location("generator", EXAMPLES / "generate_orders.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_files_are_what_the_generator_writes(
    generator: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generator, "FOLDER", tmp_path)
    generator.write()
    for file in (ORDERS, EXPECTATIONS):
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), f"{file} is stale"


def test_every_order_has_an_expected_outcome_and_no_outcome_is_without_order() -> None:
    lines, expectations = read_lines(ORDERS), load(EXPECTATIONS)
    orders = {line.order_id for line in lines if line.type == "PlaceOrder" and line.order_id}
    counted = Counter(map(kind_of, orders))
    assert len(orders) >= 2_000
    assert counted.keys() == expectations.kinds.keys()
    for name, kind in expectations.kinds.items():
        low, high = 0, 0
        for count in kind.outcomes.values():
            low += count if isinstance(count, int) else count[0]
            high += count if isinstance(count, int) else count[1]
        assert low <= counted[name] <= high, name


def test_the_unreadable_lines_are_the_expected_dead_letters() -> None:
    reader = reader_of(TOPICS["orders.commands.v1"])
    found = Counter(
        message.reason
        for message in (reader.read(line.value) for line in read_lines(ORDERS))
        if isinstance(message, Unreadable)
    )
    expected = load(EXPECTATIONS).dead_letters
    assert found == {reason: expected[reason] for reason in found}
    assert found.keys() == {"not_json", "invalid", "unknown_type"}


def test_nobody_is_expected_to_pay_with_points_that_they_do_not_have() -> None:
    expectations = load(EXPECTATIONS)
    spent: Counter[str] = Counter()
    for line in read_lines(ORDERS):
        if b'"points"' not in line.value:
            continue
        order = json.loads(line.value)
        points = order["payment"]["points"]
        outcomes = expectations.kinds[kind_of(order["orderId"])].outcomes
        if "CONFIRMED" in outcomes:
            spent[order["userId"]] += points
        else:
            assert points > POINTS
            assert outcomes.keys() == {"REJECTED insufficient_balance"}
    assert spent.keys() <= {f"user_{number}" for number in range(1, POINTS_USERS + 1)}
    assert 0 < max(spent.values()) <= POINTS


def test_kinds_and_stories_stand_in_the_ids() -> None:
    assert kind_of("coupon-used-0007.2") == "coupon-used"
    assert story_of("coupon-used-0007.2") == "coupon-used-0007"
    assert kind_of("mine") == "mine"


def test_differences_name_what_is_missing_too_much_and_unexpected() -> None:
    expected = {"CONFIRMED": 2, "REJECTED out_of_stock": (1, 3)}
    assert differences({"CONFIRMED": 2, "REJECTED out_of_stock": 3}, expected) == []
    assert differences({"CONFIRMED": 1, "CANCELLED": 1}, expected) == [
        "CANCELLED: 1, not 0",
        "CONFIRMED: 1, not 2",
        "REJECTED out_of_stock: 0, not 1 to 3",
    ]


def test_expectations_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "expectations.json"
    file.write_text('{"kinds": {"a": {"what": "", "outcomes": {"X": [3, 1]}}}, "deadLetters": {}}')
    with pytest.raises(ExpectationsError, match="at least and at most"):
        load(file)
    with pytest.raises(ExpectationsError, match="can't be read"):
        load(tmp_path / "nowhere.json")


class Recorder:
    """Takes the place of a producer: keeps what was sent, in its order."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes | None, bytes]] = []

    async def send(self, topic: str, value: bytes, key: bytes | None) -> None:
        self.sent.append((key, value))

    async def flush(self) -> None:
        pass


async def test_a_line_waits_for_the_event_of_its_story() -> None:
    lines, expectations = read_lines(ORDERS), load(EXPECTATIONS)
    producer = Recorder()
    placing = Placing(lines, expectations)

    def published() -> None:
        key, value = producer.sent[-1]
        order_id = (key or b"").decode()
        kind = expectations.kinds.get(kind_of(order_id))
        if kind and kind.second_line_after and b"PlaceOrder" in value:
            # Only then does the rest of its story come; another's event moves nothing.
            assert all(story_of((k or b"").decode()) != order_id for k, _ in producer.sent[:-1])
            placing.happened(order_id, "OrderAccepted")
            placing.happened(order_id, kind.second_line_after)

    await placing.run(producer, "orders.commands.v1", published, rate=1e9)  # type: ignore[arg-type]
    assert Counter(value for _, value in producer.sent) == Counter(line.value for line in lines)
    assert {kind_of((k or b"-").decode()) for k, _ in producer.sent[-600:]} >= {"rush"}
    assert _in_order_of(producer.sent, lines)


def _in_order_of(sent: list[tuple[bytes | None, bytes]], lines: list[Line]) -> bool:
    """Whether the lines of each order were sent in the order of the file."""
    wanted: dict[bytes, list[bytes]] = {}
    found: dict[bytes, list[bytes]] = {}
    for line in lines:
        if line.key:
            wanted.setdefault(line.key, []).append(line.value)
    for key, value in sent:
        if key:
            found.setdefault(key, []).append(value)
    return found == wanted
