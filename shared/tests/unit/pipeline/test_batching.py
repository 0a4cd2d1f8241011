"""Commands of many callers in one pipeline: each hears what became of its own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import NoScriptError, ResponseError

from shared.redis import Batched, RedisAwayError, batching
from shared.testing.signals import Gate

WITHIN_S = 5.0


class Server:
    """Answers pipelines as the test says: a list of answers, or an exception."""

    def __init__(self) -> None:
        self.lots: list[list[tuple[Any, ...]]] = []
        self.answers: list[Any] = []
        self.gate = Gate()

    def pipeline(self, *, transaction: bool) -> Pipeline:
        assert not transaction
        return Pipeline(self)


class Pipeline:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._commands: list[tuple[Any, ...]] = []

    def execute_command(self, *command: Any) -> None:
        self._commands.append(command)

    async def execute(self, *, raise_on_error: bool) -> list[Any]:
        assert not raise_on_error
        self._server.lots.append(self._commands)
        await self._server.gate.stop()
        said = self._server.answers.pop(0)
        if isinstance(said, Exception):
            raise said
        found: list[Any] = said
        return found


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def batched(server: Server) -> Batched:
    batched = Batched("redis://127.0.0.1:1/0", "shared")
    batched._redis = server  # type: ignore[assignment]
    return batched


async def told(*asking: asyncio.Task[Any]) -> list[Any]:
    async with asyncio.timeout(WITHIN_S):
        return await asyncio.gather(*asking, return_exceptions=True)


async def test_what_is_asked_meanwhile_goes_together(server: Server, batched: Batched) -> None:
    server.answers = [["a"], ["b", "c"]]
    first = asyncio.create_task(batched.ask("GET", "a"))
    await server.gate.reached()
    others = [asyncio.create_task(batched.ask("GET", name)) for name in "bc"]
    await asyncio.sleep(0)
    server.gate.open()
    assert await told(first, *others) == ["a", "b", "c"]
    assert server.lots == [[("GET", "a")], [("GET", "b"), ("GET", "c")]]


@pytest.mark.parametrize(
    "error",
    [
        LostError("gone"),
        TimeoutError(),
        RuntimeError("unable to perform operation on <TCPTransport>; the handler is closed"),
        KeyError("a defect"),
    ],
)
async def test_whatever_happens_nobody_waits_for_ever(
    server: Server, batched: Batched, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "REST_S", 0.0)
    server.gate.open()
    server.answers = [error, ["a"]]
    asking = [asyncio.create_task(batched.ask("GET", name)) for name in "ab"]
    assert [type(one) for one in await told(*asking)] == [RedisAwayError] * 2
    assert await told(asyncio.create_task(batched.ask("GET", "a"))) == ["a"]


async def test_who_waits_behind_what_was_lost_is_told_as_well(
    server: Server, batched: Batched
) -> None:
    server.answers = [LostError("gone")]
    first = asyncio.create_task(batched.ask("GET", "a"))
    await server.gate.reached()
    behind = asyncio.create_task(batched.ask("GET", "b"))
    await asyncio.sleep(0)
    server.gate.open()
    assert [type(one) for one in await told(first, behind)] == [RedisAwayError] * 2
    # and for a moment nobody is sent there
    (rested,) = await told(asyncio.create_task(batched.ask("GET", "c")))
    assert isinstance(rested, RedisAwayError)
    assert len(server.lots) == 1


async def test_what_waits_is_bounded(
    server: Server, batched: Batched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "COMMANDS_WAITING", 1)
    server.answers = [["a"], ["b"]]
    first = asyncio.create_task(batched.ask("GET", "a"))
    await server.gate.reached()
    waits = asyncio.create_task(batched.ask("GET", "b"))
    await asyncio.sleep(0)
    (refused,) = await told(asyncio.create_task(batched.ask("GET", "c")))
    assert isinstance(refused, RedisAwayError)
    server.gate.open()
    assert await told(first, waits) == ["a", "b"]


async def test_whose_asker_is_gone_is_not_sent(server: Server, batched: Batched) -> None:
    server.answers = [["a"], ["c"]]
    first = asyncio.create_task(batched.ask("GET", "a"))
    await server.gate.reached()
    gone, stays = (asyncio.create_task(batched.ask("GET", name)) for name in "bc")
    await asyncio.sleep(0)
    gone.cancel()
    server.gate.open()
    assert await told(first, stays) == ["a", "c"]
    assert server.lots[1] == [("GET", "c")]


async def test_an_error_is_only_told_to_whose_command_it_was(
    server: Server, batched: Batched
) -> None:
    server.gate.open()
    server.answers = [["a", ResponseError("WRONGTYPE")]]
    asking = [asyncio.create_task(batched.ask("GET", name)) for name in "ab"]
    good, bad = await told(*asking)
    assert (good, type(bad)) == ("a", RedisAwayError)


async def test_f56_a_script_that_was_forgotten_is_sent_again(
    server: Server, batched: Batched
) -> None:
    batched._texts._texts, batched._texts._digests = {"s": "return 1"}, {"s": "digest"}
    server.gate.open()
    server.answers = [[NoScriptError("NOSCRIPT")], [1]]
    assert await batched.run("s", ["k"], [7]) == 1
    assert server.lots == [[("EVALSHA", "digest", 1, "k", 7)], [("EVAL", "return 1", 1, "k", 7)]]
