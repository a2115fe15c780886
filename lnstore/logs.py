"""Logging: structlog to standard error, for people on a terminal and as one JSON object per line elsewhere.

Secrets cannot slip in by accident: identifiers are written as hex, any other bytes only by their number,
also inside lists and the like.

This module is the only one that imports structlog, which imports rich when it is installed, for a kind of traceback
that is not wanted here (it prints local variables). A node is better off without: 4 MiB and some 60 ms.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

from lnstore_protocol.ids import FixedBytes, SecretBytes

_had_rich = "rich" in sys.modules
if not _had_rich:
    sys.modules["rich"] = None  # type: ignore[assignment]  # how Python says that a module is not there
import structlog  # noqa: E402 - between the two
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger  # noqa: E402

if not _had_rich:
    del sys.modules["rich"]

Logger = FilteringBoundLogger
"""What get_logger gives; `bind` gives one that adds its arguments to every line."""

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def get_logger(name: str) -> Logger:
    """The logger of a module; it logs as `configure` says by the time of logging."""
    logger: Logger = structlog.get_logger(name)
    return logger


def configure(level: str, stream: TextIO | None = None) -> None:
    """Set up logging for this process; ValueError for a level that is none of LEVELS."""
    if level not in LEVELS:
        raise ValueError(f"{level!r} is not one of {', '.join(LEVELS)}")
    stream = stream or sys.stderr
    on_terminal = stream.isatty()
    last: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if on_terminal
        # Plain tracebacks: those with local variables would print keys and preimages.
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(sort_keys=False)]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _bytes_as_text,
            *last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )


def _bytes_as_text(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {name: _as_text(value) for name, value in event.items()}


def _as_text(value: Any) -> Any:
    match value:
        case FixedBytes() if not isinstance(value, SecretBytes):
            return value.hex()
        case bytes() | bytearray() | memoryview():
            return f"({len(value)} bytes)"
        case dict():
            return {_as_text(key): _as_text(inner) for key, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_as_text(inner) for inner in value]
    return value
