"""Files of order commands: one message a line, published as it stands."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiokafka import AIOKafkaProducer

from orderctl.errors import OperatorError
from shared.contracts.base import ID_PATTERN
from shared.contracts.reading import MAX_BYTES, Unreadable, deeper_than, readable_fields, reader_of
from shared.contracts.topics import TOPICS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from shared.kafka.connection import KafkaConnection

COMMANDS: Final = "orders.commands.v1"
MAX_DEPTH: Final = 32
LINGER_MS: Final = 5
_ID: Final = re.compile(ID_PATTERN.replace("$", r"\Z"))


@dataclass(frozen=True, slots=True)
class Line:
    """One message of a file."""

    number: int
    """From 1, as editors count."""
    value: bytes
    type: str | None
    order_id: str | None
    """None where it can't be told; such a line has no key."""

    @property
    def key(self) -> bytes | None:
        return None if self.order_id is None else self.order_id.encode()


def read_lines(path: Path) -> list[Line]:
    """The messages of a file, readable or not; empty lines are none. Raises OperatorError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise OperatorError(f"{path} can't be read: {error.strerror}") from error
    lines = (text.rstrip(b"\r") for text in content.split(b"\n"))
    return [_line(number, text) for number, text in enumerate(lines, start=1) if text.strip()]


def _line(number: int, value: bytes) -> Line:
    hostile = len(value) > MAX_BYTES or deeper_than(value, MAX_DEPTH)
    fields = {} if hostile else readable_fields(value)
    order_id, kind = fields.get("orderId"), fields.get("type")
    return Line(
        number,
        value,
        kind if isinstance(kind, str) else None,
        order_id if isinstance(order_id, str) and _ID.match(order_id) else None,
    )


def require_readable(path: Path, lines: Iterable[Line]) -> None:
    """Raises OperatorError for the first line that no orchestrator would understand."""
    reader = reader_of(TOPICS[COMMANDS])
    for line in lines:
        message = reader.read(line.value)
        if isinstance(message, Unreadable):
            raise OperatorError(
                f"{path}, line {line.number}: {message.detail}. Nothing was published;"
                " --as-is publishes lines whatever they hold"
            )


async def publish(connection: KafkaConnection, lines: Iterable[Line]) -> int:
    """Publish the lines in their order; how many. Raises the broker's errors."""
    producer = AIOKafkaProducer(**connection.client_options(), acks="all", linger_ms=LINGER_MS)
    await producer.start()
    topic = connection.named(COMMANDS)
    try:
        sent = [await producer.send(topic, line.value, key=line.key) for line in lines]
        await asyncio.gather(*sent)
    finally:
        await producer.stop()
    return len(sent)
