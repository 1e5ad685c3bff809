"""A share of the lists of a query, scored as a function: NEVE_SHARD_FUNCTION of the API's function names this one."""

from __future__ import annotations

import os

from neve.wire.shard import Shard

shard = Shard(os.environ)


def handler(event: object, context: object) -> dict[str, object]:
    """Answer one task."""
    return shard(event)
