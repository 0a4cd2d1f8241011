"""The entries of a lottery, from the pages of the admin port and from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from orderctl.admin_api import CouponApi
from orderctl.errors import OperatorError
from orderctl.lottery_evidence import entries_in, entries_told

if TYPE_CHECKING:
    from pathlib import Path


def api(*pages: tuple[list[str], int | None]) -> tuple[CouponApi, list[Any]]:
    """A port that answers with these pages, the last one again and again; and what it is asked."""
    asked: list[Any] = []

    def handle(request: httpx.Request) -> httpx.Response:
        users, behind = pages[min(len(asked), len(pages) - 1)]
        asked.append(request.url.params.get("after"))
        return httpx.Response(
            200, json={"entries": [{"userId": user} for user in users], "next": behind}
        )

    return CouponApi("http://coupon", httpx.MockTransport(handle)), asked


def test_all_pages_are_one_list() -> None:
    port, asked = api((["b", "a"], 2), (["c"], 3), ([], None))
    assert entries_told(port, "L") == ["b", "a", "c"]
    assert asked == [None, "2", "3"]


@pytest.mark.parametrize("behind", [2, 1])
def test_pages_that_do_not_go_on_end_it(behind: int) -> None:
    port, asked = api((["a", "b"], 2), (["b"], behind))
    with pytest.raises(OperatorError, match="don't go on behind"):
        entries_told(port, "L")
    assert len(asked) == 2


@pytest.mark.parametrize("content", [b"a\nb\n", b"a\r\nb\r\n", b"a\nb"])
def test_a_saved_list_has_a_user_a_line(tmp_path: Path, content: bytes) -> None:
    saved = tmp_path / "entries.txt"
    saved.write_bytes(content)
    assert entries_in(saved) == ["a", "b"]


@pytest.mark.parametrize("content", [b"a\n\nb\n", b"a\nb c\n", b"a\n\xff\n"])
def test_a_line_that_is_no_user_is_told(tmp_path: Path, content: bytes) -> None:
    saved = tmp_path / "entries.txt"
    saved.write_bytes(content)
    with pytest.raises(OperatorError, match=r"line 2: .* is no user id"):
        entries_in(saved)
