"""A chunk of messages becomes effects exactly once.

    Kafka ─▶ read each ─▶ ┌──────────── one transaction ─────────────┐ ─▶ relay ─▶ Kafka
             message      │ inbox · load · fold · save and outbox     │      │
                │         └───────────────────────────────────────────┘      └─▶ mark the chunk
                ▼                              │
           dead letter                         └─▶ offsets, beside the next chunk

What may die, and what then happens:

* before the commit: nothing happened; the chunk comes again.
* after the commit, before the publishing: the sweeper of any instance publishes the outbox.
* after the publishing, before the mark: it is published again, and every reader's inbox drops it.
* before the offset commit: the chunk comes again, the inbox knows it, and the stored answers
  are sent again.

A message can be at fault in three ways only: it can't be read, the fold raises on it, or
Postgres refuses its data. Then the chunk is halved until it stands alone, and it is
dead-lettered through the outbox like everything else. All other faults are the
infrastructure's, and are retried without end while the partition waits.
"""

from shared.database.faults import Conflict
from shared.pipeline.messages import (
    ApartError,
    Committed,
    Delivery,
    Handler,
    Outgoing,
    Refusal,
    Route,
    in_order_of_arrival,
)

__all__ = [
    "ApartError",
    "Committed",
    "Conflict",
    "Delivery",
    "Handler",
    "Outgoing",
    "Refusal",
    "Route",
    "in_order_of_arrival",
]
