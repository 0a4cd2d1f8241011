"""One trace an order: through every service, by what is stored, not by who happens to send it."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from shared.testing.builders import cancel_order, pay_order, place_order
from shared.testing.kafka import Record
from shared.testing.signals import eventually

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..conftest import Shop  # noqa: TID252 - a conftest has no absolute name
    from .conftest import Collector

TOPICS = (
    "orders.events.v1", "stock.commands.v1", "stock.replies.v1", "coupon.commands.v1",
    "coupon.replies.v1", "payment.commands.v1", "payment.replies.v1",
)  # fmt: skip
SERVICES = {"order-orchestrator", "stock", "coupon", "payment"}


async def contexts_of(shop: Shop, order_id: str) -> dict[tuple[str, str], set[str]]:
    """(topic, message id) -> the contexts with which its copies were sent."""
    found: dict[tuple[str, str], set[str]] = {}
    for topic in TOPICS:
        for record in await shop.topics.read(topic):
            if record.key == order_id:
                context = str(record.headers["traceparent"])
                found.setdefault((topic, str(record.headers["ce_id"])), set()).add(context)
    return found


def traces(contexts: Iterable[set[str]]) -> set[str]:
    return {context.split("-")[1] for each in contexts for context in each}


async def test_an_order_is_one_trace_through_all_services(
    shop: Shop, collector: Collector, order_id: str, user: str
) -> None:
    """The upstream sampled it: its spans of all services hang together below the upstream's."""
    trace, parent = secrets.token_hex(16), secrets.token_hex(8)
    place = place_order(order_id, user_id=user, coupon_id="WELCOME10")
    header = {"traceparent": f"00-{trace}-{parent}-01"}
    await shop.publish(Record(place.to_bytes(), order_id, header))
    await shop.until(order_id, state="CONFIRMED")
    contexts = await contexts_of(shop, order_id)
    assert len(contexts) == 2 + 2 * 5
    assert traces(contexts.values()) == {trace}
    assert all(context.endswith("-01") for each in contexts.values() for context in each)

    def spans() -> dict[str, tuple[str, Any]]:
        return {
            span.span_id.hex(): (service, span)  # type: ignore[attr-defined]
            for service, span in collector.spans
            if span.trace_id.hex() == trace  # type: ignore[attr-defined]
        }

    # PlaceOrder, five commands, five replies
    found = await eventually(
        spans, within_s=60, describe="the spans have come", accept=lambda all_: len(all_) == 11
    )
    assert {service for service, _ in found.values()} == SERVICES
    for _, span in found.values():
        above = span.parent_span_id.hex()
        assert above == parent or above in found, "every span hangs below another of its trace"
    root = [span for _, span in found.values() if span.parent_span_id.hex() == parent]
    assert [span.name for span in root] == ["process PlaceOrder"]
    ids = {
        attribute.value.string_value
        for _, span in found.values()
        for attribute in span.attributes
        if attribute.key == "messaging.message.id"
    }
    assert f"{order_id}:charge:do" in ids


async def test_an_order_that_is_not_sampled_is_one_trace_too_and_costs_no_span(
    shop: Shop, collector: Collector, order_id: str, user: str
) -> None:
    await shop.publish(place_order(order_id, user_id=user))
    await shop.until(order_id, state="CONFIRMED")
    contexts = await contexts_of(shop, order_id)
    (trace,) = traces(contexts.values())
    assert {context for each in contexts.values() for context in each} == {
        (await shop.saga(order_id))["traceparent"]
    }
    assert not [span for _, span in collector.spans if span.trace_id.hex() == trace]  # type: ignore[attr-defined]


async def test_what_a_timer_sends_later_lands_in_the_orders_trace(
    shop: Shop, order_id: str, user: str
) -> None:
    """Its context comes from the saga's row, whoever sends it and whenever."""
    trace = secrets.token_hex(16)
    place = place_order(order_id, user_id=user, pay="later")
    header = {"traceparent": f"00-{trace}-{'1' * 16}-00"}
    await shop.publish(Record(place.to_bytes(), order_id, header))
    await shop.event(order_id, "OrderAwaitingPayment")
    await shop.instances["stock-0"].kill()
    await shop.publish(cancel_order(order_id, user_id=user))
    await shop.sent("stock.commands.v1", f"{order_id}:reserve:undo", copies=2)
    await shop.orchestrator.kill()  # what it knew is in its rows alone
    await shop.heal()
    await shop.outcome(order_id)
    contexts = await contexts_of(shop, order_id)
    release = contexts["stock.commands.v1", f"{order_id}:reserve:undo"]
    assert f"00-{trace}-{'1' * 16}-00" in release
    async with shop.database.connection("operator") as connection:
        rows = await connection.fetch(
            "SELECT traceparent FROM orders.outbox_message WHERE key = $1", order_id
        )
    assert trace in traces([{row["traceparent"] for row in rows}]), "public messages are kept"


async def test_a_payment_with_a_trace_of_its_own_goes_on_with_it(
    shop: Shop, order_id: str, user: str
) -> None:
    trace = secrets.token_hex(16)
    await shop.publish(place_order(order_id, user_id=user, pay="later"))
    await shop.event(order_id, "OrderAwaitingPayment")
    pay = pay_order(order_id, user_id=user)
    header = {"traceparent": f"00-{trace}-{'2' * 16}-00"}
    await shop.publish(Record(pay.to_bytes(), order_id, header))
    await shop.outcome(order_id)
    contexts = await contexts_of(shop, order_id)
    assert traces([contexts["payment.commands.v1", f"{order_id}:charge:do"]]) == {trace}
