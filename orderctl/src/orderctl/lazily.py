"""Commands that are imported when they are called.

The clients of broker, database and HTTP and the message contracts take seconds to import on a busy
machine; no command needs all of them, and `--help` needs none. So a command is known by its name,
by what it does in a sentence, and by where its function stands.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from collections.abc import Mapping


def add_commands(app: typer.Typer, commands: Mapping[str, tuple[str, str]]) -> None:
    """Add `commands` to `app`, by name: where each stands, as `package.module:function`, and the
    first sentence of its docstring."""
    for name, (where, summary) in commands.items():
        app.command(name, cls=_later(where), help=summary)(_not_yet)


def function_of(where: str) -> Any:
    """What stands there. Imports its module."""
    module, _, name = where.partition(":")
    return getattr(import_module(module), name)


def _later(where: str) -> type[TyperCommand]:
    class Later(TyperCommand):
        """Makes way for the real command as soon as its arguments are read."""

        def make_context(
            self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
        ) -> Any:
            """The context of the real command, which then runs instead of this one."""
            own = typer.Typer(add_completion=False)
            own.command(info_name)(function_of(where))
            return typer.main.get_command(own).make_context(info_name, args, parent, **extra)

    return Later


def _not_yet() -> None:
    """Stands for a function that isn't imported yet; never called."""
