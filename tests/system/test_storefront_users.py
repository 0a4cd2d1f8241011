"""Who sees what over HTTP: nothing without a token, and nothing of anybody else's."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest

from shared.testing.builders import put_campaign
from shared.testing.storefronts import Shopper
from shared.testing.tokens import Issuer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    import httpx

    from shared.testing.storefronts import Storefront

    from ..conftest import Shop  # noqa: TID252 - a conftest has no absolute name

    Start = Callable[..., Awaitable[Storefront]]

LINES = [{"productId": "P001", "quantity": 1}]
BODIES: Mapping[str, Mapping[str, Any]] = {
    "post /api/orders": {"items": LINES},
    "post /api/orders/{order_id}/payment": {},
    "post /api/orders/{order_id}/cancel": {},
    "post /api/cart": LINES[0],
    "post /api/coupons/{coupon_id}/issue": {},
    "post /api/lotteries/{coupon_id}/entries": {},
}
"""What each route that takes a body is sent; `userId` comes beside it."""
PUBLIC = ("/api/products", "/api/stock/")
"""Where nobody's things are: served without a token."""
LAST = ("delete /api/cart", "post /api/orders/{order_id}/cancel")
"""What would take away what other routes are about."""
SECRET = "nobody else's to know"
INJECTED = [
    "' OR '1'='1", "'; DROP TABLE orders.saga; --", "1); SELECT pg_sleep(9); --", '" OR ""="',
    "admin'--", "%27%20OR%201=1", "${jndi:ldap://x/a}", "{{7*7}}", "<script>alert(1)</script>",
    "../../etc/passwd", "..\\..\\windows", "/etc/passwd%00", "a\r\nSet-Cookie: x=1", "$(id)",
    "`id`", "| id", "\x00", "\N{RIGHT-TO-LEFT OVERRIDE}", "*", "storefront:cart:*", "a" * 5_000,
    "EVAL return 1 0", "[$ne]=1", "_id", "-1", "__proto__",
]  # fmt: skip
GUESSED = [
    "/", "/admin", "/metrics", "/livez", "/readyz", "/sagas/o-1", "/orders?id=o-1", "/products",
    "/docs", "/redoc", "/.env", "/.git/config", "/api", "/api/", "/api/users", "/api/orders/",
    "/api/orders/../../metrics", "/api//orders", "//api/orders", "/api/orders/o-1/refund",
    "/api/orders/o-1/payment/", "/api/admin/orders", "/actuator/env", "/wp-login.php",
    "/api/orders%2fo-1", "/%2e%2e/metrics", "/debug", "/openapi.yaml", "/graphql",
]  # fmt: skip


@pytest.fixture(scope="session")
def issuer() -> Issuer:
    """Who makes the tokens."""
    return Issuer()


@pytest.fixture
async def guarded(storefront: Start, issuer: Issuer) -> Storefront:
    """Asks for tokens, and says all that it has to say."""
    return await storefront(**issuer.settings, LOG_LEVEL="DEBUG")


@pytest.fixture
async def ann(guarded: Storefront, issuer: Issuer, user: str) -> AsyncIterator[Shopper]:
    """A user whose token says who it is."""
    async with guarded.http(issuer.token(user)) as client:
        yield Shopper(client, user, is_named=False)


@pytest.fixture
async def bob(guarded: Storefront, issuer: Issuer, user: str) -> AsyncIterator[Shopper]:
    """Another, who says in each request that he is ann."""
    async with guarded.http(issuer.token(f"not-{user}")) as client:
        yield Shopper(client, user)


async def routes_of(client: httpx.AsyncClient) -> list[str]:
    """`post /api/orders` and the like, those last that take things away."""
    document = (await client.get("/openapi.json")).json()
    found = [f"{method} {path}" for path, item in document["paths"].items() for method in item]
    assert len(found) >= 10, found
    return sorted(found, key=lambda route: (route in LAST, route))


async def ask(
    client: httpx.AsyncClient, route: str, ids: Mapping[str, str], user_id: str | None
) -> tuple[int, str]:
    """Status and text of an answer; of a stream of events only the status."""
    method, _, path = route.partition(" ")
    named = {} if user_id is None else {"userId": user_id}
    arguments: dict[str, Any] = {"params": named | {"productId": "P001"}}
    if method == "post":
        arguments = {"json": {**BODIES[route], **named}}  # a new route needs a line there
    async with client.stream(method, path.format_map(ids), **arguments) as answer:
        if answer.headers.get("content-type", "").startswith("text/event-stream"):
            return answer.status_code, ""
        await answer.aread()
        return answer.status_code, answer.text


async def things_of(shop: Shop, ann: Shopper) -> dict[str, str]:
    """An order, a cart and a campaign."""
    coupon_id = f"OURS-{secrets.token_hex(4)}"
    await shop.stock_up(put_campaign(coupon_id, limit=9, percent=10, kind="lottery"))
    await ann.post("/api/cart", **LINES[0])
    order_id = await ann.placed(reference=SECRET, items={"P002": 1})
    return {"order_id": order_id, "coupon_id": coupon_id, "product_id": "P001"}


async def test_f66_two_users_see_nothing_of_each_other_on_any_route(
    shop: Shop, ann: Shopper, bob: Shopper
) -> None:
    ids = await things_of(shop, ann)
    routes = await routes_of(ann.client)
    for named in (ann.user_id, None):
        for route in routes:
            status, text = await ask(bob.client, route, ids, named)
            path = route.partition(" ")[2]
            if path.startswith(PUBLIC):
                assert status == 200, (route, text)
            elif named is not None or "{order_id}" in route:
                assert status in (403, 404), (route, named, text)
            assert SECRET not in text, (route, named, text)
            if status == 404:
                assert "AWAITING" not in text, (route, named, text)
            if named is None:  # else it is what he said himself
                assert ann.user_id not in text.replace(f"not-{ann.user_id}", ""), (route, text)
    shown = (await ann.show(ids["order_id"])).json()
    assert (shown["status"], shown["version"]) == ("AWAITING_PAYMENT", shown["version"])
    assert [item["quantity"] for item in (await ann.cart()).json()["items"]] == [1]
    # the same requests are good where they are her own
    for route in routes:
        status, text = await ask(ann.client, route, ids, ann.user_id)
        expected = {
            "post /api/orders/{order_id}/cancel": 409,  # it is paid by then
            "post /api/coupons/{coupon_id}/issue": 409,  # it is a lottery
        }.get(route)
        assert status == expected or (expected is None and status in (200, 204)), (route, text)


async def test_f66_without_a_good_token_there_is_nothing(
    shop: Shop, guarded: Storefront, ann: Shopper, issuer: Issuer
) -> None:
    ids = await things_of(shop, ann)
    tokens = [
        None, "garbage", Issuer().token(ann.user_id), issuer.token(ann.user_id, aud="other"),
        issuer.token(ann.user_id, exp=1),
    ]  # fmt: skip
    for token in tokens:
        async with guarded.http(token) as client:
            for route in await routes_of(client):
                status, text = await ask(client, route, ids, ann.user_id)
                if route.partition(" ")[2].startswith(PUBLIC):
                    assert status == 200, (route, text)
                else:
                    assert status == 401, (route, token, text)
                    assert ann.user_id not in text
    assert (await ann.show(ids["order_id"])).json()["status"] == "AWAITING_PAYMENT"


async def test_a_user_id_may_be_left_out_and_must_be_the_tokens(ann: Shopper) -> None:
    assert (await ann.place()).json()["userId"] == ann.user_id
    assert (await ann.place(userId=ann.user_id)).json()["userId"] == ann.user_id
    other = await ann.place(userId="somebody-else")
    assert (other.status_code, other.json()["reason"]) == (403, "another_user")


async def test_with_other_facts_a_coupon_is_asked_for_anew(
    shop: Shop, guarded: Storefront, issuer: Issuer, user: str
) -> None:
    coupon_id = f"GOLD-{secrets.token_hex(4)}"
    rule = 'user.tier == "gold"'
    await shop.stock_up(put_campaign(coupon_id, kind="conditional", limit=9, rule=rule))

    async def ask_as(**facts: str) -> tuple[int, dict[str, Any]]:
        async with guarded.http(issuer.token(user, facts=facts)) as client:
            answer = await client.post(f"/api/coupons/{coupon_id}/issue", json={})
            return answer.status_code, answer.json()

    status, refusal = await ask_as(tier="iron")
    assert (status, refusal["reason"]) == (409, "not_eligible")
    status, coupon = await ask_as(tier="gold", shop="one")
    assert (status, coupon["sequence"]) == (200, 1)
    assert await ask_as(shop="one", tier="gold") == (200, coupon)
    status, refusal = await ask_as(tier="gold", shop="two")
    assert (status, refusal["reason"]) == (409, "already_issued")
    assert (await ask_as(tier="iron"))[1]["reason"] == "not_eligible"


async def test_f69_what_users_say_is_in_no_log_and_no_metric(
    shop: Shop, guarded: Storefront, issuer: Issuer, user: str
) -> None:
    def canary() -> str:
        canaries.append(f"canary-{secrets.token_hex(8)}")
        return canaries[-1]

    canaries: list[str] = []
    token = issuer.token(canary())
    canaries += token.split(".")
    async with guarded.http(token) as client:
        ann = Shopper(client, "", is_named=False)
        order_id = await ann.placed(key=canary(), reference=canary())
        await ann.pay(order_id, key=canary(), payment={"method": canary()})
        await ann.place({canary(): 1}, couponId=canary())
        await ann.cancel(order_id, reason=canary())
        await ann.post("/api/cart", productId=canary(), quantity=1)
        await client.get(f"/api/orders/{canary()}?secret={canary()}")
        await client.get("/api/cart", params={"userId": canary()})
        await client.post("/api/orders", content=f'{{"{canary()}"', headers={"x-key": canary()})
        await client.post("/api/orders", json={"userId": f"{canary()} !", "items": canary()})
        await client.post(f"/{canary()}", headers={"traceparent": canary(), "cookie": canary()})
        await ann.post(f"/api/coupons/{canary()}/issue")
    async with guarded.http(canary()) as client:
        assert (await client.get("/api/cart")).status_code == 401
    async with guarded.admin() as client:
        metrics = (await client.get("/metrics")).text
    assert "http_requests_total" in metrics
    assert guarded.log()
    logs = {each.instance_id: each.log() for each in (guarded, *shop.instances.values())}
    for canary_value in canaries:
        assert canary_value not in metrics
        assert not [name for name, log in logs.items() if canary_value in log], canary_value


async def test_f68_what_is_injected_does_nothing(shop: Shop, ann: Shopper) -> None:
    tables = "SELECT count(*) FROM orders.saga WHERE user_id = $1"
    order_id = await ann.placed()
    client = ann.client
    for text in INJECTED:
        bad = [
            await client.get("/api/cart", params={"userId": text}),
            await ann.place({text: 1}) if len(text) > 64 or not text.isascii() else None,
            await ann.place(userId=text),
            await ann.place(couponId=f"{text} "),
            await ann.post("/api/cart", productId=f"{text} ", quantity=1),
            await ann.pay(order_id, payment={"method": text}),
            await client.request("GET", httpx_path("/api/orders/{}", text)),
            await client.request("POST", httpx_path("/api/coupons/{}/issue", text), json={}),
        ]
        statuses = {answer.status_code for answer in bad if answer is not None}
        assert all(400 <= status < 500 for status in statuses), (text, statuses)
        good = await ann.post("/api/orders", items=[], reference=text)
        assert good.status_code == 400
        listed = await client.get("/api/products", params={"after": text, "limit": "2"})
        assert listed.status_code in (200, 400), text
        assert (await client.get("/api/products", params={"limit": text})).status_code in (200, 400)
    assert await shop.value(tables, ann.user_id) == 1
    assert (await ann.show(order_id)).json()["status"] == "AWAITING_PAYMENT"
    cancelled = await ann.cancel(order_id, reason="'; DROP TABLE orders.saga; --")
    assert cancelled.json()["note"] == "'; DROP TABLE orders.saga; --"


def httpx_path(template: str, text: str) -> str:
    """The path with `text` in it, each byte escaped."""
    return template.format("".join(f"%{byte:02x}" for byte in text.encode()))


async def test_f68_guessed_paths_hold_nothing(ann: Shopper) -> None:
    for path in GUESSED:
        for method in ("GET", "POST", "PUT"):
            answer = await ann.client.request(method, path)
            assert answer.status_code in (404, 405), (method, path, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
    for method in ("PUT", "PATCH", "DELETE", "TRACE", "OPTIONS", "HEAD", "GET"):
        answer = await ann.client.request(method, "/api/orders")
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
