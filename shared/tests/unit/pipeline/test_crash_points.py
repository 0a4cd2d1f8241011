"""Places at which a process can be made to die."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest

from shared import crash_points

PROGRAM = """
from shared import crash_points
for _ in range(3):
    print("passed", flush=True)
    crash_points.reach("after_commit")
    crash_points.reach("before_commit")
print("lived")
"""


@pytest.mark.parametrize(
    ("asked", "passed", "code"),
    [
        ("", 3, 0),
        ("after_publish", 3, 0),
        ("after_commit", 1, 137),
        ("before_commit:2", 2, 137),
        ("after_commit:4", 3, 0),
    ],
)
def test_a_process_ends_where_it_is_asked_to(asked: str, passed: int, code: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={"CRASH_POINT": asked},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout.count("passed") == passed
    assert ended.returncode == code
    assert ("lived" in ended.stdout) is (code == 0)


def test_the_places_are_named() -> None:
    assert set(get_args(crash_points.PipelinePoint)) == {
        "after_load", "before_commit", "after_commit", "after_publish", "after_offset_commit",
    }  # fmt: skip
