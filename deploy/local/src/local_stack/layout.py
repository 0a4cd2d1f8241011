"""What the stack consists of, as data: the services, and the steps that run before them."""

import importlib.util
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from shared import services


@dataclass(frozen=True, slots=True)
class Service:
    """A program of ours: `python -m <module>`, once for each replica, as `<name>-<number>`."""

    name: str
    module: str
    role: str
    """The database role it connects as; its schema has the same name. Empty: it has no database."""
    replicas: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    listens: tuple[str, ...] = ()
    """What it has ports for beside the admin port: `CALLBACK` is told as `CALLBACK_HOST` and
    `CALLBACK_PORT`, and to others as `CALLBACK_URL_<PART>`."""
    calls: Mapping[str, str] = field(default_factory=dict)
    """Setting -> service: what it is told of the admin port of that service's first replica."""


@dataclass(frozen=True, slots=True)
class Step:
    """A program that runs to its end once the infrastructure is healthy, before any service."""

    name: str
    module: str
    arguments: tuple[str, ...]


OPERATOR_ROLE = "operator"

_LISTENS = {"payment": ("CALLBACK",)}

STOREFRONT = Service(
    "storefront",
    "storefront.main",
    "",
    environment={"IDENTITY": "open"},
    listens=("HTTP",),
    calls={"STOCK_URL": "stock", "ORCHESTRATOR_URL": "order-orchestrator"},
)
STOREFRONT_PORT = 3000
"""Where it is free; of the first storefront of a stack."""

SERVICES = (
    *(
        Service(one.name, f"{one.package}.main", one.schema, listens=_LISTENS.get(one.name, ()))
        for one in services.SERVICES
    ),
    STOREFRONT,
)

AUDIT = Service("audit", "orderctl.main", OPERATOR_ROLE, arguments=("audit", "--every", "60s"))
"""Looks at the invariants all the time, for who asks for it (`up --audit`)."""

STEPS = (
    Step("migrate", "orderctl.main", ("migrate",)),
    Step("topics", "orderctl.main", ("topics", "create")),
)

INFRASTRUCTURE = ("postgres", "valkey", "kafka", "gateway")

PREFIX_VARIABLE = "KAFKA_TOPIC_PREFIX"
SUPERUSER = "postgres"
DATABASE = "shop"


@dataclass(frozen=True, slots=True)
class Options:
    """What one stack is asked to be. It is stored beside the state, for the supervisor to read."""

    infrastructure: tuple[str, ...] = INFRASTRUCTURE
    """Which of Postgres, Valkey, Kafka and gateway it has; services are given what is there."""
    services: tuple[Service, ...] = ()
    steps: tuple[Step, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    """Given to every service and step, on top of what the caller's environment says."""
    ports: Mapping[str, int] = field(default_factory=dict)
    """Ports that must be used, by part: `{"postgres": 5432}`. All others are free ones."""
    kafka_proxy_port: int | None = None
    """Where a TCP proxy will stand before Kafka; 0 chooses a free port; None: no proxy."""
    allow_trial_broker: bool = False
    """Whether a broker without idempotent producers will do where there is no Java."""
    owner_pid: int | None = None
    """The stack stops once this process is gone; None: it stays up until it is told to stop."""
    start_timeout_s: float = 90.0

    @property
    def topic_prefix(self) -> str:
        """Of the stack's topics and groups, as its options say or else the environment."""
        return self.environment.get(PREFIX_VARIABLE, os.environ.get(PREFIX_VARIABLE, ""))

    def with_replicas(self, replicas: Mapping[str, int]) -> Self:
        """The same with other numbers of replicas. Unknown names raise ValueError."""
        unknown = sorted(set(replicas) - {service.name for service in self.services})
        if unknown:
            known = ", ".join(service.name for service in self.services) or "none"
            raise ValueError(f"there is no service {', '.join(unknown)}; there are: {known}")
        services = tuple(
            replace(service, replicas=replicas.get(service.name, service.replicas))
            for service in self.services
        )
        return replace(self, services=services)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        fields = dict(value)
        fields["infrastructure"] = tuple(fields["infrastructure"])
        fields["services"] = tuple(
            Service(
                **{**service, **{name: tuple(service[name]) for name in ("arguments", "listens")}}
            )
            for service in fields["services"]
        )
        fields["steps"] = tuple(
            Step(step["name"], step["module"], tuple(step["arguments"])) for step in fields["steps"]
        )
        return cls(**fields)


def importable(module: str) -> bool:
    """Whether `python -m <module>` finds its program; nothing but its package is imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def missing_modules(parts: Iterable[Service | Step]) -> list[str]:
    """The modules among `parts` that can't be found, each once."""
    return sorted({part.module for part in parts if not importable(part.module)})
