"""F49: a database that takes connections and answers nobody ends a command with one sentence."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest
from typer.testing import CliRunner

from orderctl import answering
from orderctl.answering import SilentError, while_it_answers
from orderctl.auditor import Auditor
from orderctl.main import app
from shared.testing.signals import eventually

if TYPE_CHECKING:
    from shared.testing.databases import Database
    from shared.testing.proxy import Proxy


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "ANSWER_S", 1.0)
    monkeypatch.setattr(answering, "ASK_EVERY_S", 0.1)


async def test_work_in_a_transaction_ends_where_the_database_falls_silent(
    database: Database, postgres_proxy: Proxy
) -> None:
    dsn = postgres_proxy.through(database.operator_dsn)

    async def work() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            async with connection.transaction(), connection.transaction():
                postgres_proxy.half_open()
                await connection.fetchval("SELECT 1")
        finally:
            await connection.close()

    async with asyncio.timeout(10):
        with pytest.raises(SilentError):
            await while_it_answers(dsn, work())


async def test_work_that_takes_long_goes_on_where_others_are_answered(
    database: Database, postgres_proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "ANSWER_S", 30.0)  # however busy the machine is
    dsn = postgres_proxy.through(database.operator_dsn)

    async def work() -> int:
        connection = await asyncpg.connect(dsn)
        try:
            return int(await connection.fetchval("SELECT 7 FROM pg_sleep(1.5)"))
        finally:
            await connection.close()

    assert await while_it_answers(dsn, work()) == 7


async def test_a_database_that_refuses_is_not_silent(postgres_proxy: Proxy) -> None:
    await postgres_proxy.refuse()
    dsn = postgres_proxy.through("postgresql://operator@127.0.0.1/shop")
    assert await while_it_answers(dsn, asyncio.sleep(0.5, "done")) == "done"
    with pytest.raises(ConnectionRefusedError):
        await while_it_answers(dsn, asyncpg.connect(dsn))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["drain"], 1), (["drain", "--wait"], 1), (["audit", "--live"], 2), (["audit"], 2)],
    ids=str,
)
async def test_commands_say_that_nobody_answers(
    database: Database, postgres_proxy: Proxy, arguments: list[str], code: int
) -> None:
    dsn = postgres_proxy.through(database.operator_dsn)
    postgres_proxy.half_open()
    env = {"DATABASE_URL": dsn, "KAFKA_BOOTSTRAP_SERVERS": None}
    async with asyncio.timeout(20):
        result = await asyncio.to_thread(CliRunner().invoke, app, arguments, env=env)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr == (
        f"orderctl: the database at DATABASE_URL (127.0.0.1:{postgres_proxy.port}) takes"
        " connections and doesn't answer within 1 s; `make status` tells how the stack is,"
        " `make up` starts it\n"
    )


async def test_the_auditor_outlives_it_and_tells(database: Database, postgres_proxy: Proxy) -> None:
    auditor = Auditor(postgres_proxy.through(database.operator_dsn), every_s=0.1)
    postgres_proxy.half_open()
    passes = asyncio.create_task(auditor.run("127.0.0.1", None))
    try:
        await eventually(auditor.problem, accept=lambda problem: problem == "SilentError")
        await postgres_proxy.heal()
        await eventually(auditor.problem, accept=lambda problem: problem is None, within_s=30)
        assert not passes.done()
    finally:
        passes.cancel()
        await asyncio.gather(passes, return_exceptions=True)
