"""What is away is named, with what helps: one line, nothing of the clients' own."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from orderctl.main import app
from shared.testing.ports import ReservedPort

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ORDER = '{"type":"CancelOrder","orderId":"o-1","userId":"user_1"}'


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address at which nobody listens."""
    port = ReservedPort("127.0.0.1")
    yield f"127.0.0.1:{port.port}"
    port.release()


def orderctl(*arguments: str) -> tuple[int, str, str]:
    """As a process: what clients log while it ends counts too."""
    done = subprocess.run(
        [sys.executable, "-m", "orderctl.main", *arguments],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_place_without_a_broker(nobody: str, tmp_path: Path) -> None:
    file = tmp_path / "orders.jsonl"
    file.write_text(ORDER)
    problem = (
        f"no Kafka broker answers at {nobody} (KAFKA_BOOTSTRAP_SERVERS);"
        " `make status` tells how the stack is, `make up` starts it"
    )
    told = orderctl("place", str(file), "--bootstrap-servers", nobody)
    assert told == (1, "", f"orderctl: {problem}\n")


@pytest.mark.parametrize("password", ["pa/ss", "pa#ss", "pa?ss", "pa[ss"])
def test_an_address_that_can_not_be_read_tells_nothing_of_the_password(password: str) -> None:
    url = f"postgresql://operator:{password}@127.0.0.1:1/shop"
    code, said, error = orderctl("audit", "--database-url", url)
    assert (code, said) == (2, "")
    assert "can't be read as an address" in error
    assert "ss@" not in error
    assert "Traceback" not in error


@pytest.mark.parametrize("options", [(), ("--always",)])
def test_audit_without_a_database(nobody: str, options: tuple[str, ...]) -> None:
    url = f"postgresql://operator:secret@{nobody}/shop"
    code, said, error = orderctl("audit", "--database-url", url, *options)
    assert (code, said) == (2, ""), "nothing was looked at"
    assert error.startswith(f"orderctl: the database at DATABASE_URL ({nobody}) can't be reached: ")
    assert error.endswith("; `make status` tells how the stack is, `make up` starts it\n")
    assert "secret" not in error


@pytest.mark.parametrize(
    "address", ["nonsense", "host:9092:9093", "host:", ":9092", "host:70000", "a:1,,b:2", "[::1]"]
)
@pytest.mark.parametrize(
    "command",
    [
        "topics check", "topics create", "place FILE", "dlq list", "dlq show stock.dlq.v1/3/1",
        "dlq replay stock.dlq.v1/3/1 --yes", "drain", "audit",
    ],
)  # fmt: skip
def test_brokers_that_can_not_be_read_are_one_sentence(
    tmp_path: Path, command: str, address: str
) -> None:
    file = tmp_path / "orders.jsonl"
    file.write_text(ORDER)
    env = {"KAFKA_BOOTSTRAP_SERVERS": address, "DATABASE_URL": "postgresql://o@127.0.0.1:1/shop"}
    result = CliRunner().invoke(app, command.replace("FILE", str(file)).split(), env=env)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "orderctl: KAFKA_BOOTSTRAP_SERVERS can't be read as addresses; write host:port, and a"
        " comma between two of them\n"
    )


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:1,localhost:1", "no-one.invalid:9092"])
def test_brokers_that_can_be_read_are_asked(address: str) -> None:
    result = CliRunner().invoke(app, ["topics", "check", "--bootstrap-servers", address])
    assert result.exit_code == 1
    assert f"no Kafka broker answers at {address}" in result.stderr


def test_topics_without_a_broker(nobody: str) -> None:
    code, _, error = orderctl("topics", "check", "--bootstrap-servers", nobody)
    assert (code, error.count("\n")) == (1, 1)
    assert f"no Kafka broker answers at {nobody}" in error


@pytest.mark.parametrize(
    "arguments", [("audit",), ("show", "o-1"), ("topics", "check"), ("place", "orders.jsonl")]
)
def test_a_missing_address_says_where_it_comes_from(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    for name in ("DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS", "ADMIN_URL_ORDER_ORCHESTRATOR_0"):
        monkeypatch.delenv(name, raising=False)
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert "`export $(make -s env)` sets it" in result.stderr
    missing_note = CliRunner().invoke(app, ["cancel", "o-1", "--url", "http://x"])
    assert (missing_note.exit_code, "make -s env" in missing_note.stderr) == (2, False)
