"""Where the gateway is and how an operator gets in: `GATEWAY_URL` and `GATEWAY_API_KEY`, each
readable from a file by `…_FILE`, as services read them."""

from __future__ import annotations

import os
from pathlib import Path

from orderctl.running import USAGE, fail
from shared.reconciliation import GatewayAccess


def access_to(url: str) -> GatewayAccess | None:
    """The gateway at `url`, or at that of the environment where it is ""; None where neither says.

    Ends the process where a file that is named can't be read. The key is no option: what stands in
    a command line is seen by others.
    """
    found = url or _setting("GATEWAY_URL")
    return GatewayAccess(found, _setting("GATEWAY_API_KEY")) if found else None


def _setting(name: str) -> str:
    path = os.environ.get(f"{name}_FILE")
    if os.environ.get(name) or not path:
        return os.environ.get(name, "")
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        fail(f"the file that {name}_FILE names can't be read: {error}", USAGE)
