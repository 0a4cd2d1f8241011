"""The headers of a message on its way out: CloudEvents in binary mode, and its trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.contracts.base import message_id
from shared.contracts.topics import TOPICS
from shared.kafka.publisher import Record

if TYPE_CHECKING:
    from datetime import datetime

    from shared.contracts.base import Message

Headers = list[tuple[str, bytes]]


def common_headers(source: str, at: datetime) -> tuple[tuple[str, bytes], ...]:
    """What messages of one source and one moment have in common."""
    milliseconds = at.microsecond // 1000
    iso = at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{milliseconds:03d}Z"
    return (
        ("ce_specversion", b"1.0"),
        ("ce_source", source.encode()),
        ("ce_time", iso.encode()),
        ("content-type", b"application/json"),
    )


def record_of(
    topic: str, message: Message, source: str, at: datetime, traceparent: str | None = None
) -> Record:
    """`message` as it goes onto `topic`; `at` is in UTC."""
    key = TOPICS[topic].key_of(message).encode()
    headers: Headers = [
        *common_headers(source, at),
        ("ce_id", message_id(message).encode()),
        ("ce_type", message.type.encode()),
        ("ce_subject", key),
    ]
    if traceparent is not None:
        headers.append(("traceparent", traceparent.encode()))
    return Record(topic, key, message.to_bytes(), headers, int(at.timestamp() * 1000))
