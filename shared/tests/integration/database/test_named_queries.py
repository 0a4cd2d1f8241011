"""Every named statement is prepared against the migrated schema: a typo is found at once."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

import pytest

from shared.audit import invariants
from shared.database import Queries
from shared.testing.databases import PACKAGES

if TYPE_CHECKING:
    from shared.testing.databases import Database

SHARED = "database/sql/pipeline.sql"
OWN = "sql/queries.sql"


def has(package: str, path: str) -> bool:
    try:
        return files(package).joinpath(path).is_file()
    except ModuleNotFoundError:
        return False


def own_files(package: str) -> list[str]:
    """The files of a service's statements; invariants have a test of their own."""
    names = sorted(
        one.name for one in files(package).joinpath("sql").iterdir() if one.name.endswith(".sql")
    )
    return [f"sql/{name}" for name in names if name != "invariants.sql"]


def all_statements(package: str, path: str) -> list[tuple[str, str]]:
    statements = [(statement.name, statement.sql) for statement in Queries(package, path)]
    assert statements, f"{package}/{path} names no statement"
    return statements


@pytest.mark.parametrize("schema", [name for name in PACKAGES if has(PACKAGES[name], OWN)])
async def test_every_statement_of_a_service_can_be_prepared_by_its_role(
    database: Database, schema: str
) -> None:
    package = PACKAGES[schema]
    statements = all_statements("shared", SHARED)
    for path in own_files(package):
        statements += all_statements(package, path)
    problems = []
    async with database.connection(schema) as connection:
        for name, sql in statements:
            try:
                await connection.prepare(sql)
            except Exception as error:  # noqa: BLE001 - all of them are shown at once
                problems.append(f"{name}: {error}")
    assert problems == []


@pytest.mark.parametrize(
    "schema", [name for name in PACKAGES if has(PACKAGES[name], "sql/invariants.sql")]
)
async def test_every_invariant_can_be_prepared_by_the_operator(
    database: Database, schema: str
) -> None:
    found = invariants.load(PACKAGES[schema], "sql/invariants.sql")
    async with database.connection("operator") as connection:
        await connection.execute("SELECT set_config('search_path', $1, false)", schema)
        for invariant in [*found, *invariants.load("shared", "sql/invariants.sql")]:
            await connection.prepare(invariant.sql)


@pytest.mark.parametrize("package", ["shared", *PACKAGES.values()])
def test_a_statement_that_takes_arrays_sorts_or_states_its_order(package: str) -> None:
    """Rows are locked in key order: FOR UPDATE without ORDER BY takes locks as the plan pleases."""
    if package != "shared" and not has(package, OWN):
        pytest.skip(f"{package} has no {OWN} yet")
    for path in [SHARED] if package == "shared" else own_files(package):
        for name, sql in all_statements(package, path):
            if "FOR UPDATE" in sql and "LIMIT 1" not in sql:
                assert "ORDER BY" in sql, name
