"""A store of which one object is asked for before anyone asks."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from threading import Thread

from neve.store.port import Get, Reply, Request, Store


class AheadStore:
    """Sends a read at once, so that it is on its way while the process has other things to begin with.

    Whoever asks for that object alone, first, is given the reply; for an object that never changes it cannot be too
    old. It makes the connection that later requests go by, too.
    """

    def __init__(self, store: Store, request: Get) -> None:
        self._store, self._request = store, request
        self._reply: Future[list[Reply]] | None = Future()
        Thread(target=self._read, args=(self._reply,), name="neve-ahead", daemon=True).start()

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        if self._reply is not None and list(requests) == [self._request]:
            reply, self._reply = self._reply, None
            return reply.result()
        return self._store.wave(requests)

    def _read(self, reply: Future[list[Reply]]) -> None:
        try:
            reply.set_result(self._store.wave([self._request]))
        except BaseException as error:
            reply.set_exception(error)
