"""Settings that are wrong end the process with a line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway_simulator.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path

GOOD = {"GATEWAY_BOOK": "/tmp/book", "GATEWAY_API_KEY": "k", "GATEWAY_WEBHOOK_SECRET": "s"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)


def test_each_that_is_wrong_has_its_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("GATEWAY_BOOK")
    monkeypatch.setenv("GATEWAY_PORT", "70000")
    monkeypatch.setenv("GATEWAY_KEY_RETENTION_S", "0")
    monkeypatch.setenv("GATEWAY_API_KEY", "")
    with pytest.raises(SystemExit) as ended:
        load_settings()
    assert ended.value.code == 2
    said = capsys.readouterr().err.splitlines()
    for name in ("BOOK", "PORT", "KEY_RETENTION_S", "API_KEY"):
        assert sum(line.startswith(f"  GATEWAY_{name}: ") for line in said) == 1, said


def test_secrets_come_from_files_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("GATEWAY_API_KEY", "GATEWAY_WEBHOOK_SECRET"):
        monkeypatch.delenv(name)
        (tmp_path / name).write_text(f"from {name}\n")
        monkeypatch.setenv(f"{name}_FILE", str(tmp_path / name))
    settings = load_settings()
    assert settings.api_key.get_secret_value() == "from GATEWAY_API_KEY"
    assert settings.webhook_secret.get_secret_value() == "from GATEWAY_WEBHOOK_SECRET"
    (tmp_path / "GATEWAY_API_KEY").unlink()
    with pytest.raises(SystemExit) as ended:
        load_settings()
    assert ended.value.code == 2
    assert "can't be read" in capsys.readouterr().err
