"""`make demo`, whole: a stack of its own, from wipe to stop."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from local_stack import Stack

ROOT = Path(__file__).parents[2]
WITHIN_S = 300


@pytest.mark.slow
@pytest.mark.timeout(WITHIN_S + 60)
def test_the_demo_ends_well_and_leaves_nothing_running(tmp_path: Path) -> None:
    state = tmp_path / "demo"
    command = [sys.executable, "-m", "local_stack.demo", "--state", str(state)]
    ended = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_S, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "all as expected" in ended.stdout
    assert not Stack(state).running()


def test_a_missing_file_of_orders_starts_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "local_stack.demo", "--state", str(tmp_path / "demo")]
    ended = subprocess.run(
        [*command, "--orders", "nowhere.jsonl"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert "nowhere.jsonl can't be read" in ended.stderr
    assert not (tmp_path / "demo").exists()
