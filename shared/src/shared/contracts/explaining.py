"""Turns a validation error into a reason code and a sentence that says what to do."""

from collections.abc import Sequence
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from shared.contracts.base import (
    CURRENCY_PATTERN,
    DERIVED_ID_PATTERN,
    NO_NUL_PATTERN,
    RFC_3339_PATTERN,
)
from shared.contracts.ids import ID_PATTERN

_SHOWN_CHARS: Final = 40
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

_PATTERNS: Final = {
    ID_PATTERN: "must be 1 to 64 characters of A-Z a-z 0-9 . _ -",
    DERIVED_ID_PATTERN: "must be 1 to 128 characters of A-Z a-z 0-9 . _ - :",
    CURRENCY_PATTERN: "must be a currency code of three capital letters",
    NO_NUL_PATTERN: "must not hold the character NUL",
    RFC_3339_PATTERN: "must be a time as in 2026-01-31T09:00:00.000Z",
}

_BOUNDS: Final = {
    "greater_than_equal": ("at least", "ge"),
    "less_than_equal": ("at most", "le"),
}

_LENGTHS: Final = {
    "string_too_long": ("at most", "max_length", "characters"),
    "string_too_short": ("at least", "min_length", "characters"),
    "too_long": ("at most", "max_length", "entries"),
    "too_short": ("at least", "min_length", "entries"),
}

_KINDS: Final = {
    "bool_type": "true or false",
    "dict_type": "an object",
    "enum": "text",
    "int_from_float": "an integer",
    "int_parsing_size": "an integer of that size",
    "int_type": "an integer",
    "model_attributes_type": "an object",
    "model_type": "an object",
    "none_required": "absent",
    "string_type": "text",
    "tuple_type": "a list",
}


def shorten(text: str) -> str:
    """Quoted and printable, at most 40 characters: what was sent, as far as it may be shown."""
    shown = text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"
    return '"' + "".join(c if c.isprintable() and c != '"' else "?" for c in shown) + '"'


def explain(error: ValidationError, value: bytes, types: Sequence[str]) -> tuple[str, str]:
    """Reason code and sentence for the first thing that is wrong; `types` are those that it may
    have, none where it is no message."""
    first = _first(error)
    kind = first["type"]
    sent = first["input"]
    if kind == "json_invalid":
        return _explain_syntax(str(first["ctx"]["error"]), value)
    if kind == "union_tag_invalid" and isinstance(sent["type"], str):
        known = ", ".join(types)
        return "unknown_type", f"type {shorten(sent['type'])} is unknown here; known: {known}"
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        return "invalid", f"type: is missing or no text; it must be one of {', '.join(types)}"
    # without the type, which leads every location of a message
    location = first["loc"][1:] if types else first["loc"]
    path = _path(location)
    sentence = _explain_field(first)
    return "invalid", f"{path}: {sentence}" if path else sentence


def _first(error: ValidationError) -> ErrorDetails:
    """Defaults that couldn't be derived only follow from another error."""
    errors = error.errors(include_url=False)
    for details in errors:
        if details["type"] != "default_factory_not_called":
            return details
    return errors[0]


def _explain_syntax(parser_error: str, value: bytes) -> tuple[str, str]:
    if not value.strip():
        return "empty", "the value is blank; send one JSON object"
    if value.startswith(_BYTE_ORDER_MARK):
        return "not_json", "begins with a byte order mark; send UTF-8 without one"
    try:
        value.decode()
    except UnicodeDecodeError as error:
        return "not_json", f"no UTF-8 at byte {error.start}; send UTF-8"
    if "hex escape" in parser_error or "surrogate" in parser_error:
        return "not_json", f"half of a surrogate pair, or a broken \\u escape: {parser_error}"
    return "not_json", f"no JSON: {parser_error}"


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
        elif path:
            path += f".{_plain(step)}"
        else:
            path = _plain(step)
    return path


def _plain(step: str) -> str:
    return step if step.isidentifier() and len(step) <= _SHOWN_CHARS else shorten(step)


def _explain_field(error: ErrorDetails) -> str:
    kind: str = error["type"]
    sent: Any = error["input"]
    limits: dict[str, Any] = error.get("ctx", {})
    if kind == "missing" or (sent is None and error["loc"]):
        return "is missing; it is required"
    if kind in _BOUNDS:
        words, limit = _BOUNDS[kind]
        return f"must be {words} {limits[limit]}, not {_describe(sent)}"
    if kind in _LENGTHS:
        words, limit, unit = _LENGTHS[kind]
        return f"must have {words} {limits[limit]} {unit}"
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(limits["pattern"], f"must match {limits['pattern']}")
    if kind in ("enum", "literal_error") and isinstance(sent, str):
        return f"must be {limits['expected']}, not {shorten(sent)}"
    if kind == "value_error":
        return str(limits["error"])
    if kind in _KINDS:
        return f"must be {_KINDS[kind]}, not {_describe(sent)}"
    return str(error["msg"])


def _describe(sent: Any) -> str:
    if sent is None:
        return "null"
    if isinstance(sent, bool):
        return "true" if sent else "false"
    if isinstance(sent, int | float):
        return str(sent) if abs(sent) < 10**20 else "a number of that size"
    if isinstance(sent, str):
        return f"the text {shorten(sent)}"
    return "a list" if isinstance(sent, list | tuple) else "an object"
