"""The page and the terminal show what was measured, and nothing that steers them."""

from __future__ import annotations

import html
import io
import re
import warnings
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from bench.compare import compare
from bench.findings import findings, what_limits
from bench.page import comparison_page, run_page
from bench.plan import Plan
from bench.plots import percentile_name
from bench.text import number, print_comparison, print_run
from orderctl.terminal import visible

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.record import Record

    MakeRecord = Callable[..., Record]

EVIL = "\x1b[31m<script>alert(1)</script>$\\bad{$"


class Ids(HTMLParser):
    """Every id and every tag of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]


def test_a_page_needs_nothing_but_itself(make_record: MakeRecord) -> None:
    page = run_page(make_record(), compare(make_record(), make_record()), "before.json")
    found = Ids(page)
    assert len(set(found.ids)) == len(found.ids), "plots share no id"
    assert not found.tags & {"script", "link", "img", "iframe"}
    assert not re.search(r"(?:src|href)=\"(?!#)", page)
    plots = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(plots) == 5
    for plot in plots:
        ET.fromstring(plot)
        used = set(re.findall(r'(?:url\(|xlink:href=")#([^)"]+)', plot))
        assert used <= set(re.findall(r'\bid="([^"]+)"', plot)), "what it refers to is there"


def test_a_page_shows_every_figure(make_record: MakeRecord) -> None:
    page = run_page(make_record(drained=(1234.0, 1234.0, 1234.0)))
    assert "1,234 orders/s" in page
    assert "at 200/s, p99" in page
    assert "6,000 bytes/order" in page
    assert "90 MiB" in page


def test_what_a_file_holds_steers_neither_page_nor_terminal(make_record: MakeRecord) -> None:
    record = make_record(commit=EVIL, memory_bytes={EVIL: 1})
    record.phases[0].repeats[0].usage.cpu_s[EVIL] = 5.0
    other = make_record()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as of a character that no font has
        page = run_page(record) + comparison_page(compare(record, other), EVIL, EVIL)
    assert "<script>" not in page
    plots = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert html.escape(visible(EVIL), quote=False) in plots, "told as it is"
    assert "\x1b" not in plots
    out = io.StringIO()
    screen = Console(file=out, force_terminal=False)
    print_run(screen, record)
    print_comparison(screen, compare(record, other))
    assert "\x1b" not in out.getvalue()


def test_without_rates_there_is_still_a_page(make_record: MakeRecord) -> None:
    record = make_record(plan=Plan(rates=()))
    record.phases = [phase for phase in record.phases if phase.kind != "rate"]
    assert "No rate was measured" in run_page(record)


def test_what_limits_a_phase_is_read_from_its_processors(make_record: MakeRecord) -> None:
    drain = make_record().phase("drain")
    assert "the processors limit it" in what_limits(drain, 2)
    for one in drain.repeats:
        one.usage.others_s = 0.0
    assert "what is waited for limits it" in what_limits(drain, 4)
    for one in drain.repeats:
        one.usage.cpu_s["order-orchestrator-0"] = 0.98
    assert "that one process limits it" in what_limits(drain, 4)


def test_a_machine_that_was_busy_is_named(make_record: MakeRecord) -> None:
    assert any("measure again" in one for one in findings(make_record()))
    quiet = make_record()
    for phase in quiet.phases:
        for one in phase.repeats:
            one.usage.others_s = 0.01
    assert not any("measure again" in one for one in findings(quiet))
    restless = make_record(pgbench=(4000.0, 5000.0))
    assert any("moved by more than a tenth" in one for one in findings(restless))


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (0.01234, "0.0123"), (1.234, "1.23"), (12.34, "12.3"), (12345.6, "12,346")],
)
def test_numbers_have_three_digits_that_count(value: float, shown: str) -> None:
    assert number(value) == shown


def test_percentiles_are_named_by_what_was_faster() -> None:
    assert [percentile_name(one) for one in (1, 10, 100, 1000)] == ["0 %", "90 %", "99 %", "99.9 %"]
