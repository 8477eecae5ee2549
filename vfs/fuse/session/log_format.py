"""The daemon's log: lines for people, or JSON objects, one a line, for programs that collect logs."""

from __future__ import annotations

import logging
from datetime import datetime

import msgspec

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class JsonFormatter(logging.Formatter):
    """Makes a JSON object of a record: time (ISO 8601 with the offset), level, logger, message, process; traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the object, in one line."""
        found: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        if record.exc_info:
            found["traceback"] = self.formatException(record.exc_info)
        # File names that are not UTF-8 may be in it.
        text = {key: _encodable(value) if isinstance(value, str) else value for key, value in found.items()}
        return msgspec.json.encode(text).decode()


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def formatter(text_format: str, *, as_json: bool) -> logging.Formatter:
    """Returns a formatter for one of both forms."""
    return JsonFormatter() if as_json else logging.Formatter(text_format)


def log_to_stderr(text_format: str, *, as_json: bool) -> None:
    """Logs to standard error, from the level of information on."""
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(text_format, as_json=as_json))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
