"""What a run says in a few sentences, and what limits it, worked out from its figures."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from bench.figures import cpu_ms, figures
from bench.latencies import merged, quantile
from bench.text import calm, interval, number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.record import Phase, Record, Repeat, RunRecord

FULL = 0.9
"""A core, or all of them, in use by so much is called full."""
NOTICEABLE = 0.05
"""Of the machine in use by others from which on it is worth a word."""
LATE_MS = 10
"""A generator that is later than this at p99 did not keep its times."""


def findings(record: Record) -> list[str]:
    """One sentence each, the most important first."""
    found = []
    by_key = {figure.key: figure for figure in figures(record)}
    for key in ("drain.per_second", "commands.per_second"):
        figure = by_key.get(key)
        if figure is not None and figure.ratio is not None:
            found.append(
                f"{figure.title.capitalize()}: {number(figure.spread.median)}"
                f" a second, {number(figure.ratio.median)} of the machine's own pgbench -N"
                f" (spread {interval(figure.ratio)})."
            )
    for phase in record.phases:
        if phase.kind == "rate":
            found.append(_of_rate(phase))
        else:
            found.append(what_limits(phase, record.machine.cores))
    repeats = [one for phase in record.phases for one in phase.repeats]
    return found + disturbances(record, repeats)


def disturbances(record: RunRecord, repeats: Sequence[Repeat]) -> list[str]:
    """What makes the figures of a run doubtful."""
    found = []
    if not calm(record.limits):
        found.append("The machine's own speed moved by more than a tenth during the run.")
    return found + others_at_work(record, repeats)


def others_at_work(record: RunRecord, repeats: Sequence[Repeat]) -> list[str]:
    """What other programs took, where it is worth a word."""
    share = _others_share(repeats, record.machine.cores)
    text = (
        f"{share:.0%} of the processors' time went to programs that don't belong to the run,"
        " or to other machines: measure again when it is quiet."
    )
    return [text] if share > NOTICEABLE else []


def _of_rate(phase: Phase) -> str:
    counts = merged(one.latency_ms for one in phase.repeats)
    late_ms = quantile(merged(one.sent_late_ms for one in phase.repeats), 0.99)
    reached = statistics.median(one.per_second for one in phase.repeats)
    text = (
        f"At {phase.rate} orders a second: p50 {quantile(counts, 0.5):,} ms,"
        f" p99 {quantile(counts, 0.99):,} ms; {number(reached)} a second were reached."
    )
    if late_ms > LATE_MS:
        text += (
            f" The generator itself was up to {late_ms:,} ms late (p99); that is part of the"
            " latency."
        )
    return text


def what_limits(phase: Phase, cores: int) -> str:
    """Processors, one process, or what is waited for."""
    name = {"drain": "Draining orders", "commands": "Draining stock"}[phase.kind]
    used: dict[str, float] = {}
    foreign = 0.0
    for one in phase.repeats:
        window_s = max(one.usage.window_s, 1e-9) * len(phase.repeats)
        foreign += (max(one.usage.others_s, 0.0) + one.usage.stolen_s) / window_s
        for part, seconds in one.usage.cpu_s.items():
            used[part] = used.get(part, 0.0) + seconds / window_s
    busiest = max(used, key=lambda part: used[part], default="")
    total = sum(used.values())
    cost = statistics.median(cpu_ms(one) for one in phase.repeats)
    text = (
        f"{name} uses {total:.2f} of {cores} cores, {number(cost)} ms of processor time each,"
        f" most of it in {busiest} ({used.get(busiest, 0.0):.2f} cores)"
    )
    if total + foreign >= FULL * cores:
        others = "" if foreign < NOTICEABLE * cores else f", with {foreign:.2f} of others"
        return f"{text}: the processors limit it, which are full{others}."
    if used.get(busiest, 0.0) >= FULL and busiest not in ("postgres", "kafka"):
        return f"{text}: that one process limits it, which has no more than one core."
    return f"{text}: no processor is full, so what is waited for limits it (disk, round trips)."


def _others_share(repeats: Sequence[Repeat], cores: int) -> float:
    window_s = foreign_s = 0.0
    for one in repeats:
        window_s += one.usage.window_s
        foreign_s += max(one.usage.others_s, 0.0) + one.usage.stolen_s
    return foreign_s / (window_s * cores) if window_s else 0.0
