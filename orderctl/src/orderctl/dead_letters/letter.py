"""A dead letter as `orderctl` reads it: where it lies, where it came from, and what it holds."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic_core import from_json

from shared.contracts.base import Message, fingerprint, format_time, message_id
from shared.contracts.ids import is_id
from shared.contracts.reading import Reader, Unreadable, reader_of
from shared.contracts.topics import GROUPS, TOPICS
from shared.pipeline.dead_letters import REASON_HEADER

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

DEAD_LETTER_TOPICS: Final = tuple(
    name for name, topic in TOPICS.items() if topic.kind == "dead_letters"
)
SAGA_DEAD_LETTERS: Final = frozenset(GROUPS["order-orchestrator-dead-letters"])
"""Topics of commands and replies of sagas: a letter there makes its saga stuck."""
REPLAYED_FROM_HEADER: Final = "dlq-replayed-from"
REPLAYED_BY_HEADER: Final = "dlq-replayed-by"

_PLACE: Final = re.compile(r"(?P<topic>[^/\s]+)/(?P<partition>[0-9]{1,9})/(?P<offset>[0-9]{1,18})")
_TYPE: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,31}\Z")
_NUMBER: Final = re.compile(r"-?[0-9]{1,18}\Z")


class Place(NamedTuple):
    """Where a record lies; the topic under its contract's name."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Place:
        """The place that `stock.dlq.v1/3/1234` names. Raises ValueError with what is wrong."""
        found = _PLACE.fullmatch(text)
        if found is None:
            raise ValueError(
                f"'{text}' is no place; one looks like {DEAD_LETTER_TOPICS[0]}/3/1234:"
                " topic, partition, offset, as `orderctl dlq list` tells them"
            )
        require_dead_letters(found["topic"])
        return cls(found["topic"], int(found["partition"]), int(found["offset"]))


def require_dead_letters(topic: str) -> None:
    """Raises ValueError unless that topic holds dead letters."""
    if topic not in DEAD_LETTER_TOPICS:
        raise ValueError(
            f"'{topic}' is no topic of dead letters; those are: {', '.join(DEAD_LETTER_TOPICS)}"
        )


class Identity(NamedTuple):
    """By what the inbox knows a message. The fingerprint is None where it can't be read."""

    type: str
    id: str
    fingerprint: bytes | None


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter. What its headers say is text of others: nothing here trusts it."""

    place: Place
    at_ms: int
    """When it was written, by the clock of the service's database."""
    key: bytes | None
    value: bytes | None
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, record: ConsumerRecord[Any, Any], topic: str) -> Letter:
        """The letter in a record; `topic` is the contract's name of its topic."""
        return cls(
            Place(topic, record.partition, record.offset),
            record.timestamp,
            record.key,
            record.value,
            {name: (content or b"").decode(errors="replace") for name, content in record.headers},
        )

    @property
    def reason(self) -> str:
        return self.headers.get(REASON_HEADER) or "(no reason)"

    @property
    def error(self) -> str:
        return self.headers.get("dlq-error", "")

    @property
    def origin(self) -> str:
        """The topic where it lay first, as its header says."""
        return self.headers.get("dlq-original-topic") or "(no origin)"

    @property
    def origin_place(self) -> Place | None:
        """Where it lay first, or None where the headers don't say or the contract doesn't know."""
        partition = self.number("dlq-original-partition")
        offset = self.number("dlq-original-offset")
        if self.origin not in TOPICS or partition is None or offset is None:
            return None
        return Place(self.origin, partition, offset)

    @property
    def is_cut(self) -> bool:
        """Whether the letter holds only the beginning of the value."""
        return "dlq-value-sha256" in self.headers

    @property
    def group(self) -> str:
        """The consumer group that could not obey it."""
        return self.place.topic.removesuffix(".dlq.v1")

    @property
    def is_of_saga(self) -> bool:
        """Whether it is a command or a reply of a saga, which then waits in vain."""
        return self.place.topic in SAGA_DEAD_LETTERS

    @property
    def size(self) -> int:
        """How much it takes in memory, about: bytes of the value and characters of the headers."""
        return len(self.value or b"") + sum(map(len, self.headers.values()))

    def number(self, header: str) -> int | None:
        """A header that is to be a number; None where it is none."""
        text = self.headers.get(header, "")
        return int(text) if _NUMBER.match(text) else None

    def type(self) -> str | None:
        """What stands in `type`, where that is the name of a message, known or not."""
        found = _fields(self.value).get("type")
        return found if isinstance(found, str) and _TYPE.match(found) else None

    def order_id(self) -> str | None:
        """The order it belongs to, by its body or else by its key; None where neither tells."""
        origin = TOPICS.get(self.origin)
        if origin is not None and origin.key not in ("order_id", ""):
            return None
        found = _fields(self.value).get("orderId")
        if isinstance(found, str) and is_id(found):
            return found
        key = (self.key or b"").decode(errors="replace")
        return key if origin is not None and is_id(key) else None

    def read(self, value: bytes | None = None) -> Message | Unreadable:
        """What the contract of the topic of origin makes of the value, or of another `value`."""
        reader = reader_for(self.origin)
        if reader is None:
            return Unreadable("unknown_topic", f"the contract knows no messages on {self.origin}")
        return reader.read(self.value if value is None else value)


def identity_of(message: Message | Unreadable) -> Identity | None:
    """By what the inbox would know it; None where its type or id can't be told."""
    if isinstance(message, Message):
        return Identity(message.type, message_id(message), fingerprint(message))
    known = message.command_id or (message.order_id if message.type == "PlaceOrder" else None)
    return Identity(message.type, known, None) if message.type and known else None


def moment(at_ms: int) -> str:
    """As contracts write times; what is no time in this calendar, as the number it is."""
    try:
        return format_time(datetime.fromtimestamp(at_ms / 1000, UTC))
    except (ValueError, OverflowError, OSError):
        return str(at_ms)


@cache
def reader_for(topic: str) -> Reader | None:
    """The reader of a topic of messages; None for one without, or none of the contract."""
    found = TOPICS.get(topic)
    return reader_of(found) if found is not None and found.messages else None


def _fields(value: bytes | None) -> dict[str, Any]:
    """The fields of the value where it is an object. Tells letters apart; it judges none."""
    try:
        parsed = from_json(value or b"")
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
