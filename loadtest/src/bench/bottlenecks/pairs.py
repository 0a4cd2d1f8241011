"""The bottlenecks, as data: a setting's value of before beside the one that is the default now."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from local_stack.seed import PRODUCTS, product_id
from payment.settings import Settings as PaymentSettings
from shared.settings import ProcessSettings, ServiceSettings
from storefront.settings import Settings as StorefrontSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STOCK, COUPON, PAYMENT = "stock", "coupon", "payment"
ORCHESTRATOR, STOREFRONT = "order-orchestrator", "storefront"
WITH_CHUNKS: Final = (STOCK, COUPON, PAYMENT, ORCHESTRATOR)
DOUBLED: Final = (STOCK, ORCHESTRATOR)
"""Of which a side may want second instances."""
HOT_PRODUCT: Final = "P001"
REDIS_PRODUCT: Final = "HOT-REDIS"
"""Sold by the strategy `redis`; the run creates it."""
GATEWAY_TAKES_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two that are put side by side."""

    label: str
    settings: Mapping[str, str] = field(default_factory=dict)
    """Environment of the pair's services."""
    script: Mapping[str, str] = field(default_factory=dict)
    """What the journey is told."""
    instances: int = 1
    """Of each service in DOUBLED."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A bottleneck: what it was like before, and now."""

    name: str
    shows: str
    services: Sequence[str]
    """Whose setting it is: they start anew before each turn of either side. None, where the sides
    differ in no setting."""
    before: Side
    now: Side
    gateway_s: float = 0.0
    """How long the gateway takes for each charge."""
    by_default: bool = True
    """Whether a run has it that was not told which to take: it has some minutes for all."""


def _setting(
    name: str, shows: str, services: Sequence[str], kind: type[ProcessSettings],
    before: Mapping[str, str], *, gateway_s: float = 0.0, script: Mapping[str, str] | None = None,
) -> Pair:  # fmt: skip
    """Values of before beside the defaults that `kind` has now."""
    now = {one: f"{kind.model_fields[one.lower()].default:g}" for one in before}
    was, is_now = (Side(_words(values), values, script or {}) for values in (before, now))
    return Pair(name, shows, services, was, is_now, gateway_s)


def _words(settings: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in settings.items())


PAIRS: Final = (
    _setting(
        "pool",
        "With the fewest connections an instance may have, its chunks and loops wait for each"
        " other.",
        WITH_CHUNKS, ServiceSettings, {"DATABASE_CONNECTIONS": "3"},
    ),
    _setting(
        "catalogue",
        "A catalogue that is kept for a second is loaded from stock every second; one load serves"
        " everybody, so that there may be nothing to see.",
        (STOREFRONT,), StorefrontSettings, {"PRODUCT_CACHE_S": "1", "HOT_CACHE_S": "1"},
    ),
    Pair(
        "hot-row",
        "All orders want one row of stock's, or 100 rows in turn: how much of the time is"
        " contention for one row.",
        (),
        Side(f"all buy {HOT_PRODUCT}", script={"PRODUCTS": HOT_PRODUCT}),
        Side(
            f"{product_id(1)} to {product_id(PRODUCTS)} in turn",
            script={"PRODUCTS": ",".join(product_id(n) for n in range(1, PRODUCTS + 1))},
        ),
    ),
    Pair(
        "strategy",
        "One hot product behind a counter in Redis beside the row alone, as seeded: whether the"
        " counter relieves a product that is not scarce.",
        (),
        Side("strategy redis", script={"PRODUCTS": REDIS_PRODUCT}),
        Side("strategy optimistic", script={"PRODUCTS": HOT_PRODUCT}),
        by_default=False,
    ),
    _setting(
        "gateway",
        f"The gateway takes {GATEWAY_TAKES_S:g} s for each charge, and every order is paid there:"
        " requests at once, not processors, are the limit.",
        (PAYMENT,), PaymentSettings, {"GATEWAY_CALLS_AT_ONCE": "10"},
        gateway_s=GATEWAY_TAKES_S, script={"METHOD": "gateway"},
    ),
    Pair(
        "workers",
        "Two instances each of stock and the orchestrator on the same processors: more workers"
        " help where work waits for something else than the processors.",
        (),
        Side("stock=2,order-orchestrator=2", instances=2),
        Side("one instance each"),
    ),
)  # fmt: skip
NAMES: Final = tuple(pair.name for pair in PAIRS)
