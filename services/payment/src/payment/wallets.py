"""What the treasury asks for: money and points for users. Pure."""

from __future__ import annotations

from typing import TypeAlias, assert_never

from payment.ledger import House, Ledger, Leg, Purse
from shared.contracts.base import MAX_TOTAL
from shared.contracts.payment import GrantPoints, PointsGranted, TopUpWallet, WalletToppedUp
from shared.contracts.refusals import CommandRefusal, Refused

WalletRequest: TypeAlias = TopUpWallet | GrantPoints


def fulfil(
    ledger: Ledger, request: WalletRequest, currency: str
) -> WalletToppedUp | PointsGranted | Refused:
    """Decide a request; `currency` is the deployment's."""
    user_id, amount = request.user_id, request.amount
    wallet = ledger.wallet(user_id)
    if not request.currency == currency == wallet.currency:
        return Refused(
            CommandRefusal.CURRENCY_MISMATCH,
            f"asked in {request.currency}; money is in {currency} here, and the wallet of"
            f" {user_id} in {wallet.currency}",
        )
    answer: type[WalletToppedUp | PointsGranted]
    match request:
        case TopUpWallet():
            name, purse, house, balance = "top-up", Purse.WALLET, House.TREASURY, wallet.balance
            answer, where = WalletToppedUp, "in the wallet"
        case GrantPoints():
            name, purse, house, balance = "points", Purse.POINTS, House.POINTS, wallet.points
            answer, where = PointsGranted, "in points"
        case never:
            assert_never(never)
    if balance + amount > MAX_TOTAL:
        return Refused(
            CommandRefusal.LIMIT_EXCEEDED, f"{user_id} would have more than {MAX_TOTAL} {where}"
        )
    ledger.post(f"{name}:{request.command_id}", user_id, Leg(purse, amount), Leg(house, -amount))
    return answer(
        command_id=request.command_id,
        user_id=user_id,
        amount=amount,
        currency=request.currency,
        balance=balance + amount,
    )
