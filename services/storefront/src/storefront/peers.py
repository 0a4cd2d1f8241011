"""What other services are asked over HTTP: orders as they are, and the catalogue."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeVar

import aiohttp

from shared.contracts.order_document import StoredOrders
from shared.telemetry.logs import Seldom
from storefront.problems import ProblemError, unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from shared.contracts.order_document import StoredOrder

_seldom = Seldom(__name__)

ANSWER_WITHIN_S: Final = 3.0
CONNECTIONS_AT_MOST: Final = 64

Answer = TypeVar("Answer")


class Peer:
    """A service's admin port. Connects when it is first used."""

    def __init__(self, name: str, url: str) -> None:
        """`name` is the service's, for who is told that it is away."""
        self._name = name
        self._url = url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def get(self, path: str, parameters: Sequence[tuple[str, str]] = ()) -> tuple[int, bytes]:
        """Status and body. Raises ProblemError (503) where there is no answer, or none but 5xx."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=ANSWER_WITHIN_S),
                connector=aiohttp.TCPConnector(limit=CONNECTIONS_AT_MOST),
            )
        try:
            async with self._session.get(self._url + path, params=list(parameters)) as answer:
                body = await answer.read()
                status = answer.status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise unavailable(
                f"{self._name} does not answer; try again", reason=f"{self._name}_away"
            ) from error
        if status >= 500:
            raise self._no_answer()
        return status, body

    async def read(
        self,
        path: str,
        parameters: Sequence[tuple[str, str]],
        parse: Callable[[bytes], Answer],
    ) -> Answer:
        """What it answers, parsed. Raises ProblemError (503), also where `parse` raises
        ValueError."""
        status, body = await self.get(path, parameters)
        if status != HTTPStatus.OK:
            raise self._no_answer()
        try:
            return parse(body)
        except ValueError as error:
            _seldom.warning("peer_not_understood", detail=f"{self._name}: {error}"[:200])
            raise self._no_answer() from error

    def _no_answer(self) -> ProblemError:
        return unavailable(f"{self._name} can't answer now; try again", reason=f"{self._name}_away")

    async def close(self) -> None:
        """Let go of the connections."""
        if self._session is not None:
            await self._session.close()


class Orders:
    """The orchestrator, asked how orders stand."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def read(self, order_ids: Sequence[str]) -> Mapping[str, StoredOrder]:
        """Those of the orders that are there. Raises ProblemError."""
        asked = [("id", one) for one in order_ids]
        found = await self._peer.read("/orders", asked, StoredOrders.model_validate_json)
        return {order.order_id: order for order in found.orders}
