"""Compaction as a function: on a schedule, when S3 tells that a hint was written, or {"bucket": …, "index": …}."""

from __future__ import annotations

import os

from neve.wire.jobs import InvocationContext, Jobs

jobs = Jobs(os.environ)


def handler(event: object, context: InvocationContext) -> dict[str, object]:
    """Compact what the event asks for, as far as time allows; the next event goes on."""
    return jobs.compact(event, context)
