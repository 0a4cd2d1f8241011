"""What the commands have in common that command a service: their options, and how its answer or
the lack of one is told."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from orderctl.options import checked
from orderctl.running import fail, note, run
from shared.contracts.refusals import CommandRefused

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from orderctl.admin_topics import Addressee
    from shared.contracts.base import Message

CommandId = Annotated[
    str,
    typer.Option(
        metavar="ID",
        help="Repeats the command that had this id: it is obeyed once. Else an id is drawn.",
        callback=checked("command", optional=True),
    ),
]
Within = Annotated[
    int,
    typer.Option(min=1, max=3_600, metavar="SECONDS", help="Wait so long for the answer."),
]

AnswerT = TypeVar("AnswerT")


def drawn_id() -> str:
    """The id of a command, told at once. Drawn and not derived: the same command may well be
    meant twice."""
    drawn = f"orderctl-{secrets.token_hex(8)}"
    note(f"the command's id is {drawn}; with --command-id {drawn} a repeat is obeyed once")
    return drawn


def answered(
    asking: Coroutine[Any, Any, Message | None],
    addressee: Addressee,
    kind: type[AnswerT],
    *,
    command_id: str,
    brokers: str,
    wait_s: int,
    as_json: bool,
) -> AnswerT:
    """The answer, which is of this kind where the service obeyed; ends the process where there is
    none, or the service refuses."""
    answer = run(asking, brokers=brokers)
    if answer is None:
        fail(
            f"{addressee.name} has not answered within {wait_s} s. The command lies on its topic,"
            f" as far as the broker told, and is obeyed once {addressee.name} reads it. To find"
            f" out, repeat it as it was with --command-id {command_id}: it is obeyed once, and"
            " answered again. `make status` tells how the stack is"
        )
    if isinstance(answer, CommandRefused):
        if as_json:
            print_message(answer)
        fail(f"{addressee.name} refuses: {answer.detail}")
    assert isinstance(answer, kind), f"{addressee.name} answers with {type(answer).__name__}"
    return answer


def print_message(message: Message) -> None:
    """A message as JSON, its fields by their names on the wire."""
    document = message.model_dump(mode="json", by_alias=True, exclude_none=True)
    typer.echo(json.dumps(document, indent=2))
