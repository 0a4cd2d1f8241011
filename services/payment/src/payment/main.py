"""The composition root: settings in, a running service out."""

from __future__ import annotations

from starlette.applications import Starlette

from payment.callbacks import Callbacks
from payment.consumers import routes
from payment.courier import CLAIM_INTERVAL_S, Courier
from payment.gateway import Gateway
from payment.settings import Settings
from payment.settler import Inflow, Settler
from shared.background import Loop
from shared.service import Service, run
from shared.settings import load_settings


def compose(settings: Settings) -> Service:
    """Wire payment together."""
    if settings.gateway_url is None:
        own = routes(settings.currency, None)
        return Service("payment", settings, package="payment", routes=own)
    inflow = Inflow()
    courier = Courier(
        Gateway(
            settings.gateway_url,
            settings.gateway_api_key.get_secret_value(),
            timeout_s=settings.gateway_timeout_s,
            at_once=settings.gateway_calls_at_once,
        ),
        inflow,
        lambda: service.pool,
        settings.instance_id,
        settings.gateway(),
    )
    service = Service(
        "payment", settings, package="payment", routes=routes(settings.currency, courier)
    )
    service.closing(courier)
    settler = Settler(
        inflow, service.work, courier, currency=settings.currency, pace=settings.pace()
    )
    service.add_loop(Loop("gateway calls", courier.run_once, CLAIM_INTERVAL_S))
    service.add_loop(Loop("gateway news", settler.run_once, 0.0))
    if secret := settings.gateway_webhook_secret.get_secret_value():
        callbacks = Starlette(routes=Callbacks(inflow, secret).routes())
        service.add_server("callback", callbacks, settings.callback_host, settings.callback_port)
    return service


def main() -> None:
    """Run until SIGTERM."""
    settings = load_settings(Settings)
    run(lambda: compose(settings), settings)


if __name__ == "__main__":
    main()
