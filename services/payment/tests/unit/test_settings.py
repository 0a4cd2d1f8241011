"""Payment's own settings, and how they relate."""

from __future__ import annotations

from datetime import timedelta

import pytest

from payment.main import compose
from payment.settings import Settings
from shared.settings import load_settings

GATEWAY = {"GATEWAY_URL": "http://127.0.0.1:8089", "GATEWAY_API_KEY": "hidden-key"}
CALLBACKS = GATEWAY | {"GATEWAY_WEBHOOK_SECRET": "shared-with-the-gateway", "CALLBACK_PORT": "8090"}


@pytest.fixture
def set_up(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092")
    monkeypatch.setenv("DATABASE_URL", "postgresql://payment@127.0.0.1/shop")
    monkeypatch.setenv("INSTANCE_ID", "payment-0")
    return monkeypatch


def test_without_a_gateway_nothing_of_it_is_needed(set_up: pytest.MonkeyPatch) -> None:
    set_up.setenv("GATEWAY_TIMEOUT_S", "60")
    assert load_settings(Settings).gateway_url is None


def test_the_defaults_fit(set_up: pytest.MonkeyPatch) -> None:
    for name, value in GATEWAY.items():
        set_up.setenv(name, value)
    settings = load_settings(Settings)
    assert settings.gateway_lease_s >= 3 * settings.gateway_timeout_s
    pace = settings.pace()
    assert pace.first_pause <= pace.interval == timedelta(seconds=15)
    assert pace.key_retention == timedelta(hours=24)
    assert settings.gateway().pace == pace
    assert settings.gateway().callback_url is None, "callbacks are not asked for unless taken"
    assert "hidden-key" not in repr(settings)


def test_callbacks_go_to_this_instance_unless_told_otherwise(set_up: pytest.MonkeyPatch) -> None:
    for name, value in CALLBACKS.items():
        set_up.setenv(name, value)
    own = "http://127.0.0.1:8090/gateway/callbacks"
    assert load_settings(Settings).gateway().callback_url == own
    set_up.setenv("CALLBACK_URL", "https://shop.example/gateway/callbacks")
    told = load_settings(Settings).gateway()
    assert told.callback_url == "https://shop.example/gateway/callbacks"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"GATEWAY_URL": "gateway:8089"}, "settings: GATEWAY_URL must begin with http:// or"),
        ({"GATEWAY_URL": ""}, "settings: GATEWAY_URL must begin with http:// or"),
        ({"GATEWAY_API_KEY": ""}, "settings: GATEWAY_URL is set: set GATEWAY_API_KEY"),
        ({"GATEWAY_TIMEOUT_S": "4"}, "settings: GATEWAY_LEASE_S must be at least three times"),
        ({"GATEWAY_LEASE_S": "8"}, "settings: GATEWAY_LEASE_S must be at least three times"),
        ({"GATEWAY_KEY_RETENTION_S": "600", "RECONCILE_INTERVAL_S": "151"},
         "settings: GATEWAY_KEY_RETENTION_S must be at least four times RECONCILE_INTERVAL_S"),
        ({"GATEWAY_KEY_RETENTION_S": "599"}, "GATEWAY_KEY_RETENTION_S: Input should be greater"),
        ({"GATEWAY_WEBHOOK_SECRET": "shared-with-the-gateway"},
         "settings: GATEWAY_WEBHOOK_SECRET is set: set CALLBACK_PORT"),
        ({"GATEWAY_WEBHOOK_SECRET": "short", "CALLBACK_PORT": "8090"},
         "settings: GATEWAY_WEBHOOK_SECRET needs 16 characters"),
        ({"GATEWAY_WEBHOOK_SECRET": "shared-with-the-gateway", "CALLBACK_PORT": "8090",
          "CALLBACK_HOST": "0.0.0.0"}, "settings: CALLBACK_HOST is 0.0.0.0, which"),
        ({"RECONCILE_INTERVAL_S": "0"}, "RECONCILE_INTERVAL_S: Input should be greater than 0"),
        ({"GATEWAY_CALLS_AT_ONCE": "0"}, "GATEWAY_CALLS_AT_ONCE: Input should be greater"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_a_line(
    set_up: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, str],
    line: str,
) -> None:
    for name, value in (GATEWAY | changes).items():
        set_up.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        load_settings(Settings)
    assert ended.value.code == 2
    assert line in capsys.readouterr().err


@pytest.mark.parametrize("environment", [{}, GATEWAY, CALLBACKS])
async def test_a_service_is_composed_of_them(
    set_up: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name, value in environment.items():
        set_up.setenv(name, value)
    assert compose(load_settings(Settings)) is not None
