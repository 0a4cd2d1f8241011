"""The registry of topics: complete, consistent, as the design's table has it."""

import pytest

from shared.contracts import coupon, orders, payment, refusals, stock
from shared.contracts.base import Message
from shared.contracts.orders import PlaceOrder
from shared.contracts.reading import MAX_BYTES
from shared.contracts.refusals import CommandRefusal, CommandRefused
from shared.contracts.schemas import all_messages
from shared.contracts.topics import GROUPS, OUTSIDE, TOPICS, Topic, dead_letter_topic, service_of
from shared.services import SCHEMAS

SERVICES = {"stock", "coupon", "payment", "order-orchestrator"}
LIVE = [topic for topic in TOPICS.values() if topic.kind != "dead_letters"]


def name_of(topic: Topic) -> str:
    return topic.name


def test_names_and_keys_are_those_of_the_design() -> None:
    assert {topic.name: topic.key for topic in LIVE} == {
        "orders.commands.v1": "order_id",
        "orders.events.v1": "order_id",
        "stock.commands.v1": "order_id",
        "coupon.commands.v1": "order_id",
        "payment.commands.v1": "order_id",
        "stock.replies.v1": "order_id",
        "coupon.replies.v1": "order_id",
        "payment.replies.v1": "order_id",
        "stock.admin.v1": "product_id",
        "coupon.admin.v1": "coupon_id",
        "coupon.requests.v1": "coupon_id",
        "wallet.requests.v1": "user_id",
        "stock.events.v1": "product_id",
        "coupon.events.v1": "coupon_id",
        "wallet.events.v1": "user_id",
        "stock.levels.v1": "product_id",
    }


def test_every_message_lies_on_a_topic() -> None:
    models = {
        model
        for module in (orders, stock, coupon, payment, refusals)
        for model in vars(module).values()
        if isinstance(model, type) and issubclass(model, Message) and "type" in vars(model)
        .get("__annotations__", {})
    } - {Message}  # fmt: skip
    assert len(models) > 40
    assert models == set(all_messages())


@pytest.mark.parametrize("topic", LIVE, ids=name_of)
def test_every_message_has_the_key_of_its_topic(topic: Topic) -> None:
    for message in topic.messages:
        key = "key" if message is CommandRefused else topic.key
        assert message.model_fields[key].is_required(), message


@pytest.mark.parametrize("topic", TOPICS.values(), ids=name_of)
def test_every_topic_has_its_configuration(topic: Topic) -> None:
    assert topic.partitions == 12
    assert topic.name.endswith(".v1")
    assert topic.owner in SERVICES
    compacted = topic.name == "stock.levels.v1"
    assert topic.config["cleanup.policy"] == ("compact" if compacted else "delete")
    assert ("retention.ms" in topic.config) is not compacted
    size = int(topic.config["max.message.bytes"])
    assert size == (2_097_152 if topic.kind == "dead_letters" else 1_048_576)
    assert size > 2 * MAX_BYTES


def test_public_topics_are_those_written_from_outside() -> None:
    assert {topic.name for topic in LIVE if topic.public} == {
        "orders.commands.v1",
        "stock.admin.v1",
        "coupon.admin.v1",
        "coupon.requests.v1",
        "wallet.requests.v1",
    }


def test_groups_and_readers_agree() -> None:
    from_topics = {
        (group, topic.name)
        for topic in TOPICS.values()
        for group in topic.readers
        if group != OUTSIDE
    }
    assert from_topics == {(group, name) for group, names in GROUPS.items() for name in names}


def test_whatever_is_sent_is_read_by_somebody() -> None:
    assert all(topic.readers for topic in TOPICS.values())


def test_every_group_has_dead_letters_and_a_service() -> None:
    for group in GROUPS:
        topic = TOPICS[dead_letter_topic(group)]
        assert topic.kind == "dead_letters"
        assert topic.writer == service_of(group)
    assert {service_of(group) for group in GROUPS} == SERVICES == set(SCHEMAS)


def test_dead_letters_of_sagas_reach_the_orchestrator() -> None:
    assert set(GROUPS["order-orchestrator-dead-letters"]) == {
        "stock.dlq.v1",
        "coupon.dlq.v1",
        "payment.dlq.v1",
        "order-orchestrator.dlq.v1",
    }


def test_keys_of_messages() -> None:
    order = PlaceOrder.model_validate_json(
        '{"type":"PlaceOrder","orderId":"o-1","userId":"u",'
        '"items":[{"productId":"P001","quantity":1}]}'
    )
    assert TOPICS["orders.commands.v1"].key_of(order) == "o-1"
    refusal = CommandRefused(
        command_id="c",
        command="PutProduct",
        key="P001",
        reason=CommandRefusal.CURRENCY_MISMATCH,
        detail="",
    )
    assert TOPICS["stock.events.v1"].key_of(refusal) == "P001"
