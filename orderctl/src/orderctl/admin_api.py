"""Admin ports of services, as `orderctl` asks them."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

import httpx

from orderctl.errors import AwayError, OperatorError

TIMEOUT_S: Final = 10.0

NO_SUCH_ROUTE: Final = "Not Found"
"""The title of the problem where nothing is served on a path."""

Document = dict[str, Any]


class AdminPort:
    """Asks one instance of a service."""

    def __init__(
        self, service: str, url: str, transport: httpx.BaseTransport | None = None
    ) -> None:
        """`service` is what it is called in errors; `url` is the admin port's, as
        `http://127.0.0.1:9000`."""
        self._service = service
        self._url = url
        try:
            self._client = httpx.Client(base_url=url, timeout=TIMEOUT_S, transport=transport)
        except httpx.InvalidURL as error:
            raise OperatorError(
                f"{url} is no address of an admin port: {error}; `make env` tells it"
            ) from error

    def ask(
        self,
        method: str,
        path: str,
        body: Document | None = None,
        params: dict[str, str] | None = None,
    ) -> Any:
        """What is answered on `path`. Raises OperatorError."""
        try:
            response = self._client.request(method, path, json=body, params=params)
        except (httpx.ReadTimeout, httpx.WriteTimeout) as error:
            raise AwayError(
                f"{self._service} at {self._url} was reached and doesn't answer within"
                f" {TIMEOUT_S:g} s; `make status` tells how the stack is"
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise AwayError(
                f"{self._service}'s admin port {self._url} can't be reached:"
                f" {error or type(error).__name__}; `make env` tells its address"
            ) from error
        try:
            answer = response.json()
        except ValueError as error:
            raise OperatorError(
                f"{self._url} answers {response.status_code} and no JSON;"
                f" is that {self._service}'s admin port?"
            ) from error
        if response.is_success:
            return answer
        problem = answer if isinstance(answer, dict) else {}
        title = problem.get("title") or f"HTTP {response.status_code}"
        told = f"{title}: {problem.get('detail') or response.text[:500]}"
        if response.status_code == httpx.codes.NOT_FOUND and title == NO_SUCH_ROUTE:
            told += (
                f"; is {self._url} the admin port of {self._service} (`make env`)?"
                " Else it is older than this orderctl"
            )
        if response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise AwayError(told)
        raise OperatorError(told)


class AdminApi(AdminPort):
    """Asks one orchestrator; any of them knows every order."""

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        """`url` is the admin port's."""
        super().__init__("the orchestrator", url, transport)

    def order(self, order_id: str) -> Document:
        """How an order stands, with its history. Raises OperatorError, as all of these do."""
        found: Document = self.ask("GET", _path(order_id))
        return found

    def search(self, **asked: str) -> Document:
        """A page of orders, with the cursor of the next one."""
        found: Document = self.ask("GET", "/search", params=asked)
        return found

    def stuck_groups(self, **asked: str) -> Document:
        """The orders that wait for an operator, by why they do."""
        found: Document = self.ask("GET", "/search/stuck-groups", params=asked)
        return found

    def act(self, action: str, order_id: str, **body: str) -> Document:
        """`cancel`, `retry` or `settle`; how the order stands then."""
        found: Document = self.ask("POST", f"{_path(order_id)}/{action}", body)
        return found


class StockApi(AdminPort):
    """Asks one instance of stock; any of them knows every product."""

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        """`url` is the admin port's."""
        super().__init__("stock", url, transport)

    def product(self, product_id: str) -> Document:
        """What is known of a product. Raises OperatorError, as all of these do."""
        found: Document = self.ask("GET", f"/products/{quote(product_id, safe='')}")
        return found

    def advice(self) -> Document:
        """Which strategy contended products should have, the most contended first."""
        found: Document = self.ask("GET", "/advice")
        return found

    def levels(self, **asked: str) -> Document:
        """A page of levels, with the product behind which the next one begins."""
        found: Document = self.ask("GET", "/levels", params=asked)
        return found


class CouponApi(AdminPort):
    """Asks one instance of coupon; any of them knows every campaign."""

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        """`url` is the admin port's."""
        super().__init__("coupon", url, transport)

    def campaign(self, coupon_id: str) -> Document:
        """A campaign and its statistics. Raises OperatorError, as all of these do."""
        found: Document = self.ask("GET", f"/campaigns/{quote(coupon_id, safe='')}")
        return found

    def campaigns(self, **asked: str) -> Document:
        """A page of campaigns, with the one behind which the next page begins."""
        found: Document = self.ask("GET", "/campaigns", params=asked)
        return found

    def entries(self, coupon_id: str, **asked: str) -> Document:
        """A page of a lottery's entries, with the number behind which the next page begins."""
        path = f"/lotteries/{quote(coupon_id, safe='')}/entries"
        found: Document = self.ask("GET", path, params=asked)
        return found


class PaymentApi(AdminPort):
    """Asks one instance of payment; any of them knows every payment."""

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        """`url` is the admin port's."""
        super().__init__("payment", url, transport)

    def payment(self, order_id: str) -> Document:
        """A payment, its calls and its entries. Raises OperatorError, as all of these do."""
        found: Document = self.ask("GET", f"/payments/{quote(order_id, safe='')}")
        return found

    def payments(self, **asked: str) -> Document:
        """A page of payments, with the order behind which the next one begins."""
        found: Document = self.ask("GET", "/payments", params=asked)
        return found

    def close(self, order_id: str, **body: str) -> Document:
        """The payment, once its quarantined calls are closed by an operator's word."""
        found: Document = self.ask("POST", f"/payments/{quote(order_id, safe='')}/close", body)
        return found

    def ask_anew(self, order_id: str) -> Document:
        """The calls that the gateway is asked about, now."""
        found: Document = self.ask("POST", f"/payments/{quote(order_id, safe='')}/ask")
        return found


def _path(order_id: str) -> str:
    return f"/sagas/{quote(order_id, safe='')}"
