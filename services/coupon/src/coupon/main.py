"""The composition root: settings in, a running service out."""

from __future__ import annotations

from coupon.api import CampaignsApi
from coupon.consumers import routes
from coupon.settings import Settings
from shared.service import Service, run
from shared.settings import load_settings


def compose(settings: Settings) -> Service:
    """Wire coupon together."""
    service = Service("coupon", settings, package="coupon", routes=routes(settings.currency))
    service.add_admin_routes(CampaignsApi(service.pool).routes())
    return service


def main() -> None:
    """Run until SIGTERM."""
    settings = load_settings(Settings)
    run(lambda: compose(settings), settings)


if __name__ == "__main__":
    main()
