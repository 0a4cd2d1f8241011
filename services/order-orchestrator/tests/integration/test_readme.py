"""The service's page and its settings say what the code does."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import ValidationError

from order_orchestrator.domain import ENDED, LEGAL, Limits
from order_orchestrator.settings import Settings
from shared.database import Queries
from shared.settings import ServiceSettings

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def section(name: str) -> str:
    return README.partition(f"\n## {name}\n")[2].partition("\n## ")[0]


def test_the_diagram_draws_every_legal_change_and_no_other() -> None:
    diagram = section("States").partition("```mermaid")[2].partition("```")[0]
    drawn = re.findall(r"^ +(\S+) --> (\w+|\[\*\])", diagram, re.MULTILINE)
    assert len(drawn) == len(set(drawn))
    changes = {(before, after) for before, after in drawn if after != "[*]"}
    assert changes == {(before or "[*]", after) for before, after in LEGAL}
    assert {before for before, after in drawn if after == "[*]"} == ENDED


def test_the_settings_are_all_there_with_their_defaults() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([\d.]+) \|", section("Settings"), re.MULTILINE)
    told = {name: float(default) for name, default in rows}
    own = Settings.model_fields.keys() - ServiceSettings.model_fields.keys()
    assert {name.upper() for name in own} <= told.keys()
    assert told == {name: Settings.model_fields[name.lower()].default for name in told}


def test_the_invariants_are_all_there() -> None:
    told = set(re.findall(r"`(\w+)`", section("Invariants"))) - {"at"}
    assert {query.name for query in Queries("order_orchestrator", "sql/invariants.sql")} <= told


NEEDED: Final[dict[str, Any]] = {
    "kafka_bootstrap_servers": "b:1",
    "database_url": "postgresql://h",
    "instance_id": "x-0",
}


def test_what_is_set_is_what_the_engine_goes_by() -> None:
    assert Settings(**NEEDED).limits() == Limits()
    seconds = {
        "step_resend_s": 11, "resend_at_most_s": 12, "order_deadline_s": 30,
        "settlement_window_s": 14, "pay_deadline_s": 15, "reading_grace_s": 16,
    }  # fmt: skip
    found = asdict(Settings(**NEEDED, **seconds, undo_sends=17).limits())
    assert [*found.values()] == [*[timedelta(seconds=one) for one in seconds.values()], 17]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"step_resend_s": 2}, "STEP_RESEND_S must be at least half of SESSION_TIMEOUT_S"),
        ({"step_resend_s": 61}, "resend_after must be above 0 and at most resend_at_most"),
        ({"order_deadline_s": 9}, "order_deadline must leave time to send a command twice"),
        ({"longest_saga_s": 1139}, "LONGEST_SAGA_S must be at least"),
        ({"settlement_window_s": -1}, "settlement_window_s"),
        ({"undo_sends": 1}, "undo_sends"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_settings_that_contradict_each_other_are_refused(
    settings: dict[str, float], told: str
) -> None:
    Settings(**NEEDED, longest_saga_s=1140)  # 60 + 900 + 60 + 120
    with pytest.raises(ValidationError, match=told):
        Settings(**(NEEDED | settings))
