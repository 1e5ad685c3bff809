"""Appending, where the store tells too little of what became of an entry."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from neve.errors import OutcomeUnknown, StoreUnavailable
from neve.index.entry import Write
from neve.segments.rows import Puts
from neve.store.port import Failed, Get, Missing, PutNew, Reply, Request, Store
from neve.testing.objects import MemoryStore
from tests.unit.compact_world import DIMENSION, World


class Fading:
    """A store that creates a log entry, does not answer what is asked beside it, has lost it when it is asked for by
    itself, and cannot tell then whether the index is still there."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.stages: list[str] = []

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        replies = self._store.wave(requests)
        match requests:
            case [PutNew(key), *probes] if "/log/" in key:
                self.stages.append("created")
                return [replies[0], *(self._unanswered(one.key) for one in probes if isinstance(one, Get))]
            case [Get(manifest), Get(key)] if "created" in self.stages:  # the same, tried again
                return [self._unanswered(manifest), self._unanswered(key)]
            case [Get(key)] if "/log/" in key:
                self.stages.append("lost")
                return [Missing()]
            case [Get(key)] if key.startswith("catalog/") and "lost" in self.stages:
                self.stages.append("no answer")
                return [self._unanswered(key)]
        return replies

    @staticmethod
    def _unanswered(key: str) -> Reply:
        return Failed(StoreUnavailable(f"no reply to get {key}"))


def test_an_entry_that_was_created_and_then_lost_sight_of_is_unknown_and_not_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.put("before")
    store = Fading(MemoryStore(world.objects))
    index = world.process(store).index("b", "i")
    index.read()
    with pytest.raises(OutcomeUnknown):
        index.write(lambda _: Write(Puts(["k"], np.ones((1, DIMENSION), np.float32), [b"{}"])))
    assert list(dict.fromkeys(store.stages)) == ["created", "lost", "no answer"]
    assert world.state.live_rows == 2
