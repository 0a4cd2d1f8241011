"""What befalls requests to the payment gateway while something is measured."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx

from bench.errors import BenchError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


@asynccontextmanager
async def gateway_faults(url: str, *rules: Mapping[str, Any]) -> AsyncIterator[None]:
    """They hold while the block runs, at the simulator at `url`; `deploy/gateway` tells what a rule
    can be. Raises BenchError where it takes none."""
    async with httpx.AsyncClient(base_url=url) as client:
        try:
            answer = await client.put("/admin/faults", json={"seed": 1, "rules": list(rules)})
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise BenchError(f"the gateway takes no faults: {error}") from error
        yield
        await client.delete("/admin/faults")
