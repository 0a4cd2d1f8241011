"""The cells of the kinds' benchmark, and what it advises."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from rich.console import Console

from bench.campaigns.advice import sentences, spreading, spreading_sentence, standings
from bench.campaigns.figures import cell_figures
from bench.campaigns.plan import KINDS, CouponPlan, Keying
from bench.campaigns.record import Cell, CouponRecord, RushRepeat
from bench.campaigns.report import advice, campaigns_page, print_campaigns
from bench.differences import gap_of, ratio_of
from bench.figures import count_figure
from bench.measuring import in_turn
from bench.record import Limits, Repeat, RunRecord, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bench.record import Record
    from shared.contracts.coupon import CampaignKind

FIRST_COME, CONDITIONAL, QUEUED, LOCKED, LOTTERY = KINDS
COUNTS = {"overtaken": 0, "inversions": 0, "early": 100}
Place = tuple["CampaignKind", Keying]


def usage(*, others_s: float = 0.0, **cpu_s: float) -> Usage:
    return Usage(window_s=1.0, cpu_s=cpu_s, others_s=others_s, stolen_s=0.0)


def once(verdicts: float = 5_000.0, **fields: Any) -> RushRepeat:
    """A rush of 5,000 users for 100 coupons."""
    cpu_s = {"coupon-0": 1.0, "coupon-1": 0.5, "postgres": 0.5, "valkey": 0.25, "bench": 9.0}
    done = Repeat(
        messages=5_000, per_second=verdicts, usage=usage(**cpu_s), wal_bytes=1,
        latency_ms={100: 4_900, 200: 100},
    )  # fmt: skip
    values = {
        "done": done,
        "asked_in_ms": 150,
        "moments": 30,
        "issued": 100,
        "issued_in_ms": 50,
        **COUNTS,
    }
    return RushRepeat(**values | fields)


class MakeRun(Protocol):
    """The fixture `make_run`."""

    def __call__(
        self, planted: Mapping[Place, Sequence[RushRepeat]] | None = None, repeats: int = 3
    ) -> CouponRecord:
        """A run in which all kinds did the same, but for what is planted in some cells."""
        ...


@pytest.fixture
def make_run(make_record: Callable[..., Record]) -> MakeRun:
    noted = make_record(limits=Limits(pgbench_tps=[5_000.0], loop_per_s=[100_000.0]))

    def make(
        planted: Mapping[Place, Sequence[RushRepeat]] | None = None, repeats: int = 3
    ) -> CouponRecord:
        cells = [
            Cell(
                kind=kind,
                keying=keying,
                rushes=list((planted or {}).get((kind, keying), [once()] * repeats)),
            )
            for keying in Keying
            for kind in KINDS
        ]
        return CouponRecord(
            **noted.model_dump(include=set(RunRecord.model_fields)),
            plan=CouponPlan(repeats=repeats),
            cells=cells,
        )

    return make


def test_a_round_visits_every_cell_once_those_of_a_case_after_each_other() -> None:
    cases = [[(case, way) for way in range(5)] for case in range(3)]
    rounds = [list(in_turn(cases, turn)) for turn in range(8)]
    for visits in rounds:
        assert sorted(visits) == [cell for cells in cases for cell in cells]
        assert [visits[place][0] for place in (0, 5, 10)] == [
            visits[place][0] for place in (4, 9, 14)
        ]
    assert len({tuple(visits) for visits in rounds}) > 1


def test_figures_of_a_cell(make_run: MakeRun) -> None:
    one = cell_figures(make_run())[0]
    assert one.issued.spread.median == pytest.approx(2_000)
    assert one.issued.ratio is not None
    assert one.issued.ratio.median == pytest.approx(0.4), "of pgbench"
    assert (one.p50.spread.median, one.p99.spread.median) == (100, 200)
    assert one.cpu_parts == pytest.approx(
        {"coupon": 0.3, "postgres": 0.1, "valkey": 0.05, "kafka": 0}
    )
    assert one.cpu.spread.median == pytest.approx(0.45), "the benchmark's own is left out"


def test_where_all_are_alike_no_figure_advises_any(make_run: MakeRun) -> None:
    first, *others, spread = advice(make_run())
    assert first == (
        "first_come: on one partition no other kind is better in anything; over all partitions no"
        " other kind is better in anything: choose it wherever its way to choose users will do."
    )
    assert others == [
        f"{kind}, beside first_come: on one partition no difference seen; over all partitions no"
        " difference seen: choose it for its way to choose users, since the figures tell nothing."
        for kind in KINDS[1:]
    ]
    assert spread.endswith("lottery: no difference seen.")


def test_requests_without_keys_stand_beside_those_with_keys(make_run: MakeRun) -> None:
    run = make_run({(LOTTERY, Keying.NONE): [once(10_000.0, issued_in_ms=25)] * 3})
    assert spreading_sentence(spreading(run)) == (
        "Requests over all partitions, beside those on one: first_come: no difference seen;"
        " conditional: no difference seen; queued: no difference seen; locked: no difference seen;"
        " lottery: better in coupons a second (2 times, 2 to 2) and verdicts a second (2 times, 2"
        " to 2)."
    )


def test_what_is_better_here_and_worse_there_is_told_with_its_figures(make_run: MakeRun) -> None:
    slow = [once(per_second) for per_second in (2_500.0, 2_600.0, 2_400.0)]
    crowd = [once(overtaken=overtaken) for overtaken in (400, 420, 390)]
    run = make_run({(QUEUED, Keying.NONE): slow, (FIRST_COME, Keying.NONE): crowd})
    first, _, queued, locked, _ = sentences(standings(run))
    assert queued == (
        "queued, beside first_come: on one partition no difference seen; over all partitions better"
        " in users overtaken (0 beside 400, -441 to -365 apart), but worse in verdicts a"
        " second (0.5 times, 0.452 to 0.552): choose it for few users overtaken, and not for"
        " verdicts a second."
    )
    assert locked.endswith("choose it for few users overtaken.")
    assert "over all partitions conditional is better in users overtaken" in first
    assert first.endswith("choose it for verdicts a second, and another kind for that.")


def test_who_comes_late_has_an_equal_chance_where_half_of_the_coupons_say_so(
    make_run: MakeRun,
) -> None:
    draws = [once(early=early, overtaken=4_800) for early in (48, 52, 50)]
    noise = [once(early=early) for early in (10, 100, 50)]
    run = make_run({(LOTTERY, Keying.CAMPAIGN): draws, (LOCKED, Keying.NONE): noise})
    *_, locked, lottery = sentences(standings(run))
    assert "choose it for an equal chance for who comes late, and not for few users" in lottery
    assert "50 beside 100 coupons to the earlier half of the users" in lottery
    assert "over all partitions no difference seen" in locked


def test_coupons_a_second_of_a_lottery_stand_beside_no_other(make_run: MakeRun) -> None:
    quick = [once(issued_in_ms=5)] * 3
    run = make_run({(LOTTERY, Keying.NONE): quick, (LOCKED, Keying.NONE): quick})
    *_, locked, lottery = sentences(standings(run))
    assert "coupons a second (10 times" in locked.replace("10.0", "10")
    assert "coupons a second" not in lottery


def test_from_too_few_rounds_nothing_is_advised(make_run: MakeRun) -> None:
    assert advice(make_run(repeats=2)) == [
        "Nothing can be advised: a spread needs 3 rounds at least, and there were 2."
    ]


def test_a_machine_with_other_work_is_told_with_the_advice(make_run: MakeRun) -> None:
    run = make_run()
    for cell in run.cells:
        cell.rushes = [
            one.model_copy(
                update={"done": one.done.model_copy(update={"usage": usage(others_s=1.0, all=1.0)})}
            )
            for one in cell.rushes
        ]
    assert advice(run)[-1].startswith("The machine was not left alone")


def test_few_that_are_out_of_order_move_nobody() -> None:
    def counts(*values: float) -> Any:
        return count_figure("", "", "", values, most=5_000)

    assert gap_of("", counts(0, 0, 0), counts(40, 40, 40), notable=50).judged == 0
    assert gap_of("", counts(0, 0, 0), counts(60, 60, 60), notable=50).judged == 1
    assert gap_of("", counts(60, 60, 60), counts(0, 0, 0), notable=50).judged == -1
    assert gap_of("", counts(0, 0, 0), counts(60, 0, 120), notable=50).judged == 0
    assert gap_of("", counts(0, 0), counts(60, 60), notable=50).judged == 0


def test_what_was_too_small_to_be_read_is_no_different() -> None:
    assert ratio_of("", [0.0, 1.0, 1.0], [9.0, 9.0, 9.0], "less").judged == 0
    assert ratio_of("", [1.0, 1.0, 1.0], [0.0, 9.0, 9.0], "less").judged == 0


def test_page_and_terminal_show_every_cell_and_the_advice(make_run: MakeRun) -> None:
    run = make_run({(QUEUED, Keying.NONE): [once(2_500.0)] * 3})
    page = campaigns_page(run)
    assert page.count("<svg") == 5
    out = io.StringIO()
    print_campaigns(Console(file=out, width=100), run)
    for text in (*KINDS, "on one partition", "over all partitions", "choose it for its way to"):
        assert text in page
        assert text in out.getvalue()
    assert '<span class="worse">worse</span>' in page
    assert "within 150 to 150 ms, in 30 or more different milliseconds" in page
