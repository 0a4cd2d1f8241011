"""An operator's command to stock: published, and waited for until stock has answered."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, TypeAlias, TypeGuard

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from shared.contracts.reading import reader_of
from shared.contracts.refusals import CommandRefused
from shared.contracts.stock import AdjustStock, SetStockStrategy, StockAdjusted, StockStrategySet
from shared.contracts.topics import TOPICS
from shared.kafka.publisher import partition_of
from shared.kafka.reading import SilentBrokerError
from shared.kafka.topics import verify_topics

if TYPE_CHECKING:
    from shared.kafka.connection import KafkaConnection

COMMANDS: Final = "stock.admin.v1"
EVENTS: Final = "stock.events.v1"
STOP_WITHIN_S: Final = 2.0
"""A client says goodbye to a broker that may not listen."""

Command: TypeAlias = AdjustStock | SetStockStrategy
Answer: TypeAlias = StockAdjusted | StockStrategySet | CommandRefused


async def ask_stock(
    connection: KafkaConnection, command: Command, *, within_s: float
) -> Answer | None:
    """What stock answers; None where it doesn't within this time, and may still obey.

    It is listened to before the command is published, so that no answer is missed. Raises the
    broker's errors, TopicError where a topic is missing, and SilentBrokerError where the broker
    says nothing and the command is not published.
    """
    key = command.product_id.encode()
    place = TopicPartition(connection.named(EVENTS), partition_of(key, TOPICS[EVENTS].partitions))
    consumer = AIOKafkaConsumer(**connection.client_options())
    publishing = False
    try:
        async with asyncio.timeout(within_s):
            await verify_topics(connection, [COMMANDS, EVENTS], within_s=0)
            await consumer.start()
            consumer.assign([place])
            await consumer.seek_to_end(place)
            await consumer.position(place)
            publishing = True
            await _publish(connection, key, command)
            return await _answer(consumer, command)
    except TimeoutError:
        if publishing:
            return None
        raise SilentBrokerError(
            f"the broker says nothing for {within_s:g} s; nothing was published"
        ) from None
    finally:
        await _stopped(consumer)


def is_answer(message: object, command: Command) -> TypeGuard[Answer]:
    """Whether a message on `stock.events.v1` is the answer to `command`, and to no other that had
    its id."""
    match message:
        case CommandRefused():
            asked = message.command, message.key
            return message.command_id == command.command_id and asked == (
                command.type,
                command.product_id,
            )
        case StockAdjusted():
            return isinstance(command, AdjustStock) and (
                message.command_id, message.product_id, message.delta
            ) == (command.command_id, command.product_id, command.delta)  # fmt: skip
        case StockStrategySet():
            return isinstance(command, SetStockStrategy) and (
                message.command_id, message.product_id, message.strategy
            ) == (command.command_id, command.product_id, command.strategy)  # fmt: skip
        case _:
            return False


async def _publish(connection: KafkaConnection, key: bytes, command: Command) -> None:
    producer = AIOKafkaProducer(**connection.client_options(), acks="all")
    try:
        await producer.start()
        await producer.send_and_wait(connection.named(COMMANDS), command.to_bytes(), key)
    finally:
        await _stopped(producer)


async def _answer(consumer: AIOKafkaConsumer, command: Command) -> Answer:
    reader = reader_of(TOPICS[EVENTS])
    async for record in consumer:
        message = reader.read(record.value)
        if is_answer(message, command):
            return message
    raise AssertionError("a consumer ends only when it is stopped")


async def _stopped(client: AIOKafkaConsumer | AIOKafkaProducer) -> None:
    with contextlib.suppress(TimeoutError, KafkaError):
        await asyncio.wait_for(client.stop(), STOP_WITHIN_S)
