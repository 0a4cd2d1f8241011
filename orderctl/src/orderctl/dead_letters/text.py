"""Dead letters as text for people: bounded in size, and safe for a terminal once printed."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from orderctl.dead_letters.advice import Advice, Remedy
from orderctl.dead_letters.causes import NAME_CHARS
from orderctl.dead_letters.letter import (
    REPLAYED_BY_HEADER,
    REPLAYED_FROM_HEADER,
    Letter,
    moment,
)
from orderctl.terminal import short_time, visible
from shared.contracts.base import Message, message_id
from shared.contracts.reading import MAX_DEPTH, Unreadable, ambiguity, deeper_than, type_name
from shared.contracts.topics import TOPICS
from shared.pipeline.dead_letters import DETAIL_CHARACTERS, KEY_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from orderctl.admin_api import Document
    from orderctl.dead_letters.causes import Causes
    from orderctl.dead_letters.inboxes import Known

CAUSES_SHOWN: Final = 30
VALUE_CHARS: Final = 4_000
BYTES_SHOWN: Final = 256
LINE_CHARS: Final = 300
HEADERS_SHOWN: Final = 40
_PARSED_BYTES: Final = 1_048_576
_BYTES_PER_LINE: Final = 16


class Found(NamedTuple):
    """A letter with what was found out about it."""

    letter: Letter
    advice: Advice
    known: Known
    came_with: dict[str, str] = {}  # noqa: RUF012 - never changed
    """The headers of the message as it came, while its topic holds it."""
    saga: Document | None = None
    """How its order stands, where that could be asked."""
    saga_problem: str = ""
    """Why it could not be."""


def causes_text(causes: Causes, topics: int) -> str:
    """How many letters there are of each cause."""
    if not causes.letters:
        return f"no dead letters in {_count(topics, 'topic')}"
    found = causes.by_count()
    lines = [f"{_count(causes.letters, 'dead letter')} of {_count(len(found), 'cause')}"]
    for cause, tally in found[:CAUSES_SHOWN]:
        named = one_line("  ".join(filter(None, cause)))
        lines += [
            "",
            f"{tally.count:>9,}  {named}",
            f"{'':9}  {clock(tally.first_ms)} to {clock(tally.last_ms)} UTC",
            f"{'':9}  the last at {tally.example}",
        ]
        if tally.error:
            lines.append(f"{'':9}  {one_line(tally.error)}")
    rest = found[CAUSES_SHOWN:]
    if rest:
        letters = sum(tally.count for _, tally in rest)
        lines += [
            "",
            f"{letters:>9,}  of {_count(len(rest), 'further cause')}, which --json tells",
        ]
    return "\n".join(lines)


def letter_line(letter: Document) -> str:
    """One letter a line, of its document."""
    parts = (
        short_time(letter["at"]), letter["place"], letter["origin"], letter["reason"],
        letter["type"] or "-", letter["orderId"] or "-", letter["error"],
    )  # fmt: skip
    return one_line("  ".join(parts))


def letter_document(letter: Letter) -> Document:
    """One letter for machines, without its value. Bounded: many of them may be kept."""
    key = None if letter.key is None else letter.key.decode(errors="replace")
    return {
        "place": str(letter.place),
        "at": moment(letter.at_ms),
        "origin": _short(str(letter.origin_place or letter.origin), NAME_CHARS),
        "reason": _short(letter.reason, NAME_CHARS),
        "error": _short(letter.error, DETAIL_CHARACTERS),
        "type": letter.type(),
        "orderId": letter.order_id(),
        "key": None if key is None else _short(key, KEY_BYTES),
    }


def found_document(found: Found) -> Document:
    """All of one letter for machines."""
    letter, message = found.letter, found.letter.read()
    unreadable = message.detail if isinstance(message, Unreadable) else None
    value: Document = {"value": None}
    if letter.value is not None:
        try:
            value = {"value": letter.value.decode()}
        except UnicodeDecodeError:
            value = {"valueHex": letter.value.hex()}
    return {
        **letter_document(letter),
        "headers": letter.headers,
        **value,
        "message": None if unreadable else message_id(message),  # type: ignore[arg-type]
        "unreadable": unreadable,
        "inbox": found.known.value,
        "saga": found.saga,
        "sagaProblem": found.saga_problem or None,
        "remedy": found.advice.remedy.value,
        "why": found.advice.why,
    }


def found_text(found: Found) -> str:
    """All of one letter for people."""
    facts = [(name, text) for name, text in _facts(found) if text]
    width = max(len(name) for name, _ in facts)
    lines = [one_line(f"{name:<{width}}  {text}") for name, text in facts]
    size = 0 if found.letter.value is None else len(found.letter.value)
    # marked line by line: a value may imitate what this tool says
    lines += [
        "",
        f"value, {_count(size, 'byte')}:",
        textwrap.indent(value_text(found.letter.value), "  | ", lambda _: True),
    ]
    lines += ["", "what to do:", *(f"  {line}" for line in _what_to_do(found))]
    return "\n".join(lines)


def value_text(value: bytes | None) -> str:
    """The value: JSON indented, other text as it is, else bytes in hexadecimal. Cut where long."""
    if not value:
        return "(empty)" if value is not None else "(null)"
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return _hexadecimal(value)
    return _cut(_indented(text, value))


def contract_lines(letter: Letter) -> Iterator[str]:
    """What the contract expects: the fields of the letter's type, or the types of its topic."""
    topic = TOPICS.get(letter.origin)
    if topic is None or not topic.messages:
        return
    kind = letter.type()
    expected = [message for message in topic.messages if type_name(message) == kind]
    for message in expected or topic.messages:
        needed = [_field(field.alias, field) for field in _fields(message) if field.is_required()]
        free = [field.alias or "" for field in _fields(message) if not field.is_required()]
        optional = f"; optional: {', '.join(free)}" if free else ""
        yield f"{type_name(message)} with {', '.join(needed)}{optional}"


def clock(at_ms: int) -> str:
    """A moment in UTC, to the second."""
    return short_time(moment(at_ms))


def one_line(text: str) -> str:
    """The same in one line, visible, and cut where it is long."""
    # Cut before as well: what is made visible may be much, and grows.
    return _short(visible(" ".join(text[: 2 * LINE_CHARS].split("\n"))), LINE_CHARS)


def _short(text: str, chars: int) -> str:
    return text if len(text) <= chars else f"{text[: chars - 1]}…"


def _facts(found: Found) -> Iterable[tuple[str, str]]:
    letter, message = found.letter, found.letter.read()
    sent = letter.number("dlq-original-timestamp")
    origin = str(letter.origin_place or letter.origin)
    replay = found.came_with
    yield "place", str(letter.place)
    yield "since", f"{clock(letter.at_ms)} UTC"
    yield "origin", origin + (f", sent {clock(sent)} UTC" if sent and sent > 0 else "")
    if REPLAYED_FROM_HEADER in replay:
        who = replay.get(REPLAYED_BY_HEADER, "somebody")
        yield "replay of", f"{replay[REPLAYED_FROM_HEADER]}, by {who}"
    yield "reason", letter.reason
    yield "error", letter.error
    yield "attempts", letter.headers.get("dlq-attempts", "")
    yield "key", "(none)" if letter.key is None else letter.key.decode(errors="replace")
    readable = isinstance(message, Message)
    yield "message", f"{message.type} {message_id(message)}" if readable else letter.type() or ""  # type: ignore[arg-type]
    yield "inbox", found.known.value
    yield "contract", "reads it" if readable else f"refuses it: {message.detail}"  # type: ignore[union-attr]
    for line in contract_lines(letter):
        yield "expected", line
    yield "order", _order(found)
    yield "trace", letter.headers.get("traceparent", "")
    own = [name for name in letter.headers if not name.startswith(("dlq-", "ce_"))]
    for name in [one for one in own if one not in ("traceparent", "content-type")][:HEADERS_SHOWN]:
        yield "header", f"{name}: {letter.headers[name]}"
    digest = letter.headers.get("dlq-value-sha256")
    if digest:
        yield "cut", f"only the beginning was kept; SHA-256 of the whole: {digest}"


def _order(found: Found) -> str:
    order = found.letter.order_id()
    if order is None:
        return "of no order that can be told"
    if found.saga is None:
        return f"{order}: {found.saga_problem}" if found.saga_problem else order
    saga = found.saga
    stuck = saga.get("stuck")
    state = f"{order}: {saga.get('state')}"
    if saga.get("reason"):
        state += f" ({saga['reason']})"
    if stuck:
        return f"{state}, STUCK since {stuck.get('since')}: {stuck.get('why')}"
    return f"{state}, not stuck"


def _what_to_do(found: Found) -> Iterator[str]:
    letter, advice = found.letter, found.advice
    if advice.remedy is Remedy.NOTHING:
        yield f"nothing: {advice.why}"
    elif advice.remedy is Remedy.EDIT:
        yield f"replay an edited value, or nothing: {advice.why}"
        yield f"orderctl dlq show {letter.place} --raw > letter.json"
        yield f"orderctl dlq replay {letter.place} --value letter.json"
    else:
        yield f"replay it as it is: {advice.why}"
        yield f"orderctl dlq replay {letter.place}"
    order = letter.order_id()
    if letter.is_of_saga and order is not None:
        yield from saga_hints(order)


def saga_hints(order: str) -> Iterator[str]:
    """What an operator has to know of the saga of an internal letter."""
    yield f"its saga goes on by itself once an answer comes: orderctl show {order}"
    yield f"where it stays stuck: orderctl retry {order} --note 'a dead letter was mended'"


def _fields(message: type[Message]) -> list[Any]:
    return [field for name, field in message.model_fields.items() if name != "type"]


def _field(alias: str | None, field: Any) -> str:
    text = str(field.annotation)
    kinds = (("tuple[", "a list"), ("int", "an integer"), ("bool", "true or false"))
    kind = next((words for start, words in kinds if start in text.replace("<class '", "")), "")
    return f"{alias} ({kind})" if kind else str(alias)


def _indented(text: str, value: bytes) -> str:
    """JSON indented; as it came where that would change what it says, or where it is none."""
    if len(value) > _PARSED_BYTES or deeper_than(value, MAX_DEPTH) or ambiguity(value):
        return text
    try:
        # No number of the contract has a fraction, and Python's would lose its digits.
        parsed = json.loads(text, parse_float=_refuse)
    except ValueError:
        return text
    return json.dumps(parsed, indent=2, ensure_ascii=False)


def _refuse(number: str) -> NoReturn:
    raise ValueError(number)


def _hexadecimal(value: bytes) -> str:
    lines = []
    for start in range(0, min(len(value), BYTES_SHOWN), _BYTES_PER_LINE):
        part = value[start : min(start + _BYTES_PER_LINE, BYTES_SHOWN)]
        plain = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)
        lines.append(f"{start:06x}  {part.hex(' '):<47}  {plain}")
    if len(value) > BYTES_SHOWN:
        lines.append(_more(len(value) - BYTES_SHOWN, "byte"))
    return "\n".join(lines)


def _cut(text: str) -> str:
    if len(text) <= VALUE_CHARS:
        return text
    return f"{text[:VALUE_CHARS]}\n{_more(len(text) - VALUE_CHARS, 'character')}"


def _more(count: int, unit: str) -> str:
    return f"… and {_count(count, unit)} more; --raw gives all"


def _count(count: int, unit: str) -> str:
    return f"{count:,} {unit}{'' if count == 1 else 's'}"
