"""Stock's own settings, and how they relate."""

from __future__ import annotations

import pytest

from shared.settings import load_settings
from stock.settings import Settings


@pytest.fixture
def set_up(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092")
    monkeypatch.setenv("DATABASE_URL", "postgresql://stock@127.0.0.1/shop")
    monkeypatch.setenv("INSTANCE_ID", "stock-0")
    return monkeypatch


def test_the_defaults_fit(set_up: pytest.MonkeyPatch) -> None:
    settings = load_settings(Settings)
    assert settings.levels_lease_s >= 3 * settings.levels_interval_s


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("LEVELS_INTERVAL_S", "2", "settings: LEVELS_LEASE_S must be at least three times"),
        ("LEVELS_INTERVAL_S", "0.05", "LEVELS_INTERVAL_S: Input should be greater than or equal"),
        # the relations of all services are stock's too
        ("OUTBOX_LEASE_S", "2", "settings: OUTBOX_LEASE_S must be longer"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_line(
    set_up: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, line: str
) -> None:
    set_up.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        load_settings(Settings)
    assert ended.value.code == 2
    assert line in capsys.readouterr().err
