"""The registry of topics: what lies on each, by whose hand, keyed by what, kept how long.

`AsyncAPI`, the topics command, the readers and the routing tests all take it from here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

from shared.contracts.base import Message
from shared.contracts.coupon import (
    CampaignPut,
    CouponHeld,
    CouponIssued,
    CouponRefused,
    CouponRequestRefused,
    CouponRestored,
    CouponUsed,
    DrawLottery,
    EnterLottery,
    HoldCoupon,
    IssueCoupon,
    LotteryDrawn,
    LotteryEntered,
    PutCampaign,
    RestoreCoupon,
    UseCoupon,
)
from shared.contracts.orders import (
    CancelOrder,
    OrderAccepted,
    OrderAwaitingPayment,
    OrderCancelled,
    OrderConfirmed,
    OrderRejected,
    PayOrder,
    PlaceOrder,
)
from shared.contracts.payment import (
    ChargePayment,
    GrantPoints,
    PaymentCharged,
    PaymentRefunded,
    PaymentRefused,
    PointsGranted,
    RefundPayment,
    TopUpWallet,
    WalletToppedUp,
)
from shared.contracts.refusals import CommandRefused
from shared.contracts.stock import (
    AdjustStock,
    CommitStock,
    ProductPut,
    PutProduct,
    ReleaseStock,
    ReserveStock,
    SetStockStrategy,
    StockAdjusted,
    StockCommitted,
    StockLevel,
    StockLow,
    StockRefused,
    StockReleased,
    StockReserved,
    StockStrategySet,
)

Kind = Literal["commands", "requests", "admin", "replies", "events", "state", "dead_letters"]

PARTITIONS: Final = 12
_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS
RETENTION_MS: Final = 7 * _DAY_MS
"""Of commands, requests and replies. Inboxes and tombstones must outlive it."""
EVENT_RETENTION_MS: Final = 30 * _DAY_MS
DEAD_LETTER_RETENTION_MS: Final = 30 * _DAY_MS
MAX_MESSAGE_BYTES: Final = 1_048_576
"""Of a topic. Readers refuse values above 256 KiB, so such a value with all the headers of a
dead letter still fits into twice this."""
MAX_DEAD_LETTER_BYTES: Final = 2 * MAX_MESSAGE_BYTES

SAGA: Final = "order-orchestrator"
OUTSIDE: Final = "outside"
"""Writer or reader that is no part of this deployment: upstreams, shops, operators."""


@dataclass(frozen=True, slots=True)
class Topic:
    """`owner` is the service whose contract it is, `writer` who may write, `readers` groups.

    `key` is the attribute of each message that gives the Kafka key; dead letters keep the key
    that they had. `public` topics are written by others, so that their values are looked
    through more strictly (see `reading`).
    """

    name: str
    kind: Kind
    owner: str
    key: str
    messages: tuple[type[Message], ...]
    writer: str
    readers: tuple[str, ...]
    partitions: int = PARTITIONS
    config: Mapping[str, str] = field(default_factory=dict)

    @property
    def public(self) -> bool:
        return self.writer == OUTSIDE

    def key_of(self, message: Message) -> str:
        """The Kafka key of a message on this topic. A refusal carries its command's."""
        key: str = getattr(message, "key" if isinstance(message, CommandRefused) else self.key)
        return key


def _config(retention_ms: int, max_message_bytes: int = MAX_MESSAGE_BYTES) -> Mapping[str, str]:
    return MappingProxyType(
        {
            "cleanup.policy": "delete",
            "retention.ms": str(retention_ms),
            "max.message.bytes": str(max_message_bytes),
        }
    )


_WORK: Final = _config(RETENTION_MS)
_EVENTS: Final = _config(EVENT_RETENTION_MS)
_COMPACTED: Final = MappingProxyType(
    {
        "cleanup.policy": "compact",
        "min.cleanable.dirty.ratio": "0.1",
        "segment.ms": str(_HOUR_MS),
        "delete.retention.ms": str(_DAY_MS),
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
    }
)


def dead_letter_topic(group: str) -> str:
    """The name of the topic that takes what a group couldn't read or apply."""
    return f"{group}.dlq.v1"


# fmt: off
_LIVE: Final = (
    Topic("orders.commands.v1", "commands", SAGA, "order_id",
          (PlaceOrder, PayOrder, CancelOrder),
          OUTSIDE, ("order-orchestrator-requests",), config=_WORK),
    Topic("orders.events.v1", "events", SAGA, "order_id",
          (OrderAccepted, OrderAwaitingPayment, OrderConfirmed, OrderRejected, OrderCancelled,
           CommandRefused),
          SAGA, (OUTSIDE,), config=_EVENTS),
    Topic("stock.commands.v1", "commands", "stock", "order_id",
          (ReserveStock, CommitStock, ReleaseStock),
          SAGA, ("stock",), config=_WORK),
    Topic("coupon.commands.v1", "commands", "coupon", "order_id",
          (HoldCoupon, UseCoupon, RestoreCoupon),
          SAGA, ("coupon",), config=_WORK),
    Topic("payment.commands.v1", "commands", "payment", "order_id",
          (ChargePayment, RefundPayment),
          SAGA, ("payment",), config=_WORK),
    Topic("stock.replies.v1", "replies", "stock", "order_id",
          (StockReserved, StockRefused, StockCommitted, StockReleased),
          "stock", (SAGA,), config=_WORK),
    Topic("coupon.replies.v1", "replies", "coupon", "order_id",
          (CouponHeld, CouponRefused, CouponUsed, CouponRestored),
          "coupon", (SAGA,), config=_WORK),
    Topic("payment.replies.v1", "replies", "payment", "order_id",
          (PaymentCharged, PaymentRefused, PaymentRefunded),
          "payment", (SAGA,), config=_WORK),
    Topic("stock.admin.v1", "admin", "stock", "product_id",
          (PutProduct, AdjustStock, SetStockStrategy),
          OUTSIDE, ("stock-requests",), config=_WORK),
    Topic("coupon.admin.v1", "admin", "coupon", "coupon_id",
          (PutCampaign, DrawLottery),
          OUTSIDE, ("coupon-requests",), config=_WORK),
    Topic("coupon.requests.v1", "requests", "coupon", "coupon_id",
          (IssueCoupon, EnterLottery),
          OUTSIDE, ("coupon-requests",), config=_WORK),
    Topic("wallet.requests.v1", "requests", "payment", "user_id",
          (TopUpWallet, GrantPoints),
          OUTSIDE, ("payment-requests",), config=_WORK),
    Topic("stock.events.v1", "events", "stock", "product_id",
          (ProductPut, StockAdjusted, StockStrategySet, StockLow, CommandRefused),
          "stock", (OUTSIDE,), config=_EVENTS),
    Topic("coupon.events.v1", "events", "coupon", "coupon_id",
          (CampaignPut, CouponIssued, CouponRequestRefused, LotteryEntered, LotteryDrawn,
           CommandRefused),
          "coupon", (OUTSIDE,), config=_EVENTS),
    Topic("wallet.events.v1", "events", "payment", "user_id",
          (WalletToppedUp, PointsGranted, CommandRefused),
          "payment", (OUTSIDE,), config=_EVENTS),
    Topic("stock.levels.v1", "state", "stock", "product_id",
          (StockLevel,),
          "stock", (OUTSIDE,), config=_COMPACTED),
)

_SAGA_DEAD_LETTERS: Final = tuple(
    dead_letter_topic(group) for group in ("stock", "coupon", "payment", SAGA)
)

GROUPS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({
    "stock": ("stock.commands.v1",),
    "stock-requests": ("stock.admin.v1",),
    "coupon": ("coupon.commands.v1",),
    "coupon-requests": ("coupon.admin.v1", "coupon.requests.v1"),
    "payment": ("payment.commands.v1",),
    "payment-requests": ("wallet.requests.v1",),
    "order-orchestrator": ("stock.replies.v1", "coupon.replies.v1", "payment.replies.v1"),
    "order-orchestrator-requests": ("orders.commands.v1",),
    "order-orchestrator-dead-letters": _SAGA_DEAD_LETTERS,
})
"""Consumer group -> the topics that it reads. A group's service is its name up to `-requests` or
`-dead-letters`. The last one marks the sagas of internal dead letters as stuck."""
# fmt: on


def service_of(group: str) -> str:
    """The service that runs a consumer group."""
    return group.removesuffix("-requests").removesuffix("-dead-letters")


def _dead_letters(group: str) -> Topic:
    name = dead_letter_topic(group)
    readers = tuple(reader for reader, topics in GROUPS.items() if name in topics)
    return Topic(
        name,
        "dead_letters",
        service_of(group),
        "",
        (),
        service_of(group),
        (*readers, OUTSIDE),
        config=_config(DEAD_LETTER_RETENTION_MS, MAX_DEAD_LETTER_BYTES),
    )


TOPICS: Final[Mapping[str, Topic]] = MappingProxyType(
    {topic.name: topic for topic in (*_LIVE, *(_dead_letters(group) for group in GROUPS))}
)
"""Every topic of a deployment by its name without the deployment's prefix."""
