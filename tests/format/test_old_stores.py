"""Stores written by every version of the format so far are read by this one, exactly, and go on from there."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from neve.compaction.build import Means
from neve.compaction.compact import compact
from neve.compaction.verify import verify
from neve.errors import BucketNotFound, IndexNotFound
from neve.filters.parse import parse
from neve.index.database import Database
from neve.index.entry import Write
from neve.index.state import State
from neve.query.fetch import Row, fetch
from neve.query.search import Query
from neve.runtime import SystemRuntime
from neve.segments.rows import Puts
from neve.store.folder import FolderStore
from neve.vectors.metric import Metric
from tests.format.write_fixture import write_fixture
from tests.reading import everything, nearest, session

VERSIONS = ("v1", "v1-filters")
"""The first stores of version 1, and the first with filter indexes."""
NAMES = ("again", "books", "shapes", "stones")


@pytest.fixture(params=VERSIONS)
def written(request: pytest.FixtureRequest) -> Path:
    """The folder of one version: `store` as that version wrote it, `expected.json` beside it."""
    return Path(__file__).parent / str(request.param)


@pytest.fixture
def expected(written: Path) -> dict[str, Any]:
    content: dict[str, Any] = orjson.loads((written / "expected.json").read_bytes())
    return content


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written / "store", tmp_path / "store"))


@pytest.fixture
def database(folder: Path) -> Database:
    return Database.open(FolderStore(folder), SystemRuntime())


def test_buckets_and_indexes_are_all_there(database: Database, expected: Mapping[str, Any]) -> None:
    assert database.identity == expected["identity"]
    found, more = database.list_buckets("", "", 100)
    assert ({bucket.name: bucket.tags for bucket in found}, more) == (expected["buckets"], False)
    indexes, more = database.list_indexes("library", "", "", 100)
    assert ([index.name for index in indexes], more) == (sorted(expected["indexes"]), False)
    with pytest.raises(BucketNotFound):
        database.bucket("attic")
    with pytest.raises(IndexNotFound):
        database.index("library", "gone").read()


def test_configurations_are_as_given(database: Database) -> None:
    books, shapes = (database.index("library", name).read().record.config for name in ("books", "shapes"))
    assert (books.dimension, books.metric, books.non_filterable) == (4, Metric.COSINE, ("text",))
    assert (shapes.dimension, shapes.metric, shapes.non_filterable) == (3, Metric.EUCLIDEAN, None)
    assert books.encryption.sse_type == "AES256"


@pytest.mark.parametrize("name", NAMES)
def test_content_is_exactly_what_was_written(database: Database, expected: Mapping[str, Any], name: str) -> None:
    state, content = database.index("library", name).read(), expected["indexes"][name]
    assert state.tags == content["tags"]
    assert state.live_rows == len(content["rows"]) or (state.compacted and state.live_rows > len(content["rows"]))
    assert by_key(everything(database, state)) == content["rows"]
    assert by_key(fetch(session(database), state, [*content["rows"], "key-006", "key-9999"])) == content["rows"]
    for recall in (None, 1.0):
        assert_nearest(database, state, content["rows"], recall)


def test_the_fixture_has_all_kinds_of_compacted_segments(database: Database) -> None:
    state = database.index("library", "stones").read()
    masks = [compacted.info.mask for compacted in state.compacted]
    assert [(mask.count > 0, bool(mask.inline), bool(mask.reference)) for mask in masks] == [
        (True, False, True),
        (True, True, False),
        (False, False, False),
    ]
    assert max(compacted.directory.lists for compacted in state.compacted) > 1
    (flat,) = state.segments
    assert len(flat.part.rows)
    assert len(flat.deleted)
    assert len(state.tail) == 2
    assert state.live_rows > len(everything(database, state)), "some compacted rows are hidden by recent ones"


def test_the_later_fixture_has_filter_indexes(database: Database, written: Path) -> None:
    filters = [compacted.directory.filters for compacted in database.index("library", "stones").read().compacted]
    assert [index is not None for index in filters] == [written.name == "v1-filters"] * 3
    if written.name == "v1-filters":
        assert [0 if index is None else len(index) > 0 for index in filters] == [1, 1, 0], "one has no metadata at all"


@pytest.mark.parametrize(
    ("document", "passes"),
    [
        ({"number": {"$gte": 295}}, lambda row: row.get("number", 0) >= 295),
        ({"$and": [{"even": True}, {"version": {"$in": [1, 4]}}]}, lambda row: row.get("even") and row["version"] != 2),
        ({"shelf": "雪"}, lambda row: "雪" in row.get("shelf", ())),
        ({"shelf": {"$exists": False}}, lambda row: "shelf" not in row),
        ({"shelf": {"$startsWith": "a/b" * 20}}, lambda _: False),
        ({"version": {"$ne": 2}}, lambda row: row.get("version") != 2),
    ],
)
def test_filters_find_what_they_should(
    database: Database, expected: Mapping[str, Any], document: object, passes: Callable[[Mapping[str, Any]], bool]
) -> None:
    state, rows = database.index("library", "stones").read(), expected["indexes"]["stones"]["rows"]
    hits = nearest(database, state, Query(np.ones(8, np.float32), 1000, parse(document, (), 9)))
    assert sorted(key for key, _, _ in hits) == sorted(key for key, (_, metadata) in rows.items() if passes(metadata))


def test_the_fixture_exercises_the_format(database: Database) -> None:
    state = database.index("library", "books").read()
    assert len(state.segments) == 3
    assert any(len(segment.deleted) for segment in state.segments)
    assert any(segment.info.live < segment.info.rows for segment in state.segments)
    assert {entry.kind for entry in state.tail} == {"write", "configure", "empty"}
    assert database.index("library", "again").read().record.seq == 3
    assert state.dropped_at is None


def test_it_is_whole(database: Database) -> None:
    verified = verify(database)
    assert verified.findings == []
    assert (verified.indexes, verified.objects > 40) == (len(NAMES), True)


def test_hints_are_dispensable(folder: Path, expected: Mapping[str, Any]) -> None:
    shutil.rmtree(folder / "hints")
    database = Database.open(FolderStore(folder), SystemRuntime())
    state = database.index("library", "books").read()
    assert by_key(everything(database, state)) == expected["indexes"]["books"]["rows"]


def test_this_version_compacts_it(
    database: Database, folder: Path, tmp_path: Path, expected: Mapping[str, Any]
) -> None:
    rows = expected["indexes"]["stones"]["rows"]
    for full in (False, True):
        compact(database, "library", "stones", Means(tmp_path / "work"), asked=True, full=full)
        again = Database.open(FolderStore(folder), SystemRuntime())
        state = again.index("library", "stones").read()
        assert by_key(everything(again, state)) == rows
        assert_nearest(again, state, rows)
        assert verify(again).findings == []
    assert [compacted.info.mask.count for compacted in state.compacted] == [0]


def test_this_version_goes_on_from_there(database: Database, folder: Path, expected: Mapping[str, Any]) -> None:
    rows = dict(expected["indexes"]["books"]["rows"])
    index = database.index("library", "books")
    index.write(lambda _: Write(Puts(("key-022", "fresh"), np.full((2, 4), 0.5, np.float32), (b"{}", b'{"a":1}'))))
    index.fold()
    rows |= {"key-022": [[0.5] * 4, {}], "fresh": [[0.5] * 4, {"a": 1}]}
    again = Database.open(FolderStore(folder), SystemRuntime())
    assert by_key(everything(again, again.index("library", "books").read())) == rows
    assert verify(again).findings == []


def test_the_writer_of_fixtures_still_writes_what_it_expects(tmp_path: Path, expected: Mapping[str, Any]) -> None:
    """The fixture's content is that of today's script: whoever changes the script starts a new version's folder."""
    today = orjson.loads(orjson.dumps(write_fixture(tmp_path / "store")))
    assert {**today, "identity": ""} == {**expected, "identity": ""}


def by_key(rows: list[Row]) -> dict[str, list[Any]]:
    return {row.key: [row.vector.tolist(), orjson.loads(row.metadata)] for row in rows}


def assert_nearest(database: Database, state: State, rows: Mapping[str, Any], recall: float | None = None) -> None:
    """The nearest by the search are the nearest by the definition of the metric, in doubles."""
    asked = np.array([1.0, -2.0, 0.5, 3.0, -1.0, 0.0, 2.0, 1.5][: state.config.dimension])
    vectors = np.array([vector for vector, _ in rows.values()])
    if state.config.metric is Metric.COSINE:
        distances = 1 - vectors @ asked / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(asked))
    else:
        distances = ((vectors - asked) ** 2).sum(axis=1)
    hits = nearest(database, state, Query(asked.astype(np.float32), 10, recall=recall))
    found = [distance for _, distance, _ in hits]
    np.testing.assert_allclose(found, np.sort(distances)[:10], atol=1e-6)
    by_name = dict(zip(rows, distances.tolist(), strict=True))
    np.testing.assert_allclose([by_name[key] for key, _, _ in hits], found, atol=1e-6)
