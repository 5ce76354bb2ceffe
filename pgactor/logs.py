"""The supervisor's log: text for people, or one JSON object a line for machines."""

from __future__ import annotations

import json
import logging
import time

TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

FIELDS = ("pool", "backend", "backend_pid", "worker", "pid", "lease", "traceparent")
"""What a record may carry besides, as `extra`: of which pool, connection or worker it tells."""


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, `error` with its traceback if there is one, and those of
    FIELDS that are known."""

    def format(self, record: logging.LogRecord) -> str:
        tree: dict[str, object] = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        tree |= {name: value for name in FIELDS if (value := getattr(record, name, None)) not in (None, "")}
        if record.exc_info:
            tree["error"] = self.formatException(record.exc_info)
        return json.dumps(tree, ensure_ascii=False, default=str)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802  # logging's name
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        return f"{moment}.{int(record.msecs):03d}Z"


def set_up(level: str, *, as_json: bool) -> None:
    """Log to stderr from this level on."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if as_json else logging.Formatter(TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler])
