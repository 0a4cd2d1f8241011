"""Finds k6, or builds it, and runs a script."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bench.errors import BenchError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

VERSION: Final = "v1.8.1"
MODULE: Final = f"go.k6.io/k6@{VERSION}"
BIN: Final = Path(".state/bin")
SCRIPTS: Final = Path(__file__).parents[3] / "k6"
BUILD_WITHIN_S: Final = 900.0
STOP_WITHIN_S: Final = 10.0
CROSSED: Final = 99
"""k6's exit code where a threshold was crossed."""
OUTPUT_SHOWN: Final = 1_500
NO_K6: Final = (
    "there is no k6, and no Go to build it with: install Go (then `make load` builds"
    f" k6 {VERSION}), or put k6 {VERSION} onto the PATH or into {BIN}"
)


class Outcome(NamedTuple):
    """What k6 left behind."""

    record: list[str]
    """Lines of its record over time."""
    summary: Mapping[str, Any]
    log: list[str]
    """Lines of its log, as JSON."""


def find_k6(folder: Path = BIN) -> Path | None:
    """The k6 on the PATH, or the one that was built into `folder`; None where there is neither."""
    known = shutil.which("k6")
    own = folder.absolute() / "k6"
    if known is not None:
        return Path(known)
    return own if os.access(own, os.X_OK) else None


def find_or_build(tell: Callable[[str], None], folder: Path = BIN) -> Path:
    """k6, built into `folder` where there is none. Raises BenchError where that can't be done."""
    found = find_k6(folder)
    if found is not None:
        return found
    go = shutil.which("go")
    if go is None:
        raise BenchError(NO_K6)
    tell(f"building k6 {VERSION} into {folder}, which takes some minutes; once")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        built = subprocess.run(  # noqa: S603
            [go, "install", MODULE],
            check=False,
            env={**os.environ, "GOBIN": str(folder.absolute())},
            capture_output=True,
            text=True,
            timeout=BUILD_WITHIN_S,
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"k6 was not built within {BUILD_WITHIN_S:.0f} s") from None
    found = find_k6(folder)
    if built.returncode or found is None:
        raise BenchError(f"k6 can't be built: {built.stderr.strip()[-OUTPUT_SHOWN:]}")
    return found


def version_of(k6: Path) -> str:
    """As `v1.8.1`. Raises BenchError where the program is none."""
    try:
        told = subprocess.run(  # noqa: S603
            [str(k6), "version"], check=True, capture_output=True, text=True, timeout=30
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise BenchError(f"{k6} can't be run: {error}") from error
    found = re.search(r"v\d+\.\d+\.\d+\S*", told)
    if found is None:
        raise BenchError(f"{k6} says no version: {told[:OUTPUT_SHOWN]}")
    return found[0]


class Running:
    """k6 at work."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self._process = process
        self._folder = folder

    @property
    def pid(self) -> int:
        return self._process.pid

    async def outcome(self) -> Outcome:
        """Wait for the end. Raises BenchError where k6 failed otherwise than by a threshold."""
        code = await self._process.wait()
        log = (self._folder / "log").read_text(encoding="utf-8", errors="replace")
        if code not in (0, CROSSED):
            raise BenchError(f"k6 exited with {code}: {log.strip()[-OUTPUT_SHOWN:]}")
        try:
            record = (self._folder / "record").read_text(encoding="utf-8").splitlines()
            summary = json.loads((self._folder / "summary").read_bytes())
        except (OSError, ValueError) as error:
            raise BenchError(f"k6 left no figures: {error}") from error
        return Outcome(record, summary, log.splitlines())


@asynccontextmanager
async def running(
    k6: Path, script: str, settings: Mapping[str, str], folder: Path, period_s: float
) -> AsyncIterator[Running]:
    """k6 runs a script of `SCRIPTS` while the block does; what it writes goes into `folder`.

    Its record is what its web dashboard would show, whose port stays shut: k6 itself counts what
    falls into each period, so that not every request has to be written down.
    """
    record = f"web-dashboard=record={folder / 'record'}&period={period_s:g}s&tag=name&port=-1"
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            str(k6), "run", "--quiet", "--no-color", "--no-usage-report", "--address", "",
            "--log-format", "json", "--summary-export", str(folder / "summary"),
            "--out", record, str(SCRIPTS / script),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=log,
            env={**_without_settings(os.environ), **settings},
        )  # fmt: skip
        try:
            yield Running(process, folder)
        finally:
            await _ended(process)


def _without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """k6 takes options from `K6_…` as well: a run is as its plan says."""
    return {name: value for name, value in environment.items() if not name.startswith("K6_")}


async def _ended(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_WITHIN_S)
    except TimeoutError:
        process.kill()
        await process.wait()
