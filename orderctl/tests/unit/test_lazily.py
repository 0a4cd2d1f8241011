"""A command is imported when it is called, and is told of as it tells of itself."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys

import pytest

from orderctl.lazily import function_of
from orderctl.main import COMMANDS, COUPON, DEAD_LETTERS, LOTTERY, PAYMENT, STOCK, TOPICS

HEAVY = {"aiokafka", "asyncpg", "httpx", "redis", "faststream", "shared.contracts.base"}
_LOADED = """
import json, sys
from orderctl.main import app
try:
    app(sys.argv[1:])
except SystemExit as ended:
    print(json.dumps([ended.code, sorted(sys.modules)]), file=sys.stderr)
"""


def loaded_by(*arguments: str) -> set[str]:
    """What a process has imported once it told how it is called."""
    done = subprocess.run(
        [sys.executable, "-c", _LOADED, *arguments],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    code, modules = json.loads(done.stderr)
    assert code == 0
    assert "Usage" in done.stdout
    return set(modules)


@pytest.mark.parametrize("arguments", [("--help",), ("dlq", "--help"), ("topics", "--help")])
def test_help_needs_no_client_and_no_contract(arguments: tuple[str, ...]) -> None:
    assert not loaded_by(*arguments) & HEAVY


def test_a_command_imports_its_own_clients_only() -> None:
    """The admin port is asked over HTTP, and the topics without a database."""
    assert loaded_by("list", "--help") & HEAVY == {"httpx"}
    assert not loaded_by("dlq", "list", "--help") & {"httpx", "redis", "faststream"}


@pytest.mark.parametrize(
    ("where", "summary"),
    [
        one
        for group in (COMMANDS, COUPON, DEAD_LETTERS, LOTTERY, PAYMENT, STOCK, TOPICS)
        for one in group.values()
    ],
)
def test_the_list_of_commands_says_what_each_says_of_itself(where: str, summary: str) -> None:
    told = inspect.getdoc(function_of(where)) or ""
    assert " ".join(told.split("\n\n")[0].split()) == summary
