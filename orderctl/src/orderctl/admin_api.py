"""The orchestrator's admin port, as `orderctl` asks it."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

import httpx

from orderctl.errors import AwayError, OperatorError

TIMEOUT_S: Final = 10.0

Document = dict[str, Any]


class AdminApi:
    """Asks one orchestrator; any of them knows every order."""

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        """`url` is the admin port's, as `http://127.0.0.1:9000`."""
        self._url = url
        self._client = httpx.Client(base_url=url, timeout=TIMEOUT_S, transport=transport)

    def order(self, order_id: str) -> Document:
        """How an order stands, with its history. Raises OperatorError, as all of these do."""
        found: Document = self._ask("GET", _path(order_id))
        return found

    def search(self, **asked: str) -> Document:
        """A page of orders, with the cursor of the next one."""
        found: Document = self._ask("GET", "/search", params=asked)
        return found

    def stuck_groups(self, **asked: str) -> Document:
        """The orders that wait for an operator, by why they do."""
        found: Document = self._ask("GET", "/search/stuck-groups", params=asked)
        return found

    def act(self, action: str, order_id: str, **body: str) -> Document:
        """`cancel`, `retry` or `settle`; how the order stands then."""
        found: Document = self._ask("POST", f"{_path(order_id)}/{action}", body)
        return found

    def _ask(
        self,
        method: str,
        path: str,
        body: Document | None = None,
        params: dict[str, str] | None = None,
    ) -> Any:
        try:
            response = self._client.request(method, path, json=body, params=params)
        except (httpx.ReadTimeout, httpx.WriteTimeout) as error:
            raise AwayError(
                f"the orchestrator at {self._url} was reached and doesn't answer within"
                f" {TIMEOUT_S:g} s; `make status` tells how the stack is"
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise AwayError(
                f"the orchestrator's admin port {self._url} can't be reached:"
                f" {error or type(error).__name__}; `make env` tells its address"
            ) from error
        try:
            answer = response.json()
        except ValueError as error:
            raise OperatorError(
                f"{self._url} answers {response.status_code} and no JSON;"
                " is that the orchestrator's admin port?"
            ) from error
        if response.is_success:
            return answer
        problem = answer if isinstance(answer, dict) else {}
        title = problem.get("title") or f"HTTP {response.status_code}"
        told = f"{title}: {problem.get('detail') or response.text[:500]}"
        if response.status_code == httpx.codes.NOT_FOUND and path.startswith("/search"):
            told += f"; the orchestrator at {self._url} is older than this orderctl"
        if response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise AwayError(told)
        raise OperatorError(told)


def _path(order_id: str) -> str:
    return f"/sagas/{quote(order_id, safe='')}"
