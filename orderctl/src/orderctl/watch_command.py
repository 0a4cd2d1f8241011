"""`orderctl watch`: a live view of the system."""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import UTC, datetime
from itertools import count
from typing import Annotated, Final

import typer
from rich.live import Live

from orderctl.options import AsJson
from orderctl.running import USAGE, fail
from orderctl.terminal import console, facts_table, visible
from orderctl.watching import Sight, Watcher

PREFIX: Final = "ADMIN_URL_"
UNKNOWN: Final = "not known"


def watch(
    every: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.5)] = 2.0,
    times: Annotated[int, typer.Option(help="So many looks; 0: until Ctrl-C.", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Watch orders go by: under way by state, outcomes a second, stuck, outboxes and lag.

    It asks every service that an ADMIN_URL_... in the environment names, and refreshes in place;
    where the output is no terminal it is a line for each look. Ends with Ctrl-C. The services
    count every 5 seconds, so their counts may be that old. What only services count that don't
    answer is not known, and null in JSON.

    Example: orderctl watch --times 1
    """
    instances = {
        name.removeprefix(PREFIX): url for name, url in os.environ.items()
        if name.startswith(PREFIX) and url
    }  # fmt: skip
    if not instances:
        fail("no ADMIN_URL_... is set; `export $(make -s env)` sets them", USAGE)
    watcher, before = Watcher(instances), None
    sight, live = None, None
    if sys.stdout.isatty() and not as_json:
        live = Live(console=console(), auto_refresh=False)
        live.start()
    try:
        for number in count(1):
            sight = watcher.look()
            if live:
                live.update(facts_table(_facts(sight, before)), refresh=True)
            else:
                typer.echo(_json(sight, before) if as_json else _line(sight, before))
            if times and number >= times:
                break
            before = sight
            time.sleep(every)
    except KeyboardInterrupt:
        pass
    finally:
        if live:
            live.stop()
    if sight is not None and len(sight.away) == len(instances):
        fail("no service answers; `make status` tells how the stack is, `make up` starts it")


def _line(sight: Sight, before: Sight | None) -> str:
    facts = _facts(sight, before)
    return visible("; ".join(f"{name}: {value}" for name, value in facts))


def _facts(sight: Sight, before: Sight | None) -> list[tuple[str, str]]:
    rates = sight.rates(before)
    a_second = {} if rates is None else {name: f"{rate:,.1f}" for name, rate in rates.items()}
    not_yet = UNKNOWN if sight.states is None else f"{UNKNOWN} yet"
    more = " (orderctl list)" if sight.stuck else ""
    none = "none that is known of" if sight.away else "none"
    return [
        ("at", f"{datetime.now(UTC):%H:%M:%S}"),
        ("under way", UNKNOWN if sight.states is None else _joined(sight.states) or "none"),
        ("a second", not_yet if rates is None else _named(a_second) or "none"),
        ("stuck", UNKNOWN if sight.stuck is None else f"{sight.stuck:,}{more}"),
        ("unpublished", _joined(sight.pending_chunks) or none),
        ("lag", _joined(sight.lag) or none),
        *([("away", f"{', '.join(sight.away)}; what they count is missing")] if sight.away else []),
    ]


def _json(sight: Sight, before: Sight | None) -> str:
    return json.dumps(
        {
            "at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "underWay": None if sight.states is None else dict(sight.states),
            "stuck": sight.stuck,
            "endedPerSecond": sight.rates(before),
            "unpublished": dict(sight.pending_chunks),
            "lag": dict(sight.lag),
            "away": sight.away,
        }
    )


def _joined(counts: dict[str, int]) -> str:
    return _named({name: f"{value:,}" for name, value in counts.items() if value})


def _named(values: dict[str, str]) -> str:
    return ", ".join(f"{value} {name}" for name, value in values.items())
