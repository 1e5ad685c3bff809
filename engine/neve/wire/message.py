"""HTTP requests and responses as values: what a socket, a function event and a test all speak to the application."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from neve.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as it stood on the wire: path and query still percent-encoded, header names in lower case.

    A header given more than once is joined by commas. What may hold a secret stays out of the repr.
    """

    method: str
    path: str
    query: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Response:
    """One response, whole: `headers` lacks only what the transport adds (length, date)."""

    status: int
    headers: Mapping[str, str]
    body: bytes
