"""Structured logs: one JSON object a line on standard error.

Nothing is logged at INFO per message, and no line carries a message's body, a secret or
personal data: ids of orders and positions in topics are enough to find the rest.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, Any

import structlog
from aiokafka.errors import GroupCoordinatorNotAvailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict, FilteringBoundLogger

# Libraries that speak per message or per rebalance; their warnings still come through.
_QUIET = ("aiokafka", "faststream", "asyncio", "uvicorn", "opentelemetry", "httpx")
# Libraries that say of each attempt, or of each bad request, that it failed.
_REPEATING = ("aiokafka", "faststream", "uvicorn")
REPEAT_INTERVAL_S = 10.0
_TEMPLATES_KEPT = 1_000


class Repeats(logging.Filter):
    """Lets one line of a library through per logger and template in `REPEAT_INTERVAL_S`.

    The next one says as `suppressed` how many were left out. Nothing of ours is touched.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` in seconds."""
        super().__init__()
        self._clock = clock
        self._since: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        if record.name.partition(".")[0] not in _REPEATING:
            return True
        now_s = self._clock()
        key = (record.name, str(record.msg))
        since_s, suppressed = self._since.get(key, (now_s - REPEAT_INTERVAL_S, 0))
        if now_s - since_s < REPEAT_INTERVAL_S:
            self._since[key] = (since_s, suppressed + 1)
            return False
        if len(self._since) >= _TEMPLATES_KEPT:  # texts that were put together by the library
            self._since.clear()
        self._since[key] = (now_s, 0)
        record.suppressed = suppressed
        return True


def _milden(record: logging.LogRecord) -> bool:
    """A broker that was just started has no coordinator yet: the client asks again."""
    args = record.args if isinstance(record.args, tuple) else ()
    if any(isinstance(arg, GroupCoordinatorNotAvailableError) for arg in args):
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True


def _add_suppressed(_: object, __: str, event: EventDict) -> EventDict:
    if suppressed := getattr(event["_record"], "suppressed", 0):
        event["suppressed"] = suppressed
    return event


# Without local variables: they hold messages, and with them what is personal.
_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


def configure_logs(level: str, **context: str) -> None:
    """Send the logs of this process, libraries included, to standard error as JSON.

    `context` (service, instance) stands on every line.
    """
    shared_processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared_processors, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared_processors, _add_suppressed],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _TRACEBACKS,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    handler.addFilter(Repeats())
    handler.addFilter(_milden)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.contextvars.bind_contextvars(**context)


class Seldom:
    """Warns of what may happen with each message: one line an event in `REPEAT_INTERVAL_S`, which
    says as `suppressed` how many before it were left out."""

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`name` as for `get_logger`, `clock` in seconds."""
        self._log = get_logger(name)
        self._clock = clock
        self._since: dict[str, tuple[float, int]] = {}

    def warning(self, event: str, **fields: Any) -> None:
        """Write the line, or count it. `event` is one of a few words."""
        now_s = self._clock()
        since_s, suppressed = self._since.get(event, (now_s - REPEAT_INTERVAL_S, 0))
        if now_s - since_s < REPEAT_INTERVAL_S:
            self._since[event] = since_s, suppressed + 1
            return
        self._since[event] = now_s, 0
        self._log.warning(event, **fields, suppressed=suppressed)


def get_logger(name: str) -> FilteringBoundLogger:
    """The logger of a module."""
    logger: FilteringBoundLogger = structlog.get_logger(name)
    return logger
