"""The self-test of a store under lost replies and late requests, which are no fault of the store."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from neve.errors import StoreUnfit
from neve.store.port import Exists, PutNew, Reply, Request, Unknown
from neve.store.selftest import CREATORS, self_test
from neve.testing.clock import ManualClock, ManualRuntime
from neve.testing.objects import MemoryStore


class LateStore(MemoryStore):
    """The first race for each key gets no reply; one of its creates lands when the key is raced for again."""

    def __init__(self) -> None:
        super().__init__()
        self.raced: set[str] = set()

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        first = requests[0]
        if len(requests) == CREATORS and isinstance(first, PutNew):
            if first.key not in self.raced:
                self.raced.add(first.key)
                return [Unknown("no reply")] * CREATORS
            super().wave([first])
        return super().wave(requests)


class RefusingStore(MemoryStore):
    """Answers every create of a race with `Exists`, though nothing is there."""

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        return [Exists()] * CREATORS if len(requests) == CREATORS else super().wave(requests)


def test_a_create_of_an_earlier_race_may_win_a_later_one() -> None:
    assert self_test(LateStore(), ManualRuntime(ManualClock())) == {"rounds": 6, "creators": CREATORS}


def test_a_store_in_which_nobody_ever_wins_is_unfit() -> None:
    with pytest.raises(StoreUnfit, match="none of 8 racing creators of one key made it, 3 times"):
        self_test(RefusingStore(), ManualRuntime(ManualClock()))
