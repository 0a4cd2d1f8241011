"""Hypothesis strategies for every message of the contracts, drawn from their JSON Schemas.

    @given(wire_objects(PlaceOrder))     # the object as it lies on the topic: a dict
    @given(messages(PlaceOrder))         # the same, read
    @given(any_message("orders.commands.v1"))

A message that the contracts gain has its strategy at once. What a schema can't say (products of a
command are sorted) is mended after drawing, in `_MEND`.
"""

from __future__ import annotations

import json
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from hypothesis import strategies as st
from pydantic import ValidationError

from shared.contracts.base import Message, format_time
from shared.contracts.topics import TOPICS

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy

    Schema = dict[str, Any]
    Wire = dict[str, Any]

M = TypeVar("M", bound=Message)

MAX_ELEMENTS = 5
"""Of a list or map: long ones are slow to draw, and tests of the limits build them by hand."""
ANY_TEXT = r"^[^\u0000]*$"

_texts = st.characters(exclude_characters="\0", codec="utf-8")
_times = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)).map(  # noqa: DTZ001 - made aware
    lambda moment: format_time(moment.astimezone())
)


def wire_objects(message: type[Message]) -> SearchStrategy[Wire]:
    """Objects that are valid messages of this type, optional fields there, null or absent."""
    return _drawn(message).map(lambda value: dict(json.loads(json.dumps(value))))


def messages(message: type[M]) -> SearchStrategy[M]:
    """Valid messages of this type."""
    return _drawn(message).map(lambda value: message.model_validate_json(json.dumps(value)))


def any_message(topic: str) -> SearchStrategy[Message]:
    """Valid messages of any type that may lie on `topic`."""
    return st.one_of([messages(message) for message in TOPICS[topic].messages])


@cache
def _drawn(message: type[Message]) -> SearchStrategy[Wire]:
    schema = message.model_json_schema(by_alias=True)
    mend = _MEND.get(message.__name__)

    def mended(value: Wire) -> Wire:
        value = json.loads(json.dumps(value))
        value["type"] = schema["properties"]["type"]["const"]
        if mend is not None:
            mend(value)
        return value

    def is_valid(value: Wire) -> bool:
        try:
            message.model_validate_json(json.dumps(value))
        except ValidationError:
            return False
        return True

    return _from_schema(schema, schema.get("$defs", {})).map(mended).filter(is_valid)


def _from_schema(schema: Schema, definitions: dict[str, Schema]) -> SearchStrategy[Any]:
    if "$ref" in schema:
        return _from_schema(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return st.one_of([_from_schema(one, definitions) for one in schema[choice]])
    return _BY_TYPE[schema["type"]](schema, definitions)


def _string(schema: Schema, _: dict[str, Schema]) -> SearchStrategy[str]:
    if schema.get("format") == "date-time":
        return _times
    pattern = schema.get("pattern", ANY_TEXT)
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    if pattern == ANY_TEXT:
        return st.text(_texts, min_size=least, max_size=most)
    # `$` would let a line end pass.
    return st.from_regex(pattern.removeprefix("^").removesuffix("$"), fullmatch=True)


def _array(schema: Schema, definitions: dict[str, Schema]) -> SearchStrategy[list[Any]]:
    return st.lists(
        _from_schema(schema["items"], definitions),
        min_size=schema.get("minItems", 0),
        max_size=min(schema.get("maxItems", MAX_ELEMENTS), MAX_ELEMENTS),
    )


def _object(schema: Schema, definitions: dict[str, Schema]) -> SearchStrategy[Wire]:
    if "properties" not in schema:
        return st.dictionaries(
            _string(schema.get("propertyNames", {}), definitions),
            _from_schema(schema["additionalProperties"], definitions),
            max_size=MAX_ELEMENTS,
        )
    fields = {
        name: _from_schema(field, definitions) for name, field in schema["properties"].items()
    }
    required = set(schema.get("required", ()))
    return st.fixed_dictionaries(
        {name: field for name, field in fields.items() if name in required},
        optional={name: field for name, field in fields.items() if name not in required},
    )


_BY_TYPE: dict[str, Callable[[Schema, dict[str, Schema]], SearchStrategy[Any]]] = {
    "string": _string,
    "integer": lambda schema, _: st.integers(schema.get("minimum"), schema.get("maximum")),
    "boolean": lambda *_: st.booleans(),
    "null": lambda *_: st.none(),
    "array": _array,
    "object": _object,
}


def _sort_lines(value: Wire) -> None:
    by_product = {line["productId"]: line for line in value["items"]}
    value["items"] = [by_product[product_id] for product_id in sorted(by_product)]


def _give_a_rule(value: Wire) -> None:
    if value["kind"] == "conditional" and not value.get("rule"):
        value["rule"] = "user.tier == 'gold'"
    if value["discount"]["type"] == "percent":
        value["discount"]["value"] = value["discount"]["value"] % 100 + 1
    if value.get("startsAt") and value.get("endsAt"):
        first, last = sorted((value["startsAt"], value["endsAt"]))
        value["startsAt"] = first
        value["endsAt"] = None if first == last else last


def _own_command_id(value: Wire) -> None:
    """A command id that is given may hold a colon only where it is the default one."""
    if value.get("commandId"):
        value["commandId"] = value["commandId"].replace(":", "-")[:64]


_MEND: dict[str, Callable[[Wire], None]] = {
    "ReserveStock": _sort_lines,
    "PutCampaign": _give_a_rule,
    "PayOrder": _own_command_id,
    "CancelOrder": _own_command_id,
}
