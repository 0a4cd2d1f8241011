"""Measures the system beside its machine, and compares runs."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
from aiokafka.errors import KafkaError

from bench.bottlenecks.pairs import NAMES
from bench.bottlenecks.plan import BottlenecksPlan
from bench.campaigns.plan import CouponPlan
from bench.commands import (
    bottlenecks_command,
    compare_command,
    coupon_command,
    load_command,
    run_command,
    settings_command,
    stock_command,
)
from bench.errors import BenchError
from bench.load.plan import LoadPlan, Scenario
from bench.options import add_common, add_places, add_sizes, names, rates
from bench.plan import (
    BOTTLENECKS_STATE,
    COUPON_STATE,
    LOAD_STATE,
    SETTINGS_STATE,
    STATE,
    STOCK_STATE,
    Plan,
)
from bench.settings.plan import SettingsPlan
from bench.strategies.plan import StockPlan
from local_stack import StackError
from orderctl.terminal import visible
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
    one.set_defaults(run=run_command)
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
    _add_bottlenecks(commands)
    two = commands.add_parser(
        "compare",
        help="what changed from one run to another",
        description="Prints and draws what changed from BEFORE to AFTER, as ratios.",
    )
    two.set_defaults(run=compare_command)
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
    parser.set_defaults(run=stock_command)
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
    parser.set_defaults(run=coupon_command)
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
    parser.set_defaults(run=settings_command)
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
    parser.set_defaults(run=load_command)
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


def _add_bottlenecks(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    defaults = BottlenecksPlan()
    parser = commands.add_parser(
        "bottlenecks",
        help="put settings of before beside those of now, under load, in less than 12 minutes",
        description="Puts what bounded the storefront before beside what is the default now: pairs"
        " of settings in turns, each under the journey by k6, on a stack of its own, which is gone"
        " afterwards. Prints a table for each pair, and writes the figures (JSON). Exit code 1"
        " where an invariant fails. Nothing else should run on the machine.",
    )
    parser.set_defaults(run=bottlenecks_command)
    parser.add_argument(
        "--only", type=names, default=defaults.only, metavar="NAME,NAME",
        help=f"of the pairs {', '.join(NAMES)} ({','.join(defaults.only)})",
    )  # fmt: skip
    add_sizes(
        parser,
        defaults,
        users="who make the journey at the same time",
        seconds="that count, of each turn of a side",
        ramp_s="before these, in seconds, while the users come",
    )
    add_common(parser, defaults, BOTTLENECKS_STATE)


if __name__ == "__main__":
    sys.exit(main())
