"""Logs: structlog to stderr, one line per event, as text for people or JSON for machines.

Every logger belongs to a subsystem (`get_logger("consensus")`), whose level the configuration can
set on its own. What the libraries log through `logging` (libp2p, hypercorn) comes out in the same
form, from warning up. Events are fixed words in snake case with fields beside them; one summary
line a block at info, nothing per message.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any, Final, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger
from typing_extensions import override

LEVELS: Final[Mapping[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
LIBRARY_LEVEL: Final = logging.WARNING
LIBRARY_MESSAGE_CHARS_MAX: Final = 2_000
"""A library's longer message is cut: some of it may have come from a peer."""


def get_logger(subsystem: str) -> FilteringBoundLogger:
    """Return the logger of a subsystem; may be called before `configure_logging`."""
    return cast(FilteringBoundLogger, structlog.get_logger(subsystem=subsystem))


def configure_logging(
    *,
    level: str,
    form: str,
    levels: Mapping[Any, str] | None = None,
    stream: TextIO | None = None,
) -> None:
    """Set up logging for this process.

    Args:
        level: The level of subsystems that `levels` does not name.
        form: `console`, `json`, or `auto` (console on a terminal).
        levels: Level by subsystem.
        stream: Where to write, by default stderr.
    """
    target = sys.stderr if stream is None else stream
    by_subsystem = {name: LEVELS[word] for name, word in (levels or {}).items()}
    lowest = min(LEVELS[level], *by_subsystem.values()) if by_subsystem else LEVELS[level]
    processors: list[Processor] = [
        structlog.processors.add_log_level,
        _subsystem_filter(LEVELS[level], by_subsystem),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    as_json = form == "json" or (form == "auto" and not target.isatty())
    processors.extend(_renderers(as_json=as_json, colors=target.isatty()))
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(lowest),
        logger_factory=lambda *name: _SubsystemLogger(target, *name),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_LibraryHandler()], level=LIBRARY_LEVEL, force=True)
    logging.captureWarnings(True)


def _renderers(*, as_json: bool, colors: bool) -> list[Processor]:
    if as_json:
        return [
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(default=str),
        ]
    return [structlog.dev.ConsoleRenderer(colors=colors, sort_keys=False)]


def _subsystem_filter(default: int, by_subsystem: Mapping[str, int]) -> Processor:
    def keep(logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event.setdefault("subsystem", getattr(logger, "subsystem", ""))
        least = by_subsystem.get(event.get("subsystem", ""), default)
        if LEVELS.get(event["level"], logging.ERROR) < least:
            raise structlog.DropEvent
        return event

    return keep


class _SubsystemLogger(structlog.WriteLogger):
    """Writes lines; knows the name that `structlog.get_logger(NAME)` was given."""

    def __init__(self, target: TextIO, subsystem: str = "") -> None:
        super().__init__(target)
        self.subsystem = subsystem


class _LibraryHandler(logging.Handler):
    """Hands what libraries log to structlog."""

    @override
    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(subsystem="library")
        fields: dict[str, Any] = {"logger": record.name}
        try:
            fields["message"] = record.getMessage()[:LIBRARY_MESSAGE_CHARS_MAX]
        except (TypeError, ValueError):
            fields["message"] = str(record.msg)[:LIBRARY_MESSAGE_CHARS_MAX]
        method = log.error if record.levelno >= logging.ERROR else log.warning
        method("library_log", **fields)
