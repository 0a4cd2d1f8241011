"""Logs: a JSON object a line, on standard error, without what a message said."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaConnectionError

from shared.telemetry.logs import REPEAT_INTERVAL_S, Repeats, Seldom, configure_logs, get_logger

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


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the filter takes for the time, as the last of it."""
    now = [0.0]
    monkeypatch.setattr("shared.telemetry.logs.Repeats", lambda: Repeats(lambda: now[-1]))
    return now


def test_f41_a_library_that_repeats_itself_is_heard_once_an_interval(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    configure_logs("INFO", service="stock", instance="stock-0")
    client, fetcher = logging.getLogger("aiokafka"), logging.getLogger("aiokafka.consumer.fetcher")
    for attempt in range(300):
        client.error("Unable connect to node with id %s: %s", attempt, KafkaConnectionError())
        fetcher.error("Failed fetch messages from %s: %s", attempt, KafkaConnectionError())
    client.error("Unable to update metadata from %s", [0])
    fetcher.error("Unable to update metadata from %s", [0])
    first = lines(capsys)
    assert [line["event"].partition(":")[0] for line in first] == [
        "Unable connect to node with id 0", "Failed fetch messages from 0",
        "Unable to update metadata from [0]", "Unable to update metadata from [0]",
    ]  # fmt: skip
    assert all("suppressed" not in line for line in first)
    clock.append(REPEAT_INTERVAL_S - 0.1)
    client.error("Unable connect to node with id %s: %s", 0, KafkaConnectionError())
    assert lines(capsys) == []
    clock.append(REPEAT_INTERVAL_S)
    for _ in range(2):
        client.error("Unable connect to node with id %s: %s", 0, KafkaConnectionError())
    (line,) = lines(capsys)
    assert line["suppressed"] == 300
    clock.append(REPEAT_INTERVAL_S * 2)
    client.error("Unable connect to node with id %s: %s", 0, KafkaConnectionError())
    (line,) = lines(capsys)
    assert line["suppressed"] == 1


def test_our_own_lines_all_come_through(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    configure_logs("INFO", service="stock", instance="stock-0")
    for _ in range(3):
        get_logger("shared.pipeline.chunk").warning("chunk_retried")
        logging.getLogger("another").error("said by another")
        logging.getLogger("aiokafkaesque").error("said by a namesake")
    assert len(lines(capsys)) == 9


def test_texts_that_never_come_again_are_forgotten(clock: list[float]) -> None:
    repeats = Repeats(lambda: clock[-1])
    for number in range(2_500):
        assert repeats.filter(
            logging.LogRecord("faststream", logging.ERROR, "", 0, f"text {number}", None, None)
        )
    assert len(repeats._since) <= 1_000


def test_a_broker_without_a_coordinator_yet_is_no_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logs("INFO", service="stock", instance="stock-0")
    coordinator = logging.getLogger("aiokafka.consumer.group_coordinator")
    coordinator.error("Group Coordinator Request failed: %s", GroupCoordinatorNotAvailableError())
    coordinator.error("LeaveGroup request failed: %s", KafkaConnectionError())
    assert [line["level"] for line in lines(capsys)] == ["warning", "error"]


def test_what_may_happen_with_each_message_is_told_seldom_and_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logs("INFO", service="stock", instance="stock-0")
    clock = [0.0]
    seldom = Seldom("stock", lambda: clock[-1])
    for now in (0.0, 1.0, REPEAT_INTERVAL_S - 0.1, REPEAT_INTERVAL_S):
        clock.append(now)
        seldom.warning("turned_away", why="too many")
    seldom.warning("something_else")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["suppressed"]) for line in lines] == [
        ("turned_away", 0),
        ("turned_away", 2),
        ("something_else", 0),
    ]
