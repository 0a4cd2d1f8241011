"""The composition root: settings in, a running service out."""

from __future__ import annotations

from shared.background import Loop
from shared.kafka.publisher import Publisher
from shared.lease import Lease
from shared.process import run
from shared.service import Service
from shared.settings import load_settings
from stock.admitter import Admitter
from stock.adviser import LEASE as ADVISER
from stock.adviser import Adviser
from stock.api import LevelsApi
from stock.consumers import routes
from stock.contention import Contention
from stock.counters import HotCounters
from stock.levels import TOPIC, LevelFeed
from stock.low_stock import LowStockCount
from stock.reconciler import LEASE as COUNTERS
from stock.reconciler import Reconciler
from stock.settings import Settings

LOW_STOCK_INTERVAL_S = 10.0


def compose(settings: Settings) -> Service:
    """Wire stock together."""
    counters = HotCounters(settings.redis_url.get_secret_value(), retries=settings.redis_retries)
    admitter = Admitter(counters, lambda: service.pool)
    contention = Contention(lambda: service.pool)
    service = Service(
        "stock",
        settings,
        package="stock",
        routes=routes(settings.currency, admitter, contention, settings.low_stock_units),
    )
    service.closing(admitter)
    reconciler = Reconciler(
        admitter,
        service.pool,
        Lease(service.pool, COUNTERS, settings.instance_id, lease_s=settings.counters_lease_s),
    )
    service.add_loop(Loop("counters", reconciler.run_once, settings.counters_interval_s))
    service.add_loop(Loop("returns", admitter.returns.run_once, 0.0))
    adviser = Adviser(
        service.pool,
        service.work,
        Lease(service.pool, ADVISER, settings.instance_id, lease_s=3 * settings.advice_interval_s),
    )
    service.add_loop(Loop("contention", contention.run_once, settings.advice_interval_s))
    service.add_loop(Loop("adviser", adviser.run_once, settings.advice_interval_s))
    publisher = service.closing(
        Publisher(
            service.kafka, f"{settings.instance_id}-levels", timeout_s=settings.publish_timeout_s
        )
    )
    feed = LevelFeed(
        service.pool,
        Lease(service.pool, TOPIC, settings.instance_id, lease_s=settings.levels_lease_s),
        publisher,
        lease_s=settings.levels_lease_s,
        compare_s=settings.levels_compare_s,
    )
    service.add_loop(Loop("levels", feed.run_once, settings.levels_interval_s))
    if settings.low_stock_units:
        count = LowStockCount(service.pool, settings.low_stock_units)
        service.add_loop(Loop("low stock", count.run_once, LOW_STOCK_INTERVAL_S))
    service.add_admin_routes(
        LevelsApi(service.pool, low_stock_units=settings.low_stock_units).routes()
    )
    return service


def main() -> None:
    """Run until SIGTERM."""
    settings = load_settings(Settings)
    run(lambda: compose(settings), settings)


if __name__ == "__main__":
    main()
