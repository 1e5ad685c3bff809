"""What a query with a filter costs: waves, requests, and which files it reads, as exact numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import orjson
import pytest

from neve.filters.parse import parse
from neve.index import paths
from neve.index.entry import Write
from neve.query import matching
from neve.query.search import Query, reads_ahead, search
from neve.query.why import why
from neve.segments.rows import Puts
from neve.store.port import Delete, Get, Reply, Request, Store
from tests.compacting import compact_in, short_calibrations, workspaces
from tests.cost.world import DIMENSION, Process, World, vectors
from tests.reading import session

ROWS = 3000
PROBES = ("Get", "Get", "Get")


class Watched:
    """A store that notes which files of segments are read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read: list[str] = []

    def wave(self, requests: Sequence[Request]) -> list[Reply]:
        keys = [request.key for request in requests if isinstance(request, Get)]
        self._read += [key.split("/", 4)[4].split("/")[0] for key in keys if "/segments/" in key]
        return self._store.wave(requests)

    def files(self) -> set[str]:
        """Those read since the last time that this was asked."""
        read, self._read = set(self._read), []
        return read


def put(process: Process, numbers: range) -> None:
    keys = [f"key-{number}" for number in numbers]
    metadata = [
        orjson.dumps({"n": number, "even": number % 2 == 0, "tenth": number % 10, "one": f"v{number}"})
        for number in numbers
    ]
    process.index.write(lambda _: Write(Puts(keys, vectors(keys), metadata)))


@pytest.fixture
def folder() -> Iterator[Path]:
    with workspaces() as folder, short_calibrations(60):
        yield folder


@pytest.fixture
def world(folder: Path) -> World:
    """One compacted segment of 3,000 rows in 23 lists, and nothing else."""
    world = World()
    for start in range(0, ROWS, 500):
        put(world.first, range(start, start + 500))
    assert compact_in(world.first.database, folder, "library", "books") is not None
    world.first.index.read()
    world.first.waves()
    return world


@pytest.fixture
def watched(world: World) -> Watched:
    """The store of the processes to come."""
    world.objects = watched = Watched(world.objects)
    return watched


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer is remembered of other tests."""
    monkeypatch.setattr(matching, "_remembered", matching._Remembered())


def query(process: Process, filter_: object, matches: int, k: int = 10) -> list[tuple[str, ...]]:
    """As an operation does it, hits with their metadata; its waves."""
    condition = parse(filter_, (), 1000)
    asked = Query(np.ones(DIMENSION, np.float32), k, condition)
    reading = session(process.database)
    state = process.index.read(ahead=reads_ahead(reading, asked, lambda _: condition))
    hits = search(reading, state, asked)
    assert len(hits.named(reading, 0, len(hits))) == min(k, matches)
    return process.waves()


FEW = [({"tenth": 3}, 300), ({"n": {"$lt": 150}}, 150), ({"one": "v77"}, 1)]


@pytest.mark.parametrize(("filter_", "matches"), FEW)
def test_cold_query_is_four_waves(world: World, watched: Watched, filter_: object, matches: int) -> None:
    """Catalog beside hint; LIST beside the terms; lists; vectors beside records."""
    *opening, lists, rows = query(world.process(), filter_, matches)
    assert opening == [("List", "Get"), ("List", "Get")]
    assert set(lists) == set(rows) == {"Get"}
    assert len(lists) <= 4
    assert len(rows) <= 6
    assert watched.files() == {"filters", "codes.lance", "vectors.lance", "rows.parquet"}


def test_cold_query_whose_many_matches_are_known_is_three_waves(world: World) -> None:
    """Catalog beside hint; LIST beside the terms and the lists; vectors beside records."""
    assert query(world.process(), {"even": True}, 1500) == [("List", "Get"), ("List", "Get", "Get"), ("Get", "Get")]


@pytest.mark.parametrize("hinted", [True, False])
@pytest.mark.parametrize(
    "filter_",
    [
        {"tenth": 30},
        {"n": {"$lt": 0}},
        {"one": {"$startsWith": "w"}},
        {"$and": [{"even": True}, {"tenth": {"$in": [1, 3, 5, 7, 9]}}]},
        {"$and": [{"even": True}, {"even": False}]},
    ],
)
def test_a_filter_that_matches_nothing_reads_terms_alone(
    world: World, watched: Watched, filter_: object, hinted: bool
) -> None:
    if not hinted:
        world.objects.wave([Delete((paths.hint("library", "books"),))])
    waves = query(world.process(), filter_, 0)
    assert watched.files() == ({"filters"} if hinted else {"filters", "directory"})
    assert waves[-1] == (("List", "Get") if hinted else ("Get",))
    assert len(waves) == (2 if hinted else 6)


@pytest.mark.parametrize(
    "filter_",
    [
        {"nothing": 1},
        {"even": "True"},
        {"zzz": {"$exists": True}},
        {"$and": [{"n": {"$gt": 1000}}, {"n": {"$lt": 1000}}]},
    ],
)
def test_what_no_row_has_costs_a_block_or_none(world: World, watched: Watched, filter_: object) -> None:
    """The directory tells which block would have it."""
    waves = query(world.process(), filter_, 0)
    assert waves in ([("List", "Get"), ("List", "Get")], [("List", "Get"), ("List",)])
    assert watched.files() <= {"filters"}


def test_without_a_hint_each_kind_is_a_wave_of_its_own(world: World) -> None:
    """Catalog; its record; LIST of the data; manifest; directory; terms; lists; vectors beside records."""
    world.objects.wave([Delete((paths.hint("library", "books"),))])
    waves = query(world.process(), {"tenth": 3}, 300)
    assert waves[:6] == [("List", "Get"), ("Get",), ("List", "List"), ("Get",), ("Get",), ("Get",)]
    assert len(waves) == 8


@pytest.mark.parametrize(("filter_", "matches"), FEW)
def test_warm_query_is_one_wave_of_three_small_gets(
    world: World, watched: Watched, filter_: object, matches: int
) -> None:
    process = world.process()
    query(process, filter_, matches)
    watched.files()
    for _ in range(3):
        assert query(process, filter_, matches) == [PROBES]
    assert watched.files() == set()


def test_terms_at_hand_are_not_read_again(world: World) -> None:
    """Another filter on what was read before."""
    process = world.process()
    query(process, {"$or": [{"tenth": 3}, {"tenth": 4}]}, 600)
    assert query(process, {"tenth": 4}, 300)[0] == PROBES
    assert all(set(wave) == {"Get"} for wave in process.waves())


def test_a_hundred_values_are_no_wave_more(world: World) -> None:
    values = [f"v{number}" for number in range(0, 3000, 30)]
    assert len(query(world.process(), {"one": {"$in": values}}, 100)) == 4


def test_why_nothing_matched_is_one_wave_more(world: World, watched: Watched) -> None:
    process = world.process()
    filter_ = {"$and": [{"even": True}, {"tenth": 77}]}
    query(process, filter_, 0)
    watched.files()
    why(session(process.database), process.index.read(), parse(filter_, (), 9))
    probe, *more = process.waves()
    assert probe == PROBES
    assert len(more) <= 1
    assert watched.files() <= {"filters"}
