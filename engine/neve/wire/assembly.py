"""From settings to an application that answers: the one place where store, database, service and wire meet."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from neve.api.limits import LIMITS
from neve.api.service import Identity, Service
from neve.dataclass import dataclass
from neve.index.database import Database
from neve.query.shards import FanOut, Threads
from neve.runtime import Runtime, SystemRuntime
from neve.store.connect import connect
from neve.store.port import Store
from neve.store.watching import WatchedStore, Wave
from neve.wire.application import Answering, Application
from neve.wire.logs import log_access
from neve.wire.served import Watcher
from neve.wire.settings import Settings
from neve.wire.sigv4 import Verifier
from neve.wire.tracing import tracer

if TYPE_CHECKING:
    from neve.compaction.background import Background


@dataclass(frozen=True, slots=True)
class Assembly:
    """An application, what must be called when it is no longer needed, and what there is to watch beside requests."""

    application: Application
    close: Callable[[], None]
    database: Database | None = None
    background: Background | None = None


def assemble(
    settings: Settings,
    *,
    background: bool = False,
    watchers: Sequence[Watcher] = (),
    tell: Callable[[Wave], None] | None = None,
) -> Assembly:
    """Open the store and put an application over it; raises StoreError. Costs the database's opening.

    In the `background` of a process that stays, indexes are compacted as they need it, if the settings allow.
    Requests are told to `watchers`, to the access log if there is one, and to OpenTelemetry if that is installed;
    waves of the store to `tell`.
    """
    runtime = SystemRuntime()
    try:
        service = open_service(settings, runtime, connect(settings.store), tell)
    except BaseException:
        runtime.close()
        raise
    database = service.database
    application = application_over(service, settings, runtime, watchers)
    if not (background and settings.compact):
        return Assembly(application, service.close, database)
    from neve.compaction.background import Background, server_means  # here, since functions do without

    compactor = Background(database, *server_means())
    database.arranged = compactor.offer

    def close() -> None:
        compactor.close()
        service.close()

    return Assembly(application, close, database, compactor)


def open_service(
    settings: Settings, runtime: Runtime, store: Store, tell: Callable[[Wave], None] | None = None
) -> Service:
    """The service over the store of some settings; raises StoreError. Costs the database's opening."""
    blocks = settings.tiers.open(runtime)
    database = Database.open(WatchedStore(store, runtime, tell), runtime, blocks=blocks)
    identity = Identity(settings.region, settings.account)
    return Service(database, identity, LIMITS[settings.limits], _fan_out(settings, database))


def _fan_out(settings: Settings, database: Database) -> FanOut | None:
    if settings.shard_function:
        from neve.wire.fanout import LambdaFanOut  # here, since TLS and HTTP take 20 ms to import

        return LambdaFanOut(settings, database.runtime, os.environ)
    if settings.shard_threads > 1:
        return Threads(database.store, database.blocks, database.runtime, settings.shard_threads)
    return None


def application_over(
    service: Answering, settings: Settings, runtime: Runtime, watchers: Sequence[Watcher] = ()
) -> Application:
    """The application that some settings ask for over a service. No request."""
    verifier = Verifier(settings.keys, lambda: runtime.now().wall_s, settings.regions) if settings.keys else None
    spans = tracer()
    watchers = [*watchers, *([log_access] if settings.access_log else []), *([spans] if spans else [])]
    body_bytes_max = LIMITS[settings.limits].body_bytes
    return Application(service, runtime, verifier, body_bytes_max=body_bytes_max, watchers=watchers)
