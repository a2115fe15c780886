"""Logging: structlog to standard error, for people on a terminal and as one JSON object per line elsewhere.

Secrets cannot slip in by accident: identifiers are written as hex, any other bytes only by their number.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

from lnstore_protocol.ids import FixedBytes

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


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
    for name, value in event.items():
        if isinstance(value, FixedBytes):
            event[name] = value.hex()
        elif isinstance(value, (bytes, bytearray, memoryview)):
            event[name] = f"({len(value)} bytes)"
    return event
