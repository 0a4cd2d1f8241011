"""The composition root: settings in, a running service out."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from order_orchestrator.admission import Admission, AdmissionLoop
from order_orchestrator.api import OperatorApi
from order_orchestrator.chunk import Sagas
from order_orchestrator.consumers import REPLIES, REQUESTS, routes
from order_orchestrator.horizon import ReadHorizon
from order_orchestrator.orders import OrdersApi
from order_orchestrator.searching import SearchApi
from order_orchestrator.settings import Settings
from order_orchestrator.store import SagaMemory
from order_orchestrator.timers import Census, ParkedCommands, Timers
from shared.background import Loop
from shared.contracts.topics import GROUPS
from shared.process import run
from shared.service import Service
from shared.settings import load_settings

if TYPE_CHECKING:
    from datetime import datetime

CENSUS_INTERVAL_S = 5.0
PARKED_INTERVAL_S = 5.0
SAGAS_REMEMBERED = 10_000


def compose(settings: Settings) -> Service:
    """Wire the orchestrator together."""
    sagas = Sagas(settings.limits(), SagaMemory(SAGAS_REMEMBERED))
    admission = Admission(settings.sagas_waiting)
    service = Service(
        "order-orchestrator",
        settings,
        package="order_orchestrator",
        routes=routes(settings.currency, sagas, admission),
    )

    async def now() -> datetime:
        async with service.pool.acquire() as connection:
            return await sagas.store(connection).now()

    horizons = {
        group: ReadHorizon(group, GROUPS[group], service.kafka, now)
        for group in (REPLIES, REQUESTS)
    }
    timers = Timers(service.work, sagas, horizons[REPLIES], horizons[REQUESTS])
    parked = ParkedCommands(service.work, sagas, keep_s=settings.parked_keep_s)
    starts = AdmissionLoop(
        admission, service.pool, service.work, sagas, settings.admission_interval_s
    )
    for group, horizon in horizons.items():
        service.closing(horizon)
        look = partial(_look, horizon, service, group)
        service.add_loop(Loop(f"horizon {group}", look, settings.horizon_interval_s))
    service.add_loop(Loop("timers", timers.run_once, settings.timer_interval_s))
    service.add_loop(Loop("admission", starts.run_once, settings.admission_interval_s))
    service.add_loop(Loop("parked", parked.run_once, PARKED_INTERVAL_S))
    service.add_loop(Loop("census", Census(service.pool).run_once, CENSUS_INTERVAL_S))
    service.add_admin_routes(OperatorApi(service.pool, service.work, sagas).routes())
    service.add_admin_routes(SearchApi(service.pool).routes())
    service.add_admin_routes(OrdersApi(service.pool).routes())
    return service


async def _look(horizon: ReadHorizon, service: Service, group: str) -> None:
    await horizon.run_once(service.consumer(group))


def main() -> None:
    """Run until SIGTERM."""
    settings = load_settings(Settings)
    run(lambda: compose(settings), settings)


if __name__ == "__main__":
    main()
