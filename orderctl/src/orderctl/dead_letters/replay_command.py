"""`orderctl dlq replay`: sending dead letters again."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path  # noqa: TC003 - typer reads the annotation
from typing import TYPE_CHECKING, Annotated

import typer

from orderctl.dead_letters.inboxes import open_inboxes
from orderctl.dead_letters.judging import REMEMBERED_S, Rules, read_value
from orderctl.dead_letters.options import (
    Inboxes,
    Kind,
    Order,
    Origin,
    Reason,
    Since,
    Topics,
    places_of,
    progress,
    require_one_way,
    selection_of,
)
from orderctl.dead_letters.reading import open_letters
from orderctl.dead_letters.replaying import Replaying
from orderctl.dead_letters.sending import Sender
from orderctl.errors import OperatorError
from orderctl.message_files import STDIN
from orderctl.options import AsJson, Bootstrap, Operator, Prefix
from orderctl.running import fail, note, operator_of, run
from orderctl.terminal import print_text
from shared.contracts.topics import MAX_DEAD_LETTER_BYTES
from shared.kafka.connection import KafkaConnection

if TYPE_CHECKING:
    from orderctl.dead_letters.replaying import Report


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
        typer.Option(
            "--force", help="Also letters older than inboxes remember, obeyed, or of sagas unasked."
        ),
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
    obeyed is known to its service. Beyond what that remembers: --force, as
    for letters of sagas where no DATABASE_URL tells what it knows.

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
        note(
            "DATABASE_URL is not set: what was obeyed since is not left out, and has no effect;"
            " letters of sagas need --force"
        )

    async def work() -> Report:
        sender = Sender(connection, operator_of(operator))
        try:
            async with open_letters(connection) as letters, open_inboxes(database_url) as inboxes:
                replaying = Replaying(letters, inboxes, sender, rules, progress)
                if named:
                    return await replaying.places(named, edited, send=not dry_run)
                return await replaying.group(selection, limit=limit, send=yes)
        finally:
            await sender.close()

    report = run(work(), url=database_url, brokers=bootstrap_servers)
    document = report.document()
    print_text(json.dumps(document, indent=2) if as_json else report.text(group=not named))
    sys.exit(1 if named and report.failed else 0)


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
