"""`orderctl dlq list`, `show` and `replay`: what could not be obeyed, why, and sending it again."""

from __future__ import annotations

import heapq
import json
import sys
import time
from pathlib import Path  # noqa: TC003 - typer reads the annotation
from typing import Annotated, Final

import asyncpg
import typer

from orderctl.admin_api import AdminApi, Document
from orderctl.asking import operator_of
from orderctl.dead_letter_advice import advise
from orderctl.dead_letter_groups import Causes
from orderctl.dead_letter_inbox import Known, open_inboxes
from orderctl.dead_letter_options import (
    Inboxes,
    Kind,
    Order,
    Origin,
    Reason,
    Since,
    Topics,
    places_of,
    require_one_way,
    selection_of,
)
from orderctl.dead_letter_reading import open_letters
from orderctl.dead_letter_record import (
    DEAD_LETTER_TOPICS,
    Letter,
    Place,
    identity_of,
)
from orderctl.dead_letter_replay import REMEMBERED_S, Rules, Sender, read_value
from orderctl.dead_letter_replaying import Replaying, Report
from orderctl.dead_letter_text import (
    Found,
    causes_text,
    found_document,
    found_text,
    letter_document,
    letter_line,
)
from orderctl.errors import OperatorError
from orderctl.options import AsJson, Bootstrap, Operator, Prefix
from orderctl.order_files import STDIN
from orderctl.running import USAGE, fail, note, run
from orderctl.terminal import visible
from shared.contracts.topics import MAX_DEAD_LETTER_BYTES
from shared.kafka.connection import KafkaConnection

LETTERS_SHOWN: Final = 1_000
MOST_LETTERS_SHOWN: Final = 10_000
_AWAY: Final = (OSError, OperatorError, asyncpg.PostgresError, asyncpg.InterfaceError)

app = typer.Typer(
    no_args_is_help=True,
    help="Dead letters, which are messages that could not be obeyed: look, and send again.",
)


@app.command("list")
def list_letters(
    bootstrap_servers: Bootstrap,
    prefix: Prefix = "",
    topics: Topics = None,
    reason: Reason = "",
    kind: Kind = "",
    origin: Origin = "",
    order: Order = "",
    since: Since = "",
    every: Annotated[bool, typer.Option("--all", help="Each letter, the latest last.")] = False,
    limit: Annotated[
        int,
        typer.Option(
            help="With --all: at most so many, the latest.", min=1, max=MOST_LETTERS_SHOWN
        ),
    ] = LETTERS_SHOWN,
    as_json: AsJson = False,
) -> None:
    """Count the dead letters by cause: topic of origin, reason, type.

    Of each cause: when the first and the last came, where the last lies, its error.

    \b
    orderctl dlq list --since 2h
    orderctl dlq list --reason too_late --all
    orderctl dlq list --order readme-1 --all
    """
    selection = selection_of(topics, reason, kind, origin, order, since)
    causes = Causes()
    latest: list[tuple[int, Place, Document]] = []

    async def work() -> None:
        async with open_letters(KafkaConnection(bootstrap_servers, prefix)) as letters:
            async for batch in letters.scan(selection.topics, selection.since_ms, _progress):
                for letter in filter(selection.takes, batch):
                    causes.add(letter)
                    if every:
                        _keep(latest, letter, limit)

    run(work(), brokers=bootstrap_servers)
    if not every:
        if as_json:
            typer.echo(json.dumps(causes.document(), indent=2))
        else:
            _print(causes_text(causes, len(selection.topics or DEAD_LETTER_TOPICS)))
        return
    for _, _, letter in sorted(latest, key=lambda entry: entry[:2]):
        typer.echo(json.dumps(letter) if as_json else visible(letter_line(letter)))
    if causes.letters > len(latest):
        note(f"{causes.letters - len(latest):,} earlier letters are not shown: --limit, --since")
    elif not latest:
        note("there is no such dead letter")


@app.command("show")
def show_letter(
    place: Annotated[
        str, typer.Argument(metavar="PLACE", help="Where it lies, as stock.dlq.v1/3/1234.")
    ],
    bootstrap_servers: Bootstrap,
    prefix: Prefix = "",
    database_url: Inboxes = "",
    url: Annotated[
        str,
        typer.Option(
            envvar="ADMIN_URL_ORDER_ORCHESTRATOR_0",
            help="The admin port of an orchestrator, to tell how the order stands.",
        ),
    ] = "",
    raw: Annotated[
        bool, typer.Option("--raw", help="Only the value, byte by byte, into a file or a pipe.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter: what it is, why it is one, and what to do about it.

    \b
    orderctl dlq show order-orchestrator-requests.dlq.v1/3/12
    orderctl dlq show order-orchestrator-requests.dlq.v1/3/12 --raw > letter.json
    """
    (wanted,) = places_of([place])
    if raw and sys.stdout.isatty():
        fail("--raw gives the bytes as they are: send them to a file or a pipe", USAGE)

    async def work() -> tuple[Letter, dict[str, str], Known, str]:
        async with open_letters(KafkaConnection(bootstrap_servers, prefix)) as letters:
            letter = await letters.at(wanted)
            if raw:
                return letter, {}, Known.NOT_ASKED, ""
            came_with = await letters.headers_of_origin(letter)
        try:
            async with open_inboxes(database_url) as inboxes:
                known = (await inboxes.known([(letter, identity_of(letter.read()))]))[wanted]
        except _AWAY as error:
            return letter, came_with, Known.NOT_ASKED, f"{type(error).__name__}: {error}"
        return letter, came_with, known, ""

    letter, came_with, known, problem = run(work(), brokers=bootstrap_servers)
    if raw:
        sys.stdout.buffer.write(letter.value or b"")
        return
    if problem:
        note(f"the database at DATABASE_URL could not be asked: {' '.join(problem.split())}")
    found = Found(letter, advise(letter, known), known, came_with, *_saga(letter, url))
    if as_json:
        typer.echo(json.dumps(found_document(found), indent=2))
    else:
        _print(found_text(found))


@app.command("replay")
def replay_letters(
    bootstrap_servers: Bootstrap,
    places: Annotated[
        list[str] | None, typer.Argument(metavar="PLACE...", help="As stock.dlq.v1/3/1234.")
    ] = None,
    prefix: Prefix = "",
    database_url: Inboxes = "",
    value: Annotated[
        Path | None,
        typer.Option(
            help="Of one letter: send the value in this file instead; - is standard input."
        ),
    ] = None,
    topics: Topics = None,
    reason: Reason = "",
    kind: Kind = "",
    origin: Origin = "",
    order: Order = "",
    since: Since = "",
    limit: Annotated[
        int | None, typer.Option(help="Of a group: replay so many at most.", min=1)
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Of a group: send them.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Send nothing; a group is not sent without --yes.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Also letters older than the inboxes remember, or obeyed."),
    ] = False,
    keep_inbox_s: Annotated[
        float,
        typer.Option(envvar="KEEP_INBOX_S", help="For how long inboxes remember, in s.", min=0),
    ] = REMEMBERED_S,
    operator: Operator = "",
    as_json: AsJson = False,
) -> None:
    """Send dead letters again to where they came from, under their own key and ids.

    Letters are named by their places, or as a group by what they have in
    common. A group is only told: --yes sends it. Of a group those stay that
    nobody can read, that were obeyed since, or would be refused again.

    To replay twice is safe: ids of what was refused are free, and what was
    obeyed is known to its service. Beyond what that remembers: --force.

    \b
    orderctl dlq replay --reason unknown_product --since 2h
    orderctl dlq replay --reason unknown_product --since 2h --yes
    orderctl dlq replay stock.dlq.v1/3/1234
    orderctl dlq replay stock.dlq.v1/3/1234 --value letter.json
    """
    named = places_of(places or [])
    selection = selection_of(topics, reason, kind, origin, order, since)
    require_one_way(named, selection, value=value, yes=yes, dry_run=dry_run, limit=limit)
    rules = Rules(time.time_ns() // 1_000_000, keep_inbox_s, force, chosen=bool(named))
    connection = KafkaConnection(bootstrap_servers, prefix)
    edited = None if value is None else _read(value)
    if not database_url:
        note("DATABASE_URL is not set: what was obeyed since is not left out, and has no effect")

    async def work() -> Report:
        sender = Sender(connection, operator_of(operator))
        try:
            async with open_letters(connection) as letters, open_inboxes(database_url) as inboxes:
                replaying = Replaying(letters, inboxes, sender, rules, _progress)
                if named:
                    return await replaying.places(named, edited, send=not dry_run)
                return await replaying.group(selection, limit=limit, send=yes)
        finally:
            await sender.close()

    report = run(work(), url=database_url, brokers=bootstrap_servers)
    document = report.document()
    _print(json.dumps(document, indent=2) if as_json else report.text(group=not named))
    sys.exit(1 if named and report.failed else 0)


def _keep(latest: list[tuple[int, Place, Document]], letter: Letter, limit: int) -> None:
    """Keep it among the latest. Its value is heavy and is not kept."""
    if len(latest) < limit:
        heapq.heappush(latest, (letter.at_ms, letter.place, letter_document(letter)))
    elif (letter.at_ms, letter.place) > latest[0][:2]:
        heapq.heapreplace(latest, (letter.at_ms, letter.place, letter_document(letter)))


def _saga(letter: Letter, url: str) -> tuple[Document | None, str]:
    """How its order stands, or why that can't be told."""
    order = letter.order_id()
    if order is None:
        return None, ""
    if not url:
        return None, "its saga was not asked for: ADMIN_URL_ORDER_ORCHESTRATOR_0 is not set"
    try:
        return AdminApi(url).order(order), ""
    except OperatorError as error:
        return None, str(error)


def _read(file: Path) -> bytes:
    try:
        if file == STDIN:
            return read_value(sys.stdin.buffer.read(MAX_DEAD_LETTER_BYTES))
        with file.open("rb") as content:
            return read_value(content.read(MAX_DEAD_LETTER_BYTES))
    except OSError as error:
        fail(f"{file} can't be read: {error.strerror}")
    except OperatorError as error:
        fail(str(error))


def _progress(read: int, total: int) -> None:
    note(f"read {read:,} of {total:,} letters")


def _print(text: str) -> None:
    typer.echo(visible(text, keep="\n"))
