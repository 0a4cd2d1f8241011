"""Migrations are numbered files: a gap, a bad name or a changed text is an error."""

from __future__ import annotations

import hashlib
import importlib
import sys
from typing import TYPE_CHECKING

import pytest

from shared.database.migrations import Migration, MigrationError, load_migrations

if TYPE_CHECKING:
    from pathlib import Path

SERVICES = ("stock", "coupon", "payment", "order_orchestrator")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with an empty folder of migrations; returns the folder."""
    folder = tmp_path / "made_up_service" / "sql" / "migrations"
    folder.mkdir(parents=True)
    (tmp_path / "made_up_service" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    return folder


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_text(f"-- {name}\n", "utf-8")


def names() -> list[str]:
    sys.modules.pop("made_up_service", None)
    return [migration.name for migration in load_migrations("made_up_service")]


def test_they_come_in_the_order_of_their_numbers(package: Path) -> None:
    write(package, "0002_second.sql", "0001_first.sql", "0003_third.sql", "notes.md")
    assert names() == ["first", "second", "third"]


@pytest.mark.parametrize(
    ("files", "missing"),
    [
        (("0002_second.sql",), "0001"),
        (("0001_first.sql", "0003_third.sql"), "0002"),
        (("0001_first.sql", "0001_again.sql"), "0002"),
    ],
)
def test_a_gap_or_a_number_twice_is_refused(
    package: Path, files: tuple[str, ...], missing: str
) -> None:
    write(package, *files)
    with pytest.raises(MigrationError, match=f"migration {missing} is missing or there twice"):
        names()


@pytest.mark.parametrize("name", ["1_first.sql", "0001-first.sql", "0001_First.sql", "init.sql"])
def test_a_bad_name_is_refused(package: Path, name: str) -> None:
    write(package, name)
    with pytest.raises(MigrationError, match=rf"{name} is no name .*NNNN_what_it_does\.sql"):
        names()


def test_a_package_without_migrations_has_none(package: Path) -> None:
    package.rmdir()
    assert names() == []


def test_the_checksum_is_over_the_whole_text() -> None:
    migration = Migration("stock", 1, "initial", "CREATE TABLE a ();")
    changed = Migration("stock", 1, "initial", "CREATE TABLE a (); ")
    assert migration.checksum == hashlib.sha256(b"CREATE TABLE a ();").hexdigest()
    assert migration.checksum != changed.checksum


def test_the_pipeline_brings_its_own() -> None:
    assert load_migrations("shared")[0].number == 1


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_numbers_its_migrations_without_a_gap(service: str) -> None:
    pytest.importorskip(service)
    found = load_migrations(service)
    assert [migration.number for migration in found] == list(range(1, len(found) + 1))
