"""Faults on demand, what the book adds up to, and health. Open to whoever reaches the port."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from starlette.responses import JSONResponse, PlainTextResponse, Response

from gateway_simulator.faults import Faults
from gateway_simulator.problems import Refusal, told

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request

    from gateway_simulator.fault_memory import FaultMemory
    from gateway_simulator.store import Store


class Admin:
    """The endpoints for who tests against the simulator."""

    def __init__(self, store: Store, faults: FaultMemory) -> None:
        self._store = store
        self._faults = faults

    async def show_faults(self, request: Request) -> Response:
        """`GET /admin/faults`"""
        return JSONResponse(await self._store.do(self._faults.shown))

    async def set_faults(self, request: Request) -> Response:
        """`PUT /admin/faults`"""
        try:
            faults = Faults.model_validate_json(await request.body())
        except ValidationError as error:
            raise Refusal(400, "invalid_faults", told(error)) from error
        return JSONResponse(await self._replaced(faults))

    async def clear_faults(self, request: Request) -> Response:
        """`DELETE /admin/faults`"""
        return JSONResponse(await self._replaced(Faults()))

    async def show_book(self, request: Request) -> Response:
        """`GET /admin/book`"""
        # beside the event loop and on a connection of its own: it reads the whole book
        return JSONResponse(await asyncio.to_thread(sums, self._store.path))

    async def livez(self, request: Request) -> Response:
        """Whether the event loop runs."""
        return PlainTextResponse("ok\n")

    async def readyz(self, request: Request) -> Response:
        """Whether the book can be written."""
        try:
            await self._store.do(lambda: self._store.value("SELECT count(*) FROM about"))
        except sqlite3.Error as error:
            return JSONResponse({"ready": False, "checks": {"book": str(error)}}, 503)
        return JSONResponse({"ready": True, "checks": {"book": "ok"}})

    async def _replaced(self, faults: Faults) -> dict[str, Any]:
        def replace() -> dict[str, Any]:
            self._faults.replace(faults)
            return self._faults.shown()

        return await self._store.do(replace)


def sums(path: Path) -> dict[str, Any]:
    """What the book adds up to, amounts in minor units by currency. Raises sqlite3.Error."""
    with contextlib.closing(sqlite3.connect(path)) as connection:

        def counted(statement: str) -> dict[str, int]:
            return dict(connection.execute(statement).fetchall())

        def number(statement: str) -> int:
            found: int = connection.execute(statement).fetchone()[0]
            return found

        connection.execute("BEGIN")  # all of it as of one moment
        return {
            "charges": counted("SELECT status, count(*) FROM charge GROUP BY status"),
            "refunds": counted("SELECT status, count(*) FROM refund GROUP BY status"),
            "captured": counted(
                "SELECT currency, sum(amount) FROM charge WHERE status = 'captured'"
                " GROUP BY currency"
            ),
            "refunded": counted("SELECT currency, sum(amount) FROM refund GROUP BY currency"),
            "double_charges": number(
                "SELECT count(*) FROM (SELECT 1 FROM charge WHERE status = 'captured'"
                " GROUP BY reference HAVING count(*) > 1)"
            ),
            "late": number("SELECT count(*) FROM late"),
            "webhooks": counted("SELECT state, count(*) FROM event GROUP BY state"),
        }
