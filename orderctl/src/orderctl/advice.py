"""What an order waits for, and what an operator can do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from orderctl.admin_api import Document

_PAYMENTS: Final = frozenset({"ChargePayment", "RefundPayment"})


def waits_for(order: Document) -> str:
    """Whose reply to which command, or ""."""
    out = order.get("waitsFor") or ()
    if not out:
        return ""
    commands = ", ".join(f"{_service(one)} to answer {one['type']}" for one in out)
    sends = order.get("sends") or 0
    return f"{commands} (sent {sends} time{'s' if sends != 1 else ''})"


def what_to_do(order: Document) -> list[str]:
    """A line each; none where the order goes its way or has ended."""
    if order.get("unreadable"):
        return [
            "This code can't read the order's row: newer code wrote it, or it is damaged.",
            "Nothing can be done to it until an orchestrator can read it; deploy the newer code.",
        ]
    if order.get("stuck"):
        return [*_looked_into(order), *_commands(order)]
    match order.get("state"):
        case "PENDING":
            return ["Nothing: it starts by itself once fewer others wait (SAGAS_WAITING)."]
        case "AWAITING_PAYMENT":
            return ["Nothing: it waits for its PayOrder, and is rejected where none comes in time."]
        case _ if _asks_gateway(order):
            return [
                "Nothing yet: payment answers once it knows what became of the charge at the",
                "gateway, and is asked again by itself until then. A quarantined payment waits",
                f"for a person: `orderctl payment show {order.get('orderId')}` tells.",
            ]
        case _ if order.get("waitsFor"):
            return ["Nothing yet: what is unanswered is sent again by itself."]
    return []


def _asks_gateway(order: Document) -> bool:
    """Whether an answer is due from payment that may hang on the gateway's."""
    payment = (order.get("ordered") or {}).get("payment") or {}
    types = {one["type"] for one in order.get("waitsFor") or ()}
    return payment.get("method") == "gateway" and not types.isdisjoint(_PAYMENTS)


def _looked_into(order: Document) -> list[str]:
    """What to look at first, by why the order is stuck."""
    why = str(order["stuck"].get("why"))
    services = " and ".join(dict.fromkeys(_service(one) for one in order.get("waitsFor") or ()))
    if why.startswith("unreadable"):
        return ["An orchestrator of other code couldn't read it; this one can. Retry it."]
    if why.startswith("unanswered"):
        return [
            f"1. See why {services} doesn't answer: `make status`, its log, `orderctl watch`."
            if services
            else "1. See which service doesn't answer: `make status`, `orderctl watch`."
        ]
    if "is a dead letter" in why:
        mended = "once that is mended, replay it: the order then goes on by itself"
        return [f"1. See what was wrong with the message: `orderctl dlq list`; {mended}."]
    return [f"1. A reply contradicts its command: look into {services or 'the service'}'s log."]


def _commands(order: Document) -> list[str]:
    order_id = order["orderId"]
    types = ", ".join(one["type"] for one in order.get("waitsFor") or ())
    lines = [
        f"2. Send {types or 'its commands'} again:",
        f"     orderctl retry {order_id} --note WHY",
    ]
    if order.get("state") in ("RESERVING", "HOLDING", "CHARGING"):
        lines += [
            "   or give it up, and undo what may be done:",
            f"     orderctl cancel {order_id} --note WHY",
        ]
    outcomes = " or ".join(order.get("settleAs") or ())
    if outcomes:
        lines += [
            f"   or, once you did by hand what it owes, end it as {outcomes}:",
            f"     orderctl settle {order_id} --outcome {order['settleAs'][0]} --note WHAT-YOU-DID",
        ]
    return lines


def _service(command: Document) -> str:
    return str(command["topic"]).partition(".")[0]
