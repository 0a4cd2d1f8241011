"""`make demo`: the example orders, sent through the whole system.

Starts a stack of its own, seeds it, publishes the example orders to Kafka as upstream systems
would, and prints what became of each kind of order, the invariants and the timings. Exit code 1
where an invariant fails or an order's outcome is other than expected.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg
from aiokafka.errors import KafkaError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from local_stack.demo.expectations import Expectations, ExpectationsError, load
from local_stack.demo.placing import Placing
from local_stack.demo.report import print_report
from local_stack.demo.results import EVENTS, OUTCOMES, read_results
from local_stack.errors import StackError
from local_stack.kafka import ADDRESS_VARIABLE, IDEMPOTENCE_VARIABLE
from local_stack.layout import SERVICES, STEPS
from local_stack.seed import seed
from local_stack.stack import Stack
from local_stack.streams import connection_to, delete_topics, listener, prefix_of_its_own, producer
from orderctl.auditing import audit_everything
from orderctl.draining import wait_until_at_rest
from orderctl.errors import OperatorError
from orderctl.order_files import COMMANDS, Line, read_lines
from shared.kafka.connection import KafkaConnection
from shared.kafka.topics import TopicError
from shared.reconciliation import GatewayAccess

STATE: Final = Path(".state/demo")
ORDERS: Final = Path("examples/orders.jsonl")
PAY_DEADLINE_S: Final = 10
"""How long an order may await its payment: nobody watches a demo for the usual 15 minutes."""
OUTCOMES_WITHIN_S: Final = 90.0
REST_WITHIN_S: Final = 30.0
WIDTH: Final = 150
"""Of the report where nobody's terminal limits it."""


class Files(NamedTuple):
    """What is published, and what is expected of it."""

    lines: list[Line]
    expectations: Expectations


class Clock:
    """How long each part of the demo took."""

    def __init__(self) -> None:
        self._started_s = self._last_s = time.monotonic()
        self._laps: list[str] = []

    def lap(self, name: str) -> None:
        """A part is over."""
        now_s = time.monotonic()
        self._laps.append(f"{name} {now_s - self._last_s:.0f} s")
        self._last_s = now_s

    def __str__(self) -> str:
        whole_s = time.monotonic() - self._started_s
        return f"{whole_s:.0f} s in all ({', '.join(self._laps)})"


def main() -> int:
    """Run the demo; the exit code."""
    parser = argparse.ArgumentParser(prog="local_stack.demo", description=__doc__)
    parser.add_argument("--orders", type=Path, default=ORDERS, metavar="FILE")
    parser.add_argument("--state", type=Path, default=STATE, metavar="DIR")
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    try:
        files = Files(
            read_lines(arguments.orders), load(arguments.orders.with_name("expectations.json"))
        )
        return _run(console, arguments.state, files)
    except (StackError, OperatorError, ExpectationsError, TopicError) as error:
        print(f"error: {error}", file=sys.stderr)
    except (KafkaError, OSError, asyncpg.PostgresError) as error:
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return 1


def _run(console: Console, state: Path, files: Files) -> int:
    clock = Clock()
    stack = Stack(
        state,
        services=SERVICES,
        steps=STEPS,
        environment={"PAY_DEADLINE_S": str(PAY_DEADLINE_S), **prefix_of_its_own("demo")},
        allow_trial_broker=True,
        owner_pid=os.getpid(),
        tell=lambda line: console.print(line, markup=False, highlight=False),
    )
    stack.wipe()
    try:
        environment = stack.up()
        clock.lap("start")
        well = asyncio.run(_show(console, environment, files, clock))
    finally:
        stack.down()
    if well and os.environ.get(ADDRESS_VARIABLE):
        asyncio.run(delete_topics(connection_to(environment)))
    clock.lap("stop")
    verdict = "[bold green]all as expected[/]" if well else "[bold red]NOT all as expected[/]"
    console.print(f"{verdict}; {clock}")
    console.print(
        f"logs of this run: {stack.folder.logs}\n"
        "next: `make up` keeps a stack running; `export $(make -s env)` tells its addresses;\n"
        "      `.venv/bin/orderctl place examples/orders.jsonl --as-is` sends these orders to it,\n"
        "      `.venv/bin/orderctl show paid-0001` shows what became of one,\n"
        "      `.venv/bin/orderctl audit` checks the invariants; examples/README.md says more",
        highlight=False,
        markup=False,
    )
    return 0 if well else 1


async def _show(
    console: Console, environment: Mapping[str, str], files: Files, clock: Clock
) -> bool:
    connection = connection_to(environment)
    dsn = environment["DATABASE_URL"]
    await seed(connection, lambda line: console.print(line, highlight=False))
    clock.lap("seed")
    await _place(console, connection, files)
    clock.lap("orders")
    found = await wait_until_at_rest(dsn, connection, within_s=REST_WITHIN_S)
    if moving := found.at_work:
        console.print(f"after {REST_WITHIN_S:.0f} s the system is still at work: {moving}")
    results = await read_results(connection)
    on_trial = environment.get(IDEMPOTENCE_VARIABLE) == "off"
    report = await audit_everything(
        dsn,
        None if on_trial else connection,
        environment["REDIS_URL"],
        gateway=GatewayAccess(environment["GATEWAY_URL"], environment["GATEWAY_API_KEY"]),
    )
    clock.lap("rest and audit")
    console.print()
    well = print_report(console, results, files.expectations, report)
    if on_trial:
        console.print(
            "The topics are not among the invariants: the broker for trying out does not tell"
            " their ends rightly. Install Java 17 and Maven for Apache Kafka.\n"
        )
    return well


async def _place(console: Console, connection: KafkaConnection, files: Files) -> None:
    """Publish all lines and wait until every order has its outcome, or until time is up."""
    placing = Placing(files.lines, files.expectations)
    open_orders = {
        line.order_id for line in files.lines if line.order_id and line.type == "PlaceOrder"
    }
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=console,
    ) as progress:  # fmt: skip
        published = progress.add_task("messages published", total=len(files.lines))
        ended = progress.add_task("orders with an outcome", total=len(open_orders))

        async def follow() -> None:
            while open_orders:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    for record in records:
                        event = dict(record.headers).get("ce_type", b"").decode()
                        order_id = (record.key or b"").decode()
                        placing.happened(order_id, event)
                        if event in OUTCOMES and order_id in open_orders:
                            open_orders.discard(order_id)
                            progress.advance(ended)

        async with listener(connection, [EVENTS]) as consumer, producer(connection) as client:
            try:
                async with asyncio.timeout(OUTCOMES_WITHIN_S), asyncio.TaskGroup() as tasks:
                    tasks.create_task(follow())
                    tasks.create_task(
                        placing.run(
                            client,
                            connection.named(COMMANDS),
                            lambda: progress.advance(published),
                        )
                    )
            except TimeoutError:
                console.print(
                    f"after {OUTCOMES_WITHIN_S:.0f} s {len(open_orders)} orders have no outcome,"
                    f" as {sorted(open_orders)[:3]}"
                )


if __name__ == "__main__":
    sys.exit(main())
