"""Collection as a function, to be called every hour: deletes what has been superseded for long enough."""

from __future__ import annotations

import os

from neve.wire.jobs import Jobs

jobs = Jobs(os.environ)


def handler(event: object, context: object) -> dict[str, object]:
    """Collect the store, whatever the event."""
    return jobs.collect()
