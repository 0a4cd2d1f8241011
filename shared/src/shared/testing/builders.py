"""Messages with sensible defaults: a test names what it is about and nothing else.

    place_order("o-1", items={"P001": 2}, coupon_id="WELCOME10")
    put_product("P001", quantity=10, strategy="redis")

Ids that a test doesn't give are new ones each time. Everything passes through the contracts'
validation; for messages that must not pass, take `wire` and spoil it.
"""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

from shared.contracts.coupon import (
    CampaignKind,
    Discount,
    DiscountType,
    DrawLottery,
    EnterLottery,
    HoldCoupon,
    IssueCoupon,
    PutCampaign,
    RestoreCoupon,
    UseCoupon,
)
from shared.contracts.orders import (
    CancelOrder,
    Line,
    PaymentChoice,
    PaymentMethod,
    PayOrder,
    PayTiming,
    PlaceOrder,
)
from shared.contracts.payment import ChargePayment, GrantPoints, RefundPayment, TopUpWallet
from shared.contracts.stock import (
    AdjustStock,
    CommitStock,
    PutProduct,
    ReleaseStock,
    ReserveStock,
    SetStockStrategy,
    StockStrategy,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.contracts.base import Message

CURRENCY = "KRW"
USER = "user_1"
PRODUCT = "P001"
COUPON = "WELCOME10"
PRICE = 1_000


def new_id(kind: str) -> str:
    """An id that no other test has, as `order-6f1c…`."""
    return f"{kind}-{secrets.token_hex(8)}"


def wire(message: Message) -> dict[str, Any]:
    """The message as the object that lies on the topic, to be spoiled or extended."""
    value: dict[str, Any] = json.loads(message.to_bytes())
    return value


def lines(items: Mapping[str, int]) -> tuple[Line, ...]:
    """Lines of an order from {product id: quantity}, sorted by product."""
    return tuple(
        Line(product_id=product_id, quantity=items[product_id]) for product_id in sorted(items)
    )


# What upstream systems and operators send.


def place_order(
    order_id: str | None = None,
    *,
    items: Mapping[str, int] | None = None,
    user_id: str = USER,
    method: str = "wallet",
    points: int = 0,
    pay: str = "now",
    **fields: Any,
) -> PlaceOrder:
    """An order of one unit of `PRODUCT`, paid at once from the wallet.

    `fields` are the others of `PlaceOrder`: coupon_id, expected_total, reference.
    """
    return PlaceOrder(
        order_id=order_id or new_id("order"),
        user_id=user_id,
        items=lines(items or {PRODUCT: 1}),
        payment=PaymentChoice(method=PaymentMethod(method), points=points),
        pay=PayTiming(pay),
        **fields,
    )


def pay_order(order_id: str, *, user_id: str = USER, **fields: Any) -> PayOrder:
    """Pays as the order said. `fields`: command_id, payment."""
    return PayOrder(order_id=order_id, user_id=user_id, **fields)


def cancel_order(order_id: str, *, user_id: str = USER, **fields: Any) -> CancelOrder:
    """Cancels in the user's name. `fields`: command_id, reason."""
    return CancelOrder(order_id=order_id, user_id=user_id, **fields)


def put_product(
    product_id: str = PRODUCT,
    *,
    quantity: int = 100,
    price: int = PRICE,
    strategy: str = "optimistic",
    **fields: Any,
) -> PutProduct:
    """A new product with stock. `fields`: command_id, when_redis_down, max_per_order, currency."""
    defaults = {"command_id": new_id("put"), "currency": CURRENCY, "name": f"Product {product_id}"}
    return PutProduct(
        product_id=product_id,
        quantity=quantity,
        price=price,
        strategy=StockStrategy(strategy),
        **(defaults | fields),
    )


def adjust_stock(product_id: str = PRODUCT, *, delta: int, **fields: Any) -> AdjustStock:
    """Receives or writes off units. `fields`: command_id, reason."""
    defaults = {"command_id": new_id("adjust"), "reason": "delivery"}
    return AdjustStock(product_id=product_id, delta=delta, **(defaults | fields))


def set_stock_strategy(
    product_id: str = PRODUCT, strategy: str = "redis", *, command_id: str | None = None
) -> SetStockStrategy:
    """Another strategy from here on."""
    return SetStockStrategy(
        command_id=command_id or new_id("strategy"),
        product_id=product_id,
        strategy=StockStrategy(strategy),
    )


def put_campaign(
    coupon_id: str = COUPON,
    *,
    kind: str = "first_come",
    limit: int = 100,
    percent: int | None = None,
    fixed: int | None = None,
    cap: int | None = None,
    **fields: Any,
) -> PutCampaign:
    """A campaign of 10 percent off, unless told otherwise. `fields`: command_id, rule, starts_at,
    ends_at."""
    if fixed is not None:
        discount = Discount(type=DiscountType.FIXED, value=fixed)
    else:
        discount = Discount(type=DiscountType.PERCENT, value=percent or 10, cap=cap)
    defaults = {"command_id": new_id("campaign")}
    return PutCampaign(
        coupon_id=coupon_id,
        kind=CampaignKind(kind),
        limit=limit,
        discount=discount,
        **(defaults | fields),
    )


def issue_coupon(coupon_id: str = COUPON, *, user_id: str = USER, **fields: Any) -> IssueCoupon:
    """A user's request for a coupon. `fields`: command_id, facts."""
    defaults = {"command_id": new_id("issue")}
    return IssueCoupon(coupon_id=coupon_id, user_id=user_id, **(defaults | fields))


def enter_lottery(coupon_id: str = COUPON, *, user_id: str = USER, **fields: Any) -> EnterLottery:
    """A user's entry. `fields`: command_id, facts."""
    defaults = {"command_id": new_id("enter")}
    return EnterLottery(coupon_id=coupon_id, user_id=user_id, **(defaults | fields))


def draw_lottery(coupon_id: str = COUPON, **fields: Any) -> DrawLottery:
    """The end of a lottery's entries. `fields`: command_id."""
    return DrawLottery(coupon_id=coupon_id, **({"command_id": new_id("draw")} | fields))


def top_up_wallet(user_id: str = USER, *, amount: int = 1_000_000, **fields: Any) -> TopUpWallet:
    """Money for a user. `fields`: command_id, currency."""
    defaults = {"command_id": new_id("topup"), "currency": CURRENCY}
    return TopUpWallet(user_id=user_id, amount=amount, **(defaults | fields))


def grant_points(user_id: str = USER, *, amount: int = 1_000, **fields: Any) -> GrantPoints:
    """Points for a user. `fields`: command_id, currency."""
    defaults = {"command_id": new_id("grant"), "currency": CURRENCY}
    return GrantPoints(user_id=user_id, amount=amount, **(defaults | fields))


# What the orchestrator sends: ids are derived, so that sending again is the same command.


def reserve_stock(
    order_id: str, items: Mapping[str, int] | None = None, *, user_id: str = USER
) -> ReserveStock:
    """The step `reserve` of an order, one unit of `PRODUCT` unless told otherwise."""
    return ReserveStock(
        command_id=f"{order_id}:reserve:do",
        order_id=order_id,
        user_id=user_id,
        items=lines(items or {PRODUCT: 1}),
    )


def release_stock(order_id: str) -> ReleaseStock:
    """The undo of the step `reserve`."""
    return ReleaseStock(command_id=f"{order_id}:reserve:undo", order_id=order_id)


def commit_stock(order_id: str) -> CommitStock:
    """The step `commit`."""
    return CommitStock(command_id=f"{order_id}:commit:do", order_id=order_id)


def hold_coupon(
    order_id: str, *, coupon_id: str = COUPON, user_id: str = USER, total: int = PRICE
) -> HoldCoupon:
    """The step `hold`; `total` is before the discount."""
    return HoldCoupon(
        command_id=f"{order_id}:hold:do",
        order_id=order_id,
        user_id=user_id,
        coupon_id=coupon_id,
        total=total,
        currency=CURRENCY,
    )


def restore_coupon(order_id: str, *, coupon_id: str = COUPON, user_id: str = USER) -> RestoreCoupon:
    """The undo of the steps `hold` and `use`."""
    return RestoreCoupon(
        command_id=f"{order_id}:hold:undo", order_id=order_id, user_id=user_id, coupon_id=coupon_id
    )


def use_coupon(order_id: str, *, coupon_id: str = COUPON, user_id: str = USER) -> UseCoupon:
    """The step `use`."""
    return UseCoupon(
        command_id=f"{order_id}:use:do", order_id=order_id, user_id=user_id, coupon_id=coupon_id
    )


def charge_payment(
    order_id: str,
    *,
    amount: int = PRICE,
    user_id: str = USER,
    method: str = "wallet",
    points: int = 0,
    currency: str = CURRENCY,
) -> ChargePayment:
    """The step `charge`; `amount` includes `points`."""
    return ChargePayment(
        command_id=f"{order_id}:charge:do",
        order_id=order_id,
        user_id=user_id,
        amount=amount,
        currency=currency,
        method=PaymentMethod(method),
        points=points,
    )


def refund_payment(order_id: str) -> RefundPayment:
    """The undo of the step `charge`."""
    return RefundPayment(command_id=f"{order_id}:charge:undo", order_id=order_id)
