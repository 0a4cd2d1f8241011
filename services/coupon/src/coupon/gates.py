"""Gates and locks of campaigns, in Redis or Valkey: the scripts in `lua/`, as typed calls.

A gate holds how many coupons its campaign has given out, and how many more users it admitted. It
can be lost, or be wrong, at any moment: the verdict is taken on the campaign's row.
"""

from __future__ import annotations

import secrets
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from shared.redis import RETRIES, Scripts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

REQUESTS_AT_ONCE: Final = 2_000
"""Of one call: it keeps everybody else waiting."""
GATES: Final = "{coupon}:gates"
# the braces keep all keys of a script on one node of a cluster
_GATE: Final = "{coupon}:gate:"
_USERS: Final = "{coupon}:users:"
_LOCK: Final = "{coupon}:lock:"


class Ask(NamedTuple):
    """One user's request, and what was known of its campaign when the gate was asked."""

    coupon_id: str
    user_id: str
    command_id: str
    fence: int


class Answer(IntEnum):
    """What a gate says to a request."""

    TAKEN = -2
    """Another command of the user is admitted."""
    CLOSED = -1
    """The gate isn't there, or was written at another fence or on another server."""
    FULL = 0
    ADMITTED = 1
    ADMITTED_BEFORE = 2
    """Under the same command."""


class Gate(NamedTuple):
    """What a gate says of itself."""

    taken: int
    limit: int
    fence: int
    changes: int
    """Rises with each change: a gate that stands still is told from one that came back."""


class Gates:
    """The scripts. All raise `RedisAwayError`, within a second or so."""

    def __init__(self, url: str, *, retries: int = RETRIES) -> None:
        """Connects when it is first used; `retries` as in the settings."""
        names = ("admit", "give_back", "write", "read", "forget", "lock", "unlock")
        self._scripts = Scripts(url, "coupon", names, retries=retries)

    async def admit(self, asks: Sequence[Ask]) -> list[Answer]:
        """Admit users, in their order."""
        answers: list[Answer] = []
        for part in _parts(asks):
            fences = {ask.coupon_id: ask.fence for ask in part}
            places = {coupon_id: place for place, coupon_id in enumerate(fences, 1)}
            arguments: list[Any] = [len(fences), *fences.values()]
            for ask in part:
                arguments += (places[ask.coupon_id], ask.user_id, ask.command_id)
            keys = [key for coupon_id in fences for key in _keys(coupon_id)]
            found = await self._scripts.run("admit", keys, arguments)
            answers += [Answer(one[0]) for one in found]
        return answers

    async def give_back(self, ask: Ask) -> None:
        """Take an admission back."""
        arguments = [ask.fence, ask.user_id, ask.command_id]
        await self._scripts.run("give_back", _keys(ask.coupon_id), arguments)

    async def write(self, gates: Sequence[tuple[str, Gate]]) -> None:
        """Write gates anew: fence, limit and how many coupons are issued."""
        # What is asked twice, as after a lost reply, must not write over what came in between.
        arguments: list[Any] = [secrets.token_hex(8)]
        for coupon_id, gate in gates:
            arguments += (coupon_id, gate.fence, gate.limit, gate.taken)
        keys = [key for coupon_id, _ in gates for key in _keys(coupon_id)]
        await self._scripts.run("write", [GATES, *keys], arguments)

    async def read(self, coupon_ids: Sequence[str]) -> list[Gate | None]:
        """What the gates say; None where there is none of this server."""
        keys = [_GATE + coupon_id for coupon_id in coupon_ids]
        found = await self._scripts.run("read", keys, [])
        return [Gate(*one) if one else None for one in found]

    async def forget_all_but(self, coupon_ids: Collection[str]) -> int:
        """Forget the gates of other campaigns; returns how many."""
        arguments = [_GATE, _USERS, *coupon_ids]
        return int(await self._scripts.run("forget", [GATES], arguments))

    async def lock(
        self, coupon_ids: Sequence[str], holder: str, lease_s: float, *, renew: bool = False
    ) -> bool:
        """Take the locks of these campaigns, all or none, or renew what this holder still holds."""
        keys = [_LOCK + coupon_id for coupon_id in coupon_ids]
        arguments = [holder, int(lease_s * 1000), "renew" if renew else "take"]
        return bool(await self._scripts.run("lock", keys, arguments))

    async def unlock(self, coupon_ids: Sequence[str], holder: str) -> int:
        """Let go of the locks that are still this holder's; returns how many."""
        keys = [_LOCK + coupon_id for coupon_id in coupon_ids]
        return int(await self._scripts.run("unlock", keys, [holder]))

    async def probe(self) -> None:
        """Whether Redis answers, and takes writes."""
        await self._scripts.probe("{coupon}:probe")

    async def close(self) -> None:
        """Let go of the connections."""
        await self._scripts.close()


def _parts(asks: Sequence[Ask]) -> Iterator[Sequence[Ask]]:
    for start in range(0, len(asks), REQUESTS_AT_ONCE):
        yield asks[start : start + REQUESTS_AT_ONCE]


def _keys(coupon_id: str) -> list[str]:
    return [_GATE + coupon_id, _USERS + coupon_id]
