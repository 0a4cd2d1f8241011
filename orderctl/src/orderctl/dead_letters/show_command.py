"""`orderctl dlq show`: one dead letter, and what to do about it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Final

import asyncpg
import typer

from orderctl.admin_api import AdminApi
from orderctl.dead_letters.advice import advise
from orderctl.dead_letters.inboxes import Known, open_inboxes
from orderctl.dead_letters.letter import identity_of
from orderctl.dead_letters.options import Inboxes, places_of
from orderctl.dead_letters.reading import open_letters
from orderctl.dead_letters.text import Found, found_document, found_text
from orderctl.errors import OperatorError
from orderctl.options import AsJson, Bootstrap, Prefix
from orderctl.running import USAGE, fail, note, run
from orderctl.terminal import print_text
from shared.kafka.connection import KafkaConnection

if TYPE_CHECKING:
    from orderctl.admin_api import Document
    from orderctl.dead_letters.letter import Letter

_AWAY: Final = (OSError, OperatorError, asyncpg.PostgresError, asyncpg.InterfaceError)


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
        print_text(found_text(found))


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
