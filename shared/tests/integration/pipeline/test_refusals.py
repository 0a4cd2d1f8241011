"""Refusals that can't be answered or written: none keeps another from being told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from shared.contracts.reading import Unreadable
from shared.contracts.refusals import CommandRefused
from shared.database import connect_pool
from shared.pipeline import Committed, Outgoing, Refusal, Route
from shared.pipeline.answers import answer_with_command_refused, command_refused
from shared.pipeline.chunk import ChunkRunner
from shared.pipeline.messages import Received

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from shared.database import Connection, Pool
    from shared.pipeline import Delivery
    from shared.pipeline.outbox import Chunk, Row
    from shared.testing.databases import Database


class Recorder:
    """Stands where the relay does."""

    owner = "stock-0"

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def submit(self, chunks: Sequence[Chunk]) -> None:
        self.rows += [row for chunk in chunks for row in chunk.rows]

    def ids(self, message_type: str) -> list[str]:
        return [row.message_id for row in self.rows if row.message_type == message_type]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    async with connect_pool(database.dsn("stock"), name="stock-0", max_connections=4) as pool:
        yield pool


async def nothing(connection: Connection, deliveries: Sequence[Delivery]) -> Sequence[Outgoing]:
    return ()


def runner(pool: Pool, recorder: Recorder, *, mute: str = "") -> ChunkRunner:
    """Answers refusals; the one whose key is `mute` can't be answered."""
    say = answer_with_command_refused("stock.events.v1")

    async def refused(
        connection: Connection, refusals: Sequence[Refusal]
    ) -> Sequence[Outgoing | Committed]:
        if any(refusal.received.key == mute.encode() for refusal in refusals):
            raise ValueError("a bug")
        return await say(connection, refusals)

    route = Route("stock-requests", ("stock.admin.v1",), nothing, refused=refused)
    return ChunkRunner(route, pool, cast("Any", recorder), lease_s=30.0)


def refusal(number: int, detail: str = "no JSON", kind: str | None = None) -> Refusal:
    received = Received("stock.admin.v1", 3, number, 0, b"P%d" % number, b"{", "")
    unreadable = Unreadable("not_json", detail, type=kind)
    return Refusal(received, "not_json", detail, unreadable=unreadable)


async def test_one_that_cannot_be_answered_leaves_the_others_their_answers(
    pool: Pool, recorder: Recorder
) -> None:
    await runner(pool, recorder, mute="P4").run((), [refusal(n) for n in range(10)])
    assert sorted(recorder.ids("DeadLetter")) == [f"stock.admin.v1:3:{n}" for n in range(10)]
    answered = {
        CommandRefused.model_validate_json(row.value or b"").key
        for row in recorder.rows
        if row.message_type == "CommandRefused"
    }
    assert answered == {f"P{n}" for n in range(10)} - {"P4"}


async def test_one_whose_reason_cannot_be_written_is_a_dead_letter_all_the_same(
    pool: Pool, recorder: Recorder
) -> None:
    await runner(pool, recorder).run((), [refusal(1, "bad \ud800 detail"), refusal(2)])
    assert sorted(recorder.ids("DeadLetter")) == ["stock.admin.v1:3:1", "stock.admin.v1:3:2"]
    (written,) = [row for row in recorder.rows if row.message_id.endswith(":1")]
    assert written.headers is not None
    assert written.headers["dlq-error"] == "'bad \\ud800 detail'"


def test_who_keyed_a_message_by_an_id_is_answered_though_it_cannot_be_read() -> None:
    answer = command_refused(refusal(7))
    assert answer is not None
    assert (answer.key, answer.command, answer.command_id) == ("P7", "Unknown", "P7:3-7")
    longest = refusal(7, kind="T" * 32)
    key = b"k" * 64
    far = longest.received._replace(key=key, partition=11, offset=10**15)
    answer = command_refused(Refusal(far, "not_json", "", unreadable=longest.unreadable))
    assert answer is not None
    assert len(answer.event_id) <= 128


@pytest.mark.parametrize("key", [None, b"", b"a b", b"\xff", b"k" * 65, b"a\n"])
def test_who_keyed_it_by_no_id_is_not(key: bytes | None) -> None:
    unreadable = refusal(7)
    elsewhere = unreadable.received._replace(key=key)
    assert (
        command_refused(Refusal(elsewhere, "not_json", "", unreadable=Unreadable("", ""))) is None
    )
