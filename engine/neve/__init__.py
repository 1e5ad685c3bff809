"""neve: an open vector engine on object storage that speaks the Amazon S3 Vectors API."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neve.inprocess import client

__all__ = ["__version__", "client"]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    # Late, so that importing one layer does not import all of them.
    if name == "client":
        from neve.inprocess import client

        return client
    raise AttributeError(f"module 'neve' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
