"""Uploads under faults: what travels is what the file held when it was sent; failures are tried again as a Put is."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from neve.store.folder import FolderStore
from neve.store.port import Done, Failed, Found, Get, List, Listed, Missing, Put, Upload
from neve.store.steady import SteadyStore
from neve.testing.clock import ManualClock, ManualRuntime
from neve.testing.faults import Fate, FaultStore, ScriptedFates
from neve.testing.objects import MemoryStore
from neve.testing.simulation import Simulation


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"firn and ice")
    return path


def test_an_upload_that_lands_late_carries_what_was_sent(file: Path) -> None:
    inner = MemoryStore()
    store = FaultStore(inner, ScriptedFates({0: Fate.LATE}))
    assert isinstance(store.wave([Upload("a", file)])[0], Failed)
    file.unlink()
    assert inner.wave([Get("a")]) == [Missing()]
    assert store.land() == 1
    assert inner.wave([Get("a")]) == [Found(b"firn and ice")]
    assert store.requests == [Put("a", b"firn and ice")]


@pytest.mark.parametrize("fate", [Fate.UNAVAILABLE, Fate.LOST_REQUEST, Fate.LOST_REPLY])
def test_an_upload_that_fails_is_tried_again(file: Path, fate: Fate) -> None:
    faulty = FaultStore(MemoryStore(), ScriptedFates({0: fate, 1: fate}))
    store = SteadyStore(faulty, ManualRuntime(ManualClock()))
    assert store.wave([Upload("a", file)]) == [Done()]
    assert store.wave([Get("a", 0, 4)]) == [Found(b"firn")]
    assert len(faulty.requests) == 4


def test_simulated_processes_upload(file: Path) -> None:
    with Simulation(seed=1) as simulation:
        process = simulation.process("writer")
        task = process.start(lambda: process.store.wave([Upload("a", file)]))
        simulation.at(simulation.now_s + 0.001, file.unlink)  # sent, and not yet landed
        simulation.join([task])
        stored = simulation.objects.get("a")
        assert stored is not None
        assert stored.body == b"firn and ice"


def test_an_upload_to_a_full_folder_leaves_nothing(file: Path, tmp_path: Path) -> None:
    with file.open("r+b") as growing:
        growing.truncate(20_000_000)
    store = FolderStore(tmp_path / "store")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_000_000, hard))
    try:
        (reply,) = store.wave([Upload("a/b", file)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert isinstance(reply, Failed)
    assert store.wave([List("a/")]) == [Listed((), complete=True)]
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []
