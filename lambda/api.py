"""The S3 Vectors API as a function behind a URL. Its store is NEVE_STORE, its keys NEVE_KEYS (id:secret, …)."""

from __future__ import annotations

import os
from collections.abc import Mapping

from neve.wire.assembly import assemble
from neve.wire.event import handle
from neve.wire.settings import load

application = assemble(load(None, os.environ, {})).application


def handler(event: Mapping[str, object], context: object) -> dict[str, object]:
    """Answer one function-URL event."""
    return handle(application, event)
