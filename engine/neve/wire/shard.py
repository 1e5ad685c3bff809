"""A function that scores shares of queries: from what it is invoked with to what it answers.

Who invokes it is no client but a query of neve's own, which may be of another version.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from neve.errors import StoreError
from neve.query.shard_tasks import VERSION, ShardTask, TaskInvalid
from neve.query.shards import Opened, scan_share
from neve.runtime import SystemRuntime
from neve.store.connect import connect
from neve.store.counting import BilledStore
from neve.store.steady import SteadyStore
from neve.wire.function import Unstartable, settings_of

_log = logging.getLogger("neve.wire")


class Shard:
    """Answers tasks over the store of its settings, through tiers of its own. Thread-safe."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Raises Unstartable. No request."""
        settings, runtime = settings_of(environment), SystemRuntime()
        try:
            self._store = SteadyStore(BilledStore(connect(settings.store)), runtime)
        except StoreError as error:
            raise Unstartable(str(error)) from None
        self._blocks = settings.tiers.open(runtime)
        self._opened = Opened(self._store)

    def __call__(self, event: object) -> dict[str, object]:
        """The result of the task that an event is, or an error by its name. Raises nothing.

        At most three waves: of directories and masks that it does not know, of terms, and of lists.
        """
        try:
            task = ShardTask.from_fields(event)
            return scan_share(self._store, self._blocks, task, self._opened.of).to_fields()
        except (TaskInvalid, StoreError) as error:
            _log.error("%s: %s", type(error).__name__, error)
            return {"version": VERSION, "error": type(error).__name__, "message": str(error)}
        except Exception as error:  # a traceback would show what it was asked
            _log.error("a task failed: %s", type(error).__name__)
            return {"version": VERSION, "error": type(error).__name__, "message": "the task failed"}
