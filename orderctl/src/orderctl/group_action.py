"""One action on many orders: done to each in turn, stopped by Ctrl-C between two, and told."""

from __future__ import annotations

import json
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final

import typer
from rich.console import Console
from rich.progress import Progress

from orderctl.errors import AwayError, OperatorError
from orderctl.running import note
from orderctl.terminal import cell, console, open_table, visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orderctl.admin_api import AdminApi

AT_ONCE: Final = 8
"""Orders that are acted on at the same time; each is a transaction of its own."""
REFUSALS_SHOWN: Final = 50
ROWS_SHOWN: Final = 20
TOLD_EVERY: Final = 1_000
"""Where stderr is no terminal: a line after so many orders."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one order of several."""

    order_id: str
    done: bool
    state: str | None
    problem: str | None
    away: bool = False
    """Nobody answered: whether it was done is not known, and further orders would fail alike."""


@dataclass(slots=True)
class Done:
    """What became of the orders that were tried, and which were not."""

    results: list[Result] = field(default_factory=list)
    left: Sequence[str] = ()
    interrupted: bool = False

    @property
    def whole(self) -> bool:
        """Whether each order was tried, and none refused."""
        return not self.left and all(result.done for result in self.results)


@contextmanager
def interrupts() -> Iterator[threading.Event]:
    """Within it Ctrl-C sets the event, and breaks nothing off that is under way."""
    asked = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: asked.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def act_on_each(action: str, api: AdminApi, order_ids: Sequence[str], body: dict[str, str]) -> Done:
    """Try each, until nobody answers any more or Ctrl-C asks to stop; then nothing is under way."""
    done = Done()
    err = Console(stderr=True)
    with (
        interrupts() as stop,
        ThreadPoolExecutor(AT_ONCE) as pool,
        Progress(console=err, transient=True, disable=not err.is_terminal) as progress,
    ):
        task = progress.add_task(action, total=len(order_ids))
        for start in range(0, len(order_ids), AT_ONCE):
            if stop.is_set() or any(result.away for result in done.results[-AT_ONCE:]):
                done.left = order_ids[start:]
                break
            batch = order_ids[start : start + AT_ONCE]
            done.results += pool.map(lambda order_id: _one(action, api, order_id, body), batch)
            progress.advance(task, len(batch))
            tried = len(done.results)
            if not err.is_terminal and tried // TOLD_EVERY > start // TOLD_EVERY:
                note(f"{tried:,} of {len(order_ids):,}")
        done.interrupted = stop.is_set()
    return done


def _one(action: str, api: AdminApi, order_id: str, body: dict[str, str]) -> Result:
    try:
        order = api.act(action, order_id, **body)
    except OperatorError as error:
        return Result(order_id, False, None, str(error), isinstance(error, AwayError))
    return Result(order_id, True, order.get("state"), None)


def tell(action: str, done: Done, *, as_json: bool) -> None:
    """What became of them on stdout, and on stderr what was left alone."""
    if as_json:
        typer.echo(json.dumps(document(action, done), indent=2))
    else:
        _print_results(action, done.results)
    tried, whole = len(done.results), len(done.results) + len(done.left)
    if done.interrupted:
        count = sum(result.done for result in done.results)
        note(
            f"interrupted: {count:,} of {whole:,} orders are done,"
            f" {tried - count:,} tried in vain, {len(done.left):,} were not tried"
        )
    elif done.left:
        note(f"{len(done.left):,} orders were not tried: {done.results[-1].problem}")


def document(action: str, done: Done) -> dict[str, object]:
    """The same for other programs."""
    count = sum(result.done for result in done.results)
    return {
        "action": action,
        "done": count,
        "refused": len(done.results) - count,
        "notTried": list(done.left),
        "interrupted": done.interrupted,
        "results": [
            {"orderId": result.order_id}
            | {
                name: value
                for name, value in asdict(result).items()
                if name not in ("order_id", "away")
            }
            for result in done.results
        ],
    }


def _print_results(action: str, results: Sequence[Result]) -> None:
    """How many came to which state, and each that was refused."""
    table = open_table()
    table.add_column("orders", justify="right", no_wrap=True)
    table.add_column(action, no_wrap=True)
    table.add_column("now", overflow="fold")
    found = Counter(
        (
            "done" if result.done else "unanswered" if result.away else "refused",
            result.state or result.problem or "",
        )
        for result in results
    )
    rows = sorted(found.items(), key=lambda one: (one[0][0] != "done", -one[1]))
    for (became, what), count in rows[:ROWS_SHOWN]:
        table.add_row(cell(f"{count:,}"), became, cell(what))
    refused = [result for result in results if not result.done]
    for result in refused[:REFUSALS_SHOWN]:
        typer.echo(visible(f"{result.order_id}: {result.problem}"))
    if len(refused) > REFUSALS_SHOWN:
        typer.echo(f"and {len(refused) - REFUSALS_SHOWN:,} more were not done; --json names them")
    if results:
        console().print(table)
