"""Every message survives the wire, and the published schemas tell the truth about it."""

import json
from datetime import UTC, datetime
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.contracts.base import RFC_3339_PATTERN, Message, format_time
from shared.contracts.reading import Reader, Unreadable
from shared.contracts.schemas import Schema, all_messages, json_schema

TEXT = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
TIMES = st.integers(0, 7_000_000_000_000).map(
    lambda milliseconds: format_time(datetime.fromtimestamp(milliseconds / 1_000, UTC))
)


def values(schema: Schema, definitions: dict[str, Schema]) -> st.SearchStrategy[Any]:
    """Any value that the schema allows, of modest size."""
    if "$ref" in schema:
        return values(definitions[schema["$ref"].rsplit("/", 1)[1]], definitions)
    if "anyOf" in schema:
        return st.one_of([values(branch, definitions) for branch in schema["anyOf"]])
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kind = schema["type"]
    if kind == "integer":
        return st.integers(schema["minimum"], schema["maximum"])
    if kind == "string":
        return _texts(schema)
    if kind == "array":
        size = min(schema.get("maxItems", 4), 4)
        items = values(schema["items"], definitions)
        return st.lists(items, min_size=schema.get("minItems", 0), max_size=size)
    if kind == "object" and "additionalProperties" in schema:
        names = st.from_regex(schema["propertyNames"]["pattern"].replace("$", r"\Z"))
        return st.dictionaries(
            names, values(schema["additionalProperties"], definitions), max_size=3
        )
    if kind == "object":
        fields = {n: values(f, definitions) for n, f in schema["properties"].items()}
        required = {name: fields.pop(name) for name in schema.get("required", [])}
        return st.fixed_dictionaries(required, optional=fields)
    return {"boolean": st.booleans(), "null": st.none()}[kind]


def _texts(schema: Schema) -> st.SearchStrategy[str]:
    if schema.get("pattern") == RFC_3339_PATTERN:
        return TIMES
    if "maxLength" in schema:
        size = min(schema["maxLength"], 60)
        return st.text(TEXT, min_size=schema.get("minLength", 0), max_size=size)
    return st.from_regex(schema["pattern"].replace("$", r"\Z"))


def mend(body: dict[str, Any]) -> dict[str, Any]:
    """Makes the rules hold that a schema can't say (docs/contracts/README.md)."""
    if body["type"] in ("PlaceOrder", "ReserveStock"):
        by_product = {line["productId"]: line for line in body["items"]}
        body["items"] = [by_product[product_id] for product_id in sorted(by_product)]
    if body["type"] in ("PayOrder", "CancelOrder"):
        suffix = {"PayOrder": "pay", "CancelOrder": "cancel"}[body["type"]]
        if ":" in (body.get("commandId") or "") or len(body.get("commandId") or "") > 64:
            body["commandId"] = f"{body['orderId']}:{suffix}"
    if body.get("delta") == 0:
        body["delta"] = 1
    if body["type"] == "PutCampaign":
        body["endsAt"] = body["expiresAt"] = None
        body["rule"] = body.get("rule") or "true"
        if body["discount"]["type"] == "percent":
            body["discount"]["value"] = body["discount"]["value"] % 100 + 1
        else:
            body["discount"]["cap"] = None
    return body


@pytest.mark.parametrize("message", all_messages(), ids=lambda message: message.__name__)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_f12_what_the_schema_allows_is_read_and_comes_back_equal(
    message: type[Message], data: st.DataObject
) -> None:
    schema = json_schema(message)
    body = mend(data.draw(values(schema, schema.get("$defs", {}))))
    for public in (True, False):
        reader = Reader([message], public)
        read = reader.read(json.dumps(body, ensure_ascii=data.draw(st.booleans())).encode())
        assert not isinstance(read, Unreadable), read
        assert isinstance(read, message)
        sent = read.to_bytes()
        assert reader.read(sent) == read
        assert json.loads(sent).keys() >= {key for key, value in body.items() if value is not None}
        jsonschema.Draft202012Validator(schema).validate(json.loads(sent))


@pytest.mark.parametrize("message", all_messages(), ids=lambda message: message.__name__)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_f5_without_a_required_field_it_is_no_message(
    message: type[Message], data: st.DataObject
) -> None:
    schema = json_schema(message)
    body = mend(data.draw(values(schema, schema.get("$defs", {}))))
    required = [
        field.alias or name
        for name, field in message.model_fields.items()
        if field.is_required() or name == "type"
    ]
    name = data.draw(st.sampled_from(required))
    value: Any = data.draw(st.sampled_from(["absent", None, [], {}, 1.5, True]))
    if value == [] and message.model_fields[_attribute(message, name)].annotation is not str:
        value = "absent"  # some lists may be empty
    del body[name]
    if value != "absent":
        body[name] = value
    read = Reader([message], public=True).read(json.dumps(body).encode())
    assert isinstance(read, Unreadable)
    assert read.reason in ("invalid", "unknown_type")
    assert read.detail.startswith(name)


def _attribute(message: type[Message], alias: str) -> str:
    return next(n for n, f in message.model_fields.items() if (f.alias or n) == alias)


@pytest.mark.parametrize("message", all_messages(), ids=lambda message: message.__name__)
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_f5_f12_unknown_fields_are_ignored(message: type[Message], data: st.DataObject) -> None:
    schema = json_schema(message)
    body = mend(data.draw(values(schema, schema.get("$defs", {}))))
    reader = Reader([message], public=True)
    more = {"fieldOfALaterVersion": {"deep": [1, "two", None, 3.5]}, **body}
    assert reader.read(json.dumps(more).encode()) == reader.read(json.dumps(body).encode())
