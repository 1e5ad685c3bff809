"""Import whose work is done by others: as one here, in several segments; the last row of a key counts, wherever."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import orjson
import pytest

from neve.compaction.build import Means
from neve.compaction.elsewhere import Elsewhere
from neve.compaction.scatter import Stage
from neve.errors import SourceChanged
from neve.index import paths
from neve.index.chain import list_all
from neve.transfer import elsewhere as scattered
from neve.transfer.elsewhere import Reading, ScatteredWork
from neve.transfer.import_ import Imported, import_rows
from neve.transfer.mapping import ColumnMapping
from neve.transfer.rejects import Reject
from neve.transfer.rules import Rules
from neve.transfer.sources import parts, plan_source, read_part
from tests.importing import all_large
from tests.unit.compact_world import DIMENSION, Killed, names
from tests.unit.test_compact_elsewhere import Afar, Workers

LINES = 400
SEGMENTS = 3


@dataclass
class Lines:
    """A JSONL file of rows, in which keys come again; what an index should hold of it."""

    path: Path
    rejects: list[Reject] = field(default_factory=list)

    def write(self, world: Afar, keys: list[str], bad: frozenset[int] = frozenset()) -> None:
        vectors = np.random.default_rng(len(keys)).normal(size=(len(keys), DIMENSION)).astype(np.float32)
        with self.path.open("wb") as file:
            for number, (key, vector) in enumerate(zip(keys, vectors, strict=True)):
                values = [0.5] if number in bad else vector.tolist()
                file.write(orjson.dumps({"key": key, "vector": values, "metadata": {"n": number}}) + b"\n")
                if number not in bad:
                    world.rows[key] = (vector.tobytes(), b'{"n":%d}' % number)

    def load(self, world: Afar, workers: Workers | None = None, segments: int = SEGMENTS) -> Imported | None:
        mapping = ColumnMapping()
        source = plan_source([str(self.path)], mapping)
        database = world.process()
        rules = Rules.of(database.index("b", "i").read().config)
        there = Means(world.folder / "here", executor=workers or Workers())
        place = Elsewhere(world.url, -(-LINES // segments))
        reading = Reading(mapping, rules, "wide", there, place)
        read, here = partial(read_part, mapping=mapping, rules=rules), Means(world.folder / "here")
        work = partial(ScatteredWork, reading=reading)
        with all_large():
            return import_rows(database, "b", "i", source, read, here, self.rejects.extend, work)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Afar:
    monkeypatch.setenv("NEVE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(parts, "PART_BYTES", 4 * DIMENSION * 200)
    monkeypatch.setattr(scattered, "GROUP_BYTES", 2 * scattered.PART_BYTES)
    return Afar(tmp_path)


@pytest.fixture
def lines(tmp_path: Path) -> Lines:
    return Lines(tmp_path / "rows.jsonl")


def repeated() -> list[str]:
    """Each key of a third comes again, in another part or in the same."""
    keys = names("k", LINES)
    for number in range(0, LINES, 3):
        keys[number] = f"k{(number * 7) % LINES}"
    return keys


@pytest.mark.parametrize("segments", [1, SEGMENTS])
def test_the_last_row_of_a_key_counts(world: Afar, lines: Lines, segments: int) -> None:
    world.put("k1", "k2", "old")
    keys = repeated()
    lines.write(world, keys, bad=frozenset({5, 390}))
    done = lines.load(world, segments=segments)
    assert done is not None
    good = [key for number, key in enumerate(keys) if number not in (5, 390)]
    assert (done.rows, done.rejected) == (len(set(good)), 2)
    assert done.repeated == len(good) - len(set(good))
    assert [reject.key for reject in lines.rejects] == [keys[5], keys[390]]
    assert len([info for info in world.manifest.compacted if info.rows > 3]) == segments
    world.check()


def test_rows_that_others_write_meanwhile_stay(world: Afar, lines: Lines) -> None:
    lines.write(world, names("k", LINES))

    class Busy(Workers):
        def submit(self, fn, /, *args, **kwargs):  # type: ignore[no-untyped-def]
            if not self.done:
                world.put("k3", "k4")
                world.delete("k5")
            return super().submit(fn, *args, **kwargs)

    done = lines.load(world, Busy())
    assert done is not None
    assert (done.rows, done.overtaken) == (LINES - 3, 3)
    world.check()


@pytest.mark.parametrize("last", [1, 4, 8, 12, 16, 19])
def test_one_that_is_killed_goes_on(world: Afar, lines: Lines, last: int) -> None:
    lines.write(world, repeated())
    killed, workers = Workers(last), Workers()
    with pytest.raises(Killed):
        lines.load(world, killed)
    assert lines.load(world, workers) is not None
    first, second = ({(task.stage, task.number) for task in one.done} for one in (killed, workers))
    assert not first & second
    assert {stage for stage, _ in first | second} == set(Stage)
    world.check()


def test_a_source_that_changes_is_noticed(world: Afar, lines: Lines) -> None:
    lines.write(world, names("k", LINES))

    class Meddling(Workers):
        def submit(self, fn, /, *args, **kwargs):  # type: ignore[no-untyped-def]
            if len(self.done) == 3:
                lines.path.write_bytes(lines.path.read_bytes() + b"{}\n")
            return super().submit(fn, *args, **kwargs)

    world.rows.clear()
    with pytest.raises(SourceChanged):
        lines.load(world, Meddling())
    state = world.state
    assert not state.compacted
    assert list(list_all(world.store, paths.work_folder(state.uid))), "kept for the next run"
