"""The composition root: settings in, a running service out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette

from payment.api import PaymentsApi
from payment.callbacks import Callbacks
from payment.census import CENSUS_INTERVAL_S, JANITOR_INTERVAL_S, Census
from payment.consumers import routes
from payment.courier import CLAIM_INTERVAL_S, Courier
from payment.gateway import Gateway
from payment.outcomes import REDIS_INTERVAL_S, Outcomes
from payment.settings import Settings
from payment.settler import Inflow, Settler
from shared.background import Loop
from shared.process import run
from shared.service import Service
from shared.serving import HttpServer
from shared.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.database import Pool


def compose(settings: Settings) -> Service:
    """Wire payment together."""
    outcomes = Outcomes(settings.redis_url.get_secret_value(), retries=settings.redis_retries)
    inflow = Inflow()
    courier = _courier(settings, inflow, lambda: service.pool)
    service = Service(
        "payment",
        settings,
        package="payment",
        routes=routes(
            settings.currency, courier, outcomes, takes_gateway=settings.gateway_takes_charges
        ),
    )
    service.closing(outcomes)
    service.add_loop(Loop("outcomes", outcomes.kept.run_once, 0.0))
    service.add_loop(Loop("outcomes' Redis", outcomes.find_redis, REDIS_INTERVAL_S))
    settler = Settler(
        inflow,
        service.work,
        courier,
        service.pool,
        currency=settings.currency,
        pace=settings.pace(),
        keep_s=settings.gateway_lease_s,
    )
    breaker = (lambda: courier.breaker.state.value) if courier else (lambda: "no gateway")
    service.add_admin_routes(PaymentsApi(service.pool, breaker, settler.close).routes())
    census = Census(service.pool, has_gateway=courier is not None)
    service.add_loop(Loop("census", census.run_once, CENSUS_INTERVAL_S))
    if courier is None:
        return service
    service.finishing(courier.finish)
    service.closing(courier)
    service.add_loop(Loop("gateway calls", courier.run_once, CLAIM_INTERVAL_S))
    service.add_loop(Loop("gateway news", settler.run_once, 0.0))
    service.add_loop(Loop("callbacks janitor", census.forget, JANITOR_INTERVAL_S))
    if secret := settings.gateway_webhook_secret.get_secret_value():
        app = Starlette(routes=Callbacks(inflow, secret).routes())
        service.add_server(
            HttpServer(app, settings.callback_host, settings.callback_port, name="callback")
        )
    return service


def _courier(settings: Settings, inflow: Inflow, pool: Callable[[], Pool]) -> Courier | None:
    """None where there is no gateway."""
    if settings.gateway_url is None:
        return None
    gateway = Gateway(
        settings.gateway_url,
        settings.gateway_api_key.get_secret_value(),
        timeout_s=settings.gateway_timeout_s,
    )
    return Courier(gateway, inflow, pool, settings.instance_id, settings.gateway())


def main() -> None:
    """Run until SIGTERM."""
    settings = load_settings(Settings)
    run(lambda: compose(settings), settings)


if __name__ == "__main__":
    main()
