"""The scripts, run by k6 against a shop that does what the test wants: they have to see it.

The shop is a stand-in, since the real one can't be made to oversell.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections import Counter, defaultdict
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bench.bottlenecks.figures import PAY, PLACE, STEADY, steady_rates
from bench.errors import BenchError
from bench.load.k6 import SCRIPTS, find_k6, running
from bench.load.plan import LoadPlan, Scenario
from bench.load.series import read_complaints, read_moments, read_summary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from starlette.requests import Request

    from bench.load.k6 import Outcome
    from bench.load.record import Latency

K6 = find_k6()
pytestmark = pytest.mark.skipif(
    K6 is None, reason="k6 is neither on the PATH nor built: `make load` builds it"
)


class Shop:
    """The storefront's routes by its contract, with as much on offer as the test says."""

    def __init__(self, supply: int, *, place_status: int = 200, with_id: bool = True) -> None:
        self.left = supply
        self.place_status = place_status
        self.with_id = with_id
        self.calls: Counter[str] = Counter()
        self.users: set[str] = set()
        self.paid: set[str] = set()
        self.bodies: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._ids = count(1)

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/api/products", self.products),
                Route("/api/cart", self.cart, methods=["POST"]),
                Route("/api/orders", self.place, methods=["POST"]),
                Route("/api/orders/{id}/payment", self.pay, methods=["POST"]),
                Route("/api/coupons/{id}/issue", self.issue, methods=["POST"]),
            ]
        )

    async def products(self, _: Request) -> Response:
        self.calls["products"] += 1
        return JSONResponse({"products": [], "next": None})

    async def cart(self, request: Request) -> Response:
        body = await self._body("cart", request)
        assert body["productId"]
        assert body["quantity"] == 1
        return JSONResponse({"userId": body["userId"], "items": []})

    async def place(self, request: Request) -> Response:
        body = await self._body("place", request)
        assert body["items"][0].keys() == {"productId", "quantity"}
        if self.left <= 0:
            return JSONResponse({"status": 409, "reason": "out_of_stock"}, 409)
        self.left -= 1
        order = {"orderId": f"o-{next(self._ids)}"} if self.with_id else {}
        return JSONResponse({**order, "status": "AWAITING_PAYMENT"}, self.place_status)

    async def pay(self, request: Request) -> Response:
        await self._body("pay", request)
        self.paid.add(request.path_params["id"])
        return JSONResponse({"status": "CONFIRMED"})

    async def issue(self, request: Request) -> Response:
        await self._body("issue", request)
        if self.left <= 0:
            return JSONResponse({"status": 409, "reason": "sold_out"}, 409)
        self.left -= 1
        return JSONResponse({"sequence": 1})

    async def _body(self, call: str, request: Request) -> dict[str, Any]:
        self.calls[call] += 1
        body: dict[str, Any] = await request.json()
        self.users.add(body["userId"])
        self.bodies[call].append(body)
        return body


class Seen:
    """What a script made of a shop."""

    def __init__(self, outcome: Outcome) -> None:
        self.totals, self.latencies, thresholds = read_summary(outcome.summary)
        self.crossed = {one.metric for one in thresholds if not one.passed}
        self.limits = {(one.metric, one.limit) for one in thresholds}
        _, self.moments = read_moments(outcome.record)
        self.complaints = read_complaints(outcome.log)

    def latency(self, name: str) -> Latency:
        (found,) = [one for one in self.latencies if one.name == name]
        return found


@asynccontextmanager
async def served(shop: Shop) -> AsyncIterator[str]:
    server = uvicorn.Server(
        uvicorn.Config(shop.app(), port=0, log_level="warning", access_log=False)
    )
    task = asyncio.create_task(server.serve())
    try:
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


async def seen(shop: Shop, plan: LoadPlan, folder: Path, **more: str) -> Seen:
    assert K6 is not None
    async with served(shop) as url:
        settings = {"BASE_URL": url, **plan.settings("load-1"), **more}
        async with running(K6, plan.scenario.script, settings, folder, 1) as process:
            outcome = await process.outcome()
    return Seen(outcome)


SALE = LoadPlan(scenario=Scenario.FLASH_SALE, users=60, at_once=10, supply=7)
RUSH = LoadPlan(scenario=Scenario.COUPON_RUSH, users=60, at_once=10, supply=7)
JOURNEY = LoadPlan(stages="1s:3,2s:3")
ARRIVALS = LoadPlan(scenario=Scenario.ARRIVALS, rates=(5, 10), seconds=2)
ROUTES = {
    "GET /api/products", "POST /api/cart", "POST /api/orders", "POST /api/orders/{id}/payment",
}  # fmt: skip


async def test_the_journey_makes_every_step_as_often(tmp_path: Path) -> None:
    shop = Shop(10_000)
    found = await seen(shop, JOURNEY, tmp_path)
    assert not found.crossed
    steps = set(shop.calls.values())
    assert shop.calls.keys() == {"products", "cart", "place", "pay"}
    assert steps == {found.totals["iterations"]} == {found.totals["orders_confirmed"]}
    assert len(shop.paid) == found.totals["iterations"], "each order is paid once"
    assert shop.users == {"user_1", "user_2", "user_3"}
    assert {one.name for one in found.latencies} == {"all requests", *ROUTES}
    assert {name for one in found.moments for name in one.routes_p95_ms} == ROUTES
    assert sum(one.requests for one in found.moments) == sum(shop.calls.values())
    assert max(one.users for one in found.moments) <= 3
    assert all(one.errors == 0 for one in found.moments)


async def test_the_journey_buys_one_product_from_the_wallet_unless_told(tmp_path: Path) -> None:
    shop = Shop(10_000)
    await seen(shop, JOURNEY, tmp_path)
    assert bought(shop) == {"P001"}
    assert all(body.keys() == {"userId"} for body in shop.bodies["pay"])
    shop = Shop(10_000)
    await seen(shop, JOURNEY, tmp_path, PRODUCTS="P007,P008", METHOD="gateway")
    assert bought(shop) == {"P007", "P008"}
    assert all(body["payment"] == {"method": "gateway"} for body in shop.bodies["pay"])


async def test_what_comes_after_the_ramp_is_summed_up_apart(tmp_path: Path) -> None:
    shop = Shop(10_000)
    plan = LoadPlan(stages="2s:3,2s:3")
    found = await seen(shop, plan, tmp_path, RAMP_S="2")
    steady = {one.name for one in found.latencies} - {"all requests", *ROUTES}
    assert steady == {STEADY, PLACE, PAY}
    rate, errors = steady_rates(found.moments, 2, 4)
    assert 0 < rate < found.totals["iterations"]
    assert errors == 0
    found = await seen(shop, JOURNEY, tmp_path, RAMP_S="60")
    assert {one.name for one in found.latencies} == {"all requests", *ROUTES}, "all of it is ramp"


def bought(shop: Shop) -> set[str]:
    return {item["productId"] for body in shop.bodies["place"] for item in body["items"]}


@pytest.mark.parametrize(
    ("shop", "failed", "told"),
    [
        (Shop(10_000, place_status=202), {"errors", "http_req_failed"}, "202"),
        (Shop(10_000, with_id=False), {"errors"}, "200"),
        (Shop(1), {"errors", "http_req_failed"}, "409 out_of_stock"),
    ],
    ids=["accepted", "without an id", "sold out"],
)
async def test_an_order_that_is_not_placed_is_an_error(
    shop: Shop, failed: set[str], told: str, tmp_path: Path
) -> None:
    found = await seen(shop, JOURNEY.model_copy(update={"thresholds": "workshop"}), tmp_path)
    assert found.crossed == failed
    assert found.complaints.keys() == {f"the order is placed: {told}"}
    assert max(one.errors for one in found.moments) > 0
    assert {("errors", "rate<0.1"), ("http_req_duration", "p(95)<1000")} <= found.limits


async def test_customers_arrive_at_each_rate(tmp_path: Path) -> None:
    shop = Shop(10_000)
    found = await seen(shop, ARRIVALS, tmp_path)
    assert not found.crossed
    assert shop.calls["pay"] == found.totals["iterations"]
    # The first and the last of a rate may fall out of its time.
    assert 26 <= found.totals["iterations"] <= 32
    assert found.latency("rate_5").p50_ms > 0
    assert found.latency("rate_10").p50_ms > 0


@pytest.mark.parametrize("plan", [SALE, RUSH], ids=["sale", "rush"])
@pytest.mark.parametrize("apart", [-1, 0, 1])
async def test_a_crowd_sees_one_too_many_and_one_too_few(
    plan: LoadPlan, apart: int, tmp_path: Path
) -> None:
    shop = Shop(plan.supply + apart)
    found = await seen(shop, plan, tmp_path)
    assert (found.totals["granted"], found.totals["refused"]) == (7 + apart, 53 - apart)
    assert len(shop.users) == 60, "each asks once"
    counts = {"granted", "refused"}
    counts |= {"orders_confirmed"} if plan is SALE else set()
    assert found.crossed == (counts if apart else set()), "a refusal is no error"


async def test_k6_ends_with_whoever_runs_it(tmp_path: Path) -> None:
    assert K6 is not None
    async with served(Shop(10_000)) as url:
        settings = {"BASE_URL": url, **LoadPlan(stages="5m:1").settings("")}
        async with running(K6, "journey.js", settings, tmp_path, 1) as process:
            k6 = psutil.Process(process.pid)
            assert k6.is_running()
        assert not k6.is_running()


async def test_why_k6_fails_is_said(tmp_path: Path) -> None:
    assert K6 is not None
    async with running(K6, "journey.js", {"STAGES": "x"}, tmp_path, 1) as process:
        with pytest.raises(BenchError, match=r"k6 exited with \d+: .*STAGES is x; give stages"):
            await process.outcome()


def inspected(name: str, *settings: str) -> subprocess.CompletedProcess[str]:
    options = [part for setting in settings for part in ("-e", setting)]
    return subprocess.run(
        [str(K6), "inspect", *options, str(SCRIPTS / name)],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("scenario", Scenario)
def test_every_script_can_be_run_by_hand(scenario: Scenario) -> None:
    found = inspected(scenario.script)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["thresholds"].keys() >= {"errors", "http_req_failed"}


def test_the_short_form_has_every_stage_in_a_sixth_of_its_time() -> None:
    def stages(*settings: str) -> list[tuple[str, int]]:
        (one,) = json.loads(inspected("journey.js", *settings).stdout)["scenarios"].values()
        return [(stage["duration"], stage["target"]) for stage in one["stages"]]

    assert stages() == [("2m0s", 100), ("5m0s", 500), ("2m0s", 1000), ("2m0s", 100)]
    assert stages("STAGES=short") == [("20s", 100), ("50s", 500), ("20s", 1000), ("20s", 100)]


@pytest.mark.parametrize(
    ("name", "setting", "said"),
    [
        ("journey.js", "STAGES=5:x", "STAGES is 5:x; give stages as in"),
        ("journey.js", "THRESHOLDS=none", "THRESHOLDS is none; it can be ours or workshop"),
        ("journey.js", "RAMP_S=x", "RAMP_S is x; it has to be a whole number"),
        ("arrivals.js", "RATES=1,x", "RATES is 1,x; give whole numbers"),
        ("arrivals.js", "SECONDS=0", "SECONDS is 0; it has to be a whole number"),
        ("flash-sale.js", "UNITS=x", "UNITS is x; it has to be a whole number"),
    ],
)
def test_a_script_refuses_what_it_can_not_do(name: str, setting: str, said: str) -> None:
    found = inspected(name, setting)
    assert found.returncode != 0
    assert said in found.stderr
