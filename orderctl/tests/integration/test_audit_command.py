"""`orderctl audit` as a process, where one of the two that it asks is away."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from shared.testing.ports import ReservedPort

if TYPE_CHECKING:
    from shared.testing.databases import Database


async def test_without_a_broker_it_names_the_broker(database: Database) -> None:
    port = ReservedPort("127.0.0.1")
    nobody = f"127.0.0.1:{port.port}"
    arguments = ("--database-url", database.operator_dsn, "--bootstrap-servers", nobody)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "orderctl.main", "audit", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, error = await process.communicate()
    port.release()
    assert (process.returncode, said) == (1, b"")
    assert error.decode().startswith(f"orderctl: no Kafka broker answers at {nobody} (KAFKA_")
    assert error.count(b"\n") == 1
