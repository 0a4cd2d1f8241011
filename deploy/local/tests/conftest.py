"""Stacks for these tests, each in a folder of its own, stopped whatever happens."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local_stack import Service, Stack

HERE = Path(__file__).parent

MakeStack = Callable[..., Stack]


@pytest.fixture
def make_stack(tmp_path: Path) -> Iterator[MakeStack]:
    """A stack of Valkey and of `replicas` fake services, unless told otherwise."""
    with contextlib.ExitStack() as cleanup:

        def make(
            folder: str = "state",
            *,
            replicas: int = 1,
            listens: tuple[str, ...] = (),
            **options: Any,
        ) -> Stack:
            environment = {"PYTHONPATH": str(HERE), **options.pop("environment", {})}
            options.setdefault("infrastructure", ("valkey",))
            stack = Stack(
                tmp_path / folder,
                services=(Service("fake", "fake_service", "stock", replicas, listens=listens),),
                environment=environment,
                owner_pid=os.getpid(),
                **options,
            )
            cleanup.callback(stack.down)
            return stack

        yield make
