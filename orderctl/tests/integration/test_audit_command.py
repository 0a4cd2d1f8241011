"""`orderctl audit` as a process: what it prints, and what its exit code says."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest

from shared.testing.ports import ReservedPort

if TYPE_CHECKING:
    from shared.testing.databases import Database
    from shared.testing.kafka import Topics
    from shared.testing.valkey import Valkey

PLANT = "INSERT INTO payment.ledger_entry VALUES ('theft', 'house:revenue', 5, 'KRW')"


class Said(NamedTuple):
    code: int | None
    out: str
    err: str


async def audit(*arguments: str) -> Said:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "orderctl.main", "audit", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={"COLUMNS": "120"},
    )  # fmt: skip
    out, err = await process.communicate()
    return Said(process.returncode, out.decode(), err.decode())


def of(database: Database, topics: Topics | None = None) -> list[str]:
    addresses = ["--database-url", database.operator_dsn]
    if topics:
        addresses += ["--bootstrap-servers", topics.connection.bootstrap_servers]
        addresses += ["--prefix", topics.prefix]
    return addresses


async def plant(database: Database, statement: str = PLANT) -> None:
    async with database.connection() as connection:
        await connection.execute(statement)


async def test_an_empty_system_is_well_and_every_invariant_is_looked_at(
    database: Database, topics: Topics, valkey: Valkey
) -> None:
    await topics.create()
    code, out, err = await audit(*of(database, topics), "--redis-url", valkey.url)
    assert (code, err) == (0, "")
    numbers = [line.split("│")[1].strip() for line in out.splitlines() if line.startswith("│")]
    assert [number for number in numbers if number] == [str(number) for number in range(1, 11)]
    assert "everything holds" in out


async def test_a_violation_is_shown_with_examples_and_what_to_do(database: Database) -> None:
    await plant(database)
    code, out, err = await audit(*of(database), "--live")
    assert (code, err) == (1, "")
    assert "1 VIOLATED" in out
    assert "transaction_id=theft" in out
    assert "first: stop the payment service" in out
    assert "docs/runbooks/invariant-violated.md" in out


async def test_json_tells_the_same(database: Database) -> None:
    await plant(database)
    said = await audit(*of(database), "--live", "--json")
    assert said.code == 1
    checks = json.loads(said.out)["checks"]
    (check,) = [check for check in checks if not check["ok"]]
    assert (check["name"], check["invariant"]) == ("ledger_sums_to_zero", 4)
    assert check["violations"][0]["transaction_id"] == "theft"


async def test_text_from_outside_can_not_steer_the_terminal(database: Database) -> None:
    await plant(database, PLANT.replace("theft", "\x1b[2J" + "t" * 500))
    said = await audit(*of(database), "--live")
    assert "\x1b" not in said.out
    assert r"transaction_id=\x1b[2Jttt" in said.out
    assert max(map(len, said.out.splitlines())) < 300


async def test_a_schema_that_is_not_there_is_no_success(database: Database) -> None:
    await plant(database, "DROP SCHEMA coupon CASCADE")
    code, out, _ = await audit(*of(database), "--live")
    assert code == 2
    assert "3 NOT CHECKED  never_over_issued (coupon)" in out
    assert "which proves nothing" in out


async def test_violated_counts_more_than_not_checked(database: Database) -> None:
    await plant(database)
    await plant(database, "DROP SCHEMA coupon CASCADE")
    assert (await audit(*of(database), "--live")).code == 1


@pytest.mark.parametrize("address", ["away", "unset"])
async def test_without_a_broker_the_topics_are_not_looked_at_and_that_is_no_success(
    database: Database, address: str
) -> None:
    port = ReservedPort("127.0.0.1")
    servers = f"127.0.0.1:{port.port}" if address == "away" else ""
    code, out, err = await audit(*of(database), "--bootstrap-servers", servers)
    port.release()
    assert code == 2
    assert "9 NOT CHECKED  lag_is_zero" in out
    assert err.startswith("orderctl: the topics were not looked at: ")
    assert (servers or "KAFKA_BOOTSTRAP_SERVERS is not set") in err


async def test_without_a_database_there_is_one_line(database: Database) -> None:
    port = ReservedPort("127.0.0.1")
    said = await audit("--database-url", f"postgresql://operator@127.0.0.1:{port.port}/shop")
    port.release()
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("orderctl: the database at DATABASE_URL")
    assert said.err.count("\n") == 1


async def test_at_work_it_says_so(database: Database, topics: Topics) -> None:
    await topics.create()
    await plant(
        database,
        "INSERT INTO stock.outbox (owner, public, lease_until, messages) VALUES ('stock-0', false,"
        ' now(), \'[["stock.replies.v1", null, "StockReserved", "o-1:reserve:do"]]\')',
    )
    code, out, err = await audit(*of(database, topics), "--within", "0")
    assert code == 2, "what holds at rest alone can't be told: no violation, and no success"
    assert "the system is at work" in out
    assert "still at work: chunks of stock: 1" in err


async def test_a_wrong_time_is_a_wrong_call(database: Database) -> None:
    said = await audit(*of(database), "--every", "soon")
    assert (said.code, said.out) == (2, "")
    assert "write it as 90s, 5m, 2h or 1d" in said.err
