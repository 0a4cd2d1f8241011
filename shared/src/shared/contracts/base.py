"""The bases of all messages, and the field types that carry the limits.

A message is one JSON object, camelCase, told apart by `type`. Models are frozen and strict:
`true`, `"3"`, `3.0` and NaN are no integers, an id that doesn't match its pattern is an error,
unknown fields are ignored, and null is the same as absent. A limit stands on every field, since
a value that passes here must fit into the column, the counter and the topic behind it.

Pure: no I/O, no clock, no randomness.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from shared.contracts.ids import ID_PATTERN

MAX_PRICE: Final = 10**9
"""Minor units, for one unit of a product."""
MAX_QUANTITY: Final = 10_000
"""Units in one line of an order, after lines of one product are summed."""
MAX_LINES: Final = 100
"""Lines of an order after lines of one product are summed."""
MAX_LINES_AS_SENT: Final = 1_000
"""Lines of an order before that: a bound on the work that one message may cause."""
MAX_MONEY: Final = MAX_PRICE * MAX_QUANTITY * MAX_LINES
"""Minor units: 10¹⁵, the dearest order that the limits above allow. Exact in every JSON reader."""
MAX_UNITS: Final = 10**9
"""Units received or adjusted by one command, and coupons of one campaign."""
MAX_TOTAL: Final = 2**53 - 1
"""Running totals (balances, units ever sold, versions): the largest integer exact in every JSON
reader. Whoever adds to such a total refuses what would pass this limit."""

MAX_ID_CHARS: Final = 64
MAX_DERIVED_ID_CHARS: Final = 128
MAX_NAME_CHARS: Final = 200
MAX_REFERENCE_CHARS: Final = 256
MAX_NOTE_CHARS: Final = 500
"""`reason` as free text, `note`, `detail`."""
MAX_RULE_CHARS: Final = 1_000

DERIVED_ID_PATTERN: Final = r"^[A-Za-z0-9._:-]{1,128}$"
CURRENCY_PATTERN: Final = r"^[A-Z]{3}$"
NO_NUL_PATTERN: Final = r"^[^\u0000]*$"
"""Postgres stores no NUL in text; found here, it is the sender's error and not the insert's."""
RFC_3339_PATTERN: Final = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}"
    r"(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$"
)

Id = Annotated[str, Field(pattern=ID_PATTERN)]
"""An id from outside: 1 to 64 of `A-Z a-z 0-9 . _ -`."""
DerivedId = Annotated[str, Field(pattern=DERIVED_ID_PATTERN)]
"""An id joined from others with `:`, up to 128 characters. Every `Id` is one."""
Currency = Annotated[str, Field(pattern=CURRENCY_PATTERN)]
Quantity = Annotated[int, Field(ge=1, le=MAX_QUANTITY)]
Price = Annotated[int, Field(ge=0, le=MAX_PRICE)]
Money = Annotated[int, Field(ge=0, le=MAX_MONEY)]
"""An amount in minor units, 0 included."""
PositiveMoney = Annotated[int, Field(ge=1, le=MAX_MONEY)]
Units = Annotated[int, Field(ge=0, le=MAX_UNITS)]
PositiveUnits = Annotated[int, Field(ge=1, le=MAX_UNITS)]
Total = Annotated[int, Field(ge=0, le=MAX_TOTAL)]
"""A running total: a balance, units ever received."""
Version = Annotated[int, Field(ge=1, le=MAX_TOTAL)]
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS, pattern=NO_NUL_PATTERN)]
Reference = Annotated[str, Field(max_length=MAX_REFERENCE_CHARS, pattern=NO_NUL_PATTERN)]
Note = Annotated[str, Field(max_length=MAX_NOTE_CHARS, pattern=NO_NUL_PATTERN)]
Rule = Annotated[str, Field(min_length=1, max_length=MAX_RULE_CHARS, pattern=NO_NUL_PATTERN)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 in lower-case hexadecimal."""
Seed = Annotated[str, Field(pattern=r"^[0-9a-f]{32,128}$")]
CommandName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9]{0,31}$")]


def _to_utc_milliseconds(moment: datetime) -> datetime:
    utc = moment.astimezone(UTC)
    return utc.replace(microsecond=utc.microsecond // 1_000 * 1_000)


def _parse_time(text: str) -> datetime:
    try:
        return _to_utc_milliseconds(datetime.fromisoformat(text))
    except (ValueError, OverflowError) as error:
        raise ValueError("no such time in the calendar") from error


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds, as in `2026-01-31T09:00:00.000Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _TimestampType:
    """Text on the wire, an aware `datetime` in UTC with whole milliseconds in Python.

    pydantic's own type takes `1700000000` and dates alone, and writes microseconds.
    """

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.json_or_python_schema(
            json_schema=core_schema.no_info_after_validator_function(
                _parse_time, core_schema.str_schema(pattern=RFC_3339_PATTERN, max_length=40)
            ),
            python_schema=core_schema.no_info_after_validator_function(
                _to_utc_milliseconds, core_schema.datetime_schema(tz_constraint="aware")
            ),
            serialization=core_schema.plain_serializer_function_ser_schema(
                format_time, when_used="json-unless-none"
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {
            "type": "string",
            "format": "date-time",
            "pattern": RFC_3339_PATTERN,
            "maxLength": 40,
        }


Timestamp = Annotated[datetime, _TimestampType]


@dataclass(frozen=True, slots=True)
class NullMeans:
    """Makes null the same as absent for a field whose default isn't None.

    Usage: `points: Annotated[Money, NullMeans(0)] = 0`.
    """

    default: object

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        default = self.default
        return core_schema.no_info_after_validator_function(
            lambda value: default if value is None else value,
            core_schema.nullable_schema(handler(source)),
        )


class Record(BaseModel):
    """A part of a message."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="ignore",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )


class Message(Record):
    """What lies on a topic. Subclasses carry `type: Literal["..."] = "..."`, their own name.

    `identity` names the attribute that makes the message one of a kind, see `message_id`.
    `default_command` is the suffix of the command id where the sender may leave that out.
    """

    identity: ClassVar[str] = "command_id"
    default_command: ClassVar[str | None] = None
    type: str

    def to_bytes(self) -> bytes:
        """The value as it lies on the topic: UTF-8 JSON by alias, absent fields left out.

        The order of the fields is that of the class, so that equal messages give equal bytes.
        """
        return self.__pydantic_serializer__.to_json(self, by_alias=True, exclude_none=True)

    def fingerprint(self) -> bytes:
        """See `fingerprint`; a message whose content is normalised first overrides this."""
        content = self.__pydantic_serializer__.to_json(
            self, by_alias=True, exclude_none=True, exclude_defaults=True
        )
        return digest(self.type.encode() + content)


def digest(content: bytes) -> bytes:
    """The first 16 bytes of the SHA-256: 2⁶⁴ messages before two are likely to meet."""
    return hashlib.sha256(content).digest()[:16]


def message_id(message: Message) -> str:
    """What the message is known by, in the inbox (beside its type) and as `ce_id`.

    Commands, requests and their answers: the command id. `PlaceOrder`: the order id. Order
    events and refusals: the event id. `StockLevel`: product and version.
    """
    identity: str = getattr(message, message.identity)
    return identity


def fingerprint(message: Message) -> bytes:
    """16 bytes that are equal where two messages of one type ask for the same thing.

    Over the validated content, so that spacing, order of keys and unknown fields don't count;
    defaults are left out, so that a field which a later version adds with a default changes no
    fingerprint that is stored already. `PlaceOrder` has a list of its own.
    """
    return message.fingerprint()


def rising(keys: Iterable[str]) -> bool:
    """Whether the keys rise strictly, that is: sorted, each once."""
    return all(earlier < later for earlier, later in pairwise(keys))


def default_from(attribute: str, suffix: str) -> Callable[[dict[str, Any]], str]:
    """A default factory: the id in `attribute`, which stands before this field, and a suffix."""
    return lambda validated: f"{validated[attribute]}:{suffix}"
