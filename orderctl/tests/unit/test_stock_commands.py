"""`orderctl stock`: what it asks stock's admin port, and what it makes of answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from typer.testing import CliRunner

from orderctl import stock_commands
from orderctl.admin_api import StockApi
from orderctl.main import app
from orderctl.stock_asking import is_answer
from shared.contracts.refusals import CommandRefusal, CommandRefused
from shared.contracts.stock import (
    AdjustStock,
    SetStockStrategy,
    StockAdjusted,
    StockLow,
    StockStrategy,
    StockStrategySet,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from orderctl.stock_asking import Answer, Command

PRODUCT = {
    "productId": "P001", "name": "Lamp\x1b[2J", "price": 1500, "currency": "KRW",
    "strategy": "auto", "activeStrategy": "redis", "whenRedisDown": "postgres",
    "maxPerOrder": 4, "available": 7, "reserved": 1_200, "sold": 30, "received": 1_237,
    "version": 9, "lowStockUnits": 10,
}  # fmt: skip
ENVIRONMENT = {
    "ADMIN_URL_STOCK_0": "http://stock",
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "ORDERCTL_OPERATOR": "ann",
}


def invoke(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["stock", *arguments], env=ENVIRONMENT)
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Any], list[httpx.Request]]:
    """Lets stock's admin port always answer so, and returns what it was asked."""

    def start(status: int, body: Any) -> list[httpx.Request]:
        asked: list[httpx.Request] = []

        def handle(request: httpx.Request) -> httpx.Response:
            asked.append(request)
            return httpx.Response(status, json=body)

        transport = httpx.MockTransport(handle)
        monkeypatch.setattr(stock_commands, "StockApi", lambda url: StockApi(url, transport))
        return asked

    return start


@pytest.fixture
def stock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[Command]]:
    """Lets stock answer a command by a function of it, and returns what it was asked."""

    def start(answer: Callable[[Any], Answer | None]) -> list[Command]:
        asked: list[Command] = []

        async def ask(_: object, command: Command, *, within_s: float) -> Answer | None:
            asked.append(command)
            return answer(command)

        monkeypatch.setattr(stock_commands, "ask_stock", ask)
        return asked

    return start


def adjusted(command: AdjustStock) -> StockAdjusted:
    return StockAdjusted(
        command_id=command.command_id, product_id=command.product_id, delta=command.delta,
        available=1_500,
    )  # fmt: skip


def refused(command: Any) -> CommandRefused:
    return CommandRefused(
        command_id=command.command_id, command=command.type, key=command.product_id,
        reason=CommandRefusal.INSUFFICIENT_STOCK, detail="7 units of P001 are available",
    )  # fmt: skip


def test_show_tells_strategy_and_units(port: Callable[..., list[httpx.Request]]) -> None:
    asked = port(200, PRODUCT)
    code, said, _ = invoke("show", "P001")
    assert code == 0
    assert asked[0].url == "http://stock/products/P001"
    facts = {line[:12].strip(): line[12:].strip() for line in said.splitlines()}
    assert facts["strategy"] == "auto, at present redis"
    assert facts["available"] == "7 (low: 10 or fewer)"
    assert facts["reserved"] == "1,200"
    assert "\x1b" not in said


def test_show_as_json_is_what_was_answered(port: Callable[..., list[httpx.Request]]) -> None:
    port(200, PRODUCT)
    assert json.loads(invoke("show", "P001", "--json")[1]) == PRODUCT


def test_an_unknown_product_fails_with_what_stock_says(
    port: Callable[..., list[httpx.Request]],
) -> None:
    port(404, {"title": "Unknown product", "detail": "there is no product P404"})
    code, _, error = invoke("show", "P404")
    assert (code, error) == (1, "orderctl: Unknown product: there is no product P404\n")


def test_a_stock_that_knows_no_levels_is_older(port: Callable[..., list[httpx.Request]]) -> None:
    port(404, {"title": "Not Found", "detail": "the admin port serves no GET on this path"})
    code, _, error = invoke("list")
    assert code == 1
    assert "is http://stock the admin port of stock (`make env`)? Else it is older" in error


def advised(product_id: str, strategy: str, active: str, choice: str) -> dict[str, Any]:
    return {
        "productId": product_id, "strategy": strategy, "activeStrategy": active,
        "advised": choice, "why": f"because of {product_id}", "commands": 6_000, "conflicts": 0,
        "refusals": 5_900, "lockWaitMs": 1_234.5,
    }  # fmt: skip


def test_advice_says_why_and_how_to_follow_it(port: Callable[..., list[httpx.Request]]) -> None:
    products = [
        advised("P1", "optimistic", "optimistic", "redis"),
        advised("P2", "auto", "optimistic", "pessimistic"),
        advised("P3", "redis", "redis", "redis"),
    ]
    port(200, {"windowS": 60, "products": products})
    code, said, _ = invoke("advise")
    assert code == 0
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert "P1 optimistic redis 6,000 0 5,900 1.2 s" in lines
    assert "P2 optimistic (auto) pessimistic 6,000 0 5,900 1.2 s" in lines
    after = lines.index("measured in the last 60 s, by all instances together")
    assert lines[after + 1 :] == [
        "P1: because of P1", "orderctl stock strategy P1 redis",
        "P2: because of P2", "it chooses by itself within a minute",
    ]  # fmt: skip


def test_where_nothing_is_contended_there_is_no_advice(
    port: Callable[..., list[httpx.Request]],
) -> None:
    port(200, {"windowS": 60, "products": []})
    code, said, _ = invoke("advise")
    assert (code, "there is nothing to advise" in said) == (0, True)


def test_a_list_marks_what_is_low_and_says_how_to_go_on(
    port: Callable[..., list[httpx.Request]],
) -> None:
    counters = {"reserved": 0, "sold": 0, "received": 50, "version": 1}
    levels = [
        {"productId": f"P00{n}", "available": units} | counters for n, units in enumerate((9, 11))
    ]
    asked = port(200, {"levels": levels, "next": "P001", "lowStockUnits": 10})
    code, said, noted = invoke("list", "--low", "--limit", "2", "--after", "A1")
    assert code == 0
    assert dict(asked[0].url.params) == {"limit": "2", "low": "true", "after": "A1"}
    _, first, second = said.splitlines()
    assert first.split() == ["P000", "9", "0", "0", "50", "low"]
    assert second.split() == ["P001", "11", "0", "0", "50"]
    assert noted == "orderctl: --after P001 goes on\n"


@pytest.mark.parametrize(
    ("low", "said"),
    [([], "no product is found\n"), (["--low"], "no product has 10 units available or fewer\n")],
)
def test_an_empty_list_says_so(
    port: Callable[..., list[httpx.Request]], low: list[str], said: str
) -> None:
    port(200, {"levels": [], "next": None, "lowStockUnits": 10})
    assert invoke("list", *low) == (0, said, "")


@pytest.mark.parametrize(
    ("name", "delta", "said"),
    [
        ("receive", 500, "received 500 of P001; 1,500 available\n"),
        ("write-off", -500, "wrote off 500 of P001; 1,500 available\n"),
    ],
)
def test_an_adjustment_says_who_and_why(
    stock: Callable[..., list[Command]], name: str, delta: int, said: str
) -> None:
    asked = stock(adjusted)
    assert invoke(name, "P001", "500", "--reason", "delivery", "--command-id", "c-1") == (
        0, said, "",
    )  # fmt: skip
    assert asked == [
        AdjustStock(command_id="c-1", product_id="P001", delta=delta, reason="ann: delivery")
    ]


def test_a_drawn_id_is_told_before_and_is_another_each_time(
    stock: Callable[..., list[Command]],
) -> None:
    asked = stock(adjusted)
    for number in range(2):
        _, _, noted = invoke("receive", "P001", "5", "--reason", "delivery")
        assert f"--command-id {asked[number].command_id} a repeat is obeyed once" in noted
    assert asked[0].command_id != asked[1].command_id


def test_without_an_answer_it_says_how_to_find_out(stock: Callable[..., list[Command]]) -> None:
    asked = stock(lambda _: None)
    code, said, noted = invoke("strategy", "P001", "optimistic", "--within", "3")
    assert (code, said) == (1, "")
    assert "has not answered within 3 s" in noted
    assert f"repeat it as it was with --command-id {asked[0].command_id}" in noted


def test_a_refusal_is_told_in_words_and_for_machines(stock: Callable[..., list[Command]]) -> None:
    stock(refused)
    told = ["write-off", "P001", "8", "--reason", "broken", "--command-id", "c-1"]
    assert invoke(*told) == (1, "", "orderctl: stock refuses: 7 units of P001 are available\n")
    code, said, _ = invoke(*told, "--json")
    assert code == 1
    assert json.loads(said)["reason"] == "insufficient_stock"


@pytest.mark.parametrize(
    "arguments",
    [
        ["receive", "P001", "0", "--reason", "x"],
        ["receive", "P001", "1.5", "--reason", "x"],
        ["receive", "P001", "1000000001", "--reason", "x"],
        ["receive", "P001", "5"],
        ["receive", "P001", "5", "--reason", " "],
        ["receive", "P001", "5", "--reason", "x" * 500],
        ["receive", "a b", "5", "--reason", "x"],
        ["receive", "P001", "5", "--reason", "x", "--command-id", "a:b"],
        ["receive", "P001", "5", "--reason", "x", "--within", "0"],
        ["write-off", "P001", "-5", "--reason", "x"],
        ["strategy", "P001", "lottery"],
        ["show", "a b"],
        ["list", "--after", "a b"],
    ],
    ids=" ".join,
)
def test_a_wrong_call_asks_nobody(
    stock: Callable[..., list[Command]],
    port: Callable[..., list[httpx.Request]],
    arguments: list[str],
) -> None:
    asked, requested = stock(adjusted), port(200, {})
    code, said, noted = invoke(*arguments)
    assert (code, said, asked, requested) == (2, "", [], [])
    assert noted


def test_an_answer_is_told_from_others_of_its_id() -> None:
    command = AdjustStock(command_id="c-1", product_id="P001", delta=5, reason="x")
    choice = SetStockStrategy(
        command_id="c-1", product_id="P001", strategy=StockStrategy.OPTIMISTIC
    )
    chosen = StockStrategySet(
        command_id="c-1", product_id="P001", strategy=StockStrategy.OPTIMISTIC
    )
    right = adjusted(command)
    assert is_answer(right, command)
    assert is_answer(refused(command), command)
    assert is_answer(chosen, choice)
    for other in (
        right.model_copy(update={"command_id": "c-2"}),
        right.model_copy(update={"delta": 6}),
        right.model_copy(update={"product_id": "P002"}),
        refused(choice),
        chosen,
    ):
        assert not is_answer(other, command)
    assert not is_answer(chosen.model_copy(update={"strategy": StockStrategy.REDIS}), choice)
    assert not is_answer(StockLow.model_construct(product_id="P001"), command)
