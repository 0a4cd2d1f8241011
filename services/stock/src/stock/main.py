"""The composition root: settings in, a running service out."""

from __future__ import annotations

from shared.background import Loop
from shared.kafka.publisher import Publisher
from shared.lease import Lease
from shared.service import Service, run
from shared.settings import load_settings
from stock.consumers import routes
from stock.levels import TOPIC, LevelFeed
from stock.settings import Settings


def compose(settings: Settings) -> Service:
    """Wire stock together."""
    service = Service("stock", settings, package="stock", routes=routes(settings.currency))
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
    )
    service.add_loop(Loop("levels", feed.run_once, settings.levels_interval_s))
    return service


def main() -> None:
    """Run until SIGTERM."""
    settings = load_settings(Settings)
    run(lambda: compose(settings), settings)


if __name__ == "__main__":
    main()
