"""Files of order commands: one message a line, published as it stands."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiokafka import AIOKafkaProducer

from orderctl.errors import OperatorError
from orderctl.message_files import content_of, unknown_parts
from shared.contracts.explaining import shorten
from shared.contracts.ids import is_id
from shared.contracts.reading import (
    MAX_BYTES,
    Unreadable,
    deeper_than,
    readable_fields,
    reader_of,
    type_name,
)
from shared.contracts.topics import TOPICS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from shared.kafka.connection import KafkaConnection

COMMANDS: Final = "orders.commands.v1"
MAX_DEPTH: Final = 32
LINGER_MS: Final = 5
WARNINGS_AT_MOST: Final = 20


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
    """The messages of a file, readable or not; empty lines are none. Raises OperatorError.

    `STDIN` is read from standard input.
    """
    lines = (text.rstrip(b"\r") for text in content_of(path).split(b"\n"))
    return [_line(number, text) for number, text in enumerate(lines, start=1) if text.strip()]


def _line(number: int, value: bytes) -> Line:
    hostile = len(value) > MAX_BYTES or deeper_than(value, MAX_DEPTH)
    fields = {} if hostile else readable_fields(value)
    order_id, kind = fields.get("orderId"), fields.get("type")
    return Line(
        number,
        value,
        kind if isinstance(kind, str) else None,
        order_id if isinstance(order_id, str) and is_id(order_id) else None,
    )


def require_readable(name: str, lines: Iterable[Line]) -> None:
    """Raises OperatorError for the first line that no orchestrator would understand.

    `name` is what the file is called in the error.
    """
    reader = reader_of(TOPICS[COMMANDS])
    for line in lines:
        message = reader.read(line.value)
        if isinstance(message, Unreadable):
            raise OperatorError(
                f"{name}, line {line.number}: {_problem(line, message)}. Nothing was published;"
                " --as-is publishes lines whatever they hold"
            )


def _problem(line: Line, found: Unreadable) -> str:
    if found.reason == "not_json":
        return f"{found.detail}; a file has one JSON object a line"
    if not line.value.lstrip().startswith(b"{"):
        return "no JSON object; a file has one JSON object a line"
    if found.reason == "unknown_type":
        *others, last = (type_name(message) for message in TOPICS[COMMANDS].messages)
        known = f"{', '.join(others)} and {last}"
        return f"{shorten(line.type or '')} is no order command; place takes {known}"
    return found.detail


def unknown_fields(name: str, lines: Iterable[Line]) -> list[str]:
    """A warning for each field that the contract doesn't know, where it stands first.

    Lines that can't be read are passed over. `name` is what the file is called.
    """
    reader = reader_of(TOPICS[COMMANDS])
    first: dict[tuple[str, str], int] = {}
    for line in lines:
        message = reader.read(line.value)
        if not isinstance(message, Unreadable):
            for field in unknown_parts(readable_fields(line.value), message):
                first.setdefault((message.type, field), line.number)
    warnings = [
        f"{name}, line {number}: `{field}` is not a field of {kind}: ignored"
        for (kind, field), number in first.items()
    ]
    more = len(warnings) - WARNINGS_AT_MOST
    return warnings if more <= 0 else [*warnings[:-more], f"and {more} more unknown fields"]


async def publish(connection: KafkaConnection, lines: Iterable[Line]) -> int:
    """Publish the lines in their order; how many. Raises the broker's errors."""
    producer = AIOKafkaProducer(**connection.client_options(), acks="all", linger_ms=LINGER_MS)
    topic = connection.named(COMMANDS)
    try:
        await producer.start()
        sent = [await producer.send(topic, line.value, key=line.key) for line in lines]
        await asyncio.gather(*sent)
    finally:
        await producer.stop()
    return len(sent)
