"""What is published of a lottery: its events on the topic, and its entries."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from orderctl.coupon_asking import COUPON
from orderctl.errors import OperatorError
from orderctl.lottery_checks import History
from orderctl.message_files import called, content_of
from shared.contracts.explaining import shorten
from shared.contracts.ids import is_id
from shared.contracts.reading import Unreadable, reader_of
from shared.contracts.topics import TOPICS
from shared.kafka.reading import SILENCE_S, SilentBrokerError, open_reader
from shared.kafka.topics import verify_topics

if TYPE_CHECKING:
    from pathlib import Path

    from orderctl.admin_api import CouponApi
    from shared.kafka.connection import KafkaConnection

ENTRIES_AT_ONCE: Final = 10_000


async def read_history(connection: KafkaConnection, coupon_id: str) -> History:
    """What the campaign's partition of `coupon.events.v1` says of it, from its earliest record to
    where it ends now.

    Events of a type that this version doesn't know are passed over, as all readers do. Raises
    OperatorError where the broker falls silent, TopicError for a missing topic, and the broker's
    errors.
    """
    try:
        async with asyncio.timeout(SILENCE_S):
            await verify_topics(connection, [COUPON.events], within_s=0)
        return await _read(connection, coupon_id)
    except (SilentBrokerError, TimeoutError) as error:
        told = str(error) or f"the broker says nothing for {SILENCE_S:g} s"
        raise OperatorError(f"{told}; `make status` tells how the stack is") from error


async def _read(connection: KafkaConnection, coupon_id: str) -> History:
    key, place = coupon_id.encode(), COUPON.place_of(coupon_id, connection)
    messages = reader_of(TOPICS[COUPON.events])
    async with open_reader(connection) as reader:
        spans = await reader.spans([place])
        history = History(coupon_id, is_cut=spans[place].start > 0)
        async for records in reader.read(spans):
            for record in records:
                if record.key != key:
                    continue
                message = messages.read(record.value)
                if not isinstance(message, Unreadable):
                    history.add(message)
                elif message.reason != "unknown_type":
                    history.unreadable += 1
    return history


def entries_told(api: CouponApi, coupon_id: str) -> list[str]:
    """All users who entered, by the paged query. Raises OperatorError, where the pages don't go on
    in order too: whoever reads them would never end."""
    users: list[str] = []
    asking = {"limit": str(ENTRIES_AT_ONCE)}
    while True:
        page = api.entries(coupon_id, **asking)
        users += (entry["userId"] for entry in page["entries"])
        if page["next"] is None:
            return users
        if page["next"] <= int(asking.get("after", "0")):
            raise OperatorError(
                f"the entries of {coupon_id} don't go on behind {page['next']}; is the"
                " address that of coupon's admin port?"
            )
        asking["after"] = str(page["next"])


def entries_in(path: Path) -> list[str]:
    """The users of a saved list, one a line, in the order of their entries. Raises OperatorError
    where a line is no user id."""
    lines = content_of(path).decode(errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        if not is_id(line):
            raise OperatorError(
                f"{called(path)}, line {number}: {shorten(line)} is no user id; the list has one"
                " user a line"
            )
    return lines
