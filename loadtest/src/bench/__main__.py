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

from bench.campaigns.plan import CouponPlan
from bench.campaigns.report import campaigns_page, print_campaigns
from bench.campaigns.run import run as run_campaigns
from bench.compare import compare
from bench.errors import BenchError
from bench.load.plan import LoadPlan, Scenario
from bench.load.report import load_page, print_load
from bench.load.run import run as run_load
from bench.options import add_common, add_places, add_sizes, plan_of, rates
from bench.page import comparison_page, run_page
from bench.plan import (
    COUPON_STATE,
    LOAD_STATE,
    REPORTS,
    SETTINGS_STATE,
    STATE,
    STOCK_STATE,
    Plan,
)
from bench.record import load, save
from bench.run import run
from bench.settings.plan import SettingsPlan
from bench.settings.report import print_settings
from bench.settings.run import run as run_settings
from bench.strategies.plan import StockPlan
from bench.strategies.report import print_strategies, strategies_page
from bench.strategies.run import run as run_strategies
from bench.text import print_comparison, print_run
from local_stack import StackError
from orderctl.terminal import console, visible
from shared.kafka.topics import TopicError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from bench.record import Noted

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
        "--rates", type=rates, default=defaults.rates, metavar="N,N,...",
        help="orders a second that arrive (20,200,500)",
    )  # fmt: skip
    one.add_argument(
        "--seconds", type=int, default=defaults.seconds, help="at each rate (%(default)s)"
    )
    one.add_argument("--baseline", type=Path, metavar="FILE", help="figures to compare with")
    add_common(one, defaults, STATE)
    _add_stock(commands)
    _add_coupon(commands)
    _add_settings(commands)
    _add_load(commands)
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


def _add_stock(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    defaults = StockPlan()
    parser = commands.add_parser(
        "stock",
        help="measure stock's strategies side by side, in some 5 minutes",
        description="Measures stock's strategies side by side over contention, on a stack of stock"
        " alone, which is gone afterwards, and says what to choose when. Writes the figures (JSON)"
        " and a page with plots. Nothing else should run on the machine.",
    )
    parser.set_defaults(run=_stock)
    add_sizes(
        parser,
        defaults,
        commands="in each backlog",
        rate="ReserveStock a second that arrive",
        arrivals="of these at the rate",
        instances="of stock",
        products="of those cells that have several",
        orders_per_unit="of a crowd",
    )
    parser.add_argument(
        "--zipf-exponent", type=float, default=defaults.zipf_exponent, help="(%(default)s)"
    )
    add_common(parser, defaults, STOCK_STATE)


def _add_coupon(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    defaults = CouponPlan()
    parser = commands.add_parser(
        "coupon",
        help="measure the kinds of campaign side by side, in less than 5 minutes",
        description="Measures the five kinds of campaign side by side in a rush for coupons, on a"
        " stack of coupon alone, which is gone afterwards, and says what each is for. Writes the"
        " figures (JSON) and a page with plots. Nothing else should run on the machine.",
    )
    parser.set_defaults(run=_coupon)
    add_sizes(
        parser,
        defaults,
        users="who ask each campaign",
        coupons="of each campaign",
        instances="of coupon",
    )
    add_common(parser, defaults, COUPON_STATE)


def _add_settings(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    defaults = SettingsPlan()
    parser = commands.add_parser(
        "settings",
        help="measure why settings have their defaults, beside other values",
        description="Puts other values beside the defaults of four settings: connections of a"
        " pool, retries of Redis, requests to the gateway at once, and the pause before one is made"
        " again. On a stack of payment alone, which is gone afterwards. Prints the tables that"
        " loadtest/SETTINGS.md has, and writes the figures (JSON).",
    )
    parser.set_defaults(run=_settings)
    add_sizes(
        parser,
        defaults,
        transactions="through each pool",
        questions="to Redis",
        charges="of each backlog at the gateway",
    )
    add_common(parser, defaults, SETTINGS_STATE)


def _add_load(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    defaults = LoadPlan()
    parser = commands.add_parser(
        "load",
        help="put the storefront under load by k6, and look at all invariants afterwards",
        description="Puts the storefront under load by a script of loadtest/k6, on a stack of its"
        " own, which is gone afterwards, or on one that runs. Then waits for rest and looks at all"
        " invariants. Writes the figures (JSON) and a page with plots. Exit code 1 where a"
        " threshold or an invariant fails.",
    )
    parser.set_defaults(run=_load)
    parser.add_argument(
        "scenario", nargs="?", choices=[str(one) for one in Scenario], default=defaults.scenario,
        metavar="SCENARIO", help=f"{', '.join(Scenario)} (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--thresholds", choices=("ours", "workshop"), default=defaults.thresholds,
        help="of journey, short and arrivals (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--stages", metavar="S:N,S:N,...", help="of the journey, as in 20s:100,1m:500"
    )
    parser.add_argument(
        "--rates", type=rates, default=defaults.rates, metavar="N,N,...",
        help="customers a second who arrive (25,50,100)",
    )  # fmt: skip
    add_sizes(
        parser,
        defaults,
        seconds="at each of the rates",
        users="in a crowd",
        at_once="of these at any moment",
        supply="units or coupons that they want",
    )
    parser.add_argument(
        "--url", metavar="URL",
        help="of a storefront that runs; `make env` tells the rest of its stack to the environment",
    )  # fmt: skip
    add_places(parser, defaults, LOAD_STATE)


def _run(arguments: argparse.Namespace) -> int:
    screen = console()
    plan = plan_of(Plan, arguments)
    before = load(arguments.baseline) if arguments.baseline else None
    record = run(plan, arguments.state, _teller(screen))
    out = _save(screen, record, arguments)
    print_run(screen, record)
    comparison = None if before is None else compare(before, record)
    if comparison is not None:
        screen.print()
        print_comparison(screen, comparison)
    _write_page(screen, record, out, run_page(record, comparison, _name(arguments.baseline)))
    return 0


def _stock(arguments: argparse.Namespace) -> int:
    screen = console()
    record = run_strategies(plan_of(StockPlan, arguments), arguments.state, _teller(screen))
    out = _save(screen, record, arguments, "-stock")
    print_strategies(screen, record)
    _write_page(screen, record, out, strategies_page(record))
    return 0


def _coupon(arguments: argparse.Namespace) -> int:
    screen = console()
    record = run_campaigns(plan_of(CouponPlan, arguments), arguments.state, _teller(screen))
    out = _save(screen, record, arguments, "-coupon")
    print_campaigns(screen, record)
    _write_page(screen, record, out, campaigns_page(record))
    return 0


def _settings(arguments: argparse.Namespace) -> int:
    screen = console()
    record = run_settings(plan_of(SettingsPlan, arguments), arguments.state, _teller(screen))
    out = _save(screen, record, arguments, "-settings")
    print_settings(screen, record)
    screen.print(f"{record.took_s:.0f} s; {out} holds the figures", markup=False)
    return 0


def _load(arguments: argparse.Namespace) -> int:
    screen = console()
    plan = plan_of(LoadPlan, arguments)
    record = run_load(plan, arguments.state, arguments.url, _teller(screen))
    out = _save(screen, record, arguments, f"-load-{record.plan.scenario}")
    print_load(screen, record)
    _write_page(screen, record, out, load_page(record))
    return 1 if record.failures else 0


def _teller(screen: Console) -> Callable[[str], None]:
    """Says how far a run is. An end that is asked for by a signal is as clean as one by Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    return lambda line: screen.print(visible(line), markup=False)


def _save(screen: Console, record: Noted, arguments: argparse.Namespace, suffix: str = "") -> Path:
    """Write the figures; where they are."""
    own: Path | None = arguments.out
    out = own or REPORTS / f"{datetime.now(UTC):%Y-%m-%dT%H%M}{suffix}.json"
    save(record, out)
    screen.print()
    return out


def _write_page(screen: Console, record: Noted, out: Path, text: str) -> None:
    page = out.with_suffix(".html")
    page.write_text(text, encoding="utf-8")
    screen.print(f"{record.took_s:.0f} s; {page} shows it, {out} holds the figures", markup=False)


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
