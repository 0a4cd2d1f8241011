"""Every command that a document shows runs as it is shown, in the order of the page."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Final

import pytest

from local_stack.kafka_jars import cache_folder, is_cached
from shared.testing.signals import eventually

from .conftest import ROOT
from .stuck_orders import make_stuck

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from .conftest import Shell

PAGES: Final = sorted(
    page
    for pattern in (
        "*.md",
        "services/*/README.md",
        "docs/**/*.md",
        "examples/*.md",
        "loadtest/*.md",
        "deploy/*/README.md",
    )
    for page in ROOT.glob(pattern)
    if "contracts" not in page.parts and "adr" not in page.parts
)
ELSEWHERE: Final[Mapping[str, str]] = {
    "make demo": "tests/system/test_demo.py",
    "make test": "it is what runs this",
    "make setup": "nothing here runs without",
    "make lint": "a check of its own",
    "make up UP_OPTIONS=--audit": "deploy/local/tests; the stack is up without",
    ".venv/bin/orderctl audit --every 60s --metrics-port 9100": "it doesn't end by itself",
    ".venv/bin/orderctl show ORDER": "a name to be filled in",
    ".venv/bin/orderctl coupon put campaign.json": "orderctl has its own tests",
    ".venv/bin/orderctl coupon show COUPON": "a name to be filled in",
    ".venv/bin/orderctl lottery draw COUPON": "the same",
    ".venv/bin/orderctl lottery verify COUPON": "the same",
    ".venv/bin/orderctl payment show ORDER": "the same",
    ".venv/bin/orderctl payment ask ORDER": "the same",
    '.venv/bin/orderctl payment close ORDER --note "gave 1,300 back at the gateway"': "the same",
    ".venv/bin/orderctl payment reconcile --order ORDER": "the same",
    "make down": "deploy/local/tests/test_stack.py; others need the stack",
}
"""What is shown and not run here, and where it is seen to."""
MEASURES: Final = ("make bench", "make load", ".venv/bin/python -m bench")
"""How commands begin that loadtest's own tests see to."""
BEFORE: Final[Mapping[str, Callable[[Shell], Awaitable[None]]]] = {
    "docs/runbooks/stuck-orders.md": make_stuck,
}
"""What has happened when a page is opened."""


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def script(page: Path) -> str:
    shown = "\n".join(blocks(page, "sh")).splitlines()
    return "\n".join(
        line
        for line in shown
        if line.partition("#")[0].strip() not in ELSEWHERE and not line.startswith(MEASURES)
    ).strip()


WITH_COMMANDS: Final = sorted(
    [page for page in PAGES if script(page)], key=lambda page: page.parent.name == "gateway"
)
"""Last comes who charges past payment: the books differ from then on."""


def test_pages_are_found() -> None:
    names = {str(page.relative_to(ROOT)) for page in WITH_COMMANDS}
    assert {"README.md", "services/stock/README.md", *BEFORE} <= names


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: str(page.relative_to(ROOT)))
async def test_every_command_runs(shell: Shell, page: Path) -> None:
    before = BEFORE.get(str(page.relative_to(ROOT)))
    if before is not None:
        await before(shell)
    shell.run(script(page))


class TestLanguages:
    """The lines of the README, each in a file of its own."""

    async def confirmed(self, shell: Shell, order_id: str) -> None:
        def look() -> bool:
            said = shell.run(
                'export $(make -s env); curl -s "$ADMIN_URL_ORDER_ORCHESTRATOR_0/sagas/$ORDER"',
                ORDER=order_id,
            )
            return '"CONFIRMED"' in said

        await eventually(look, within_s=60, describe=f"{order_id} is confirmed")

    async def test_python(self, shell: Shell, tmp_path: Path) -> None:
        (lines,) = blocks(ROOT / "README.md", "python")
        (tmp_path / "place.py").write_text(lines)
        shell.run('export $(make -s env); .venv/bin/python "$HERE/place.py"', HERE=str(tmp_path))
        await self.confirmed(shell, "python-1")

    async def test_java(self, shell: Shell, tmp_path: Path) -> None:
        if shutil.which("java") is None or not is_cached():
            pytest.skip("there are no Java and no jars of Kafka here")
        (lines,) = blocks(ROOT / "README.md", "java")
        (tmp_path / "Place.java").write_text(lines)
        shell.run(
            'export $(make -s env); java -cp "$JARS/*" "$HERE/Place.java"',
            HERE=str(tmp_path), JARS=str(cache_folder()),
        )  # fmt: skip
        await self.confirmed(shell, "java-1")

    @pytest.mark.slow
    async def test_go(self, shell: Shell, tmp_path: Path) -> None:
        """Fetches the client from where Go fetches modules."""
        if shutil.which("go") is None:
            pytest.skip("there is no Go here")
        (lines,) = blocks(ROOT / "README.md", "go")
        (tmp_path / "main.go").write_text(lines)
        shell.run(
            'export $(make -s env); cd "$HERE"; go mod init place; go mod tidy; go run .',
            HERE=str(tmp_path),
        )
        await self.confirmed(shell, "go-1")
