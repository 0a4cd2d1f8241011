"""The cells of the strategies' benchmark, what it reads, and what it advises."""

from __future__ import annotations

import io
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from bench.record import Limits, Machine, Repeat, Usage
from bench.strategies.advice import choices, sentence
from bench.strategies.figures import cell_figures
from bench.strategies.plan import CASES, STRATEGIES, Case, Contention, StockPlan, Supply
from bench.strategies.record import Cell, StockRecord, StockRepeat, Tally
from bench.strategies.report import print_strategies, strategies_page
from bench.strategies.shop import DRAIN, PHASES, Stand, demand, scarce, work
from bench.strategies.tally import tally

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared.contracts.stock import StockStrategy

OPTIMISTIC, PESSIMISTIC, REDIS = STRATEGIES
HOT_CROWD = Case(Supply.CROWD, Contention.ONE)
Place = tuple[Case, "StockStrategy"]


def once(per_second: float, p99_ms: int, strategy: StockStrategy) -> StockRepeat:
    cpu_s = {"stock-0": 0.2, "stock-1": 0.3, "postgres": 0.4, "valkey": 0.1, "kafka": 0.1}
    done = Repeat(
        messages=1_000,
        per_second=per_second,
        usage=Usage(window_s=1.0, cpu_s={**cpu_s, "bench": 5.0}, others_s=0.0, stolen_s=0.0),
        wal_bytes=1,
        latency_ms={p99_ms // 2: 900, p99_ms: 100},
    )
    away = 950 if strategy is REDIS else 0
    counted = Tally(chunks=10, conflicts=5, locks=8, lock_s=0.02, turned_away=away)
    return StockRepeat(done=done, tally=counted, reserved=50)


def record(
    rates: Mapping[Place, Sequence[float]] | None = None,
    p99_ms: Mapping[Place, Sequence[int]] | None = None,
    repeats: int = 3,
) -> StockRecord:
    """A run in which all strategies did the same, but for what is given of some cells."""
    cells = []
    for case in CASES:
        for strategy in STRATEGIES:
            several = (rates or {}).get((case, strategy), [1000.0, 1200.0, 900.0])
            slowest = (p99_ms or {}).get((case, strategy), [100, 80, 120])
            done = [once(*one, strategy) for one in zip(several, slowest, strict=True)][:repeats]
            cells.append(
                Cell(
                    supply=case.supply, contention=case.contention, strategy=strategy,
                    drained=done, arrived=done,
                )
            )  # fmt: skip
    return StockRecord(
        started_at="2024-05-01T10:00:00+00:00", took_s=300.0, commit="abc123",
        machine=Machine(
            cores=2, processor="some", memory_bytes=8 * 1024**3, system="Linux",
            python="3.11.7", postgres="18.1", broker="started here",
        ),
        limits=Limits(pgbench_tps=[5000.0, 5000.0], loop_per_s=[100_000.0]),
        plan=StockPlan(repeats=repeats), cells=cells,
    )  # fmt: skip


def advised(found: StockRecord) -> str:
    return sentence(choices(found), found.plan)


def test_a_machine_with_other_work_is_told_with_the_advice() -> None:
    run = record()
    text = sentence(choices(run), run.plan, disturbed=True)
    assert (
        text
        == f"{advised(run)} The machine was not left alone: measure again before you act on it."
    )


def test_where_all_are_alike_the_simplest_is_advised_and_that_it_is_only_that() -> None:
    text = advised(record())
    assert text == (
        "Choose optimistic, the simplest, in all 6 cases: no other had more throughput or less p99"
        " there by a tenth and by more than the spreads."
    )


def test_a_machine_that_drifts_hides_no_difference_and_makes_none() -> None:
    """Twice as fast in each round, while the rounds lie as far apart."""
    text = advised(record({(HOT_CROWD, REDIS): [2000.0, 2400.0, 1800.0]}))
    assert text.startswith(
        "Choose redis for a crowd for 1 hot product (2 times the verdicts a second, spread 2 to 2,"
        " beside optimistic); optimistic, the simplest, in the other 5 cases: no other"
    )
    assert text.endswith(" One in 20 of the 24 comparisons may be chance.")
    noise = record({(HOT_CROWD, REDIS): [3000.0, 1100.0, 1000.0]})
    assert advised(noise) == advised(record()), "faster in each round, and within the spreads"


def test_less_than_a_tenth_moves_nobody() -> None:
    assert advised(record({(HOT_CROWD, REDIS): [1090.0, 1308.0, 981.0]})) == advised(record())


def test_shorter_latency_alone_is_a_reason() -> None:
    text = advised(record(p99_ms={(HOT_CROWD, PESSIMISTIC): [50, 40, 60]}))
    assert "Choose pessimistic for a crowd for 1 hot product (0.5 times the p99" in text


def test_of_two_that_are_better_alike_the_simpler_is_advised() -> None:
    fast = [2000.0, 2400.0, 1800.0]
    both = record({(HOT_CROWD, PESSIMISTIC): fast, (HOT_CROWD, REDIS): fast})
    assert [one.strategy for one in choices(both) if one.case == HOT_CROWD] == [PESSIMISTIC]
    faster = record({(HOT_CROWD, PESSIMISTIC): fast, (HOT_CROWD, REDIS): [2 * one for one in fast]})
    assert [one.strategy for one in choices(faster) if one.case == HOT_CROWD] == [REDIS]


def test_what_is_better_here_and_worse_there_is_left_to_who_reads() -> None:
    place = HOT_CROWD, REDIS
    text = advised(record({place: [2000.0, 2400.0, 1800.0]}, {place: [200, 160, 240]}))
    assert "optimistic, the simplest, in all 6 cases: but for what follows, no other" in text
    assert "redis for a crowd for 1 hot product is for you to weigh (2 times" in text
    assert "and 2 times the p99" in text


def test_from_too_few_rounds_nothing_is_advised() -> None:
    text = advised(record({(HOT_CROWD, REDIS): [9000.0, 9000.0, 9000.0]}, repeats=2))
    assert text == "Nothing can be advised: a spread needs 3 rounds at least, and there were 2."


def test_a_crowd_finds_a_unit_for_one_of_so_many_orders() -> None:
    plan = StockPlan()
    for contention in Contention:
        wanted = demand(plan, Case(Supply.CROWD, contention), DRAIN, 0)
        ordered = Counter(wanted.ranks)
        assert wanted.sold == plan.commands // plan.orders_per_unit
        assert wanted.units is not None
        assert all(units <= ordered[rank] for rank, units in wanted.units.items())
        enough = demand(plan, Case(Supply.ENOUGH, contention), DRAIN, 0)
        assert (enough.ranks, enough.sold) == (wanted.ranks, plan.commands)
    assert scarce([1] * 7 + [2] * 7 + [3] * 7, 10) == {1: 0, 2: 1, 3: 1}


def test_orders_meet_as_the_contention_says() -> None:
    plan = StockPlan()
    hottest = {
        contention: Counter(demand(plan, Case(Supply.ENOUGH, contention), DRAIN, 0).ranks)[1]
        for contention in Contention
    }
    assert hottest[Contention.ONE] == plan.commands
    assert 0.15 < hottest[Contention.ZIPF] / plan.commands < 0.25
    assert 0.005 < hottest[Contention.UNIFORM] / plan.commands < 0.015


def test_no_two_phases_share_an_order_or_a_product() -> None:
    plan = StockPlan(commands=20, arrivals=20, products=3)
    keys, products = Counter[bytes](), Counter[str]()
    for turn in range(2):
        for case in CASES:
            for strategy in STRATEGIES:
                for phase in PHASES:
                    stand = Stand(case, strategy, phase)
                    done = work(stand, demand(plan, case, phase, turn), turn)
                    assert sum(done.expected.values()) == 20
                    keys.update(message.key for message in done.messages)
                    products.update([stand.product(1)])
    assert max(keys.values()) == 1
    assert max(products.values()) == 2, "once a round"


METRICS = """\
# TYPE pipeline_chunk_messages histogram
pipeline_chunk_messages_count{group="stock"} 7.0
pipeline_chunk_messages_count{group="stock-requests"} 100.0
# TYPE stock_conflicts_total counter
stock_conflicts_total 2.0
# TYPE stock_lock_seconds histogram
stock_lock_seconds_count 5.0
stock_lock_seconds_sum 0.25
# TYPE stock_counter_answers_total counter
stock_counter_answers_total{answer="admitted"} 50.0
stock_counter_answers_total{answer="turned_away"} 40.0
"""


def test_the_instances_are_counted_as_one() -> None:
    both = tally([METRICS, METRICS])
    assert both == Tally(chunks=14, conflicts=4, locks=10, lock_s=0.5, turned_away=80)
    assert both.since(tally([METRICS])) == tally([METRICS])
    assert tally([""]).chunks == 0


def test_figures_of_a_cell() -> None:
    found = {(one.case, one.strategy): one for one in cell_figures(record())}
    one = found[HOT_CROWD, REDIS]
    assert one.cpu_parts == pytest.approx(
        {"stock": 0.5, "postgres": 0.4, "valkey": 0.1, "kafka": 0.1}
    )
    assert one.cpu.spread.median == pytest.approx(1.1), "the benchmark's own is left out"
    assert (one.conflicts, one.lock_ms, one.turned_away) == pytest.approx((0.5, 2.0, 0.95))


def test_page_and_terminal_show_every_cell_and_the_advice() -> None:
    run = record({(HOT_CROWD, REDIS): [2000.0, 2400.0, 1800.0]})
    page = strategies_page(run)
    assert page.count("<svg") == 3
    out = io.StringIO()
    print_strategies(Console(file=out, width=100), run)
    for text in ("crowd for 1 hot product", "100 products by Zipf", "Choose redis for a crowd"):
        assert text in page
        assert text in out.getvalue()
