"""The composition root: settings in, a running service out."""

from __future__ import annotations

from coupon.api import CampaignsApi
from coupon.census import CENSUS_INTERVAL_S, Census
from coupon.consumers import routes
from coupon.doorkeeper import Doorkeeper
from coupon.drawer import Drawer
from coupon.gates import Gates
from coupon.locks import Locks
from coupon.reconciler import LEASE, Reconciler
from coupon.settings import Settings
from shared.background import Loop
from shared.lease import Lease
from shared.process import run
from shared.service import Service
from shared.settings import load_settings


def compose(settings: Settings) -> Service:
    """Wire coupon together."""
    gates = Gates(settings.redis_url.get_secret_value(), retries=settings.redis_retries)
    locks = Locks(gates, lambda: service.pool, lease_s=settings.lock_lease_s)
    doorkeeper = Doorkeeper(gates, locks, lambda: service.pool)
    service = Service(
        "coupon", settings, package="coupon", routes=routes(settings.currency, doorkeeper)
    )
    service.closing(doorkeeper)
    reconciler = Reconciler(
        doorkeeper,
        service.pool,
        Lease(service.pool, LEASE, settings.instance_id, lease_s=settings.gates_lease_s),
    )
    service.add_loop(Loop("gates", reconciler.run_once, settings.gates_interval_s))
    service.add_loop(Loop("returns", doorkeeper.returns.run_once, 0.0))
    service.add_loop(Loop("draws", Drawer(service.work).run_once, settings.draw_interval_s))
    service.add_loop(Loop("census", Census(service.pool).run_once, CENSUS_INTERVAL_S))
    service.add_admin_routes(CampaignsApi(service.pool).routes())
    return service


def main() -> None:
    """Run until SIGTERM."""
    settings = load_settings(Settings)
    run(lambda: compose(settings), settings)


if __name__ == "__main__":
    main()
