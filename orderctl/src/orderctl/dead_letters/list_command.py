"""`orderctl dlq list`: how many dead letters there are of each cause, or each of them."""

from __future__ import annotations

import heapq
import json
from typing import TYPE_CHECKING, Annotated, Final

import typer

from orderctl.dead_letters.causes import Causes
from orderctl.dead_letters.letter import DEAD_LETTER_TOPICS
from orderctl.dead_letters.options import (
    Kind,
    Order,
    Origin,
    Reason,
    Since,
    Topics,
    progress,
    selection_of,
)
from orderctl.dead_letters.reading import open_letters
from orderctl.dead_letters.text import causes_text, letter_document, letter_line
from orderctl.options import AsJson, Bootstrap, Prefix
from orderctl.running import note, run
from orderctl.terminal import print_text, visible
from shared.kafka.connection import KafkaConnection

if TYPE_CHECKING:
    from orderctl.admin_api import Document
    from orderctl.dead_letters.letter import Letter, Place

LETTERS_SHOWN: Final = 1_000
MOST_LETTERS_SHOWN: Final = 10_000


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
            async for batch in letters.scan(selection.topics, selection.since_ms, progress):
                for letter in filter(selection.takes, batch):
                    causes.add(letter)
                    if every:
                        _keep(latest, letter, limit)

    run(work(), brokers=bootstrap_servers)
    if not every:
        if as_json:
            typer.echo(json.dumps(causes.document(), indent=2))
        else:
            print_text(causes_text(causes, len(selection.topics or DEAD_LETTER_TOPICS)))
        return
    for _, _, letter in sorted(latest, key=lambda entry: entry[:2]):
        typer.echo(json.dumps(letter) if as_json else visible(letter_line(letter)))
    if causes.letters > len(latest):
        note(f"{causes.letters - len(latest):,} earlier letters are not shown: --limit, --since")
    elif not latest:
        note("there is no such dead letter")


def _keep(latest: list[tuple[int, Place, Document]], letter: Letter, limit: int) -> None:
    """Keep it among the latest. Its value is heavy and is not kept."""
    if len(latest) < limit:
        heapq.heappush(latest, (letter.at_ms, letter.place, letter_document(letter)))
    elif (letter.at_ms, letter.place) > latest[0][:2]:
        heapq.heapreplace(latest, (letter.at_ms, letter.place, letter_document(letter)))
