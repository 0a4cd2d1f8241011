"""`orderctl watch`: what the services' metrics add up to."""

from __future__ import annotations

import json
import os

import httpx
import pytest
from typer.testing import CliRunner

from orderctl.main import app
from orderctl.watching import Watcher

ORCHESTRATOR = """
# TYPE saga_active gauge
saga_active{{state="CHARGING"}} 7
# TYPE saga_stuck gauge
saga_stuck 2
# TYPE orders_total counter
orders_total{{status="CONFIRMED"}} {confirmed}
# TYPE outbox_pending gauge
outbox_pending 3
# TYPE consumer_lag_records gauge
consumer_lag_records{{group="order-orchestrator",topic="stock.replies.v1",partition="0"}} 4
consumer_lag_records{{group="order-orchestrator",topic="stock.replies.v1",partition="1"}} 5
"""
INSTANCES = {
    "ORDER_ORCHESTRATOR_0": "http://one", "ORDER_ORCHESTRATOR_1": "http://two",
    "STOCK_0": "http://stock",
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have a stack in the environment."""
    for name in os.environ:
        if name.startswith("ADMIN_URL_"):
            monkeypatch.delenv(name)


class Services:
    """Two orchestrators, and a stock that is away."""

    def __init__(self) -> None:
        self.confirmed = 100

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == "stock":
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(200, text=ORCHESTRATOR.format(confirmed=self.confirmed))

    def answer_without_two(self, request: httpx.Request) -> httpx.Response:
        return _gone(request) if request.url.host == "two" else self.answer(request)


def test_instances_add_up_and_who_is_away_is_told() -> None:
    sight = Watcher(INSTANCES, httpx.MockTransport(Services().answer)).look()
    assert sight.states == {"CHARGING": 7}, "each orchestrator counts all sagas"
    assert sight.stuck == 2
    assert sum(sight.ended.values()) == 200, "and its own outcomes"
    assert sight.pending_chunks == {"order-orchestrator": 3}
    assert sight.lag == {"order-orchestrator": 18}
    assert sight.away == ["STOCK_0"]


def test_throughput_is_what_came_between_two_looks() -> None:
    services = Services()
    watcher = Watcher(INSTANCES, httpx.MockTransport(services.answer))
    before = watcher.look()
    services.confirmed = 150
    after = watcher.look()
    after.at_s = before.at_s + 2
    assert after.rates(before) == {"CONFIRMED": 50.0}
    assert after.rates(None) is None
    services.confirmed = 0
    restarted = watcher.look()
    assert restarted.rates(after) is None, "its counters began anew"
    one_less = Watcher({"STOCK_0": "http://stock"} | INSTANCES, httpx.MockTransport(_gone)).look()
    assert one_less.rates(after) is None


def test_an_instance_that_came_back_gives_no_rate() -> None:
    services = Services()
    one_is_gone = Watcher(INSTANCES, httpx.MockTransport(services.answer_without_two)).look()
    assert one_is_gone.away == ["ORDER_ORCHESTRATOR_1", "STOCK_0"]
    both = Watcher(INSTANCES, httpx.MockTransport(services.answer)).look()
    both.at_s = one_is_gone.at_s + 2
    assert both.rates(one_is_gone) is None, "what it counted before is no outcome of these 2 s"


@pytest.mark.parametrize(
    "answer",
    [httpx.Response(503, text="# an empty page"), httpx.Response(200, text="<html>{")],
    ids=["unavailable", "no metrics"],
)
def test_what_answers_with_something_else_is_away(answer: httpx.Response) -> None:
    sight = Watcher({"STOCK_0": "http://stock"}, httpx.MockTransport(lambda _: answer)).look()
    assert sight.away == ["STOCK_0"]


def test_without_an_orchestrator_nothing_is_known_of_orders(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def only_stock(request: httpx.Request) -> httpx.Response:
        if request.url.host != "stock":
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(200, text="# TYPE outbox_pending gauge\noutbox_pending 0\n")

    monkeypatch.setattr(
        "orderctl.watch_command.Watcher",
        lambda instances: Watcher(instances, httpx.MockTransport(only_stock)),
    )
    monkeypatch.setattr("orderctl.watch_command.time.sleep", lambda _: None)
    env = {f"ADMIN_URL_{name}": url for name, url in INSTANCES.items()}
    result = CliRunner().invoke(app, ["watch", "--times", "2"], env=env)
    assert result.exit_code == 0
    for line in result.stdout.splitlines():
        assert "under way: not known; a second: not known; stuck: not known; " in line
        assert "unpublished: none that is known of; lag: none that is known of; away: " in line
    found = json.loads(CliRunner().invoke(app, ["watch", "--times", "1", "--json"], env=env).stdout)
    assert (found["underWay"], found["stuck"], found["endedPerSecond"]) == (None, None, None)


def _gone(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


def test_without_a_terminal_each_look_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    services = Services()
    monkeypatch.setattr(
        "orderctl.watch_command.Watcher",
        lambda instances: Watcher(instances, httpx.MockTransport(services.answer)),
    )
    monkeypatch.setattr("orderctl.watch_command.time.sleep", lambda _: None)
    env = {f"ADMIN_URL_{name}": url for name, url in INSTANCES.items()}
    result = CliRunner().invoke(app, ["watch", "--times", "2"], env=env)
    assert result.exit_code == 0
    first, second = result.stdout.splitlines()
    assert "under way: 7 CHARGING; a second: not known yet; stuck: 2" in first
    assert "a second: 0.0 CONFIRMED" in second
    assert "lag: 18 order-orchestrator; away: STOCK_0" in second
    result = CliRunner().invoke(app, ["watch", "--times", "1", "--json"], env=env)
    assert json.loads(result.stdout)["underWay"] == {"CHARGING": 7}


def test_it_fails_where_nobody_answers_or_nobody_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "orderctl.watch_command.Watcher",
        lambda instances: Watcher(instances, httpx.MockTransport(_gone)),
    )
    result = CliRunner().invoke(
        app, ["watch", "--times", "1"], env={"ADMIN_URL_STOCK_0": "http://s"}
    )
    assert (result.exit_code, "no service answers" in result.stderr) == (1, True)
    result = CliRunner().invoke(app, ["watch", "--times", "1"])
    assert (result.exit_code, "make -s env" in result.stderr) == (2, True)
