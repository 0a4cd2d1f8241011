"""uvicorn's protocol, with a way for the application to cut its connection without an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from starlette.requests import Request

_EXTENSION: Final = "gateway_simulator.cut"


class Protocol(HttpToolsProtocol):
    """Puts the connection's end within reach of the application."""

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]
        scope["extensions"] = {_EXTENSION: {"cut": self.transport.abort}}


async def client_left(request: Request) -> None:
    """Returns once the client has closed its connection. The body has to be read before."""
    while (await request.receive())["type"] != "http.disconnect":
        continue


async def cut(request: Request) -> None:
    """Close the connection without an answer; what is answered afterwards goes nowhere."""
    request.scope["extensions"][_EXTENSION]["cut"]()
    await client_left(request)
