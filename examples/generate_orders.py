"""Writes `orders.jsonl` and `expectations.json`: the orders of `make demo` and how they end.

    .venv/bin/python examples/generate_orders.py

An order's id is its kind and a number, as in `paid-0001`; further lines of the same story have
the same id, or one with a suffix, as `coupon-used-0001.2`. The same files come out every time.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_stack.seed import (
    CAMPAIGNS,
    POINTS,
    PRODUCTS,
    RUSH_PRODUCTS,
    RUSH_UNITS,
    SOLD_OUT,
    USERS,
    price_of,
    product_id,
    rush_product_id,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parent
CHANCE = random.Random()
PAID, RUSH = "CONFIRMED", RUSH_PRODUCTS * RUSH_UNITS * 2

Story = list[str]
"""The lines about one order, in their order."""


def kind(
    what: str,
    outcomes: dict[str, Any],
    *,
    refusals: dict[str, Any] | None = None,
    second_line_after: str | None = None,
    at_once: bool = False,
) -> dict[str, Any]:
    """What is expected of a kind. A pair of numbers stands for at least and at most."""
    found: dict[str, Any] = {"what": what, "outcomes": outcomes}
    if refusals:
        found["refusals"] = refusals
    if second_line_after:
        found["secondLineAfter"] = second_line_after
    if at_once:
        found["atOnce"] = True
    return found


KINDS = {
    "never-paid": kind("placed to be paid later, and never paid",
                       {"REJECTED payment_timeout": 20}),
    "paid": kind("one to three products, from the wallet", {PAID: 500}),
    "paid-many-lines": kind("100 products in one order", {PAID: 10}),
    "paid-agreed-price": kind("says the total that it expects, rightly", {PAID: 40}),
    "paid-later": kind("PayOrder once it awaits its payment", {PAID: 60},
                       second_line_after="OrderAwaitingPayment"),
    "gateway": kind("paid at the gateway", {PAID: 80}),
    "gateway-later": kind("PayOrder chooses the gateway", {PAID: 20},
                          second_line_after="OrderAwaitingPayment"),
    "points-and-wallet": kind("some points, the rest from the wallet", {PAID: 60}),
    "points-and-gateway": kind("some points, the rest at the gateway", {PAID: 40}),
    "points-cover-all": kind("points for the whole total", {PAID: 20}),
    "too-many-points": kind("more points than the user has",
                            {"REJECTED insufficient_balance": 20}),
    "coupon-percent": kind("10 percent off, at most 1,000; says the total", {PAID: 120}),
    "coupon-fixed": kind("1,000 off; says the total", {PAID: 80}),
    "coupon-covers-all": kind("a coupon worth more than the order", {PAID: 20}),
    "coupon-not-issued": kind("the user has no such coupon", {"REJECTED coupon_refused": 30}),
    "coupon-used": kind("a second order with a coupon that is used",
                        {PAID: 30, "REJECTED coupon_refused": 30},
                        second_line_after="OrderConfirmed"),
    "coupon-race": kind("two orders at once for one coupon",
                        {PAID: 40, "REJECTED coupon_refused": 40}),
    "out-of-stock-last-line": kind("all there but the last line",
                                   {"REJECTED out_of_stock": 60}),
    "unknown-product": kind("a product that is in no catalogue",
                            {"REJECTED unknown_product": 40}),
    "no-money": kind("the user has no money", {"REJECTED insufficient_balance": 60}),
    "price-changed": kind("expects another total", {"REJECTED price_changed": 40}),
    "cancelled-in-flight": kind("CancelOrder right behind it; may come too late",
                                {PAID: [0, 60], "CANCELLED cancelled_by_user": [0, 60]},
                                refusals={"CancelOrder too_late": [0, 60]}),
    "cancelled-before": kind("CancelOrder comes before its PlaceOrder",
                             {"CANCELLED cancelled_by_user": 30}),
    "cancelled-unpaid": kind("CancelOrder while it awaits its payment",
                             {"CANCELLED cancelled_by_user": 20},
                             second_line_after="OrderAwaitingPayment"),
    "cancelled-too-late": kind("CancelOrder after it was confirmed", {PAID: 20},
                               refusals={"CancelOrder too_late": 20},
                               second_line_after="OrderConfirmed"),
    "same-line-twice": kind("the same message again", {PAID: 60}),
    "same-id-other-content": kind("another order under the same id", {PAID: 30},
                                  refusals={"PlaceOrder order_id_reused": 30}),
    "field-missing": kind("no items, or no user", {"REJECTED invalid_command": 30}),
    "wrong-type": kind('quantity "3", true, 1.5, 0, …', {"REJECTED invalid_command": 36}),
    "paid-at-once": kind("as paid, all published at once", {PAID: 600}, at_once=True),
    "rush": kind(f"{RUSH} at once for {RUSH // 2} units",
                 {PAID: RUSH // 2, "REJECTED out_of_stock": RUSH // 2}, at_once=True),
}  # fmt: skip

NO_ORDER = [
    '{"type":"PlaceOrder","orderId":"cut-off-',
    "PlaceOrder, please",
    '["PlaceOrder"]',
    "{}",
    '{"type":"BuyEverything","userId":"user_1"}',
]
"""Lines that belong to no order: no id can be read. Each stands there five times."""
WITHOUT_ORDER = {"not_json": 2 * 5, "invalid": 2 * 5, "unknown_type": 5}
DEAD_LETTERS = {
    **WITHOUT_ORDER,
    "invalid": WITHOUT_ORDER["invalid"] + 30 + 36,
    "order_id_reused": 30,
    "too_late": [20, 80],
}

WRONG_QUANTITIES = ['"3"', "true", "1.5", "0", "-1", "10001"]


def line(**fields: Any) -> str:
    return json.dumps(fields, separators=(",", ":"))


def place(order_id: str, user: int | str, items: dict[str, int], **fields: Any) -> str:
    lines = [{"productId": product, "quantity": units} for product, units in items.items()]
    user_id = f"user_{user}" if isinstance(user, int) else user
    return line(type="PlaceOrder", orderId=order_id, userId=user_id, items=lines, **fields)


def cancel(order_id: str, user: int) -> str:
    return line(
        type="CancelOrder", orderId=order_id, userId=f"user_{user}", reason="changed my mind"
    )


def basket(products: int) -> tuple[dict[str, int], int]:
    """Some products and what they cost together."""
    numbers = sorted(CHANCE.sample(range(1, PRODUCTS + 1), products))
    items = {number: CHANCE.randint(1, 3) for number in numbers}
    total = sum(price_of(number) * units for number, units in items.items())
    return {product_id(number): units for number, units in items.items()}, total


def discount(coupon: str, total: int) -> int:
    found = CAMPAIGNS[coupon]
    if found.type == "fixed":
        return min(found.value, total)
    return min(total * found.value // 100, found.cap or total)


def story(name: str, number: int) -> Story:
    """The lines of the `number`th order of a kind."""
    order_id = f"{name}-{number:04d}"
    user = CHANCE.randint(1_001, USERS)  # the first thousand have coupons, some of them points
    items, total = basket(CHANCE.randint(1, 3))
    simple = place(order_id, user, items)
    match name:
        case "paid" | "paid-at-once":
            return [simple]
        case "paid-many-lines":
            return [place(order_id, user, basket(PRODUCTS)[0])]
        case "paid-agreed-price":
            return [place(order_id, user, items, expectedTotal=total)]
        case "price-changed":
            return [place(order_id, user, items, expectedTotal=total - 1)]
        case "never-paid":
            return [place(order_id, user, items, pay="later")]
        case "paid-later":
            pay = line(type="PayOrder", orderId=order_id, userId=f"user_{user}")
            return [place(order_id, user, items, pay="later"), pay]
        case "gateway":
            return [place(order_id, user, items, payment={"method": "gateway"})]
        case "gateway-later":
            chosen = {"method": "gateway"}
            pay = line(type="PayOrder", orderId=order_id, userId=f"user_{user}", payment=chosen)
            return [place(order_id, user, items, pay="later"), pay]
        case "points-and-wallet" | "points-and-gateway":
            # fewer than the cheapest order costs, so that there is a rest
            paid = {"method": name.rpartition("-")[2], "points": CHANCE.randint(1, 1_000)}
            return [place(order_id, number, items, payment=paid)]
        case "points-cover-all":
            return [place(order_id, number + 60, items, payment={"points": total})]
        case "too-many-points":
            dear = {product_id(PRODUCTS): POINTS // price_of(PRODUCTS) + 1}
            return [place(order_id, number + 80, dear, payment={"points": POINTS + 1})]
        case "coupon-percent" | "coupon-fixed" | "coupon-covers-all":
            coupon = {"percent": "WELCOME10", "fixed": "MINUS1000", "all": "GIFT"}
            name_of_coupon = coupon[name.rpartition("-")[2]]
            expected = total - discount(name_of_coupon, total)
            return [place(order_id, number, items, couponId=name_of_coupon, expectedTotal=expected)]
        case "coupon-not-issued":
            return [place(order_id, user, items, couponId="WELCOME10")]
        case "coupon-used" | "coupon-race":
            owner = number + (200 if name == "coupon-used" else 300)
            return [
                place(order_id + suffix, owner, items, couponId="WELCOME10")
                for suffix in (("", ".2") if name == "coupon-used" else (".1", ".2"))
            ]
        case "out-of-stock-last-line":
            return [place(order_id, user, {**items, SOLD_OUT: 1})]
        case "unknown-product":
            return [place(order_id, user, {**items, "P999": 1})]
        case "no-money":
            return [place(order_id, f"pauper_{number}", items)]
        case "cancelled-in-flight" | "cancelled-too-late":
            return [simple, cancel(order_id, user)]
        case "cancelled-before":
            return [cancel(order_id, user), simple]
        case "cancelled-unpaid":
            return [place(order_id, user, items, pay="later"), cancel(order_id, user)]
        case "same-line-twice":
            return [simple, simple]
        case "same-id-other-content":
            return [simple, place(order_id, user, {**items, product_id(1): 7})]
        case "field-missing":
            whole = json.loads(simple)
            del whole["items" if number % 2 else "userId"]
            return [line(**whole)]
        case "wrong-type":
            wrong = WRONG_QUANTITIES[number % len(WRONG_QUANTITIES)]
            first = next(iter(items))
            return [place(order_id, user, {first: 4321}).replace("4321", wrong)]
        case "rush":
            return [place(order_id, user, {rush_product_id(number % RUSH_PRODUCTS + 1): 1})]
        case _:
            raise ValueError(f"no orders of the kind {name}")


def stories(name: str) -> Iterator[Story]:
    """All orders of a kind."""
    outcomes = KINDS[name]["outcomes"].values()
    orders = max(outcome[1] if isinstance(outcome, list) else 0 for outcome in outcomes) or (
        sum(outcomes)
    )
    if name in ("coupon-used", "coupon-race"):
        orders //= 2
    return (story(name, number) for number in range(1, orders + 1))


def mixed(groups: list[Story]) -> list[str]:
    """The stories interleaved; lines of one story keep their order and stay close."""
    placed = []
    for group in groups:
        at = CHANCE.random()
        # A second copy comes a while later, when the first is well under way or over.
        later = 0.1 if len(group) == 2 and "same-" in group[0] else 1e-6
        placed += [(at + later * number, text) for number, text in enumerate(group)]
    return [text for _, text in sorted(placed)]


def orders() -> list[str]:
    """Every line of `orders.jsonl`: the unpaid ones first, those published at once last."""
    first = [text for group in stories("never-paid") for text in group]
    steady, at_once = [], []
    for name, facts in KINDS.items():
        if name != "never-paid":
            (at_once if facts.get("atOnce") else steady).extend(stories(name))
    steady += [[text] for text in NO_ORDER * 5]
    return first + mixed(steady) + mixed(at_once)


def expectations() -> dict[str, Any]:
    return {"kinds": KINDS, "deadLetters": DEAD_LETTERS, "withoutOrder": WITHOUT_ORDER}


def write() -> None:
    CHANCE.seed(1)  # the same files every time
    (FOLDER / "orders.jsonl").write_text("".join(text + "\n" for text in orders()))
    (FOLDER / "expectations.json").write_text(json.dumps(expectations(), indent=1) + "\n")


if __name__ == "__main__":
    write()
