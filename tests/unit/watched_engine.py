"""A whole engine on a store in memory behind the wire, watched by whoever a test wants."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from neve.store.objects import memory_store
from neve.store.port import Store
from neve.store.watching import Wave
from neve.wire.application import Application
from neve.wire.assembly import application_over, open_service
from neve.wire.message import Request, Response
from neve.wire.served import Watcher
from neve.wire.settings import Settings
from tests.unit.api_calls import MovableRuntime

INDEX = {"vectorBucketName": "library", "indexName": "books"}


@dataclass(frozen=True, slots=True)
class Engine:
    """An application; `ask` posts JSON members and expects a status."""

    application: Application

    def ask(self, operation: str, members: object, status: int = 200, **headers: str) -> Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        response = self.application(Request("POST", f"/{operation}", "", named, json.dumps(members).encode()))
        assert response.status == status, response
        return response

    def make_index(self) -> None:
        self.ask("CreateVectorBucket", {"vectorBucketName": "library"})
        shape = {"dataType": "float32", "dimension": 2, "distanceMetric": "cosine"}
        self.ask("CreateIndex", {**INDEX, **shape})

    def put(self, *keys: str, **members: object) -> None:
        vectors = [{"key": key, "data": {"float32": [1, place]}, **members} for place, key in enumerate(keys)]
        self.ask("PutVectors", {**INDEX, "vectors": vectors})


@contextmanager
def engine(
    *watchers: Watcher, tell: Callable[[Wave], None] | None = None, store: Store | None = None, access_log: bool = False
) -> Iterator[Engine]:
    """An engine without keys, closed afterwards."""
    settings, runtime = Settings("memory:", access_log=access_log), MovableRuntime()
    service = open_service(settings, runtime, store or memory_store(), tell)
    yield Engine(application_over(service, settings, runtime, _list(watchers)))
    service.database.close()


def _list(watchers: Sequence[Watcher]) -> list[Watcher]:
    return list(watchers)
