"""The operator's command line."""

from __future__ import annotations

from typing import Any, Final

import typer
from typer.core import TyperGroup

from orderctl.lazily import add_commands

COMMANDS: Final = {
    "place": (
        "orderctl.order_commands:place",
        "Publish the order commands of a file, one JSON object a line.",
    ),
    "show": (
        "orderctl.order_commands:show",
        "Show how an order stands: its steps, what it owes, its history, what to do about it.",
    ),
    "list": (
        "orderctl.list_command:list_orders",
        "List orders; without a filter those that wait for an operator, by why they do.",
    ),
    "cancel": (
        "orderctl.act_commands:cancel",
        "Cancel orders, as their users could: refused once an order is confirmed.",
    ),
    "retry": ("orderctl.act_commands:retry", "Send the commands of stuck orders again."),
    "settle": (
        "orderctl.act_commands:settle",
        "End stuck orders by your word; what they still owe is written off.",
    ),
    "drain": (
        "orderctl.drain_command:drain",
        "Tell what is under way, and what of it blocks a deploy; exit code 1 where something does.",
    ),
    "watch": (
        "orderctl.watch_command:watch",
        "Watch orders go by: under way by state, outcomes a second, stuck, outboxes and lag.",
    ),
    "audit": (
        "orderctl.audit_command:audit_command",
        "Check every invariant over all schemas, topics, counters and the gateway. Writes nothing.",
    ),
    "migrate": (
        "orderctl.migrate_command:migrate_command",
        "Create roles and schemas where they are missing, and bring every schema up to date.",
    ),
}
DEAD_LETTERS: Final = {
    "list": (
        "orderctl.dead_letters.list_command:list_letters",
        "Count the dead letters by cause: topic of origin, reason, type.",
    ),
    "show": (
        "orderctl.dead_letters.show_command:show_letter",
        "Show one dead letter: what it is, why it is one, and what to do about it.",
    ),
    "replay": (
        "orderctl.dead_letters.replay_command:replay_letters",
        "Send dead letters again to where they came from, under their own key and ids.",
    ),
}
STOCK: Final = {
    "show": (
        "orderctl.stock_commands:show",
        "Show a product: its price, its strategy and its units.",
    ),
    "list": (
        "orderctl.stock_commands:list_products",
        "List the products and their units, in the order of their ids.",
    ),
    "advise": (
        "orderctl.stock_commands:advise",
        "Say which strategy contended products should have, and why.",
    ),
    "receive": (
        "orderctl.stock_commands:receive",
        "Add units that have come in: they can be sold at once.",
    ),
    "write-off": (
        "orderctl.stock_commands:write_off",
        "Take away units that are available. What orders hold can't be written off.",
    ),
    "strategy": (
        "orderctl.stock_commands:strategy",
        "Choose how orders for a product are decided; orders may flow meanwhile.",
    ),
}
COUPON: Final = {
    "show": (
        "orderctl.coupon_commands:show",
        "Show a campaign: its kind, its life, its discount, and what became of its coupons.",
    ),
    "list": (
        "orderctl.coupon_commands:list_campaigns",
        "List the campaigns, in the order of their ids.",
    ),
    "put": (
        "orderctl.coupon_commands:put",
        "Put a campaign as a file says it, or change one that runs.",
    ),
}
PAYMENT: Final = {
    "show": (
        "orderctl.payment_commands:show",
        "Show a payment: its state, what was asked of the gateway, and what it moved.",
    ),
    "list": (
        "orderctl.payment_commands:list_payments",
        "List payments, in the order of their ids; the open ones with the oldest first.",
    ),
    "ask": (
        "orderctl.payment_commands:ask",
        "Have the gateway asked anew, now, about orders whose payment isn't final.",
    ),
    "close": (
        "orderctl.payment_commands:close",
        "Say that no money of these orders is at the gateway any more: you saw to it.",
    ),
    "reconcile": (
        "orderctl.reconcile_command:reconcile_command",
        "Compare our book with the gateway's, line by line. Writes nothing.",
    ),
}
LOTTERY: Final = {
    "draw": (
        "orderctl.lottery_commands:draw",
        "Draw a lottery: its winners are decided for good, and its seed is published.",
    ),
    "verify": (
        "orderctl.lottery_commands:verify_draw",
        "Recompute a draw from what is published, and say whether it is as it was promised.",
    ),
}
TOPICS: Final = {
    "create": ("orderctl.topic_commands:create", "Create the topics that are missing."),
    "check": (
        "orderctl.topic_commands:check",
        "Say which topics are missing or have another number of partitions.",
    ),
}


class Commands(TyperGroup):
    """Says where the addresses come from that are missing."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            # one without a message is a parameter that is missing
            if not error.message and getattr(error.param, "envvar", None):
                error.message = "`export $(make -s env)` sets it"
            raise


app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, help=__doc__)
topics_app = typer.Typer(no_args_is_help=True)
letters_app = typer.Typer(no_args_is_help=True)
stock_app = typer.Typer(no_args_is_help=True)
coupon_app = typer.Typer(no_args_is_help=True)
payment_app = typer.Typer(no_args_is_help=True)
lottery_app = typer.Typer(no_args_is_help=True)
add_commands(topics_app, TOPICS)
add_commands(stock_app, STOCK)
add_commands(coupon_app, COUPON)
add_commands(payment_app, PAYMENT)
add_commands(lottery_app, LOTTERY)
add_commands(letters_app, DEAD_LETTERS)
add_commands(app, COMMANDS)
app.add_typer(topics_app, name="topics", help="Create and check the topics.")
app.add_typer(
    stock_app,
    name="stock",
    help="Products: how they stand, their units and their strategies.",
)
app.add_typer(coupon_app, name="coupon", help="Coupons: how their campaigns stand, and put one.")
app.add_typer(
    payment_app,
    name="payment",
    help="Payments: how they stand, and whether the gateway's book agrees.",
)
app.add_typer(lottery_app, name="lottery", help="Lotteries: draw one, and verify a draw.")
app.add_typer(
    letters_app,
    name="dlq",
    help="Dead letters, which are messages that could not be obeyed: look, and send again.",
)


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
