"""JSON Schemas of the messages, and AsyncAPI 3.0 of the topics, as plain data. Pure.

Both come from the models and the registry alone, and equal code gives equal documents.
"""

from collections.abc import Iterable
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, models_json_schema
from pydantic_core import CoreSchema

from shared.contracts.base import Message
from shared.contracts.reading import MAX_BYTES, MAX_DEPTH, type_name
from shared.contracts.topics import OUTSIDE, TOPICS, Topic

Schema = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
CONTRACT_VERSION: Final = "0.1.0"
"""Of the documents: the release that this code will become."""

_HEADERS: Final[Schema] = {
    "type": "object",
    "description": (
        "CloudEvents 1.0 in binary mode, and W3C trace context. Always there on what this system"
        " sends, optional on what it takes: the body alone is enough."
    ),
    "properties": {
        "ce_specversion": {"type": "string", "const": "1.0"},
        "ce_id": {"type": "string", "maxLength": 128},
        "ce_type": {"type": "string"},
        "ce_source": {"type": "string"},
        "ce_time": {"type": "string", "format": "date-time"},
        "ce_subject": {"type": "string"},
        "content-type": {"type": "string", "const": "application/json"},
        "traceparent": {"type": "string"},
    },
}

_DEAD_LETTER_HEADERS: Final[Schema] = {
    "type": "object",
    "description": "UTF-8 text. The value is untouched and may be anything.",
    "properties": {
        name: {"type": "string"}
        for name in (
            "dlq-reason",
            "dlq-error",
            "dlq-original-topic",
            "dlq-original-partition",
            "dlq-original-offset",
            "dlq-original-timestamp",
            "dlq-attempts",
        )
    },
}


class _WithoutFieldTitles(GenerateJsonSchema):
    """A title such as "Orderid" says less than the field's name."""

    def field_title_should_be_set(self, schema: CoreSchema) -> bool:
        return False


def all_messages() -> tuple[type[Message], ...]:
    """Every message of the registry once, by name of its class."""
    messages = {message for topic in TOPICS.values() for message in topic.messages}
    return tuple(sorted(messages, key=lambda message: message.__name__))


def definitions(messages: Iterable[type[Message]], prefix: str) -> dict[str, Schema]:
    """The schemas of the messages and of their parts by name, referring to each other by prefix."""
    _, schema = models_json_schema(
        [(message, "validation") for message in messages],
        by_alias=True,
        ref_template=prefix + "{model}",
        schema_generator=_WithoutFieldTitles,
    )
    found: dict[str, Schema] = schema["$defs"]
    for message in messages:
        _require_what_is_always_sent(found[message.__name__], message)
    return {name: found[name] for name in sorted(found)}


def _require_what_is_always_sent(schema: Schema, message: type[Message]) -> None:
    """Fields that have a default in Python, but stand in every message on the wire."""
    always = ["type"]
    if message.identity == "event_id":
        always += [name for name in ("status", "eventId") if name in schema["properties"]]
    for name in always:
        schema["properties"][name].pop("default", None)
    schema["required"] = [*always, *schema.get("required", [])]


def json_schema(message: type[Message]) -> Schema:
    """One message as a document of its own."""
    parts = definitions([message], "#/$defs/")
    own = parts.pop(message.__name__)
    document: Schema = {"$schema": DIALECT, **own}
    if parts:
        document["$defs"] = parts
    return document


def asyncapi() -> Schema:
    """The whole: one channel a topic, one operation for each service and direction."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Orders, stock, coupons and payment",
            "version": CONTRACT_VERSION,
            "description": (
                "JSON in UTF-8, camelCase, one object a message; `type` says which. Unknown"
                " fields are ignored and null is the same as absent. Times are RFC 3339 in UTC"
                " with milliseconds, money is an integer in minor units. A value above"
                f" {MAX_BYTES} bytes or nested deeper than {MAX_DEPTH} levels is refused."
            ),
        },
        "defaultContentType": "application/json",
        "channels": {name: _channel(topic) for name, topic in TOPICS.items()},
        "operations": _operations(),
        "components": {
            "messages": {message.__name__: _message(message) for message in all_messages()},
            "messageTraits": {"cloudEvent": {"headers": _HEADERS}},
            "schemas": definitions(all_messages(), "#/components/schemas/"),
        },
    }


def _channel(topic: Topic) -> Schema:
    messages: Schema = {
        message.__name__: {"$ref": f"#/components/messages/{message.__name__}"}
        for message in topic.messages
    }
    if topic.kind == "dead_letters":
        messages = {"DeadLetter": {"name": "DeadLetter", "headers": _DEAD_LETTER_HEADERS}}
    return {
        "address": topic.name,
        "description": _channel_description(topic),
        "messages": messages,
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "topicConfiguration": _topic_configuration(topic),
                "bindingVersion": "0.5.0",
            }
        },
    }


def _channel_description(topic: Topic) -> str:
    if topic.kind == "dead_letters":
        return (
            f"Dead letters of the group {topic.name.removesuffix('.dlq.v1')}, keyed as they were."
        )
    key = topic.messages[0].model_fields[topic.key].alias
    written = "written from outside" if topic.public else f"written by {topic.writer}"
    return f"{topic.kind.capitalize()}, keyed by {key}, {written}."


def _topic_configuration(topic: Topic) -> Schema:
    configuration: Schema = {"cleanup.policy": topic.config["cleanup.policy"].split(",")}
    for name in ("retention.ms", "delete.retention.ms", "max.message.bytes"):
        if name in topic.config:
            configuration[name] = int(topic.config[name])
    return configuration


def _message(message: type[Message]) -> Schema:
    return {
        "name": type_name(message),
        "contentType": "application/json",
        "traits": [{"$ref": "#/components/messageTraits/cloudEvent"}],
        "payload": {"$ref": f"#/components/schemas/{message.__name__}"},
    }


def _operations() -> Schema:
    """As this system sees it: `receive` what a group reads, `send` what a service writes."""
    operations: Schema = {}
    for name, topic in TOPICS.items():
        channel = {"$ref": f"#/channels/{name}"}
        if topic.writer != OUTSIDE:
            operations[f"{topic.writer}.send.{name}"] = {"action": "send", "channel": channel}
        for group in topic.readers:
            if group != OUTSIDE:
                operations[f"{group}.receive.{name}"] = {
                    "action": "receive",
                    "channel": channel,
                    "bindings": {"kafka": {"groupId": {"type": "string", "const": group}}},
                }
    return operations
