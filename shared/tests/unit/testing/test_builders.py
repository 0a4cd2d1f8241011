"""Builders and strategies make messages that the contracts accept."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.contracts.base import Message, message_id
from shared.contracts.orders import Line, PayTiming, PlaceOrder
from shared.contracts.reading import Unreadable, reader_of
from shared.contracts.stock import ReserveStock
from shared.contracts.topics import TOPICS
from shared.testing import builders
from shared.testing.strategies import any_message, messages, wire_objects

if TYPE_CHECKING:
    from collections.abc import Callable

ALL_MESSAGES = sorted(
    {message for topic in TOPICS.values() for message in topic.messages},
    key=lambda message: message.__name__,
)
BY_NAME = {
    name: builder
    for name, builder in inspect.getmembers(builders, inspect.isfunction)
    if builder.__module__ == builders.__name__ and name not in ("new_id", "wire", "lines")
}


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_what_a_builder_makes_is_read_back(name: str) -> None:
    builder: Callable[..., Message] = BY_NAME[name]
    required = {
        parameter.name: 3 if parameter.name == "delta" else "o-1"
        for parameter in inspect.signature(builder).parameters.values()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    }
    message = builder(**required)
    topic = next(topic for topic in TOPICS.values() if type(message) in topic.messages)
    assert reader_of(topic).read(message.to_bytes()) == message
    assert topic.key_of(message)


def test_a_test_says_only_what_it_is_about() -> None:
    order = builders.place_order("o-1", items={"P002": 3, "P001": 2}, pay="later", points=5)
    assert order.items == (
        Line(product_id="P001", quantity=2),
        Line(product_id="P002", quantity=3),
    )
    assert (order.pay, order.payment.method, order.payment.points) == ("later", "wallet", 5)
    assert builders.place_order().order_id != builders.place_order().order_id


def test_commands_of_the_saga_have_derived_ids() -> None:
    assert message_id(builders.charge_payment("o-1")) == "o-1:charge:do"
    assert builders.charge_payment("o-1") == builders.charge_payment("o-1")
    assert message_id(builders.release_stock("o-1")) == "o-1:reserve:undo"


def test_a_wire_object_can_be_spoiled() -> None:
    value = builders.wire(builders.place_order("o-1"))
    value["items"][0]["quantity"] = True
    read = reader_of(TOPICS["orders.commands.v1"]).read(json.dumps(value).encode())
    assert isinstance(read, Unreadable)


@pytest.mark.parametrize("message", ALL_MESSAGES, ids=lambda message: message.__name__)
def test_every_message_of_the_contracts_has_a_strategy(message: type[Message]) -> None:
    topic = next(topic for topic in TOPICS.values() if message in topic.messages)
    reader = reader_of(topic)

    @settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow], deadline=None)
    @given(wire_objects(message))
    def is_read(value: dict[str, object]) -> None:
        read = reader.read(json.dumps(value).encode())
        assert not isinstance(read, Unreadable), read

    is_read()


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_message_of_a_topic(data: st.DataObject) -> None:
    topic = TOPICS["stock.commands.v1"]
    assert type(data.draw(any_message(topic.name))) in topic.messages


def test_what_is_drawn_differs() -> None:
    orders: list[PlaceOrder] = []
    lines: set[int] = set()

    @settings(max_examples=150, derandomize=True, database=None, deadline=None)
    @given(messages(PlaceOrder), messages(ReserveStock))
    def collect(order: PlaceOrder, command: ReserveStock) -> None:
        orders.append(order)
        lines.add(len(command.items))

    collect()
    assert len({order.order_id for order in orders}) > 20
    assert {order.coupon_id is None for order in orders} == {True, False}
    assert {order.pay for order in orders} == set(PayTiming)
    assert max(lines) > 1
