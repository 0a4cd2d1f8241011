"""The addresses of a running stack."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from local_stack.program import variable


@dataclass(frozen=True, slots=True)
class Environment(Mapping[str, str]):
    """The addresses of a running stack, by the names of the settings that they are for."""

    variables: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        return self.variables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.variables)

    def __len__(self) -> int:
        return len(self.variables)

    @property
    def kafka_bootstrap_servers(self) -> str:
        return self["KAFKA_BOOTSTRAP_SERVERS"]

    @property
    def redis_url(self) -> str:
        return self["REDIS_URL"]

    @property
    def database_url(self) -> str:
        """As the operator, who reads all schemas."""
        return self["DATABASE_URL"]

    @property
    def admin_database_url(self) -> str:
        """As the superuser."""
        return self["ADMIN_DATABASE_URL"]

    def database_url_of(self, role: str) -> str:
        """As the role of a service, which reads its own schema alone."""
        return self.database_url.replace("://operator:", f"://{role}:", 1)

    def admin_url(self, part: str) -> str:
        """The admin port of a service's replica, as in `admin_url("stock-0")`."""
        return self[f"ADMIN_URL_{variable(part)}"]

    def pid(self, part: str) -> int:
        return int(self[f"PID_{variable(part)}"])
