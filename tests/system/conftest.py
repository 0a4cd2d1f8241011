"""One shop for all system tests: whole again before the next test begins, and at rest, with every
invariant checked, after the last of each module."""

from __future__ import annotations

import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from shared.testing.builders import issue_coupon, put_campaign, put_product, top_up_wallet
from shared.testing.storefronts import Shopper

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from shared.testing.storefronts import Storefront

    from ..conftest import OpenShop, Shop  # noqa: TID252 - a conftest has no absolute name

    StartStorefront = Callable[..., Awaitable[Storefront]]

USERS = 200
SETTINGS = {
    "STEP_RESEND_S": "3",
    "RESEND_AT_MOST_S": "3",
    "ORDER_DEADLINE_S": "60",
    "PAY_DEADLINE_S": "600",
    "UNDO_SENDS": "2",
    "TRACE_SAMPLE_RATIO": "0",
    "OTEL_BSP_SCHEDULE_DELAY": "200",
}


class Collector:
    """Takes spans over OTLP, as Jaeger would."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, object]] = []
        """(service, span)"""
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                size = int(self.headers["Content-Length"])
                collector.take(self.rfile.read(size), self.headers.get("Content-Encoding"))
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def take(self, body: bytes, encoding: str | None) -> None:
        assert encoding is None, encoding
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            names = {one.key: one.value.string_value for one in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [(names["service.name"], span) for span in scope.spans]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """Where the services of the shared shop send their spans."""
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture(scope="session")
async def shared_shop(
    open_shop: OpenShop, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Shop]:
    """Products P001 to P005, users with money, and each of them with a coupon of each campaign."""
    settings = SETTINGS | {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}
    async with open_shop(tmp_path_factory.mktemp("shop"), **settings) as shop:
        users = [f"user_{number}" for number in range(USERS)]
        campaigns = [
            put_campaign("WELCOME10", limit=USERS, percent=10),
            put_campaign("GIFT", limit=USERS, fixed=1_000_000),
        ]
        await shop.stock_up(
            *[put_product(f"P00{number}", quantity=10_000, price=1_000) for number in range(1, 5)],
            put_product("P005", quantity=3, price=1_000),
            put_product("FREE", quantity=100, price=0),
            *[top_up_wallet(user, amount=1_000_000) for user in users],
            *campaigns,
            *[issue_coupon(one.coupon_id, user_id=user) for one in campaigns for user in users],
        )
        yield shop


@pytest.fixture(scope="module")
async def audited(shared_shop: Shop) -> AsyncIterator[None]:
    """Once the module's tests are over, nothing moves and every invariant holds."""
    yield
    await shared_shop.rest()


@pytest.fixture
async def shop(shared_shop: Shop, audited: None) -> AsyncIterator[Shop]:
    """The shared shop, whole again after the test."""
    seen = {name: len(instance.log()) for name, instance in shared_shop.instances.items()}
    yield shared_shop
    for name, instance in shared_shop.instances.items():
        state = "running" if instance.is_running else f"exit code {instance.exit_code}"
        print(f"--- {name}, {state}\n{instance.log()[seen[name] :]}")  # shown on failure
    await shared_shop.heal()
    await shared_shop.gateway.heal()


@pytest.fixture(scope="session")
async def shared_storefronts(shared_shop: Shop) -> AsyncIterator[dict[str, Storefront]]:
    """Storefronts of the shared shop, by what they are told."""
    started: dict[str, Storefront] = {}
    yield started
    for each in started.values():
        await each.discard()


@pytest.fixture
async def storefront(
    shop: Shop, shared_storefronts: dict[str, Storefront]
) -> AsyncIterator[StartStorefront]:
    """Starts a storefront with settings, or gives the one that has them already."""
    used: dict[Storefront, int] = {}

    async def start(**settings: str) -> Storefront:
        key = repr(sorted(settings.items()))
        found = shared_storefronts.get(key)
        if found is None:
            found = shop.storefront(len(shared_storefronts), **settings)
            shared_storefronts[key] = found
        if not found.is_running:
            await found.start()
        used.setdefault(found, len(found.log()))
        return found

    yield start
    for each, seen in used.items():
        print(f"--- {each.instance_id}\n{each.log()[seen:]}")  # shown on failure
        if each.is_running:
            each.thaw()


@pytest.fixture
async def front(storefront: StartStorefront) -> Storefront:
    """A storefront where nobody checks who asks, with small limits."""
    return await storefront(UNPAID_AT_MOST="3", CART_LINES_AT_MOST="2")


@pytest.fixture
async def ann(front: Storefront, user: str) -> AsyncIterator[Shopper]:
    """A user with money and coupons at that storefront."""
    async with front.http() as client:
        yield Shopper(client, user)


_users = iter([f"user_{number}" for number in range(USERS)])


@pytest.fixture
def user() -> str:
    """A user whom no other test has, with money and a coupon of each campaign."""
    return next(_users)


@pytest.fixture
def order_id() -> str:
    """An order id that no other test has."""
    return f"o-{secrets.token_hex(6)}"
