"""How bytes from a topic become a message, or a reason why they are none.

`Reader.read` never raises. Internal topics cost one pass of pydantic's own JSON parser, which
refuses bad UTF-8, lone surrogates, a byte order mark, trailing text and integers of thousands of
digits. It lets through duplicate keys, and NaN and NUL in fields that are ignored. Topics that
others write to (`public`) get a second pass for these, and so does any value that seems to hold
NaN or NUL: what two readers may read differently must not become an order. Nesting is measured
before any parser sees the value, without recursion.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, Any, Final, NoReturn

from pydantic import GetCoreSchemaHandler, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, core_schema

from shared.contracts.base import (
    DERIVED_ID_PATTERN,
    MAX_ID_CHARS,
    MAX_NOTE_CHARS,
    MAX_REFERENCE_CHARS,
    Message,
)
from shared.contracts.explaining import explain, shorten
from shared.contracts.ids import ID_PATTERN
from shared.contracts.refusals import CommandRefusal, CommandRefused
from shared.contracts.topics import Topic

MAX_BYTES: Final = 262_144
MAX_DEPTH: Final = 32

_ID: Final = re.compile(ID_PATTERN.replace("$", r"\Z"))
_DERIVED_ID: Final = re.compile(DERIVED_ID_PATTERN.replace("$", r"\Z"))
_MAX_COMMAND_ID_CHARS: Final = MAX_ID_CHARS + len(":cancel")
"""Of a command from outside; a longer one wouldn't fit into the answer's event id."""
_COMMAND: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,31}\Z")
_ALL_BUT_BRACKETS_AND_QUOTES: Final = bytes(set(range(256)) - set(b'[]{}"'))
_ONE_KIND: Final = bytes.maketrans(b"{}", b"[]")
_STEPS: Final = bytes.maketrans(b"[]", b"\x01\xff")  # +1 and -1 as signed bytes
_FLAT_LEVELS: Final = 4
_NUL: Final = b"\\u0000"


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why a value is no message, and what of it could be read all the same.

    `reason` is one of `empty`, `too_large`, `too_deep`, `not_json`, `invalid`, `unknown_type`:
    a header of the dead letter and a label of metrics. `detail` is a sentence for people that
    names the field, and never more than a few characters of what was sent. Ids are None where
    they are missing, malformed or given twice.
    """

    reason: str
    detail: str
    type: str | None = None
    command_id: str | None = None
    order_id: str | None = None
    user_id: str | None = None
    key: str | None = None
    reference: str | None = None

    def refused(self) -> CommandRefused | None:
        """The answer to the sender, or None where what it is about can't be told."""
        if self.type is None or self.command_id is None or self.key is None:
            return None
        if len(self.command_id) > _MAX_COMMAND_ID_CHARS:
            return None
        return CommandRefused(
            command_id=self.command_id,
            command=self.type,
            key=self.key,
            reason=CommandRefusal.INVALID_COMMAND,
            detail=self.detail,
        )


class _AmbiguityError(ValueError):
    """A key twice in one object, or NaN: the message is the sentence for `detail`."""


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _AmbiguityError(f"{shorten(key)} stands twice in one object; send it once")
            seen.add(key)
    return fields


def _without_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) == len(pairs):
        return fields
    fields = {}
    repeated: set[str] = set()
    for key, value in pairs:
        if key in fields:
            repeated.add(key)
        fields[key] = value
    return {key: value for key, value in fields.items() if key not in repeated}


def _refuse_constant(name: str) -> NoReturn:
    raise _AmbiguityError(f"{name} is no JSON; send a number or leave the field out")


_STRICT: Final = json.JSONDecoder(object_pairs_hook=_each_key_once, parse_constant=_refuse_constant)
# For diagnosis only: numbers are of no interest, and a long one may not stop it.
_LENIENT: Final = json.JSONDecoder(
    object_pairs_hook=_without_repeated_keys, parse_int=lambda digits: 0
)


class _OneOf:
    """A union told apart by `type`, which must be there also where it has one member."""

    def __init__(self, messages: Sequence[type[Message]]) -> None:
        self._messages = messages

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.tagged_union_schema(
            {type_name(message): handler.generate_schema(message) for message in self._messages},
            discriminator="type",
            strict=True,
        )


def type_name(message: type[Message]) -> str:
    """What stands in `type` on the wire."""
    name: str = message.model_fields["type"].default
    return name


class Reader:
    """Reads the values of one topic. Limits: bytes of a value, levels of nesting.

    `key` is the wire name of the field that the topic is keyed by, for `Unreadable.key`.
    """

    def __init__(
        self,
        messages: Sequence[type[Message]],
        public: bool,
        max_bytes: int = MAX_BYTES,
        max_depth: int = MAX_DEPTH,
        key: str | None = None,
    ) -> None:
        self._types = {type_name(message): message for message in messages}
        if len(self._types) != len(messages):
            raise ValueError("two messages of one topic have the same type")
        self._public = public
        self._max_bytes = max_bytes
        self._max_depth = max_depth
        self._key = key
        adapter: TypeAdapter[Message] = TypeAdapter(Annotated[Message, _OneOf(messages)])
        self._validate_json = adapter.validator.validate_json

    def read_record(
        self, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]
    ) -> Message | Unreadable:
        """Like `read`, for who needs a record's headers as well: these are left alone."""
        return self.read(value)

    def read(self, value: bytes | None) -> Message | Unreadable:
        """The message, or why it is none. Never raises."""
        if not value:
            return Unreadable("empty", "the value is empty; send one JSON object")
        if len(value) > self._max_bytes:
            return Unreadable(
                "too_large", f"{len(value)} bytes; at most {self._max_bytes} are allowed"
            )
        if value.count(b"{") + value.count(b"[") > self._max_depth and (
            deeper_than(value, self._max_depth)
        ):
            return Unreadable(
                "too_deep", f"nested deeper than {self._max_depth} levels; flatten the message"
            )
        try:
            message: Message = self._validate_json(value, by_alias=True, by_name=False)
        except ValidationError as error:
            return self._unreadable(value, *explain(error, value, tuple(self._types)))
        if self._public or b"NaN" in value or b"Infinity" in value or _NUL in value:
            problem = ambiguity(value)
            if problem is not None:
                return self._unreadable(value, "invalid", problem)
        return message

    def _unreadable(self, value: bytes, reason: str, detail: str) -> Unreadable:
        fields = readable_fields(value)
        type_ = _matching(fields, "type", _COMMAND)
        order_id = _matching(fields, "orderId", _ID)
        command_id = _matching(fields, "commandId", _DERIVED_ID)
        if command_id is None and fields.get("commandId") is None and order_id is not None:
            command_id = self._default_command_id(type_, order_id)
        reference = fields.get("reference")
        if not _is_text(reference, MAX_REFERENCE_CHARS):
            reference = None
        return Unreadable(
            reason=reason,
            detail=detail[:MAX_NOTE_CHARS],
            type=type_,
            command_id=command_id,
            order_id=order_id,
            user_id=_matching(fields, "userId", _ID),
            key=_matching(fields, self._key, _ID) if self._key else None,
            reference=reference,
        )

    def _default_command_id(self, type_: str | None, order_id: str) -> str | None:
        message = self._types.get(type_ or "")
        if message is None:
            return None
        if message.identity == "order_id":
            return order_id
        suffix = message.default_command
        return None if suffix is None else f"{order_id}:{suffix}"


def reader_of(topic: Topic) -> Reader:
    """The reader for a topic of the registry."""
    return Reader(topic.messages, topic.public, key=to_camel(topic.key))


def deeper_than(value: bytes, levels: int) -> bool:
    """Whether brackets outside of strings nest deeper than that. Linear, without recursion.

    Every pass is one call over all bytes: a loop over them is slower by an order of magnitude.
    What is no JSON is measured as far as a parser would read it, or further.
    """
    brackets = _brackets(value)
    # Each removal takes the innermost brackets, one level, and most of what is wide and flat.
    removed = min(levels, _FLAT_LEVELS)
    flat = brackets
    for _ in range(removed):
        flat = flat.replace(b"[]", b"")
    return _exceeds(flat, levels - removed) and _exceeds(brackets, levels)


def _brackets(value: bytes) -> bytes:
    """The brackets outside of strings, all of one kind."""
    if b"\\" in value:
        value = value.replace(rb"\\", b"").replace(rb"\"", b"")
    kept = value.translate(_ONE_KIND, _ALL_BUT_BRACKETS_AND_QUOTES)
    # Two quotes side by side change nothing for what stands around them. Most go here: strings
    # without brackets.
    kept = kept.replace(b'""', b"")
    return b"".join(kept.split(b'"')[::2]) if b'"' in kept else kept


def _exceeds(brackets: bytes, levels: int) -> bool:
    depths = accumulate(memoryview(brackets.translate(_STEPS)).cast("b"))
    return any(map(levels.__lt__, depths))


def ambiguity(value: bytes) -> str | None:
    """What valid-looking JSON may mean in two ways (key twice, NaN, NUL), as a sentence."""
    try:
        parsed = _STRICT.decode(value.decode())
    except _AmbiguityError as problem:
        return str(problem)
    except ValueError as error:
        return f"not read by every JSON parser: {error}"
    if _NUL in value and _holds_nul(parsed):
        return "a text holds the character NUL (\\u0000); leave it out"
    return None


def _holds_nul(parsed: object) -> bool:
    pending = [parsed]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            if "\0" in value:
                return True
        elif isinstance(value, dict):
            pending.extend(value)
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    return False


def readable_fields(value: bytes) -> dict[str, Any]:
    """The fields of the object that can be told for sure; none where there is no object.

    Call it for values within the limits of nesting only.
    """
    try:
        parsed = _LENIENT.decode(value.decode())
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _matching(fields: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str | None:
    value = fields.get(name)
    return value if isinstance(value, str) and pattern.match(value) else None


def _is_text(value: object, max_chars: int) -> bool:
    if not isinstance(value, str) or len(value) > max_chars or "\0" in value:
        return False
    return not any("\ud800" <= character <= "\udfff" for character in value)
