"""Sets up logging once: one format, one stream, for Sockade and the libraries it stands on.

Readable on a terminal, JSON lines elsewhere. Whatever is logged is escaped and rid of credentials, and one record is
one line, except a traceback on a terminal, whose lines are indented so that none of them passes for a record.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import structlog

from sockade.telemetry.escape import escape
from sockade.telemetry.lines import LineWriter
from sockade.telemetry.redact import SHORTEST, redact

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping
    from typing import TextIO

    from structlog.typing import Processor

    from sockade.settings import LogSettings

AUDIT = "sockade.audit"
ROOT_LOGGER, AUDIT_LOGGER = logging.getLogger(), logging.getLogger(AUDIT)
TRACEBACK = "error.stack_trace"
LONGEST_TRACEBACK = 20_000

# They tell of each connection what the audit log tells once, or of each query what nobody asked.
QUIET = ("uvicorn", "websockets", "sockade.websockets", "asyncio", "sqlalchemy", "aiosqlite", "alembic")
SILENT = ("uvicorn.access",)

TAIL = f'"log.level":"info","log.logger":"{AUDIT}"}}'
QUOTE = json.encoder.encode_basestring_ascii
ENCODER = json.JSONEncoder(default=str, separators=(",", ":"))

# ECS names (Elastic Common Schema) where structlog has its own.
ECS = {"event": "message", "level": "log.level", "logger": "log.logger", "exception": TRACEBACK}


def set_up(settings: LogSettings, stream: TextIO | None = None) -> LineWriter:
    """Route every log of this process to `stream` (standard error); return its writer, to be closed at the end.

    A later call replaces an earlier one.
    """
    target = stream or sys.stderr
    console = settings.format == "console" or (settings.format == "auto" and target.isatty())
    formatter = _formatter(console, terminal=target.isatty())
    writer = LineWriter(target, notice=lambda text: formatter.format(_own_record(text)))
    handler = _Handler(writer, is_json=not console)
    handler.setFormatter(formatter)
    _route(handler, settings.level.upper())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    return writer


def log_audit(message: str, fields: Mapping[str, Any]) -> None:
    """Log a security event at level info: two for each connection, so that what they cost counts.

    Where nobody but `set_up` listens and JSON is written, the line is made here, at a tenth of the cost of a record
    that goes through structlog and logging; it is the same line.
    """
    handlers = ROOT_LOGGER.handlers
    if len(handlers) == 1 and isinstance(own := handlers[0], _Handler) and own.is_json and _is_plain(own):
        parts = [f"{_name(name)}:{_value(value)}" for name, value in fields.items()]
        own.writer.write(",".join((f'{{"@timestamp":"{_now()}"', *parts, f'"message":{_value(message)}', TAIL)))
    else:
        structlog.get_logger(AUDIT).info(message, **fields)


def _is_plain(handler: _Handler) -> bool:
    """Tell whether nothing was added that would want to see the records of the audit log."""
    audit = AUDIT_LOGGER
    return audit.isEnabledFor(logging.INFO) and not (audit.handlers or audit.filters or handler.filters)


@lru_cache(maxsize=256)
def _name(name: str) -> str:
    return QUOTE(escape(name))


def _value(value: object) -> str:
    if not isinstance(value, str):
        return ENCODER.encode(_safe("", value))
    return _short(value) if len(value) < SHORTEST else QUOTE(escape(redact(value)))


@lru_cache(maxsize=1_024)
def _short(value: str) -> str:
    """Return a text as it is logged that is too short to be a credential; addresses, users and events come again."""
    return QUOTE(escape(value))


def _now() -> str:
    seconds, microseconds = divmod(time.time_ns() // 1_000, 1_000_000)
    return f"{_second(seconds)}.{microseconds:06d}Z"


@lru_cache(maxsize=1)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


class _Handler(logging.Handler):
    def __init__(self, writer: LineWriter, *, is_json: bool) -> None:
        super().__init__()
        self.writer = writer
        self.is_json = is_json

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.writer.write(self.format(record))
        except Exception:  # noqa: BLE001 - a log must not break what it tells of
            self.writer.write(self.format(_own_record(f"a record of {record.name!r} could not be written")))

    def close(self) -> None:
        self.writer.close()
        super().close()


def _own_record(text: str) -> logging.LogRecord:
    """Return what the log has to say of itself, as a record like any other."""
    return logging.LogRecord("sockade.log", logging.ERROR, "", 0, text, None, None)


def _route(handler: logging.Handler, level: str) -> None:
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    logging.getLogger(AUDIT).setLevel(logging.INFO)  # Security events are written at every level.
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    for name in SILENT:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    for name in ("uvicorn", "uvicorn.error", *SILENT):
        # uvicorn may have been given handlers of its own.
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True


def _shared() -> list[Processor]:
    return [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="@timestamp"),
        structlog.processors.format_exc_info,
    ]


def _formatter(console: bool, *, terminal: bool) -> logging.Formatter:
    if console:
        # https://no-color.org: present and not empty.
        colors = terminal and not os.environ.get("NO_COLOR")
        rendering: list[Processor] = [
            _indented_traceback,
            structlog.dev.ConsoleRenderer(colors=colors, timestamp_key="@timestamp", pad_event_to=0),
        ]
    else:
        rendering = [_ecs, structlog.processors.JSONRenderer(serializer=_json)]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared(),
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _escaped, *rendering],
    )


def _escaped(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {escape(str(key)): _safe(key, value) for key, value in event.items()}


def _safe(key: str, value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if key == "exception":
        return "\n".join(escape(line) for line in redact(str(value)[-LONGEST_TRACEBACK:]).split("\n"))
    return escape(redact(str(value)))


def _ecs(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    first = {"@timestamp": event.pop("@timestamp", None)}
    return first | {ECS.get(key, key): value for key, value in event.items()}


def _json(event: Any, **_options: Any) -> str:
    return ENCODER.encode(event)


def _indented_traceback(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if "exception" in event:
        event["exception"] = "\n".join(f"    | {line}" for line in str(event["exception"]).split("\n"))
    return event
