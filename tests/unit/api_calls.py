"""A service on a store in memory, and calls of it as they come over the wire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from neve.api.document import parse_json
from neve.api.faults import Fault, fault
from neve.api.limits import LIMITS, Limits
from neve.api.options import CallOptions
from neve.api.render import to_json
from neve.api.service import Identity, Service
from neve.index.database import Database
from neve.runtime import Instant, SystemRuntime
from neve.store.objects import memory_store
from neve.store.port import Store


class MovableRuntime(SystemRuntime):
    """A system runtime whose clocks can be set forward."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead_s = 0.0

    def now(self) -> Instant:
        now = super().now()
        return Instant(now.wall_s + self.ahead_s, now.monotonic_s + self.ahead_s)


@dataclass(frozen=True, slots=True)
class Calls:
    """Operations by their JSON; `refused` expects a fault."""

    service: Service
    runtime: MovableRuntime

    def __call__(self, operation: str, options: CallOptions | None = None, **members: object) -> dict[str, Any]:
        return self.text(operation, orjson.dumps(members), options)

    def text(self, operation: str, body: bytes, options: CallOptions | None = None) -> dict[str, Any]:
        result = self.service.call(operation, parse_json(body), options or CallOptions())
        shown: dict[str, Any] = orjson.loads(orjson.dumps(to_json(result), option=orjson.OPT_SERIALIZE_NUMPY))
        return shown

    def refused(self, operation: str, members: Mapping[str, object] | bytes) -> Fault:
        body = members if isinstance(members, bytes) else orjson.dumps(members)
        try:
            answer = self.text(operation, body)
        except Exception as error:
            return fault(error)
        raise AssertionError(f"{operation} was accepted: {answer}")


def calls_on(limits: Limits = LIMITS["aws"], store: Store | None = None) -> Calls:
    """A service over a store, a fresh one in memory unless given."""
    runtime = MovableRuntime()
    database = Database.open(store or memory_store(), runtime)
    return Calls(Service(database, Identity(), limits), runtime)
