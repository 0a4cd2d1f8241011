"""The commands as they are called: run, save, print, draw. Each returns the exit code."""

from __future__ import annotations

import signal
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bench.bottlenecks.plan import BottlenecksPlan
from bench.bottlenecks.report import print_bottlenecks
from bench.bottlenecks.run import run as run_bottlenecks
from bench.campaigns.plan import CouponPlan
from bench.campaigns.report import campaigns_page, print_campaigns
from bench.campaigns.run import run as run_campaigns
from bench.compare import compare
from bench.load.plan import LoadPlan
from bench.load.report import load_page, print_load
from bench.load.run import run as run_load
from bench.options import plan_of
from bench.page import comparison_page, run_page
from bench.plan import REPORTS, Plan
from bench.record import load, save
from bench.run import run
from bench.settings.plan import SettingsPlan
from bench.settings.report import print_settings
from bench.settings.run import run as run_settings
from bench.strategies.plan import StockPlan
from bench.strategies.report import print_strategies, strategies_page
from bench.strategies.run import run as run_strategies
from bench.text import print_comparison, print_run
from orderctl.terminal import console, visible

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from pathlib import Path

    from rich.console import Console

    from bench.record import Noted


def run_command(arguments: argparse.Namespace) -> int:
    """Everything, in rounds."""
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


def stock_command(arguments: argparse.Namespace) -> int:
    """Stock's strategies."""
    screen = console()
    record = run_strategies(plan_of(StockPlan, arguments), arguments.state, _teller(screen))
    out = _save(screen, record, arguments, "-stock")
    print_strategies(screen, record)
    _write_page(screen, record, out, strategies_page(record))
    return 0


def coupon_command(arguments: argparse.Namespace) -> int:
    """The kinds of campaign."""
    screen = console()
    record = run_campaigns(plan_of(CouponPlan, arguments), arguments.state, _teller(screen))
    out = _save(screen, record, arguments, "-coupon")
    print_campaigns(screen, record)
    _write_page(screen, record, out, campaigns_page(record))
    return 0


def settings_command(arguments: argparse.Namespace) -> int:
    """Values beside the defaults."""
    screen = console()
    record = run_settings(plan_of(SettingsPlan, arguments), arguments.state, _teller(screen))
    out = _save(screen, record, arguments, "-settings")
    print_settings(screen, record)
    _tell_where(screen, record, out)
    return 0


def load_command(arguments: argparse.Namespace) -> int:
    """The storefront under load."""
    screen = console()
    plan = plan_of(LoadPlan, arguments)
    record = run_load(plan, arguments.state, arguments.url, _teller(screen))
    out = _save(screen, record, arguments, f"-load-{record.plan.scenario}")
    print_load(screen, record)
    _write_page(screen, record, out, load_page(record))
    return 1 if record.failures else 0


def bottlenecks_command(arguments: argparse.Namespace) -> int:
    """Values of before beside those of now."""
    screen = console()
    plan = plan_of(BottlenecksPlan, arguments)
    record = run_bottlenecks(plan, arguments.state, _teller(screen))
    out = _save(screen, record, arguments, "-bottlenecks")
    print_bottlenecks(screen, record)
    _tell_where(screen, record, out)
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


def _tell_where(screen: Console, record: Noted, out: Path) -> None:
    screen.print(f"{record.took_s:.0f} s; {out} holds the figures", markup=False)


def compare_command(arguments: argparse.Namespace) -> int:
    """What changed between two runs."""
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
