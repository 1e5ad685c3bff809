"""Compaction in the background of a server, and as a command."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neve.cli import main
from neve.compaction.background import RETRY_S, Background
from neve.compaction.build import Means
from neve.compaction.executors import threads
from neve.compaction.plan import FLAT_ROWS_MIN
from neve.compaction.tasks import Stage
from neve.index.database import Database
from neve.index.entry import Write
from neve.index.records import Encryption, IndexConfig
from neve.runtime import SystemRuntime
from neve.segments.rows import Puts
from neve.store.connect import connect
from neve.store.port import Put, Request
from neve.testing.clock import ManualRuntime
from neve.testing.faults import Fate, FaultStore
from neve.testing.objects import MemoryStore
from neve.vectors.metric import Metric
from tests.unit.compact_world import (
    DIMENSION,
    Mortal,
    World,
    files,
    names,
)


class TestBackground:
    def test_compacts_what_is_due_and_nothing_else(self, world: World) -> None:
        runtime = ManualRuntime(world.clock, "background")
        background = Background(Database.open(MemoryStore(world.objects), runtime), Means(world.folder), threads)
        world.put("a")
        world.fold()
        background.offer(world.state)
        assert runtime.settle() == 0
        world.put(*names("a", FLAT_ROWS_MIN))
        world.fold()
        for _ in range(3):
            background.offer(world.state)
        assert runtime.settle() == 1
        assert not world.manifest.segments
        world.check()

    def test_a_failure_is_told_once_and_tried_later(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        runtime, refused = ManualRuntime(world.clock, "background"), [True]

        def fates(_place: int, request: Request) -> Fate:
            uploaded = isinstance(request, Put) and "/segments/" in request.key
            return Fate.UNAVAILABLE if refused[0] and uploaded else Fate.SERVED

        store = FaultStore(MemoryStore(world.objects), fates)
        background = Background(Database.open(store, runtime), Means(world.folder), threads)
        world.put(*names("a", FLAT_ROWS_MIN))
        world.fold()
        state = world.state
        ran = []
        for _ in range(4):
            background.offer(state)
            ran.append(runtime.settle())
            world.clock.advance(RETRY_S / 2 + 1)
        assert ran == [1, 0, 1, 0]
        assert len([entry for entry in caplog.records if "b/i could not be compacted" in entry.message]) == 1
        refused[0] = False
        background.offer(state)
        runtime.settle()
        assert not world.manifest.segments
        world.check()

    def test_ends_with_its_present_task(self, world: World) -> None:
        runtime, executor = ManualRuntime(world.clock, "background"), Closing()
        background = Background(
            Database.open(MemoryStore(world.objects), runtime), Means(world.folder), lambda: nullcontext(executor)
        )
        executor.close = background.close
        world.put(*names("a", FLAT_ROWS_MIN))
        world.fold()
        background.offer(world.state)
        assert runtime.settle() == 1
        assert executor.ran == [Stage.SELECT]
        background.offer(world.state)
        assert runtime.settle() == 0
        world.check()


class Closing(Mortal):
    """Runs one task, while which the server is told to end."""

    close: Callable[[], None]

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.close()
        return super().submit(fn, *args, **kwargs)


class TestCommand:
    @pytest.fixture
    def store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        """A store in a folder, with two indexes of 300 vectors; the cache lies beside it."""
        monkeypatch.setenv("NEVE_CACHE", str(tmp_path / "cache"))
        url = f"file://{tmp_path}/store"
        runtime = SystemRuntime()
        database = Database.open(connect(url), runtime)
        database.create_bucket("b", Encryption(), {}, quota=9)
        vectors = np.random.default_rng(1).normal(size=(300, DIMENSION)).astype(np.float32)
        for name in ("i", "j"):
            database.create_index("b", name, IndexConfig(DIMENSION, Metric.COSINE, None, Encryption()), {}, quota=9)
            write = Write(Puts(names("k", 300), vectors, [b"{}"] * 300))
            database.index("b", name).write(lambda _, write=write: write)
            database.index("b", name).fold()
        runtime.close()
        return url

    def test_an_index_by_name(self, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["compact", "--store", store, "b/i"]) == 0
        assert "300" in capsys.readouterr().out
        assert not files(tmp_path / "cache")
        assert main(["compact", "--store", store, "b/i", "--memory", "64MiB"]) == 0
        assert "nothing to compact" in capsys.readouterr().out

    def test_what_is_due(self, store: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["compact", "--store", store]) == 0
        assert "nothing to compact" in capsys.readouterr().out
        assert main(["compact", "--store", store, "b", "--full"]) == 0
        assert "b/i" in (out := capsys.readouterr().out)
        assert "b/j" in out

    @pytest.mark.parametrize("name", ["b/other", "other"])
    def test_what_is_not_there(self, store: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["compact", "--store", store, name]) == 1
        assert name in capsys.readouterr().err

    def test_a_damaged_index_does_not_keep_the_others_from_it(
        self, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        segment = next((tmp_path / "store").rglob("flat"))
        segment.write_bytes(segment.read_bytes()[:-1])
        assert main(["compact", "--store", store, "b", "--full"]) == 1
        shown = capsys.readouterr()
        assert segment.parent.name in shown.err
        assert "300" in shown.out

    @pytest.mark.parametrize("size", ["1KiB", "much", "-1GiB"])
    def test_memory_that_is_no_size(self, store: str, size: str) -> None:
        with pytest.raises(SystemExit, match="2"):
            main(["compact", "--store", store, f"--memory={size}"])

    @pytest.mark.parametrize("count", ["two", "-1", "1000"])
    def test_workers_that_are_no_number(self, store: str, count: str) -> None:
        with pytest.raises(SystemExit, match="2"):
            main(["compact", "--store", store, f"--workers={count}"])

    def test_watches_until_it_is_told_to_end(self, store: str) -> None:
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
        before = signal.getsignal(signal.SIGTERM)
        assert main(["compact", "--store", store, "--watch"]) == 0
        timer.join()
        assert signal.getsignal(signal.SIGTERM) is before
