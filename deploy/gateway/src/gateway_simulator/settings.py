"""Settings of the simulator: environment variables, each readable from a file by `NAME_FILE`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Literal, NoReturn

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

PREFIX = "GATEWAY_"


class _FileSource(PydanticBaseSettingsSource):
    """Reads `GATEWAY_X` from the file that `GATEWAY_X_FILE` names."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        path = os.environ.get(f"{PREFIX}{field_name.upper()}_FILE")
        value = Path(path).read_text(encoding="utf-8").strip() if path else None
        return value, field_name, False

    def __call__(self) -> dict[str, Any]:
        found = {
            name: self.get_field_value(field, name)[0]
            for name, field in self.settings_cls.model_fields.items()
        }
        return {name: value for name, value in found.items() if value is not None}


class Settings(BaseSettings):
    """What the simulator is told, as `GATEWAY_…`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8090, ge=1, le=65535)
    book: Path
    """The file of the book; made where it is missing."""
    api_key: SecretStr = Field(min_length=1)
    webhook_secret: SecretStr = Field(min_length=1)
    key_retention_s: float = Field(default=86_400.0, gt=0)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

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


def load_settings() -> Settings:
    """Read the settings, or end the process with a line for each that is wrong (exit code 2)."""
    try:
        return Settings()
    except ValidationError as error:
        _refuse(
            [
                f"{PREFIX}{'.'.join(map(str, problem['loc'])).upper()}: {problem['msg']}"
                for problem in error.errors(include_input=False, include_url=False)
            ]
        )
    except OSError as error:
        _refuse([f"a file named by a …_FILE variable can't be read: {error}"])


def _refuse(problems: list[str]) -> NoReturn:
    lines = "\n".join(f"  {problem}" for problem in problems)
    sys.stderr.write(
        f"These settings are wrong:\n{lines}\n"
        "Each is an environment variable; NAME_FILE reads NAME from a file.\n"
    )
    sys.exit(2)
