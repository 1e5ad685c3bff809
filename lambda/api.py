"""The S3 Vectors API as a function behind a URL or API Gateway. Its store is NEVE_STORE, its keys NEVE_KEYS."""

from __future__ import annotations

import os

from neve.wire.function import Function

function = Function(os.environ)


def handler(event: object, context: object) -> dict[str, object]:
    """Answer one event."""
    return function(event)
