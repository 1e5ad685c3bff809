"""From settings to an application that answers: the one place where store, database, service and wire meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from neve.api.limits import LIMITS
from neve.api.service import Identity, Service
from neve.index.database import Database
from neve.runtime import SystemRuntime
from neve.store.connect import connect
from neve.wire.application import Application
from neve.wire.settings import Settings
from neve.wire.sigv4 import Verifier


@dataclass(frozen=True, slots=True)
class Assembly:
    """An application and what must be called when it is no longer needed."""

    application: Application
    close: Callable[[], None]


def assemble(settings: Settings, *, background: bool = False) -> Assembly:
    """Open the store and put an application over it; raises StoreError. Costs the database's opening.

    In the `background` of a process that stays, indexes are compacted as they need it, if the settings allow.
    """
    runtime = SystemRuntime()
    try:
        database = Database.open(connect(settings.store), runtime, blocks=settings.tiers.open(runtime))
    except BaseException:
        runtime.close()
        raise
    limits = LIMITS[settings.limits]
    service = Service(database, Identity(settings.region, settings.account), limits)
    verifier = Verifier(settings.keys, lambda: runtime.now().wall_s, settings.regions) if settings.keys else None
    application = Application(service, runtime, verifier, body_bytes_max=limits.body_bytes)
    if not (background and settings.compact):
        return Assembly(application, database.close)
    from neve.compaction.background import Background, server_means  # here, since functions do without

    compactor = Background(database, *server_means())
    database.arranged = compactor.offer

    def close() -> None:
        compactor.close()
        database.close()

    return Assembly(application, close)
