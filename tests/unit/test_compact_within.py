"""Compaction within the limits of a function: what fits, when it stops, and who goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from neve.compaction.executors import Inline
from neve.compaction.jobs import begun_jobs
from neve.compaction.within import Limits, OutOfTime, _Timely, compact_within, cores_and_memory
from neve.index.database import Database
from neve.index.entry import Write
from neve.index.grace import TAIL_ENTRIES_MAX
from neve.index.manifest import Manifest
from neve.index.records import Encryption, IndexConfig
from neve.runtime import SystemRuntime
from neve.segments.rows import Puts
from neve.store.connect import connect
from neve.vectors.metric import Metric
from tests.compacting import live_set, short_calibrations

DIMENSION = 4
MUCH = 1 << 40


class Machine:
    """A process on a machine of its own, with a store that others share."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.database = Database.open(connect(url), SystemRuntime())
        self.left_s = 900.0

    def limits(self, rows: int) -> Limits:
        """Those of a function in which so many rows fit."""
        memory = rows * (100 + 4 * DIMENSION)
        return Limits(lambda: self.left_s, 900.0, 1.0, memory, MUCH)

    def compact(self, rows: int = 10_000, *, asked: bool = True) -> object:
        return compact_within(self.database, "b", "i", self.url, self.limits(rows), asked=asked)

    def put(self, count: int, start: int = 0) -> None:
        names = [f"k{number}" for number in range(start, start + count)]
        vectors = np.random.default_rng(start).normal(size=(count, DIMENSION)).astype(np.float32)
        self.database.index("b", "i").write(lambda _: Write(Puts(names, vectors, [b"{}"] * count)))

    @property
    def manifest(self) -> Manifest:
        return Database.open(connect(self.url), SystemRuntime()).index("b", "i").read().base

    @property
    def rows(self) -> int:
        found = Database.open(connect(self.url), SystemRuntime())
        return len(live_set(found, found.index("b", "i").read()))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setenv("NEVE_CACHE", str(tmp_path / "cache"))
    with short_calibrations():
        machine = Machine((tmp_path / "store").as_uri())
        machine.database.create_bucket("b", Encryption(), {}, quota=9)
        config = IndexConfig(DIMENSION, Metric.EUCLIDEAN, None, Encryption())
        machine.database.create_index("b", "i", config, {}, quota=9)
        yield machine
        machine.database.close()


def test_what_fits_is_one_segment(machine: Machine) -> None:
    machine.put(300)
    assert machine.compact() is not None
    assert [info.rows for info in machine.manifest.compacted] == [300]
    assert machine.compact() is None


def test_what_does_not_fit_is_split_and_kept_in_the_store(machine: Machine) -> None:
    machine.put(300)
    machine.database.index("b", "i").fold()
    assert machine.compact(rows=100) is not None
    segments = [info.rows for info in machine.manifest.compacted]
    assert (len(segments), sum(segments)) == (3, 300)
    assert machine.rows == 300


def test_another_environment_goes_on_with_what_is_in_the_store(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after each task in turn, and gone on with on a machine that has nothing of it."""
    machine.put(300)
    machine.database.index("b", "i").fold()
    stops = 0
    while stops < 50:
        tasks = iter([900.0] * 3)  # time for the call to begin, and for a task
        machine_limits = Limits(lambda tasks=tasks: next(tasks, 0.0), 900.0, 1.0, 100 * 116, MUCH)
        monkeypatch.setenv("NEVE_CACHE", str(tmp_path / f"cache-{stops}"))
        try:
            done = compact_within(machine.database, "b", "i", machine.url, machine_limits, asked=True)
        except OutOfTime:
            stops += 1
            assert machine.rows == 300
            continue
        assert done is not None
        break
    assert stops > 3
    assert sum(info.rows for info in machine.manifest.compacted) == 300
    assert begun_jobs(machine.database.store, machine.database.index("b", "i").read().uid) == []


def test_nothing_is_begun_when_the_time_is_nearly_up(machine: Machine) -> None:
    machine.put(300)
    machine.left_s = 60.0
    with pytest.raises(OutOfTime):
        machine.compact()
    assert machine.manifest.number == 0
    with pytest.raises(OutOfTime):
        _Timely(Inline(), machine.limits(1)).submit(print, "never").result()
    machine.limits(1).check("upload", 1, 1)  # what is over is not begun


def test_a_schedule_folds_what_is_long_and_leaves_what_is_not_due(machine: Machine) -> None:
    machine.put(3)
    assert machine.compact(asked=False) is None
    assert machine.manifest.number == 0
    index = machine.database.index("b", "i")
    index._fold_soon = lambda: None  # type: ignore[method-assign]  # as in a function that is frozen before it begins
    for number in range(TAIL_ENTRIES_MAX):
        machine.put(1, 10 + number)
    assert machine.compact(asked=False) is None
    assert machine.manifest.folded_to > TAIL_ENTRIES_MAX
    assert machine.rows == 3 + TAIL_ENTRIES_MAX


def test_what_is_due_is_compacted_unless_that_is_switched_off(machine: Machine) -> None:
    machine.put(6_000)
    machine.put(6_000, 6_000)
    machine.database.index("b", "i").fold()
    machine.database.index("b", "i").configure(lambda settings: {**settings, "compact": 0})
    assert machine.compact(rows=20_000, asked=False) is None
    machine.database.index("b", "i").configure(lambda settings: {**settings, "compact": 1})
    assert machine.compact(rows=20_000, asked=False) is not None
    assert machine.manifest.live_rows == 12_000


@pytest.mark.parametrize(
    ("limits", "rows"),
    [
        (Limits(lambda: 0.0, 900.0, 1.0, MUCH, MUCH), 900 * 500_000 // 768),
        (Limits(lambda: 0.0, 900.0, 6.0, MUCH, MUCH), 6 * 900 * 500_000 // 768),
        (Limits(lambda: 0.0, 1e9, 6.0, MUCH, 10 << 30), (10 << 30) // (20 * 768 + 100)),
        (Limits(lambda: 0.0, 1e9, 6.0, 1 << 30, MUCH), (1 << 30) // (4 * 768 + 100)),
        (Limits(lambda: 0.0, 0.0, 1.0), 1),
    ],
)
def test_how_many_rows_fit(limits: Limits, rows: int) -> None:
    assert limits.rows(768) == rows


def test_what_a_function_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.delenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", raising=False)
    assert cores_and_memory() == (2, 4 << 30)
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "885")
    assert cores_and_memory() == (885 / 1769, 885 << 20)
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "10240")
    assert cores_and_memory()[0] == 2
    monkeypatch.setenv("NEVE_CACHE", str(tmp_path))
    limits = Limits.here(lambda: 30.0, 1.0, 4 << 30)
    assert (limits.margin_s, limits.memory_bytes) == (15.0, 2 << 30)
    assert limits.disk_bytes > 0
    assert Limits.here(lambda: 900.0, 1.0, 1).margin_s == 60.0
