"""The figures of a run of the settings as tables, in the text that a page of the project takes."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from bench.latencies import merged, quantile
from bench.text import limits_lines, markdown_table, number
from bench.usage import base_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from bench.record import Repeat
    from bench.settings.record import SettingsRecord

MIB = 1024 * 1024


def print_settings(screen: Console, record: SettingsRecord) -> None:
    """To the terminal, as Markdown."""
    for line in limits_lines(record.limits):
        screen.print(line, markup=False)
    screen.print()
    screen.print(markdown(record), markup=False, soft_wrap=True)


def markdown(record: SettingsRecord) -> str:
    """A table for each setting: medians of the repeats, latencies of all of them together."""
    return "\n\n".join([_pools(record), _redis(record), _calls(record), _pauses(record)])


def _pools(record: SettingsRecord) -> str:
    tps = median(record.limits.pgbench_tps)
    rows = []
    for size in record.plan.pools:
        found = [one for one in record.pools if one.connections == size]
        took = merged(one.latency_ms for one in found)
        rate = median(one.per_second for one in found)
        refused = sum(one.refused for one in found)
        asked = refused + sum(took.values())
        rows.append((
            size, number(rate), number(rate / tps), number(median(one.cpu_ms for one in found)),
            quantile(took, 0.5), quantile(took, 0.99), f"{refused / asked:.1%}",
            number(median(one.memory_bytes for one in found) / MIB),
        ))  # fmt: skip
    return markdown_table(
        ("`DATABASE_CONNECTIONS`", "transactions/s", "of pgbench", "CPU ms each", "p50 ms",
         "p99 ms", "refused by Postgres", "memory of Postgres, MiB"), rows,
    )  # fmt: skip


def _redis(record: SettingsRecord) -> str:
    rows = []
    for retries in record.plan.retries:
        found = [one for one in record.redis if one.retries == retries]
        took = merged(one.latency_ms for one in found)
        lost = sum(one.lost for one in found) / sum(one.asked for one in found)
        gone = median(ms for one in found for ms in one.gone_ms)
        rows.append(
            (retries, f"{lost:.1%}", quantile(took, 0.5), quantile(took, 0.99), number(gone))
        )
    return markdown_table(
        ("`REDIS_RETRIES`", "questions lost", "p50 ms", "p99 ms", "given up where it is gone, ms"),
        rows,
    )


def _calls(record: SettingsRecord) -> str:
    rows = []
    for at_once in record.plan.calls:
        done = [one.done for one in record.calls if one.at_once == at_once]
        rate = median(one.per_second for one in done)
        rows.append((at_once, number(rate), number(_cpu_ms(done)), number(rate / at_once)))
    return markdown_table(
        ("`GATEWAY_CALLS_AT_ONCE`", "charges/s", "CPU ms of payment each", "charges/s a call"), rows
    )


def _pauses(record: SettingsRecord) -> str:
    rows = []
    for first_s in record.plan.pauses_s:
        found = [one for one in record.pauses if one.first_s == first_s]
        took = merged(one.done.latency_ms for one in found)
        charges = sum(one.done.messages for one in found)
        rows.append((
            f"{first_s:g}", quantile(took, 0.5), quantile(took, 0.9), quantile(took, 0.99),
            number(sum(one.requests for one in found) / charges),
        ))  # fmt: skip
    return markdown_table(
        ("`GATEWAY_RETRY_FIRST_S`", "p50 ms", "p90 ms", "p99 ms", "requests a charge"), rows
    )


def _cpu_ms(done: Sequence[Repeat]) -> float:
    """Processor time of payment for one charge."""
    return median(
        sum(used for part, used in one.usage.cpu_s.items() if base_name(part) == "payment")
        / one.messages
        * 1000
        for one in done
    )
