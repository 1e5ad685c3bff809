"""The fault store: every fate does what its name says, by script and by seed."""

from __future__ import annotations

from collections import Counter

import pytest

from neve.store.port import (
    Created,
    Delete,
    Done,
    Exists,
    Failed,
    Found,
    Get,
    List,
    Missing,
    Put,
    PutNew,
    Request,
    Unknown,
)
from neve.testing.faults import ROUGH, Crash, Fate, FaultPlan, FaultStore, ScriptedFates, SeededFates, possible
from neve.testing.objects import MemoryStore


def faulty(script: dict[int, Fate]) -> tuple[FaultStore, MemoryStore]:
    store = MemoryStore()
    return FaultStore(store, ScriptedFates(script)), store


def test_without_faults_it_is_the_store_itself() -> None:
    store, _ = faulty({})
    assert store.wave([PutNew("a", b"1"), Get("b"), Put("c", b"3")]) == [Created(), Missing(), Done()]
    assert store.wave([Get("a"), PutNew("a", b"2"), Delete(("c",))]) == [Found(b"1"), Exists(), Done()]
    assert store.requests[3:] == [Get("a"), PutNew("a", b"2"), Delete(("c",))]


def test_crash_before_lets_the_earlier_requests_of_the_wave_land() -> None:
    store, inner = faulty({3: Fate.CRASH_BEFORE})
    store.wave([Put("a", b"")])
    with pytest.raises(Crash):
        store.wave([Put("b", b""), Put("c", b""), Put("d", b""), Put("e", b"")])
    assert inner.objects.all_keys() == ["a", "b", "c"]


def test_crash_after_lets_that_request_alone_land() -> None:
    store, inner = faulty({2: Fate.CRASH_AFTER})
    with pytest.raises(Crash):
        store.wave([Put("a", b""), Put("b", b""), Put("c", b""), Put("d", b"")])
    assert inner.objects.all_keys() == ["c"]


def test_after_a_crash_every_wave_crashes_and_nothing_lands() -> None:
    store, inner = faulty({0: Fate.CRASH_BEFORE})
    for _ in range(2):
        with pytest.raises(Crash):
            store.wave([Put("a", b"")])
    assert inner.objects.all_keys() == []


def test_a_crash_is_no_exception_that_a_handler_survives() -> None:
    assert not issubclass(Crash, Exception)


@pytest.mark.parametrize(
    ("fate", "landed"),
    [
        (Fate.LOST_REPLY, True),
        (Fate.LOST_REQUEST, False),
        (Fate.LATE, False),
    ],
)
def test_an_unanswered_create_is_unknown_and_other_requests_fail(fate: Fate, landed: bool) -> None:
    store, inner = faulty({0: fate, 1: fate, 3: fate})
    unknown, failed, found, deleted = store.wave([PutNew("a", b""), Put("b", b""), Get("c"), Delete(("d",))])
    assert isinstance(unknown, Unknown)
    assert isinstance(failed, Failed)
    assert found == Missing()
    assert isinstance(deleted, Failed)
    assert inner.objects.all_keys() == (["a", "b"] if landed else [])


def test_late_requests_land_when_the_test_says_and_lose_like_any_other() -> None:
    store, inner = faulty({0: Fate.LATE, 1: Fate.LATE})
    store.wave([PutNew("a", b"late"), PutNew("b", b"late")])
    assert inner.wave([PutNew("a", b"early")]) == [Created()]
    assert store.land() == 2
    assert store.land() == 0
    assert inner.wave([Get("a"), Get("b")]) == [Found(b"early"), Found(b"late")]


def test_refusals_and_conflicts_are_not_done() -> None:
    store, inner = faulty({0: Fate.UNAVAILABLE, 1: Fate.CONFLICT})
    refused, conflict = store.wave([PutNew("a", b""), PutNew("b", b"")])
    assert isinstance(refused, Failed)
    assert conflict == Exists()
    assert inner.objects.all_keys() == []


def test_bodies_are_cut_and_flipped() -> None:
    store, inner = faulty({0: Fate.CUT, 1: Fate.FLIPPED})
    inner.wave([Put("a", b"0123456789")])
    cut, flipped, whole = store.wave([Get("a"), Get("a"), Get("a")])
    assert isinstance(cut, Found)
    assert isinstance(flipped, Found)
    assert b"0123456789".startswith(cut.body)
    assert len(cut.body) < 10
    wrong = [(one ^ other).bit_count() for one, other in zip(flipped.body, b"0123456789", strict=True)]
    assert sum(wrong) == 1
    assert whole == Found(b"0123456789")


def test_the_same_seed_gives_the_same_fates() -> None:
    requests: list[Request] = [Get("a"), PutNew("b", b""), List("c/"), Delete(("d",)), Put("e", b"")] * 200
    first, again, other = (
        [fates(number, request) for number, request in enumerate(requests)]
        for fates in (SeededFates(1, ROUGH), SeededFates(1, ROUGH), SeededFates(2, ROUGH))
    )
    assert first == again
    assert first != other


def test_chances_are_kept_and_only_what_is_possible_happens() -> None:
    plan = FaultPlan(unavailable=0.1, conflict=0.1, lost_reply=0.1, late=0.1, flipped=0.1)
    fates = SeededFates(3, plan)
    creates = Counter(fates(number, PutNew("a", b"")) for number in range(5000))
    gets = Counter(fates(number, Get("a")) for number in range(5000))
    assert set(creates) == {Fate.SERVED, Fate.UNAVAILABLE, Fate.CONFLICT, Fate.LOST_REPLY, Fate.LATE}
    assert set(gets) == {Fate.SERVED, Fate.UNAVAILABLE, Fate.LOST_REPLY, Fate.FLIPPED}
    assert all(400 < creates[fate] < 600 for fate in creates if fate is not Fate.SERVED)
    assert not possible(Fate.CUT, List("a/"))


def test_chances_beyond_one_are_refused() -> None:
    with pytest.raises(AssertionError, match="more than 1"):
        FaultPlan(late=0.6, slow=0.6).request_chances()
