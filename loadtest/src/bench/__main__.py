"""Measures the system beside its machine, and compares runs."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
from aiokafka.errors import KafkaError
from pydantic import ValidationError

from bench.compare import compare
from bench.errors import BenchError
from bench.page import comparison_page, run_page
from bench.plan import REPORTS, STATE, Plan
from bench.record import load, save
from bench.run import run
from bench.text import print_comparison, print_run
from local_stack import StackError
from orderctl.terminal import console, visible
from shared.kafka.topics import TopicError

if TYPE_CHECKING:
    from collections.abc import Callable

INTERRUPTED = 130


def main() -> int:
    """Run a command; the exit code."""
    arguments = _parser().parse_args()
    command: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return command(arguments)
    except (BenchError, StackError, TopicError) as error:
        print_error(str(error))
    except (KafkaError, OSError, TimeoutError, asyncpg.PostgresError) as error:
        print_error(f"{type(error).__name__}: {error}")
    except (KeyboardInterrupt, asyncio.CancelledError):
        return INTERRUPTED
    return 1


def print_error(text: str) -> None:
    """To stderr, safe for the terminal."""
    sys.stderr.write(f"error: {visible(text, keep=chr(10))}\n")


def _parser() -> argparse.ArgumentParser:
    defaults = Plan()
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    one = commands.add_parser(
        "run",
        help="measure everything on a stack of its own, in some 5 minutes",
        description="Measures everything on a stack of its own, which is gone afterwards. Writes"
        " the figures (JSON) and a page with plots. Nothing else should run on the machine.",
    )
    one.set_defaults(run=_run)
    one.add_argument(
        "--orders", type=int, default=defaults.orders, help="in the backlog (%(default)s)"
    )
    one.add_argument(
        "--commands", type=int, default=defaults.commands, help="in that of stock (%(default)s)"
    )
    one.add_argument(
        "--rates", type=_rates, default=defaults.rates, metavar="N,N,...",
        help="orders a second that arrive (20,200,500)",
    )  # fmt: skip
    one.add_argument(
        "--seconds", type=int, default=defaults.seconds, help="at each rate (%(default)s)"
    )
    one.add_argument(
        "--repeats", type=int, default=defaults.repeats,
        help="of each phase (%(default)s); more make the spreads narrower",
    )  # fmt: skip
    one.add_argument("--pgbench-seconds", type=int, default=defaults.pgbench_s, metavar="SECONDS")
    one.add_argument("--baseline", type=Path, metavar="FILE", help="figures to compare with")
    one.add_argument("--state", type=Path, default=STATE, metavar="DIR", help="of its stack")
    one.add_argument(
        "--out", type=Path, metavar="FILE",
        help=f"where the figures go; the page goes beside them ({REPORTS}/<time>.json)",
    )  # fmt: skip
    two = commands.add_parser(
        "compare",
        help="what changed from one run to another",
        description="Prints and draws what changed from BEFORE to AFTER, as ratios.",
    )
    two.set_defaults(run=_compare)
    two.add_argument("before", type=Path, metavar="BEFORE", help="figures (JSON) of a run")
    two.add_argument("after", type=Path, metavar="AFTER")
    two.add_argument("--page", type=Path, metavar="FILE", help="draw it there, too")
    return parser


def _rates(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError("give whole numbers, as in 20,200,500") from None


def _run(arguments: argparse.Namespace) -> int:
    screen = console()
    try:
        plan = Plan(
            orders=arguments.orders,
            commands=arguments.commands,
            rates=arguments.rates,
            seconds=arguments.seconds,
            repeats=arguments.repeats,
            pgbench_s=arguments.pgbench_seconds,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise BenchError(f"--{first['loc'][0]}: {first['msg']}") from error
    before = load(arguments.baseline) if arguments.baseline else None
    # An end that is asked for by a signal is as clean as one by Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    record = run(plan, arguments.state, lambda line: screen.print(visible(line), markup=False))
    out = arguments.out or REPORTS / f"{datetime.now(UTC):%Y-%m-%dT%H%M}.json"
    save(record, out)
    screen.print()
    print_run(screen, record)
    comparison = None if before is None else compare(before, record)
    if comparison is not None:
        screen.print()
        print_comparison(screen, comparison)
    page = out.with_suffix(".html")
    page.write_text(run_page(record, comparison, _name(arguments.baseline)), encoding="utf-8")
    screen.print(f"{record.took_s:.0f} s; {page} shows it, {out} holds the figures", markup=False)
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    before, after = load(arguments.before), load(arguments.after)
    comparison = compare(before, after)
    screen = console()
    print_comparison(screen, comparison)
    if arguments.page:
        text = comparison_page(comparison, _name(arguments.before), _name(arguments.after))
        arguments.page.write_text(text, encoding="utf-8")
        screen.print(f"{visible(arguments.page)} shows it", markup=False)
    return 0


def _name(path: Path | None) -> str:
    return path.name if path else ""


if __name__ == "__main__":
    sys.exit(main())
