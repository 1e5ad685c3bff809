"""Slow reads are sent again, a few a wave, and the first good answer counts."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from obstore.exceptions import GenericError
from obstore.store import MemoryStore

from neve.store.counting import bill
from neve.store.objects import HEDGES_MAX, ObjectStore
from neve.store.patience import FLOOR_S, SAMPLES_MIN, UNKNOWN_S, Patience
from neve.store.port import Found, Get, Missing, Put


class Stalling:
    """A remote store of which the first read of each key that starts with "slow" is stuck until `release` is set.

    The second read of a key that starts with "slow, then broken" fails; it lets the first one go.
    """

    def __init__(self) -> None:
        self.release = threading.Event()
        self.reads: Counter[str] = Counter()
        self._store = MemoryStore()
        self._lock = threading.Lock()

    def put(self, *args: Any, **options: Any) -> Any:
        return self._store.put(*args, **options)

    def get(self, path: str, **options: Any) -> Any:
        with self._lock:
            self.reads[path] += 1
            number = self.reads[path]
        if path.startswith("slow, then broken") and number == 2:
            self.release.set()
            raise GenericError("connection reset")
        if path.startswith("slow") and number == 1:
            assert self.release.wait(60)
        return self._store.get(path, **options)


@pytest.fixture
def remote() -> Iterator[Stalling]:
    remote = Stalling()
    yield remote
    remote.release.set()


@pytest.fixture
def store(remote: Stalling) -> ObjectStore:
    """A store that has answered enough reads quickly to know what is slow."""
    store = ObjectStore(remote)
    keys = ["quick", "slow, then broken", *(f"slow {number}" for number in range(8))]
    store.wave([Put(key, key.encode()) for key in keys])
    for _ in range(SAMPLES_MIN):
        store.wave([Get("quick")])
    remote.reads.clear()
    return store


def test_a_slow_read_is_sent_again(store: ObjectStore, remote: Stalling) -> None:
    with bill() as own:
        assert store.wave([Get("slow 0", 1, 6)]) == [Found(b"low 0")]
    assert own.hedges == 1
    assert remote.reads == {"slow 0": 2}


def test_others_of_the_wave_are_asked_once(store: ObjectStore, remote: Stalling) -> None:
    requests = [Get("quick"), Get("slow 0"), Get("absent"), Put("new", b"")]
    assert store.wave(requests)[:3] == [Found(b"quick"), Found(b"slow 0"), Missing()]
    assert remote.reads["slow 0"] == 2


def test_no_more_than_a_few_of_a_wave_are_sent_again(store: ObjectStore, remote: Stalling) -> None:
    waiting: list[object] = []
    wave = [Get(f"slow {number}") for number in range(8)]

    def ask() -> None:
        with bill() as own:
            waiting.extend(store.wave(wave))
        waiting.append(own.hedges)

    asker = threading.Thread(target=ask)
    asker.start()
    while remote.reads.total() < 8 + HEDGES_MAX:
        asker.join(0.005)
    remote.release.set()
    asker.join()
    assert waiting == [*(Found(get.key.encode()) for get in wave), HEDGES_MAX]
    assert remote.reads.total() == 8 + HEDGES_MAX


def test_a_second_read_that_fails_does_not_hide_the_first(store: ObjectStore) -> None:
    assert store.wave([Get("slow, then broken")]) == [Found(b"slow, then broken")]


def test_patience_learns_the_quantile() -> None:
    patience = Patience()
    for number in range(SAMPLES_MIN - 1):
        patience.learn(number / 100)
        assert patience.bound_s == UNKNOWN_S
    for _ in range(100):
        for number in range(100):
            patience.learn(0.1 + number / 100)
    assert patience.bound_s == pytest.approx(1.05, abs=0.02)


def test_patience_is_never_below_some_medians_nor_the_floor() -> None:
    patience = Patience()
    for _ in range(SAMPLES_MIN):
        patience.learn(0.1)
    assert patience.bound_s == pytest.approx(0.13)
    for _ in range(1000):
        patience.learn(0.0005)
    assert patience.bound_s == FLOOR_S
