"""Where a reader of JSON refuses what a writer may send, told from their two schemas. Pure.

Knows the part of JSON Schema that the models of this package generate, and fails loudly on a
keyword that it doesn't know, so that no new rule goes unchecked.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from shared.contracts.base import DERIVED_ID_PATTERN
from shared.contracts.ids import ID_PATTERN

Schema = dict[str, Any]

_ANNOTATIONS: Final = frozenset({"title", "description", "default", "$schema", "$defs"})
_CHECKED: Final = frozenset(
    {
        "type", "const", "enum", "pattern", "format", "minimum", "maximum", "minLength",
        "maxLength", "minItems", "maxItems", "maxProperties", "properties", "required", "items",
        "additionalProperties", "propertyNames", "anyOf", "$ref",
    }
)  # fmt: skip
_LOWER_BOUNDS: Final = ("minimum", "minLength", "minItems")
_UPPER_BOUNDS: Final = ("maximum", "maxLength", "maxItems", "maxProperties")
_WIDER_PATTERNS: Final = frozenset({(ID_PATTERN, DERIVED_ID_PATTERN)})
"""Pairs of patterns of which the second takes all that the first takes."""


@dataclass(frozen=True, slots=True)
class Document:
    """A schema and the definitions that its references point into."""

    schema: Schema
    definitions: dict[str, Schema]

    def resolve(self, schema: Schema) -> Schema:
        while "$ref" in schema:
            schema = self.definitions[schema["$ref"].rsplit("/", 1)[1]]
        return schema


def document(schema: Schema) -> Document:
    return Document(schema, schema.get("$defs", {}))


def narrowings(writer: Document, reader: Document) -> list[str]:
    """Sentences, each with the path of a field: why the reader may refuse what the writer sends.

    A field that is unknown to the reader is no reason: it is ignored.
    """
    return list(_compare(writer, writer.schema, reader, reader.schema, ""))


def _compare(
    writer: Document, sent: Schema, reader: Document, read: Schema, path: str
) -> Iterator[str]:
    sent, read = writer.resolve(sent), reader.resolve(read)
    _know_all_keywords(sent, path)
    _know_all_keywords(read, path)
    if "anyOf" in sent or "anyOf" in read:
        yield from _compare_branches(writer, sent, reader, read, path)
        return
    if "type" in read and not _types(sent) <= _types(read):
        yield f"{path or 'message'}: type is {sent.get('type', 'any')}, read as {read['type']}"
        return
    yield from _compare_values(sent, read, path)
    yield from _compare_bounds(sent, read, path)
    yield from _compare_fields(writer, sent, reader, read, path)
    for keyword, suffix in (("items", "[]"), ("additionalProperties", ".*"), ("propertyNames", "")):
        if keyword in read:
            inner = sent.get(keyword, {})
            yield from _compare(writer, inner, reader, read[keyword], path + suffix)


def _compare_branches(
    writer: Document, sent: Schema, reader: Document, read: Schema, path: str
) -> Iterator[str]:
    """Each thing that may be sent must be taken by one branch as a whole."""
    for choice in sent.get("anyOf", [sent]):
        attempts = [
            list(_compare(writer, choice, reader, branch, path))
            for branch in read.get("anyOf", [read])
        ]
        closest = min(attempts, key=lambda problems: (_is_of_another_type(problems), len(problems)))
        yield from closest


def _is_of_another_type(problems: list[str]) -> bool:
    return any(": type is " in problem for problem in problems)


def _compare_values(sent: Schema, read: Schema, path: str) -> Iterator[str]:
    known = _values(read)
    if known is not None:
        values = _values(sent)
        if values is None:
            yield f"{path}: any value is sent, only {_listed(known)} are read"
        elif unknown := values - known:
            yield f"{path}: {_listed(unknown)} is unknown to the reader, whose list is closed"
    for keyword in ("pattern", "format"):
        if keyword in read and sent.get(keyword) != read[keyword]:
            if (sent.get(keyword), read[keyword]) in _WIDER_PATTERNS:
                continue
            yield f"{path}: {keyword} is {sent.get(keyword)}, read as {read[keyword]}"


def _compare_bounds(sent: Schema, read: Schema, path: str) -> Iterator[str]:
    for keyword in _LOWER_BOUNDS:
        if keyword in read and sent.get(keyword, float("-inf")) < read[keyword]:
            yield f"{path}: {keyword} is {sent.get(keyword)}, read as {read[keyword]}"
    for keyword in _UPPER_BOUNDS:
        if keyword in read and sent.get(keyword, float("inf")) > read[keyword]:
            yield f"{path}: {keyword} is {sent.get(keyword)}, read as {read[keyword]}"


def _compare_fields(
    writer: Document, sent: Schema, reader: Document, read: Schema, path: str
) -> Iterator[str]:
    sent_fields: Schema = sent.get("properties", {})
    for name, field in read.get("properties", {}).items():
        where = f"{path}.{name}" if path else name
        if name in read.get("required", ()) and name not in sent.get("required", ()):
            yield f"{where}: may be absent, is required by the reader"
        if name in sent_fields:
            yield from _compare(writer, sent_fields[name], reader, field, where)


def lost_fields(before: Document, now: Document) -> list[str]:
    """Fields that were there and are gone: what they said is no longer said, or no longer heard."""
    return list(_lost(before, before.schema, now, now.schema, ""))


def changed_defaults(before: Document, now: Document) -> list[str]:
    """Fields whose absence now means something else."""
    return [
        f"{name}: absent meant {field.get('default')}, means {new.get('default')}"
        for name, field in before.schema.get("properties", {}).items()
        if (new := now.schema.get("properties", {}).get(name)) is not None
        and "default" in field
        and field.get("default") != new.get("default")
    ]


def _lost(before: Document, old: Schema, now: Document, new: Schema, path: str) -> Iterator[str]:
    old, new = _without_null(before, old), _without_null(now, new)
    for name, field in old.get("properties", {}).items():
        where = f"{path}.{name}" if path else name
        if name not in new.get("properties", {}):
            yield f"{where}: is gone"
        else:
            yield from _lost(before, field, now, new["properties"][name], where)
    if "items" in old and "items" in new:
        yield from _lost(before, old["items"], now, new["items"], f"{path}[]")


def _without_null(document: Document, schema: Schema) -> Schema:
    """The one branch beside null; a real choice is left to `narrowings`."""
    schema = document.resolve(schema)
    branches = [b for b in schema.get("anyOf", []) if b.get("type") != "null"]
    return document.resolve(branches[0]) if len(branches) == 1 else schema


def _types(schema: Schema) -> frozenset[str]:
    declared = schema.get("type")
    if declared is None:
        values = _values(schema)
        return frozenset({"string"}) if values is not None else frozenset({"any"})
    return frozenset({declared, "integer"} if declared == "number" else {declared})


def _values(schema: Schema) -> set[Any] | None:
    if "const" in schema:
        return {schema["const"]}
    return set(schema["enum"]) if "enum" in schema else None


def _listed(values: set[Any]) -> str:
    return ", ".join(sorted(str(value) for value in values))


def _know_all_keywords(schema: Schema, path: str) -> None:
    unknown = set(schema) - _CHECKED - _ANNOTATIONS
    if unknown:
        raise ValueError(f"{path}: no rule for the keywords {_listed(unknown)}; write one")
