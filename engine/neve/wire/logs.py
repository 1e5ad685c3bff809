"""Logs: one JSON line for each request where that is asked for, and all others as text or as JSON lines too.

Lines hold names, numbers and codes: no header, no body, no key id. All go to standard error.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neve.wire.served import Served  # only then: settings, which a function reads first of all, need FORMS

TEXT = "text"
JSON = "json"
FORMS = (TEXT, JSON)

access_log = logging.getLogger("neve.access")


class JsonLines(logging.Formatter):
    """A record as one JSON object: `time`, `level`, `logger`, `message`; `request` and `operation` of a request's."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {"time": round(record.created, 6), "level": record.levelname.lower(), "logger": record.name}
        entry["message"] = record.getMessage()
        for name in ("request", "operation"):
            if name in record.__dict__:
                entry[name] = record.__dict__[name]
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def log_to_stderr(form: str, *, access: bool) -> None:
    """Have this process log to standard error, from warnings on, as FORMS say; with `access` each request too."""
    lines = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(levelname)s %(name)s: %(message)s")
    lines.setFormatter(JsonLines() if form == JSON else text)
    logging.basicConfig(handlers=[lines], level=logging.WARNING)
    if access and not access_log.handlers:
        access_log.addHandler(logging.StreamHandler(sys.stderr))
        access_log.setLevel(logging.INFO)
        access_log.propagate = False


def log_access(served: Served) -> None:
    """Write the line of a request, if such lines are asked for."""
    if not access_log.isEnabledFor(logging.INFO):
        return
    explain = served.explain
    entry: dict[str, object] = {
        "time": served.began.wall_s + served.seconds,
        "request": served.request_id,
        "operation": served.operation,
        "status": served.status,
        "ms": round(served.seconds * 1000, 3),
        "waves": len(served.waves),
        "requests": served.requests,
        "hedges": served.hedges,
        "bytesRead": served.bytes_read,
        "bytesWritten": served.bytes_written,
    }
    known = {"error": served.error, "index": explain.index, "plan": explain.plan}
    access_log.info(json.dumps(entry | {name: value for name, value in known.items() if value}))
