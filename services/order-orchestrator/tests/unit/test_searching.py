"""What operators may look for: what makes no sense is refused before the database is asked."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from order_orchestrator.searching import SearchApi
from shared.admin import admin_app


@pytest.mark.parametrize(
    "asked",
    [
        {"limit": 0}, {"limit": 1_001}, {"states": "LOST"}, {"states": ""}, {"scope": "some"},
        {"cursor": "x"}, {"cursor": "999999999999999999:o-1"}, {"cursor": "1:o 1"},
        {"user": "nul\0"}, {"reason": "x" * 201}, {"older_than_s": -1}, {"older_than_s": "nan"},
        {"force": "yes"},
    ],
    ids=str,
)  # fmt: skip
async def test_a_search_that_makes_no_sense_is_refused(asked: dict[str, Any]) -> None:
    pool: Any = None  # whoever asks the database fails
    transport = httpx.ASGITransport(admin_app({}, SearchApi(pool).routes()))
    for path in ("/search", "/search/stuck-groups"):
        async with httpx.AsyncClient(transport=transport, base_url="http://admin") as admin:
            answer = await admin.get(path, params=asked)
        assert (answer.status_code, answer.json()["title"]) == (400, "Invalid search"), answer.text
        assert answer.json()["detail"]
