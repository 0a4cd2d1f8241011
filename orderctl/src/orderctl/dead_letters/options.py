"""The options of `orderctl dlq`, and what they mean."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from orderctl.dead_letters.letter import Place, require_dead_letters
from orderctl.dead_letters.selection import Selection, parse_since
from orderctl.running import USAGE, fail, note

if TYPE_CHECKING:
    from pathlib import Path

Inboxes = Annotated[
    str,
    typer.Option(
        "--database-url",
        envvar="DATABASE_URL",
        help="The operator's address of the database, whose inboxes tell what was obeyed since.",
    ),
]
Topics = Annotated[
    list[str] | None,
    typer.Option("--topic", help="Only this topic of dead letters; may stand several times."),
]
Reason = Annotated[str, typer.Option(help="Only letters of this reason, as too_late.")]
Kind = Annotated[str, typer.Option("--type", help="Only messages of this type, as PlaceOrder.")]
Origin = Annotated[str, typer.Option(help="Only what came from this topic.")]
Order = Annotated[str, typer.Option(help="Only what belongs to this order.")]
Since = Annotated[
    str, typer.Option(help="Only letters of the last 30m, 2h or 7d, or since a time (RFC 3339).")
]


def places_of(given: list[str]) -> list[Place]:
    """Each of these places once; ends the process where one is none."""
    try:
        return list(dict.fromkeys(Place.parse(text) for text in given))
    except ValueError as error:
        fail(str(error), USAGE)


def selection_of(
    topics: list[str] | None, reason: str, kind: str, origin: str, order: str, since: str
) -> Selection:
    """What a group of letters has in common; ends the process where an option means nothing."""
    try:
        for topic in topics or ():
            require_dead_letters(topic)
        since_ms = parse_since(since, datetime.now(UTC)) if since else None
    except ValueError as error:
        fail(str(error), USAGE)
    return Selection(tuple(topics or ()), reason, kind, origin, order, since_ms)


def require_one_way(
    named: list[Place],
    selection: Selection,
    *,
    value: Path | None,
    yes: bool,
    dry_run: bool,
    limit: int | None,
) -> None:
    """End the process where a replay is asked for in two ways, or in none."""
    if not named and not selection.narrows:
        fail("name places, or a group by --reason, --type, --origin, --order, --since", USAGE)
    if named and (selection.narrows or limit is not None):
        fail("name either places or a group", USAGE)
    if value is not None and len(named) != 1:
        fail("--value goes with one place", USAGE)
    if yes and dry_run:
        fail("--yes sends and --dry-run doesn't: give one of them", USAGE)


def progress(read: int, total: int) -> None:
    """Say how far the reading of letters has come."""
    note(f"read {read:,} of {total:,} letters")
