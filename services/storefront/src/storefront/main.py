"""The composition root: settings in, a running storefront out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from shared.background import Loop
from shared.contracts.refusals import CommandRefused
from shared.kafka.connection import KafkaConnection
from shared.kafka.outbound import Outbound
from shared.kafka.publisher import Publisher
from shared.kafka.tail import Tail
from shared.preconditions import wait_for_topics
from shared.process import Process, run
from shared.redis import Batched, HitRate
from shared.serving import HttpServer
from shared.settings import load_settings
from shared.telemetry.logs import get_logger
from storefront.admission import Admission
from storefront.api import application
from storefront.asking import Desk
from storefront.bodies import Bodies
from storefront.cart_api import CartApi
from storefront.catalogue import Catalogue
from storefront.catalogue_api import CatalogueApi
from storefront.coupons_api import CouponsApi, about
from storefront.feed import EVENTS, LEVELS, Feed
from storefront.identity import Identity
from storefront.listening import Listeners
from storefront.orders_api import OrdersApi
from storefront.patience import Patience
from storefront.peers import Orders, Peer
from storefront.settings import Settings
from storefront.store import Store
from storefront.streams import Streams
from storefront.streams_api import StreamsApi
from storefront.watching import LevelsTold, OrderTold

if TYPE_CHECKING:
    from starlette.routing import Route

    from shared.contracts.base import Message

_log = get_logger(__name__)

HIT_RATE_EVERY_S: Final = 10.0
SCRIPTS: Final = ("hold_place", "put_line")


class Storefront(Process):
    """A process that answers HTTP requests from what it hears on topics."""

    def __init__(self, settings: Settings) -> None:
        """Wire its parts."""
        super().__init__("storefront", settings)
        self._kafka = KafkaConnection.of(settings)
        publisher = self.closing(
            Publisher(self._kafka, settings.instance_id, timeout_s=settings.publish_timeout_s)
        )
        self._patience = Patience(settings.answer_within_s)
        within_s = min(settings.publish_timeout_s, settings.answer_within_s)
        outbound = Outbound(publisher, within_s=within_s)
        self._orders_heard = Listeners("orders.events.v1", _order_of)
        self._coupons_heard = Listeners("coupon.events.v1", about)
        self._feed = Feed()
        takers = {
            "orders.events.v1": self._orders_heard.take,
            "coupon.events.v1": self._coupons_heard.take,
            LEVELS: self._feed.take_levels,
            EVENTS: self._feed.take_events,
        }
        self._topics = ("orders.commands.v1", "coupon.requests.v1", *takers)
        self._tail = Tail(self._kafka, settings.instance_id, takers, self._feed.follow)
        redis = self.closing(
            Batched(
                settings.redis_url.get_secret_value(),
                "storefront",
                SCRIPTS,
                retries=settings.redis_retries,
            )
        )
        self._streams = Streams(settings.streams_at_most)
        self._drain_s = settings.drain_s
        self._finish_within_s = (settings.stop_grace_s - settings.drain_s) / 2
        self._http = HttpServer(
            application(self._routes(settings, outbound, redis)),
            settings.http_host,
            settings.http_port,
            name="HTTP",
            connections_at_most=settings.connections_at_most,
            finish_within_s=self._finish_within_s,
        )
        self.add_check("http", self._serves)
        self.add_loop(Loop("tail", self._tail.run_once, 0.0))
        self.add_loop(Loop("hit rate", HitRate(redis).run_once, HIT_RATE_EVERY_S))
        self.add_loop(Loop("commands", outbound.run_once, 0.0))
        if settings.identity == "open":
            _log.warning("identity_open", detail="whoever asks is who they say: for trying out")

    def _routes(self, settings: Settings, outbound: Outbound, redis: Batched) -> list[Route]:
        identity = Identity(settings)
        admission = Admission(settings.in_flight_at_most)
        bodies = Bodies(bytes_at_most=settings.body_bytes_at_most, within_s=settings.body_within_s)
        store = Store(
            redis,
            cart_keep_s=settings.cart_keep_s,
            cart_lines_at_most=settings.cart_lines_at_most,
            unpaid_keep_s=settings.unpaid_keep_s,
            unpaid_at_most=settings.unpaid_at_most,
        )
        orders = Orders(self.closing(Peer("orchestrator", settings.orchestrator_url)))
        stock = self.closing(Peer("stock", settings.stock_url))
        desk = Desk(self._orders_heard, outbound, orders, self._patience)
        coupons = CouponsApi(
            self._coupons_heard, outbound, bodies, identity, admission, self._patience
        )
        catalogue = Catalogue(
            stock, redis, self._feed, keep_s=settings.product_cache_s, hot_s=settings.hot_cache_s
        )
        levels, order = LevelsTold(self._feed, stock), OrderTold(self._orders_heard, desk)
        return [
            *CatalogueApi(catalogue).routes(),
            *CartApi(store, bodies, identity).routes(),
            *OrdersApi(desk, store, bodies, identity, admission).routes(),
            *coupons.routes(),
            *StreamsApi(self._streams, levels, order, identity).routes(),
        ]

    async def _prepare(self) -> None:
        await wait_for_topics(self._kafka, self._topics)

    async def _begin(self) -> None:
        await self._tail.started()
        self._serve(self._http)  # whoever asked before would not hear the answer

    async def _serves(self) -> str | None:
        if self._stop.is_set():
            return "it is told to stop"
        return None if self._http.started else "it has not heard of the broker yet"

    async def _finish(self) -> None:
        if self._http.started:
            await asyncio.sleep(self._drain_s)
            # a third is left to be written: whoever waits for an outcome is told where to ask
            patience = asyncio.get_running_loop().call_later(
                self._finish_within_s * 2 / 3, self._patience.end
            )
            await asyncio.gather(self._streams.end(), self._http.close())
            patience.cancel()
        await super()._finish()


def _order_of(event: Message) -> str | None:
    order_id: str | None = (
        event.key if isinstance(event, CommandRefused) else getattr(event, "order_id", None)
    )
    return order_id


def compose(settings: Settings) -> Storefront:
    """Wire the storefront together."""
    return Storefront(settings)


def main() -> None:
    """Run until SIGTERM."""
    settings = load_settings(Settings)
    run(lambda: compose(settings), settings)


if __name__ == "__main__":
    main()
