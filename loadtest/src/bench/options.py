"""Options that several commands have, and the plan that comes of them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from bench.errors import BenchError
from bench.plan import REPORTS, Yardsticks

if TYPE_CHECKING:
    from bench.bottlenecks.plan import BottlenecksPlan
    from bench.campaigns.plan import CouponPlan
    from bench.plan import Plan
    from bench.settings.plan import SettingsPlan
    from bench.strategies.plan import StockPlan

PlanT = TypeVar("PlanT", bound=Yardsticks)


def add_sizes(parser: argparse.ArgumentParser, defaults: Yardsticks, **helps: str) -> None:
    """Whole numbers of a plan."""
    for name, text in helps.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=int, default=getattr(defaults, name),
            help=f"{text} (%(default)s)",
        )  # fmt: skip


def add_common(
    parser: argparse.ArgumentParser,
    defaults: Plan | StockPlan | CouponPlan | SettingsPlan | BottlenecksPlan,
    state: Path,
) -> None:
    """What every run in rounds is told."""
    parser.add_argument(
        "--repeats", type=int, default=defaults.repeats,
        help="of each phase (%(default)s); more make the spreads narrower",
    )  # fmt: skip
    add_places(parser, defaults, state)


def add_places(parser: argparse.ArgumentParser, defaults: Yardsticks, state: Path) -> None:
    """How long the yardstick runs, and where everything goes."""
    parser.add_argument(
        "--pgbench-seconds", dest="pgbench_s", type=int, default=defaults.pgbench_s,
        metavar="SECONDS",
    )  # fmt: skip
    parser.add_argument("--state", type=Path, default=state, metavar="DIR", help="of its stack")
    parser.add_argument(
        "--out", type=Path, metavar="FILE",
        help=f"where the figures go; the page goes beside them ({REPORTS}/<time>.json)",
    )  # fmt: skip


def plan_of(kind: type[PlanT], arguments: argparse.Namespace) -> PlanT:
    """The sizes that were asked for. Raises BenchError where one can't be."""
    asked = {name: value for name, value in vars(arguments).items() if name in kind.model_fields}
    try:
        return kind(**asked)
    except ValidationError as error:
        first = error.errors()[0]
        raise BenchError(f"--{first['loc'][0]}: {first['msg']}") from error


def rates(text: str) -> tuple[int, ...]:
    """`20,200` as numbers, for argparse."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError("give whole numbers, as in 20,200,500") from None


def names(text: str) -> tuple[str, ...]:
    """`chunks,pool` as names, for argparse."""
    return tuple(text.split(","))
