"""Who is let in, and in which order (F62)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from storefront import admission as module
from storefront.admission import Admission
from storefront.problems import ProblemError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

WITHIN_S = 5.0


class Crowd:
    """Callers that come one after the other, and stay inside until they are told to leave."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.inside: list[str] = []
        """In the order in which they got in."""
        self._leave: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, *names: str, at_door: bool = True) -> None:
        """Returns once each of them is inside or waits."""
        for name in names:
            self._leave[name] = asyncio.Event()
            self._tasks[name] = asyncio.create_task(self._visit(name, at_door=at_door))
            await self._settled()

    async def leave(self, name: str) -> None:
        """Returns once who is let in then is inside."""
        self._leave[name].set()
        await self._tasks[name]
        await self._settled()

    async def lose(self, name: str) -> None:
        """The connection of this caller is gone."""
        self._tasks[name].cancel()
        await asyncio.gather(self._tasks[name], return_exceptions=True)
        await self._settled()

    async def outcome(self, name: str) -> BaseException | None:
        """What became of a caller."""
        async with asyncio.timeout(WITHIN_S):
            (found,) = await asyncio.gather(self._tasks[name], return_exceptions=True)
        return found

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _visit(self, name: str, *, at_door: bool) -> None:
        async with self._admission.admitted(at_door=at_door):
            self.inside.append(name)
            await self._leave[name].wait()

    @staticmethod
    async def _settled() -> None:
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.fixture
async def crowd() -> AsyncIterator[Crowd]:
    found = Crowd(Admission(1, 3))
    yield found
    await found.close()


async def test_the_newest_goes_next(crowd: Crowd) -> None:
    await crowd.come("first", "a", "b", "c")
    assert crowd.inside == ["first"]
    await crowd.leave("first")
    assert crowd.inside == ["first", "c"]
    await crowd.leave("c")
    await crowd.leave("b")
    assert crowd.inside == ["first", "c", "b", "a"]


async def test_who_has_waited_for_long_goes_before_the_newest(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.0)
    await crowd.come("first", "a", "b")
    await crowd.leave("first")
    assert crowd.inside == ["first", "a"]


async def test_who_comes_while_others_wait_takes_no_place_of_theirs(crowd: Crowd) -> None:
    await crowd.come("first", "a")
    await crowd.leave("first")
    await crowd.come("b")
    assert crowd.inside == ["first", "a"]


async def test_what_is_begun_waits_for_nothing(crowd: Crowd) -> None:
    await crowd.come("first", "a")
    await crowd.come("payment", "another", at_door=False)
    assert crowd.inside == ["first", "payment", "another"]
    await crowd.leave("first")
    await crowd.leave("payment")
    assert "a" not in crowd.inside  # there is one place, and it is taken
    await crowd.leave("another")
    assert crowd.inside[-1] == "a"


async def test_f62_one_too_many_is_told_to_come_again(crowd: Crowd) -> None:
    await crowd.come("first", "a", "b", "c", "d")
    refused = await crowd.outcome("d")
    assert isinstance(refused, ProblemError)
    assert (refused.status, refused.document.reason) == (503, "overloaded")
    assert int(refused.headers["retry-after"]) >= 1


async def test_f62_nobody_waits_for_ever(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DOOR_S", 0.01)
    await crowd.come("first", "a")
    refused = await crowd.outcome("a")
    assert isinstance(refused, ProblemError)
    assert refused.status == 503
    await crowd.leave("first")
    await crowd.come("b")
    assert crowd.inside == ["first", "b"]


async def test_who_is_gone_loses_no_place(crowd: Crowd) -> None:
    await crowd.come("first", "a", "b")
    await crowd.lose("b")
    await crowd.lose("first")
    assert crowd.inside == ["first", "a"]
    await crowd.lose("a")
    await crowd.come("c")
    assert crowd.inside == ["first", "a", "c"]
