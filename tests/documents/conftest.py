"""A stack as the documents' readers have it: `make up`, and a shell beside it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from local_stack import Stack
from local_stack.kafka import ADDRESS_VARIABLE
from local_stack.postgres import binaries

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT: Final = Path(__file__).parents[2]
TOOLS: Final = Path(__file__).parent / "tools"
"""Stand in where the machine has no such program."""
WITHIN_S: Final = 170


class Shell:
    """bash in the project's folder, with the stack's state folder and nothing else of its own."""

    def __init__(self, state: Path) -> None:
        self.state = state
        tools = [str(binaries())] if shutil.which("psql") is None else []
        # it needs the libraries of the interpreter that runs this
        beside = [str(TOOLS), str(Path(sys.executable).parent)]
        tools += beside if shutil.which("kcat") is None else []
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(
                ("KAFKA_", "DATABASE_", "REDIS_", "GATEWAY_", "ADMIN_", "CALLBACK_", "PID_", "MAKE")
            )
        }
        self._environment: Mapping[str, str] = kept | {
            "STATE": str(state),
            "PATH": ":".join([*tools, os.environ["PATH"]]),
        }

    def run(self, script: str, **environment: str) -> str:
        """Run it to its end; what it printed. Fails the test where a command fails."""
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=ROOT, env={**self._environment, **environment}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=WITHIN_S, check=False,
        )  # fmt: skip
        said = f"{ended.stdout[-4_000:]}\n{ended.stderr[-4_000:]}"
        assert ended.returncode == 0, f"exit {ended.returncode} of\n{script}\n{said}"
        return ended.stdout

    @property
    def stack(self) -> Stack:
        return Stack.whole(self.state)


@pytest.fixture(scope="session")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    if os.environ.get(ADDRESS_VARIABLE):
        pytest.skip(f"{ADDRESS_VARIABLE} is set: the documents speak of a broker of one's own")
    shell = Shell(tmp_path_factory.mktemp("documents") / "up")
    try:
        shell.run("make up")
        yield shell
    finally:
        shell.run("make wipe")
