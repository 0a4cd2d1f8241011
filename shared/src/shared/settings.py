"""Settings of a service: environment variables, each readable from a file by `NAME_FILE`.

`main.py` of a service is the only reader. What two settings must have in common is checked
here, at start, before anything is opened.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Literal, NoReturn, Self, TypeVar

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from shared.database.pool import ACQUIRE_TIMEOUT_S

_Settings = TypeVar("_Settings", bound="ProcessSettings")


class UnreadableFileError(Exception):
    """A file that a `…_FILE` variable names."""


class _FileSource(PydanticBaseSettingsSource):
    """Reads `NAME` from the file that `NAME_FILE` names: how containers are given secrets."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        path = os.environ.get(f"{field_name.upper()}_FILE")
        if not path:
            return None, field_name, False
        try:
            value = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UnreadableFileError(
                f"{field_name.upper()}_FILE can't be read: {error}"
            ) from error
        return value, field_name, False

    def __call__(self) -> dict[str, Any]:
        found = {
            name: self.get_field_value(field, name)[0]
            for name, field in self.settings_cls.model_fields.items()
        }
        return {name: value for name, value in found.items() if value is not None}


class ProcessSettings(BaseSettings):
    """What every process is told."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    # where things are
    kafka_bootstrap_servers: str = Field(min_length=1)
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_idempotence: bool = True
    kafka_topic_prefix: str = Field(default="", pattern=r"^[A-Za-z0-9._-]{0,64}$")
    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    admin_host: str = "127.0.0.1"
    admin_port: int = Field(default=0, ge=0, le=65535)

    # who this is: static member of its groups, owner of its outbox leases
    instance_id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    currency: str = Field(default="KRW", pattern=r"^[A-Z]{3}$")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    trace_sample_ratio: float = Field(default=0.01, ge=0, le=1)

    # limits
    # a question to Redis whose answer was lost is asked again so often, within a second in all
    redis_retries: int = Field(default=3, ge=0, le=20)
    stop_grace_s: float = Field(default=9.0, ge=1, le=3_600)
    publish_timeout_s: float = Field(default=15.0, ge=1, le=3_600)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, _FileSource(settings_cls)

    @model_validator(mode="after")
    def _relations_hold(self) -> Self:
        if not self.redis_url.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("REDIS_URL must begin with redis://, rediss:// or unix://")
        if self.kafka_security_protocol.startswith("SASL") and not (
            self.kafka_sasl_username and self.kafka_sasl_password
        ):
            raise ValueError(
                "KAFKA_SECURITY_PROTOCOL asks for SASL: set KAFKA_SASL_USERNAME and"
                " KAFKA_SASL_PASSWORD"
            )
        return self


class ServiceSettings(ProcessSettings):
    """What every service with a schema is told."""

    database_url: SecretStr

    # limits
    chunk_messages: int = Field(default=500, ge=1, le=5_000)
    # keys, values and headers; a chunk takes one message at least
    chunk_bytes: int = Field(default=4 * 1024 * 1024, ge=1)
    database_connections: int = Field(default=8, ge=3, le=200)
    # who finds them all taken waits so long, and is told then; chunks and loops try again
    database_acquire_timeout_s: float = Field(default=ACQUIRE_TIMEOUT_S, ge=0.1, le=300)
    session_timeout_s: float = Field(default=6.0, ge=1, le=300)
    relay_memory_messages: int = Field(default=20_000, ge=1)
    outbox_lease_s: float = Field(default=30.0, ge=1)
    keep_public_s: float = Field(default=86_400.0, ge=3_600)
    keep_inbox_s: float = Field(default=8 * 86_400.0, ge=3_600)
    topic_retention_s: float = Field(default=7 * 86_400.0, ge=3_600)
    longest_saga_s: float = Field(default=86_400.0, ge=60)
    stalled_after_s: float = Field(default=60.0, ge=5)

    @model_validator(mode="after")
    def _limits_fit(self) -> Self:
        if self.outbox_lease_s <= self.publish_timeout_s:
            raise ValueError(
                "OUTBOX_LEASE_S must be longer than PUBLISH_TIMEOUT_S, or chunks that are being"
                " published are published by others too"
            )
        if self.keep_inbox_s < self.topic_retention_s + self.longest_saga_s:
            raise ValueError(
                "KEEP_INBOX_S must be at least TOPIC_RETENTION_S + LONGEST_SAGA_S, or a message"
                " could come again after its id was forgotten"
            )
        return self


def check_lease(lease: str, lease_s: float, interval: str, interval_s: float, or_else: str) -> None:
    """Raises ValueError unless a lease lasts three renewals; `lease` and `interval` are the names
    of the variables, `or_else` is what happens otherwise."""
    if lease_s < 3 * interval_s:
        raise ValueError(f"{lease} must be at least three times {interval}, or {or_else}")


def load_settings(settings: type[_Settings]) -> _Settings:
    """Read the settings, or end the process with a line for each that is wrong (exit code 2)."""
    try:
        return settings()
    except ValidationError as error:
        _refuse(
            [
                f"{'.'.join(map(str, problem['loc'])).upper() or 'settings'}: "
                f"{problem['msg'].removeprefix('Value error, ')}"
                for problem in error.errors(include_input=False, include_url=False)
            ]
        )
    except UnreadableFileError as error:
        _refuse([str(error)])


def _refuse(problems: list[str]) -> NoReturn:
    lines = "\n".join(f"  {problem}" for problem in problems)
    sys.stderr.write(
        f"These settings are wrong:\n{lines}\n"
        "Each is an environment variable; NAME_FILE reads NAME from a file.\n"
    )
    sys.exit(2)
