"""What a crowd wants: a product with few units, or a campaign with few coupons."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

import asyncpg

from bench.errors import BenchError
from bench.load.plan import Scenario
from bench.load.record import Held
from local_stack.seed import CURRENCY, RUSH_PRICE
from orderctl.admin_topics import ask_service
from orderctl.coupon_asking import COUPON
from orderctl.stock_asking import STOCK
from shared.contracts.coupon import CampaignKind, CampaignPut, Discount, DiscountType, PutCampaign
from shared.contracts.refusals import CommandRefused
from shared.contracts.stock import ProductPut, PutProduct, StockStrategy
from shared.database import Queries

if TYPE_CHECKING:
    from typing import TypeGuard

    from bench.load.plan import LoadPlan
    from orderctl.admin_topics import Addressee
    from shared.kafka.connection import KafkaConnection

PUT_WITHIN_S: Final = 30.0
OFF: Final = 1_000

queries = Queries("bench", "load/sql/scarce.sql")


def new_id() -> str:
    """Of a product or a campaign that nobody has used before, on a stack that goes on, too."""
    return f"load-{secrets.token_hex(4)}"


async def put(connection: KafkaConnection, plan: LoadPlan, scarce_id: str) -> None:
    """Create what the plan's crowd wants. Raises BenchError where that is refused or unanswered,
    and the broker's errors."""
    if plan.scenario is Scenario.FLASH_SALE:
        await put_product(connection, scarce_id, plan.supply)
    else:
        await _ask(connection, COUPON, _campaign(scarce_id, plan.supply))


async def put_product(connection: KafkaConnection, product_id: str, units: int) -> None:
    """Create a product that stock sells by the strategy `redis`. Raises what `put` raises."""
    await _ask(connection, STOCK, _product(product_id, units))


async def _ask(
    connection: KafkaConnection, addressee: Addressee, command: PutProduct | PutCampaign
) -> None:
    answer = await ask_service(connection, addressee, command, _is_answer, within_s=PUT_WITHIN_S)
    if answer is None:
        raise BenchError(f"{addressee.name} does not answer within {PUT_WITHIN_S:.0f} s")
    if isinstance(answer, CommandRefused):
        what = f"{addressee.name} refuses {addressee.key_of(command)}"
        raise BenchError(f"{what}: {answer.reason}: {answer.detail}")


async def taken(dsn: str, plan: LoadPlan, scarce_id: str) -> Held:
    """Whether exactly the supply is gone by the owner's own rows. `dsn` is the operator's."""
    connection = await asyncpg.connect(dsn)
    try:
        if plan.scenario is Scenario.FLASH_SALE:
            row = await queries.units_taken.row(connection, product_id=scarce_id)
            return judged_units(plan.supply, None if row is None else tuple(row))
        row = await queries.coupons_taken.row(connection, coupon_id=scarce_id)
        return judged_coupons(plan.supply, None if row is None else tuple(row))
    finally:
        await connection.close()


def judged_units(supply: int, found: tuple[int, ...] | None) -> Held:
    """`found` are units sold and reserved, None where there is no such product."""
    return Held(
        text=f"exactly {supply:,} units are sold, and none is held",
        holds=found == (supply, 0),
        detail=f"{found[0]:,} sold, {found[1]:,} held" if found else "there is no such product",
    )


def judged_coupons(supply: int, found: tuple[int, ...] | None) -> Held:
    """`found` are the campaign's count, its coupons and their highest number, None where there is
    no such campaign."""
    return Held(
        text=f"exactly {supply:,} coupons are issued, numbered without a gap",
        holds=found == (supply, supply, supply),
        detail=(
            f"{found[1]:,} coupons up to number {found[2]:,}, counted as {found[0]:,}"
            if found
            else "there is no such campaign"
        ),
    )


def _product(product_id: str, units: int) -> PutProduct:
    return PutProduct(
        command_id=f"put-{product_id}",
        product_id=product_id,
        name="Flash sale",
        price=RUSH_PRICE,
        currency=CURRENCY,
        strategy=StockStrategy.REDIS,
        quantity=units,
    )


def _campaign(coupon_id: str, coupons: int) -> PutCampaign:
    return PutCampaign(
        command_id=f"put-{coupon_id}",
        coupon_id=coupon_id,
        kind=CampaignKind.FIRST_COME,
        limit=coupons,
        discount=Discount(type=DiscountType.FIXED, value=OFF, currency=CURRENCY),
    )


def _is_answer(
    message: object, command: PutProduct | PutCampaign
) -> TypeGuard[ProductPut | CampaignPut | CommandRefused]:
    answers = isinstance(message, ProductPut | CampaignPut | CommandRefused)
    return answers and getattr(message, "command_id", None) == command.command_id
