"""The auditor as a part of the stack, for who asks for it."""

import os
import urllib.request
from pathlib import Path

from local_stack import Stack, Step
from local_stack.layout import AUDIT, SERVICES, Options

MIGRATE = Step("migrate", "orderctl.main", ("migrate",))


def test_the_auditor_runs_as_a_part_and_comes_back(tmp_path: Path) -> None:
    stack = Stack(
        tmp_path / "state",
        infrastructure=("postgres",),
        services=(AUDIT,),
        steps=(MIGRATE,),
        owner_pid=os.getpid(),
    )
    try:
        environment = stack.up()
        with urllib.request.urlopen(environment.admin_url("audit-0") + "/metrics") as answer:
            text = answer.read().decode()
        # lag, inboxes and outboxes are looked at once the system rests, which passes don't wait for
        for number in (1, 2, 3, 4, 5, 6, 7, 10):
            assert f'invariant_violations{{invariant="{number}"}} 0.0' in text
        for number in (8, 9):
            assert f'invariant="{number}"' not in text
        before = stack.kill("audit-0")
        assert stack.wait_healthy("audit-0") != before
    finally:
        stack.wipe()


def test_it_is_no_service_of_every_stack() -> None:
    assert AUDIT not in SERVICES


def test_arguments_survive_the_options_file() -> None:
    options = Options(services=(AUDIT,))
    assert Options.from_json(options.to_json()) == options
