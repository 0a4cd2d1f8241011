"""Dead letters: the message as it came, with the reason and the place where it lay."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from shared.contracts.topics import dead_letter_topic
from shared.pipeline.outbox import Row

if TYPE_CHECKING:
    from shared.pipeline.messages import Refusal

REASON_HEADER = "dlq-reason"
DETAIL_CHARACTERS = 1_000
KEY_BYTES = 1_024
VALUE_BYTES = 1_048_576
"""What a dead letter carries of a value. Topics of commands take no more, so nothing is cut
unless an operator raised their limit; then a digest of the whole stands in the headers."""


def dead_letter(group: str, refusal: Refusal) -> Row:
    """The outbox row of a dead letter. Its id is the place where the message lay, so that the
    same message refused twice is recognised."""
    received = refusal.received
    headers = {
        REASON_HEADER: refusal.reason,
        "dlq-error": refusal.detail[:DETAIL_CHARACTERS],
        "dlq-original-topic": received.topic,
        "dlq-original-partition": str(received.partition),
        "dlq-original-offset": str(received.offset),
        "dlq-original-timestamp": str(received.timestamp_ms),
        "dlq-attempts": str(refusal.attempts),
    }
    value = received.value
    if value is not None and len(value) > VALUE_BYTES:
        headers["dlq-value-sha256"] = hashlib.sha256(value).hexdigest()
        value = value[:VALUE_BYTES]
    return Row(
        topic=dead_letter_topic(group),
        key=received.key[:KEY_BYTES] if received.key is not None else None,
        message_type="DeadLetter",
        message_id=f"{received.topic}:{received.partition}:{received.offset}",
        value=value,
        traceparent=received.traceparent,
        headers=headers,
    )
