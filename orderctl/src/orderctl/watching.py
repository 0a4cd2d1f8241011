"""How the system does, from the metrics of its services: nothing is asked of database or broker."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_S: Final = 3.0


@dataclass(slots=True)
class Sight:
    """What the services told at one moment."""

    at_s: float
    states: Counter[str] | None = None
    """Sagas under way, by state. None where no orchestrator told it."""
    stuck: int | None = None
    """None where no orchestrator told it."""
    ended: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Orders that got their outcome since the instance started, by instance and status."""
    pending_chunks: Counter[str] = field(default_factory=Counter)
    """By service."""
    lag: Counter[str] = field(default_factory=Counter)
    """By consumer group."""
    away: list[str] = field(default_factory=list)
    """Instances that don't answer."""

    def rates(self, before: Sight | None) -> dict[str, float] | None:
        """Outcomes a second since `before`, by status. None where no orchestrator answers, or an
        instance came, went or started anew in between, since then nobody knows."""
        if before is None or self.at_s <= before.at_s or self.away != before.away:
            return None
        if self.states is None:
            return None
        rates: dict[str, float] = {}
        for (name, status), ended in self.ended.items():
            grown = ended - before.ended[name, status]
            if grown < 0:
                return None
            rates[status] = rates.get(status, 0.0) + grown / (self.at_s - before.at_s)
        return None if before.ended.keys() - self.ended.keys() else rates


class Watcher:
    """Asks all instances at once."""

    def __init__(
        self, instances: Mapping[str, str], transport: httpx.BaseTransport | None = None
    ) -> None:
        """`instances` are admin ports by name, as `STOCK_0`."""
        self._instances = dict(sorted(instances.items()))
        self._client = httpx.Client(timeout=TIMEOUT_S, transport=transport)

    def look(self) -> Sight:
        """How the system does now; raises nothing for what is away."""
        sight = Sight(time.monotonic())
        with ThreadPoolExecutor(max(len(self._instances), 1)) as pool:
            texts = pool.map(self._metrics, self._instances.values())
        for name, text in zip(self._instances, texts, strict=True):
            if text is None:
                sight.away.append(name)
            else:
                _add(sight, name, text)
        return sight

    def _metrics(self, url: str) -> str | None:
        try:
            response = self._client.get(f"{url.rstrip('/')}/metrics")
        except (httpx.HTTPError, httpx.InvalidURL):
            return None
        return response.text if response.is_success else None


_READ: Final = frozenset(
    {"saga_active", "saga_stuck", "orders_total", "outbox_pending", "consumer_lag_records"}
)


def _add(sight: Sight, name: str, text: str) -> None:
    try:
        samples = [
            (sample, int(sample.value))
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name in _READ
        ]
    except (ValueError, OverflowError):
        sight.away.append(name)
        return
    for sample, value in samples:
        labels = sample.labels
        match sample.name:
            # Each orchestrator counts all sagas, some seconds apart, and its own outcomes.
            case "saga_active":
                sight.states = Counter() if sight.states is None else sight.states
                sight.states[labels["state"]] = max(sight.states[labels["state"]], value)
            case "saga_stuck":
                sight.stuck = max(sight.stuck or 0, value)
            case "orders_total":
                sight.ended[name, labels["status"]] += value
            # Each instance counts its service's whole outbox, and its own partitions.
            case "outbox_pending":
                service = name.rpartition("_")[0].lower().replace("_", "-")
                sight.pending_chunks[service] = max(sight.pending_chunks[service], value)
            case "consumer_lag_records":
                sight.lag[labels["group"]] += value
