"""Who waits for which messages of a topic's end."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from shared.contracts.reading import Unreadable, reader_of
from shared.contracts.topics import TOPICS
from storefront.metrics import HEARD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from aiokafka import ConsumerRecord

    from shared.contracts.base import Message

HEARD_AT_MOST: Final = 64
"""What waits for one listener; of more the oldest are dropped, since the newest counts."""


class Ear:
    """What one listener has yet to hear, oldest first."""

    def __init__(self) -> None:
        self._messages: deque[Message] = deque(maxlen=HEARD_AT_MOST)
        self._waiter: asyncio.Future[None] | None = None

    async def next(self) -> Message:
        """The next message, once there is one."""
        while not self._messages:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._messages.popleft()

    def tell(self, message: Message) -> None:
        """Let this be heard."""
        self._messages.append(message)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Listeners:
    """Gives each message of a topic to those who listen for its subject.

    A record whose key nobody listens for is not even read: each process sees all of a topic, and
    wants little of it.
    """

    def __init__(self, topic: str, subject_of: Callable[[Any], str | None]) -> None:
        """`subject_of` a message is what it is about, as an order; None: it concerns nobody."""
        self._topic = topic
        self._reader = reader_of(TOPICS[topic])
        self._subject_of = subject_of
        self._keys: dict[bytes, int] = {}
        """Kafka keys that somebody listens for, and how many do."""
        self._ears: dict[str, list[Ear]] = {}

    @contextmanager
    def listen(self, key: str, subject: str) -> Iterator[Ear]:
        """An ear for what comes about `subject` under the Kafka key `key`, from now on."""
        ear, key_bytes = Ear(), key.encode()
        self._keys[key_bytes] = self._keys.get(key_bytes, 0) + 1
        self._ears.setdefault(subject, []).append(ear)
        try:
            yield ear
        finally:
            self._ears[subject].remove(ear)
            if not self._ears[subject]:
                del self._ears[subject]
            self._keys[key_bytes] -= 1
            if not self._keys[key_bytes]:
                del self._keys[key_bytes]

    def take(self, records: Sequence[ConsumerRecord[bytes | None, bytes | None]]) -> None:
        """Let these records be heard."""
        for record in records:
            if record.key not in self._keys:
                continue
            message = self._reader.read(record.value)
            if isinstance(message, Unreadable):
                HEARD.labels(self._topic, "unreadable").inc()
                continue
            HEARD.labels(self._topic, message.type).inc()
            subject = self._subject_of(message)
            for ear in self._ears.get(subject, ()) if subject is not None else ():
                ear.tell(message)
