"""The OpenAPI document is true: whatever is sent, no answer is undocumented and none is a 5xx."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from shared.testing.builders import put_campaign
from shared.testing.storefronts import Shopper
from shared.testing.tokens import Issuer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from schemathesis import APIOperation, BaseSchema

    from shared.testing.storefronts import Storefront

    from ..conftest import Shop  # noqa: TID252 - a conftest has no absolute name

    Start = Callable[..., Awaitable[Storefront]]

EXAMPLES: Final = 12
"""For each operation, good ones and bad ones."""
EXCLUDED: Final = [positive_data_acceptance]
"""What no schema says is refused all the same: NUL in a field that nobody reads, lines that are too
many in sum."""
LINE: Final = {"productId": "P001", "quantity": 1}


def operations_of(schema: BaseSchema) -> Iterator[APIOperation[Any, Any, Any]]:
    """All but streams of events, which don't end."""
    for result in schema.get_all_operations():
        operation = result.ok()
        answers = operation.definition.raw["responses"]
        if "text/event-stream" not in answers.get("200", {}).get("content", {}):
            yield operation


def explore(
    operation: APIOperation[Any, Any, Any],
    session: requests.Session,
    mode: GenerationMode,
    ids: Mapping[str, str],
    statuses: set[int],
) -> None:
    """Sends what `mode` generates; with `ids` on paths that are there."""
    in_path = {each["name"] for each in operation.definition.raw.get("parameters", ())
               if each["in"] == "path"}  # fmt: skip
    fixed = {name: ids[name] for name in in_path & ids.keys()}

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate],
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode, path_parameters=fixed or None))
    def check(case: schemathesis.Case) -> None:
        answer = case.call_and_validate(session=session, excluded_checks=EXCLUDED, timeout=30)
        statuses.add(answer.status_code)

    try:
        check()
    except Unsatisfiable:  # nothing of a request without body and parameters can be wrong
        assert mode is GenerationMode.NEGATIVE
        assert not operation.body
        assert not operation.definition.raw.get("parameters")


def explore_all(url: str, token: str | None, ids: Mapping[str, str]) -> set[int]:
    """All operations, good requests and bad ones; the statuses that were seen."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    statuses: set[int] = set()
    with requests.Session() as session:
        if token is not None:
            session.headers["authorization"] = f"Bearer {token}"
        found = list(operations_of(schema))
        assert len(found) >= 9, found
        for operation in found:
            for mode in GenerationMode:
                explore(operation, session, mode, {}, statuses)
            if ids:
                explore(operation, session, GenerationMode.POSITIVE, ids, statuses)
    return statuses


def walk(url: str, token: str, coupon_id: str, lottery_id: str) -> None:
    """The answers to what is good, whole."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    headers = {"authorization": f"Bearer {token}"}

    def ask(route: str, status: int, body: Any = None, **path: str) -> Any:
        method, _, template = route.partition(" ")
        fields: dict[str, Any] = {"path_parameters": path} if path else {}
        if body is not None:
            fields |= {"body": body, "media_type": "application/json"}
        case = schema[template][method].Case(**fields)
        answer = case.call_and_validate(headers=headers, excluded_checks=EXCLUDED)
        assert answer.status_code == status, (route, answer.text)
        return answer.json() if answer.content else None

    ask("GET /api/products", 200)
    ask("POST /api/cart", 200, LINE)
    ask("GET /api/cart", 200)
    ask("DELETE /api/cart", 204)
    order = ask("POST /api/orders", 200, {"items": [LINE], "reference": "4711"})
    place = {"order_id": order["orderId"]}
    ask("GET /api/orders/{order_id}", 200, **place)
    ask("POST /api/orders/{order_id}/payment", 200, {}, **place)
    ask("POST /api/orders/{order_id}/cancel", 409, {}, **place)
    ask("POST /api/orders", 409, {"items": [{"productId": "P999", "quantity": 1}]})
    ask("POST /api/orders", 409, {"items": [LINE], "couponId": "NOBODYS"})
    ask("POST /api/coupons/{coupon_id}/issue", 200, {}, coupon_id=coupon_id)
    ask("POST /api/lotteries/{coupon_id}/entries", 200, {}, coupon_id=lottery_id)
    ask("GET /api/orders/{order_id}", 404, order_id="o-nothing")


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    """Who makes the tokens."""
    return Issuer()


async def test_no_answer_is_undocumented(
    shop: Shop, storefront: Start, issuer: Issuer, user: str
) -> None:
    front = await storefront(**issuer.settings, UNPAID_AT_MOST="100")
    ids = [f"FIRST-{user}", f"DRAWN-{user}"]
    await shop.stock_up(
        put_campaign(ids[0], limit=9, percent=10),
        put_campaign(ids[1], limit=9, percent=10, kind="lottery"),
    )
    token = issuer.token(user)
    await asyncio.to_thread(walk, front.url, token, *ids)
    async with front.http(token) as client:
        order_id = await Shopper(client, user, is_named=False).placed()
    there = {"order_id": order_id, "coupon_id": ids[0], "product_id": "P001"}
    statuses = await asyncio.to_thread(explore_all, front.url, token, there)
    assert statuses >= {200, 204, 400, 404, 409}, statuses
    assert max(statuses) < 500


async def test_without_a_token_too(storefront: Start, issuer: Issuer) -> None:
    front = await storefront(**issuer.settings, UNPAID_AT_MOST="100")
    statuses = await asyncio.to_thread(explore_all, front.url, None, {})
    assert 401 in statuses
    assert max(statuses) < 500
