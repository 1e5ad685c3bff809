"""A function of a serverless platform: an environment that lives for one event or for many, and is frozen in between.

Settings are read when its module is imported. The store is opened by the first event that needs it, so that one that
refuses or fails is asked again by the next; but what that takes is on its way from the beginning.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from neve.errors import StoreDenied, StoreError
from neve.index.paths import IDENTITY
from neve.store.ahead import AheadStore
from neve.store.connect import connect
from neve.store.port import Get
from neve.wire.settings import Settings, SettingsInvalid, load

if TYPE_CHECKING:
    from neve.api.options import CallOptions
    from neve.api.results import Result
    from neve.api.service import Service
    from neve.query.explain import Explain

_log = logging.getLogger("neve.wire")


class Unstartable(ImportError):
    """The function's module cannot be imported: Lambda tells of such an error in one line, and once."""


def settings_of(environment: Mapping[str, str]) -> Settings:
    """The settings of a function; raises Unstartable, with what is wrong."""
    try:
        return load(None, environment, {})
    except SettingsInvalid as error:
        raise Unstartable(str(error)) from None


class Function:
    """Answers events of a function URL or of API Gateway."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Raises Unstartable. 1 GET, which nobody waits for."""
        settings = settings_of(environment)
        try:
            store = AheadStore(connect(settings.store), Get(IDENTITY))
        except StoreError as error:
            raise Unstartable(str(error)) from None
        # Not sooner: this takes a third of a second, while the store is being asked.
        from neve.runtime import SystemRuntime
        from neve.wire.assembly import application_over, open_service
        from neve.wire.event import handle
        from neve.wire.logs import log_to_stderr

        log_to_stderr(settings.log, access=settings.access_log)
        runtime = SystemRuntime()
        self._application = application_over(_Late(lambda: open_service(settings, runtime, store)), settings, runtime)
        self._handle = handle

    def __call__(self, event: object) -> dict[str, object]:
        """What the platform is to hand back. Raises nothing."""
        return self._handle(self._application, event)


class _Late:
    """A service that is there from its first successful opening on."""

    def __init__(self, open_: Callable[[], Service]) -> None:
        self._open = open_
        self._service: Service | None = None
        self._lock = threading.Lock()

    def call(
        self, operation: str, members: Mapping[str, object], options: CallOptions, explain: Explain | None = None
    ) -> Result:
        try:
            return self._opened().call(operation, members, options, explain)
        except StoreDenied as error:  # the caller is not told which permission is missing, but whoever runs this is
            _log.error("%s", error)
            raise

    def _opened(self) -> Service:
        with self._lock:
            if self._service is None:
                self._service = self._open()
            return self._service
