"""An operator's command to a service: published on its admin topic, and waited for until the
service has answered on its topic of events."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeGuard, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from shared.contracts.reading import reader_of
from shared.contracts.topics import TOPICS
from shared.kafka.publisher import partition_of
from shared.kafka.reading import SilentBrokerError
from shared.kafka.topics import verify_topics

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.contracts.base import Message
    from shared.contracts.refusals import CommandRefused
    from shared.kafka.connection import KafkaConnection

STOP_WITHIN_S: Final = 2.0
"""A client says goodbye to a broker that may not listen."""


@dataclass(frozen=True, slots=True)
class Addressee:
    """A service that operators command, by the contract's names of its topics."""

    name: str
    commands: str
    """Where it reads commands."""
    events: str
    """Where it answers them, under the key of the command."""

    def key_of(self, command: Message) -> str:
        """What the command is about, and the key of its answer."""
        return TOPICS[self.commands].key_of(command)

    def place_of(self, key: str, connection: KafkaConnection) -> TopicPartition:
        """The partition of events that tells of `key`, by its name on the broker."""
        partition = partition_of(key.encode(), TOPICS[self.events].partitions)
        return TopicPartition(connection.named(self.events), partition)

    def refuses(self, message: CommandRefused, command: Message) -> bool:
        """Whether a refusal is that of `command`, and of no other that had its id."""
        refused = message.command, message.key, message.command_id
        return refused == (command.type, self.key_of(command), getattr(command, "command_id", None))


CommandT = TypeVar("CommandT", bound="Message")
AnswerT = TypeVar("AnswerT")


async def ask_service(
    connection: KafkaConnection,
    addressee: Addressee,
    command: CommandT,
    is_answer: Callable[[object, CommandT], TypeGuard[AnswerT]],
    *,
    within_s: float,
) -> AnswerT | None:
    """What the service answers; None where it doesn't within this time, and may still obey.

    It is listened to before the command is published, so that no answer is missed. Raises the
    broker's errors, TopicError where a topic is missing, and SilentBrokerError where the broker
    says nothing and the command is not published.
    """
    key = addressee.key_of(command)
    place = addressee.place_of(key, connection)
    consumer = AIOKafkaConsumer(**connection.client_options())
    publishing = False
    try:
        async with asyncio.timeout(within_s):
            await verify_topics(connection, [addressee.commands, addressee.events], within_s=0)
            await consumer.start()
            consumer.assign([place])
            await consumer.seek_to_end(place)
            await consumer.position(place)
            publishing = True
            await _publish(connection, connection.named(addressee.commands), key, command)
            reader = reader_of(TOPICS[addressee.events])
            async for record in consumer:
                message = reader.read(record.value)
                if is_answer(message, command):
                    return message
            raise AssertionError("a consumer ends only when it is stopped")
    except TimeoutError:
        if publishing:
            return None
        raise SilentBrokerError(
            f"the broker says nothing for {within_s:g} s; nothing was published"
        ) from None
    finally:
        await _stopped(consumer)


async def _publish(connection: KafkaConnection, topic: str, key: str, command: Message) -> None:
    producer = AIOKafkaProducer(**connection.client_options(), acks="all")
    try:
        await producer.start()
        await producer.send_and_wait(topic, command.to_bytes(), key.encode())
    finally:
        await _stopped(producer)


async def _stopped(client: AIOKafkaConsumer | AIOKafkaProducer) -> None:
    with contextlib.suppress(TimeoutError, KafkaError):
        await asyncio.wait_for(client.stop(), STOP_WITHIN_S)
