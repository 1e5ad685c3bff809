"""What a compacted index costs: waves and requests as exact numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from neve.index import paths
from neve.query.fetch import fetch, key_blocks_ahead
from neve.query.search import Query, reads_ahead, search
from neve.store.port import Delete, List, listed
from tests.compacting import compact_in, short_calibrations, workspaces
from tests.cost.world import DIMENSION, Process, World
from tests.importing import Given, all_large, import_in
from tests.reading import session

ROWS = 1200
PROBES = ("Get", "Get", "Get")
ASKED = Query(np.ones(DIMENSION, np.float32), 10)


def compact(process: Process, folder: Path) -> None:
    assert compact_in(process.database, folder, "library", "books") is not None


@pytest.fixture
def folder() -> Iterator[Path]:
    with workspaces() as folder, short_calibrations(60):
        yield folder


@pytest.fixture
def world(folder: Path) -> World:
    """One compacted segment of 1,200 rows in 9 lists and 7 key blocks, and nothing else."""
    world = World()
    for start in range(0, ROWS, 300):
        world.first.put([f"key-{number}" for number in range(start, start + 300)])
    compact(world.first, folder)
    world.first.index.read()
    world.first.waves()
    return world


def query(process: Process, asked: Query = ASKED) -> list[tuple[str, ...]]:
    """As an operation does it, hits with their metadata; its waves."""
    reading = session(process.database)
    state = process.index.read(ahead=reads_ahead(reading, asked, lambda _: asked.condition))
    hits = search(reading, state, asked)
    assert len(hits.named(reading, 0, len(hits))) == min(asked.k, state.live_rows)
    return process.waves()


def get(process: Process, *keys: str) -> list[tuple[str, ...]]:
    reading = session(process.database)
    state = process.index.read(ahead=key_blocks_ahead(reading, keys))
    assert [row.key for row in fetch(reading, state, keys)] == list(keys)
    return process.waves()


def test_cold_query_is_three_waves(world: World) -> None:
    """Catalog beside hint; LIST beside the lists; vectors beside records."""
    assert query(world.process()) == [("List", "Get"), ("List", "Get"), ("Get", "Get")]


def test_cold_query_with_a_tail_is_three_waves(world: World) -> None:
    """The tail is read beside the candidates."""
    for number in range(4):
        world.first.put([f"new-{number}"])
    assert query(world.process()) == [("List", "Get"), ("List", "Get"), ("Get",) * 6]


def test_cold_query_with_flat_segments_is_three_waves(world: World) -> None:
    world.first.put(["new"])
    world.first.index.fold()
    assert query(world.process()) == [("List", "Get"), ("List", "Get", "Get"), ("Get", "Get")]


def test_cold_query_without_a_hint_is_seven_waves(world: World) -> None:
    """Catalog; its record; LIST of the data; manifest; directory; lists; vectors beside records."""
    world.objects.wave([Delete((paths.hint("library", "books"),))])
    waves = query(world.process())
    assert waves == [("List", "Get"), ("Get",), ("List", "List"), ("Get",), ("Get",), ("Get",), ("Get", "Get")]


def test_warm_query_is_one_wave_of_three_small_gets(world: World) -> None:
    process = world.process()
    query(process)
    for _ in range(3):
        assert query(process) == [PROBES]


def test_warm_query_after_anothers_write_reads_what_was_written(world: World) -> None:
    process = world.process()
    query(process)
    world.first.put(["new"])
    assert query(process) == [PROBES, ("List", *["Get"] * 7)]


def test_cold_query_that_looks_at_every_row(world: World) -> None:
    """Two waves to open the index, and one request for each of its objects that is read whole."""
    asked = Query(ASKED.vector, ASKED.k, recall=1.0)
    waves = query(world.process(), asked)
    assert waves[:2] == [("List", "Get"), ("List",)]
    assert sum(map(len, waves[2:])) <= 4


def test_cold_get_of_a_compacted_key_is_three_waves(world: World) -> None:
    """Catalog beside hint; LIST beside the block of the key index; vector beside record."""
    assert get(world.process(), "key-7") == [("List", "Get"), ("List", "Get"), ("Get", "Get")]


def test_cold_get_of_an_absent_key_is_two_waves(world: World) -> None:
    process = world.process()
    reading = session(process.database)
    state = process.index.read(ahead=key_blocks_ahead(reading, ["nobody"]))
    assert fetch(reading, state, ["nobody"]) == []
    assert process.waves() == [("List", "Get"), ("List", "Get")]


def test_warm_get_of_a_key_in_memory_is_one_wave(world: World) -> None:
    process = world.process()
    get(process, "key-7")
    assert get(process, "key-7") == [PROBES]


def test_two_segments_cost_a_read_more_of_each_kind_and_no_wave(world: World, folder: Path) -> None:
    world.first.put([f"other-{number}" for number in range(300)])
    compact(world.first, folder)
    assert len(world.first.index.read().compacted) == 2
    waves = query(world.process())
    assert [len(wave) for wave in waves[:2]] == [2, 3]
    assert len(waves) == 3
    assert len(waves[2]) <= 4
    assert get(world.process(), "key-7") == [("List", "Get"), ("List", "Get", "Get"), ("Get", "Get")]


def test_writes_and_folds_cost_what_they_do_without(world: World) -> None:
    world.first.put(["key-3", "new"])
    assert world.first.waves() == [("PutNew", "Get", "Get")]
    world.first.index.fold()
    probe, *fold = world.first.waves()
    assert probe == PROBES
    assert fold == [("PutNew",), ("List",), ("PutNew",), ("List",), ("Put",)]


def test_a_compaction_reads_inputs_once_and_writes_each_file_once(world: World, folder: Path) -> None:
    """`newest` is a LIST and a GET, of the catalog and of the manifests."""
    world.first.put(["key-3", "new"])
    world.first.index.fold()
    process = world.process()
    compact(process, folder)
    waves = process.waves()
    newest = [("List",), ("Get",)] * 2
    cold = [("List", "Get"), ("List", "Get")]  # who is asked to compact folds first: here nothing is left to fold
    kept = [("Get",), ("Get",)]  # directory and key index of the segment that stays
    files = len(stored(world, process)) - 1  # the directory is written last, as a create
    upload, commit = [("Upload",) * files, ("PutNew",)], [("List",), ("PutNew",), ("List",), ("Put",)]
    assert waves == [*newest, *cold, *newest, *newest, ("Get",), *kept, *newest, *upload, *newest, *commit]


def stored(world: World, process: Process) -> list[str]:
    """Keys of all objects of the newest segment."""
    state = process.index.read()
    folder = max((compacted.directory for compacted in state.compacted), key=lambda one: one.name).folder
    return [entry.key for entry in listed(world.objects.wave([List(folder)])[0]).entries]


def test_nothing_to_compact_is_four_requests(world: World, folder: Path) -> None:
    process = world.process()
    assert compact_in(process.database, folder, "library", "books", asked=False) is None
    assert process.waves() == [("List",), ("Get",)] * 2


def test_an_import_uploads_once_and_reads_keys_alone(world: World, folder: Path) -> None:
    """Of an index that nobody writes to; `followed` learns of a manifest, and then of what is new in it."""
    process = world.process()
    process.index.read()
    process.waves()
    rows = [(f"key-{number}", np.full(DIMENSION, float(number)), b"{}") for number in range(100, 110)]
    with all_large():
        import_in(process.database, folder, "library", "books", Given(rows, DIMENSION))
    waves = process.waves()
    begun = [PROBES, PROBES, ("PutNew", "Get", "Get"), ("List", "Get"), ("List",), ("Get",), PROBES]
    commit = [("List",), ("PutNew",), ("List",), ("Put",)]
    followed = [PROBES, ("List", *["Get"] * 7), ("Get",)]
    upload = [("Upload",) * (len(stored(world, process)) - 1), ("PutNew",), PROBES]
    keys = [("Get",), ("Get",)]  # of the import's segment all, of the other one those in question
    attached = [*followed, ("Get",), *followed, ("Get",), ("PutNew", "Get", "Get"), PROBES]
    assert waves == [*begun, *commit, *followed, *upload, *keys, *commit, *attached, *commit]
