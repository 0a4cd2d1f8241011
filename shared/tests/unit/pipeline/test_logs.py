"""Logs: a JSON object a line, on standard error, without what a message said."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from shared.telemetry.logs import configure_logs, get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_says_who_when_and_what(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("INFO", service="stock", instance="stock-0")
    get_logger("shared").info("chunk_retried", group="stock", attempt=2)
    get_logger("shared").debug("not asked for")
    (line,) = lines(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "chunk_retried", "level": "info", "service": "stock", "instance": "stock-0",
        "group": "stock", "attempt": 2,
    }  # fmt: skip


def test_f69_a_trace_shows_where_and_not_what(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("INFO", service="stock", instance="stock-0")

    def handle(user_id: str) -> None:
        message = {"userId": user_id}
        raise ZeroDivisionError(f"in a message of {len(message)} fields")

    try:
        handle("canary-user")
    except ZeroDivisionError as error:
        get_logger("shared").error("message_dead_lettered", exc_info=error)
    output = capsys.readouterr().err
    assert "canary-user" not in output
    (line,) = map(json.loads, output.splitlines())
    (trace,) = line["exception"]
    assert trace["exc_type"] == "ZeroDivisionError"
    assert trace["frames"][-1]["name"] == "handle"


def test_libraries_speak_through_the_same_door(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("INFO", service="stock", instance="stock-0")
    logging.getLogger("aiokafka.consumer").warning("Heartbeat failed")
    logging.getLogger("aiokafka.consumer").info("per message")
    (line,) = lines(capsys)
    assert (line["event"], line["service"]) == ("Heartbeat failed", "stock")
