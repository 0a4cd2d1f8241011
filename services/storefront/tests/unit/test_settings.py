"""What the storefront refuses to start with, and what it says then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from shared.settings import load_settings
from storefront.settings import Settings

if TYPE_CHECKING:
    from shared.testing.tokens import Issuer

NEEDED = {
    "KAFKA_BOOTSTRAP_SERVERS": "k:9092",
    "INSTANCE_ID": "storefront-0",
    "STOCK_URL": "http://stock:8080",
    "ORCHESTRATOR_URL": "http://orchestrator:8080",
}
OPEN = NEEDED | {"IDENTITY": "open"}


def load(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> Settings:
    for name in [*NEEDED, "IDENTITY"]:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load_settings(Settings)


def said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], environment: Any
) -> str:
    with pytest.raises(SystemExit) as refused:
        load(monkeypatch, environment)
    assert refused.value.code == 2
    return capsys.readouterr().err


def test_open_needs_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(monkeypatch, OPEN).identity == "open"


def test_tokens_are_asked_for_unless_it_is_said(
    monkeypatch: pytest.MonkeyPatch, issuer: Issuer
) -> None:
    assert load(monkeypatch, NEEDED | issuer.settings).identity == "token"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"HOT_CACHE_S": "301"}, "HOT_CACHE_S must be at most PRODUCT_CACHE_S"),
        ({"DRAIN_S": "5"}, "DRAIN_S must be at most half of STOP_GRACE_S"),
        ({"STOCK_URL": "stock:8080"}, "STOCK_URL: "),
        ({"ORCHESTRATOR_URL": "http://o/path"}, "ORCHESTRATOR_URL: "),
        ({"HTTP_PORT": "65536"}, "HTTP_PORT: "),
        ({"IDENTITY": "none"}, "IDENTITY: "),
        ({"UNPAID_AT_MOST": "0"}, "UNPAID_AT_MOST: "),
        ({"UNPAID_AT_MOST": "101"}, "UNPAID_AT_MOST: "),
        ({"ANSWER_WITHIN_S": "0"}, "ANSWER_WITHIN_S: "),
        ({"CART_LINES_AT_MOST": "101"}, "CART_LINES_AT_MOST: "),
    ],
)
def test_what_does_not_fit_is_said(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, str],
    sentence: str,
) -> None:
    assert sentence in said(monkeypatch, capsys, OPEN | change)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"TOKEN_PUBLIC_KEY": ""}, "set TOKEN_PUBLIC_KEY_FILE to a public key in PEM"),
        ({"TOKEN_PUBLIC_KEY": "secret"}, "set TOKEN_PUBLIC_KEY_FILE to a public key in PEM"),
        ({"TOKEN_PUBLIC_KEY": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"},
         "TOKEN_PUBLIC_KEY_FILE is no public key for"),
        ({"TOKEN_ALGORITHM": "EdDSA"}, "TOKEN_PUBLIC_KEY_FILE is no public key for EdDSA"),
        ({"TOKEN_ALGORITHM": "none"}, "TOKEN_ALGORITHM: "),
        ({"TOKEN_ALGORITHM": "HS256"}, "TOKEN_ALGORITHM: "),
        ({"TOKEN_ISSUER": ""}, "set TOKEN_ISSUER and TOKEN_AUDIENCE"),
        ({"TOKEN_AUDIENCE": ""}, "set TOKEN_ISSUER and TOKEN_AUDIENCE"),
    ],
)  # fmt: skip
def test_f70_without_a_way_to_check_tokens_it_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    issuer: Issuer,
    change: dict[str, str],
    sentence: str,
) -> None:
    assert sentence in said(monkeypatch, capsys, NEEDED | issuer.settings | change)


def test_f69_a_key_is_not_shown(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "BEGIN" not in repr(load(monkeypatch, NEEDED | issuer.settings))
