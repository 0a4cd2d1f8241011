"""Settings that don't fit together are refused at start, a line for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.settings import ServiceSettings, load_settings

if TYPE_CHECKING:
    from pathlib import Path

NEEDED = {
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9092",
    "DATABASE_URL": "postgresql://stock@127.0.0.1/shop",
    "INSTANCE_ID": "stock-0",
}


@pytest.fixture
def set_up(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ServiceSettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)
    for name, value in NEEDED.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def refused(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines that say what is wrong."""
    with pytest.raises(SystemExit) as ended:
        load_settings(ServiceSettings)
    assert ended.value.code == 2
    head, *lines, tail = capsys.readouterr().err.splitlines()
    assert head == "These settings are wrong:"
    assert "NAME_FILE" in tail
    return [line.strip() for line in lines]


def test_three_settings_are_enough(set_up: pytest.MonkeyPatch) -> None:
    settings = load_settings(ServiceSettings)
    assert settings.instance_id == "stock-0"
    assert settings.session_timeout_s == 6.0


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"OUTBOX_LEASE_S": "15", "PUBLISH_TIMEOUT_S": "15"},
         ("settings: OUTBOX_LEASE_S must be longer than PUBLISH_TIMEOUT_S, or chunks that are being"
          " published are published by others too")),
        ({"KEEP_INBOX_S": "604800"},
         ("settings: KEEP_INBOX_S must be at least TOPIC_RETENTION_S + LONGEST_SAGA_S, or a message"
          " could come again after its id was forgotten")),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"},
         ("settings: KAFKA_SECURITY_PROTOCOL asks for SASL: set KAFKA_SASL_USERNAME and"
          " KAFKA_SASL_PASSWORD")),
        ({"CHUNK_MESSAGES": "0"},
         "CHUNK_MESSAGES: Input should be greater than or equal to 1"),
        ({"DATABASE_ACQUIRE_TIMEOUT_S": "0"},
         "DATABASE_ACQUIRE_TIMEOUT_S: Input should be greater than or equal to 0.1"),
        ({"REDIS_RETRIES": "21"}, "REDIS_RETRIES: Input should be less than or equal to 20"),
        ({"CURRENCY": "won"}, "CURRENCY: String should match pattern '^[A-Z]{3}$'"),
        ({"INSTANCE_ID": "Stock_0"},
         "INSTANCE_ID: String should match pattern '^[a-z0-9][a-z0-9-]{0,62}$'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_a_line(
    set_up: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    changes: dict[str, str], line: str,
) -> None:  # fmt: skip
    for name, value in changes.items():
        set_up.setenv(name, value)
    assert refused(capsys) == [line]


def test_each_missing_setting_has_its_line(
    set_up: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up.delenv("DATABASE_URL")
    set_up.delenv("INSTANCE_ID")
    assert sorted(refused(capsys)) == [
        "DATABASE_URL: Field required",
        "INSTANCE_ID: Field required",
    ]


def test_f69_a_refusal_shows_no_secret(
    set_up: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up.setenv("DATABASE_URL", "postgresql://stock:canary-7f3a@127.0.0.1/shop")
    set_up.setenv("KEEP_INBOX_S", "4000")
    assert "canary-7f3a" not in "\n".join(refused(capsys))
    set_up.delenv("KEEP_INBOX_S")
    assert "canary-7f3a" not in repr(load_settings(ServiceSettings))


def test_a_setting_is_read_from_the_file_that_its_name_file_names(
    set_up: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = tmp_path / "database-url"
    secret.write_text("postgresql://stock:secret@db/shop\n", "utf-8")
    set_up.delenv("DATABASE_URL")
    set_up.setenv("DATABASE_URL_FILE", str(secret))
    settings = load_settings(ServiceSettings)
    assert settings.database_url.get_secret_value() == "postgresql://stock:secret@db/shop"


def test_a_file_that_can_not_be_read_is_said(
    set_up: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    set_up.setenv("DATABASE_URL_FILE", str(tmp_path / "nowhere"))
    (line,) = refused(capsys)
    assert "nowhere" in line
    assert "can't be read" in line
