"""An export is one state of the index: whoever reads it back finds the index's rows, all of them and no others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from neve.errors import ObjectGone, SourceUnfit, TargetUnfit, TransferError, TransferIncomplete
from neve.segments.rows import Puts
from neve.transfer import export as exports
from neve.transfer import files
from neve.transfer.columns import infer
from neve.transfer.export import Exported, Target, export
from neve.transfer.mapping import ColumnMapping
from neve.transfer.snapshot import Snapshot, canonical, digests, tally
from neve.transfer.sources import plan_source
from tests.servers.object_store import ObjectStore
from tests.unit.api_calls import Calls
from tests.unit.compacted_index import ADDRESS, DIMENSION, compacted_calls, rows_of

VARIED: dict[str, dict[str, Any]] = {
    "plain": {
        "title": 'Ünïcode "quoted"\n',
        "year": 1999,
        "price": 2.5,
        "new": True,
        "tags": ["a", "b"],
        "at": [1, 2.5],
    },
    "none": {},
    "other": {"title": "x", "year": -3, "price": 7, "mixed": "text", "long": 2**60, "key": "own"},
    "more": {
        "mixed": 4,
        "long": 5,
        "price": 5.0,
        "a.b": 1,
        "metadata": "m",
        "_rowid": 2,
        "either": 2**60,
    },
    "last": {"either": 0.5, "list": ["a"], "flags": [1.0]},
}


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calls]:
    """An index with rows of all kinds, some with metadata of all kinds."""
    with compacted_calls(tmp_path_factory.mktemp("work")) as calls:
        vectors = [
            {"key": key, "data": {"float32": [1.5] * DIMENSION}, "metadata": found} for key, found in VARIED.items()
        ]
        calls("PutVectors", **ADDRESS, vectors=vectors)
        yield calls


@pytest.fixture
def snapshot(calls: Calls) -> Snapshot:
    return Snapshot.of(calls.service.database, "library", "books")


def exported(snapshot: Snapshot, target: object, *, columns: bool = False, table: str | None = None) -> Exported:
    return export(snapshot, Target(str(target), table), columns=columns, progress=lambda *_: None)


def digest_of(table: pa.Table) -> tuple[int, int]:
    """Rows and digest of a table of key, vector and metadata, by another way than exports are verified."""
    vectors = table["vector"].combine_chunks().flatten().to_numpy().astype(np.float32).reshape(-1, DIMENSION)
    metadata = [text.encode() for text in table["metadata"].to_pylist()]
    found = tally(iter([Puts(table["key"].to_pylist(), vectors, metadata)]))
    return found.rows, found.digest


def expected_digest(calls: Calls) -> tuple[int, int]:
    rows = rows_of(calls)
    matrix = np.stack([vector for vector, _ in rows.values()])
    found = tally(iter([Puts(list(rows), matrix, [json.dumps(found).encode() for _, found in rows.values()])]))
    return found.rows, found.digest


class TestSnapshot:
    def test_blocks_are_the_live_rows(self, calls: Calls, snapshot: Snapshot) -> None:
        found = {
            key: (vector.tobytes(), json.loads(raw))
            for puts in snapshot.blocks()
            for key, vector, raw in zip(puts.keys, puts.vectors, puts.metadata, strict=True)
        }
        assert found == {key: (vector.tobytes(), metadata) for key, (vector, metadata) in rows_of(calls).items()}
        assert sum(len(puts.keys) for puts in snapshot.blocks()) == len(found) <= snapshot.rows

    def test_it_is_one_state(self, calls: Calls, snapshot: Snapshot) -> None:
        before = tally(snapshot.blocks())
        blocks = snapshot.blocks()
        next(blocks)
        calls("PutVectors", **ADDRESS, vectors=[{"key": "later", "data": {"float32": [1.0] * DIMENSION}}])
        assert tally(snapshot.blocks()) == before
        calls("DeleteVectors", **ADDRESS, keys=["later"])

    def test_a_file_that_was_collected(self, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
        def gone(*_: object) -> Iterator[Puts]:
            raise ObjectGone("segments/x is named but not there")

        monkeypatch.setattr("neve.transfer.snapshot.row_entries", gone)
        with pytest.raises(TransferError, match=r"library/books was compacted while it was read, .*: start again"):
            list(snapshot.blocks())


class TestDigest:
    def test_spelling_and_order_do_not_matter(self) -> None:
        vectors = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
        one = Puts(["a", "b"], vectors, [b'{"x": 1, "y": [2, 3.5]}', b'{"z":-0.0}'])
        two = Puts(["b", "a"], vectors[::-1], [b'{"z":0}', b'{"y":[2.0,3.5],"x":1.0}'])
        assert tally(iter([one])) == tally(iter([two]))
        assert sorted(digests(one).tolist()) == sorted(digests(two).tolist())

    @pytest.mark.parametrize(
        "other",
        [
            Puts(["b"], np.ones((1, 2), np.float32), [b'{"x":1}']),
            Puts(["a"], np.array([[1, np.nextafter(np.float32(1), np.float32(2))]], np.float32), [b'{"x":1}']),
            Puts(["a"], np.ones((1, 2), np.float32), [b'{"x":true}']),
            Puts(["a"], np.ones((1, 2), np.float32), [b'{"x":"1"}']),
            Puts(["a"], np.ones((1, 2), np.float32), [b"{}"]),
        ],
    )
    def test_every_difference_matters(self, other: Puts) -> None:
        one = Puts(["a"], np.ones((1, 2), np.float32), [b'{"x":1}'])
        assert digests(one)[0] != digests(other)[0]

    def test_long_integers(self) -> None:
        assert canonical(b'{"b":1180591620717411303424,"a":1}') == b'{"a":1,"b":1180591620717411303424}'


class TestParquet:
    @pytest.mark.parametrize("name", ["folder", "one.parquet"])
    def test_read_by_others(self, name: str, calls: Calls, snapshot: Snapshot, tmp_path: Path) -> None:
        done = exported(snapshot, tmp_path / "deep" / name)
        wanted = expected_digest(calls)
        assert (done.rows, done.digest, done.files) == (*wanted, 1)
        assert digest_of(ds.dataset(tmp_path / "deep" / name).to_table()) == wanted
        paths = str(tmp_path / "deep" / name) + ("/*.parquet" if name == "folder" else "")
        found = duckdb.sql(f"select key, vector, metadata from read_parquet('{paths}')").to_arrow_table()
        assert digest_of(found) == wanted

    def test_parts(self, calls: Calls, snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(exports, "FILE_BYTES", 500 * 4 * DIMENSION)
        monkeypatch.setattr(exports, "GROUP_BYTES", 100 * 4 * DIMENSION)
        monkeypatch.setattr("neve.transfer.snapshot._BLOCK_BYTES", 70 * 4 * DIMENSION)
        done = exported(snapshot, tmp_path / "out")
        names = sorted(path.name for path in (tmp_path / "out").iterdir())
        assert names == [f"part-{number:05d}.parquet" for number in range(done.files)]
        assert done.files > 1
        assert digest_of(pq.read_table(tmp_path / "out")) == expected_digest(calls)

    def test_columns(self, calls: Calls, snapshot: Snapshot, tmp_path: Path) -> None:
        done = exported(snapshot, tmp_path / "out", columns=True)
        assert (done.rows, done.digest) == expected_digest(calls)
        table = pq.read_table(tmp_path / "out")
        types = {field.name: str(field.type) for field in table.schema}
        assert types == {
            "key": "string",
            "vector": f"fixed_size_list<element: float>[{DIMENSION}]",
            "at": "list<element: double>",
            "flags": "list<element: double>",
            "list": "list<element: string>",
            "long": "int64",
            "new": "bool",
            "price": "double",
            "tags": "list<element: string>",
            "third": "bool",
            "title": "string",
            "version": "int64",
            "year": "int64",
            "metadata": "string",
        }
        rows = {row["key"]: row for row in table.to_pylist()}
        assert (rows["plain"]["year"], rows["plain"]["tags"], rows["plain"]["metadata"]) == (1999, ["a", "b"], None)
        assert json.loads(rows["other"]["metadata"]) == {"mixed": "text", "key": "own"}
        assert json.loads(rows["more"]["metadata"]) == {
            "mixed": 4,
            "a.b": 1,
            "metadata": "m",
            "_rowid": 2,
            "either": 2**60,
        }

    def test_uniform_metadata_needs_no_json(self) -> None:
        some = Puts(["a"], np.ones((1, 2), np.float32), [b'{"x":1}'])
        assert infer([some], 2).arrow.names == ["key", "vector", "x"]

    def test_integers_beyond_64_bits_stay_json(self) -> None:
        some = Puts(["a"], np.ones((1, 2), np.float32), [b'{"x":1,"huge":1180591620717411303424}'])
        schema = infer([some], 2)
        assert schema.batch(some).to_pylist() == [
            {"key": "a", "vector": [1, 1], "x": 1, "metadata": '{"huge":1180591620717411303424}'}
        ]

    def test_no_rows(self, calls: Calls, tmp_path: Path) -> None:
        calls(
            "CreateIndex", **ADDRESS | {"indexName": "void"}, dataType="float32", dimension=3, distanceMetric="cosine"
        )
        void = Snapshot.of(calls.service.database, "library", "void")
        for target in ("a", "b.parquet", "c.lance"):
            assert exported(void, tmp_path / target).rows == 0

    def test_fsspec(self, calls: Calls, snapshot: Snapshot, tmp_path: Path) -> None:
        url = f"memory://{tmp_path.name}/out"
        assert exported(snapshot, url).digest == expected_digest(calls)[1]
        assert fsspec.filesystem("memory").ls(f"/{tmp_path.name}/out", detail=False)

    @pytest.mark.parametrize("name", ["out", "out.lance"])
    def test_s3(self, name: str, calls: Calls, snapshot: Snapshot, minio: ObjectStore) -> None:
        base, _, query = minio.fresh_url().partition("?")
        assert exported(snapshot, f"{base}/{name}?{query}").digest == expected_digest(calls)[1]
        with pytest.raises(TargetUnfit, match="is there already: name another target, or delete it first"):
            exported(snapshot, f"{base}/{name}?{query}")

    @pytest.mark.parametrize("name", ["out", "out.lance"])
    def test_s3_with_credentials_that_have_expired(
        self, name: str, snapshot: Snapshot, minio: ObjectStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        base, _, query = minio.fresh_url().partition("?")
        url = f"{base}/{name}?{query}"
        system, _ = files.filesystem(url)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "expired")
        system.clear_instance_cache()  # as in a process that finds them like that
        with pytest.raises(TargetUnfit, match=rf"^cannot write s3://.*{name}\?.*: [^\n]+$"):
            exported(snapshot, url)
        with pytest.raises(SourceUnfit, match=rf"^cannot read s3://.*{name}\?.*: [^\n]+$"):
            plan_source([url], ColumnMapping())
        system.clear_instance_cache()


class TestLance:
    @pytest.mark.parametrize("columns", [False, True])
    def test_a_table(self, columns: bool, calls: Calls, snapshot: Snapshot, tmp_path: Path) -> None:
        wanted = expected_digest(calls)
        done = exported(snapshot, tmp_path / "db", table="books", columns=columns)
        assert (done.rows, done.digest) == wanted
        table = lancedb.connect(str(tmp_path / "db")).open_table("books")
        assert table.count_rows() == done.rows
        if not columns:
            assert digest_of(table.to_arrow()) == wanted
        found = table.search([1.5] * DIMENSION).limit(1).to_list()
        assert found[0]["key"] in VARIED
        exported(snapshot, tmp_path / "db", table="again")
        with pytest.raises(TargetUnfit, match=r"books.lance is there already"):
            exported(snapshot, tmp_path / "db", table="books")


class TestFailures:
    def test_nothing_is_overwritten(self, snapshot: Snapshot, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine").write_text("mine")
        with pytest.raises(TargetUnfit, match="out is there already"):
            exported(snapshot, tmp_path / "out")
        (tmp_path / "a.parquet").write_text("mine")
        with pytest.raises(TargetUnfit, match=r"a.parquet is there already"):
            exported(snapshot, tmp_path / "a.parquet")
        assert (tmp_path / "a.parquet").read_text() == "mine"

    def test_a_place_that_cannot_be_written(self, snapshot: Snapshot, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(TargetUnfit, match=r"cannot write .*file/out: "):
            exported(snapshot, tmp_path / "file" / "out")

    @pytest.mark.parametrize("table", [None, "t"])
    def test_what_was_written_goes_again(
        self, table: str | None, snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        blocks = list(snapshot.blocks())

        def failing(_: Snapshot) -> Iterator[Puts]:
            yield blocks[0]
            raise ObjectGone("gone")

        monkeypatch.setattr(Snapshot, "blocks", failing)
        with pytest.raises((ObjectGone, TargetUnfit), match="gone"):
            exported(snapshot, tmp_path / "out", table=table)
        assert not list((tmp_path / "out").glob("*"))

    def test_other_rows_than_were_written(
        self, snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def altered(schema: exports.Schema, puts: Puts) -> pa.RecordBatch:
            return real(schema, Puts(puts.keys, puts.vectors * np.float32(1.0001), puts.metadata))

        real = exports.Schema.batch
        monkeypatch.setattr(exports.Schema, "batch", altered)
        with pytest.raises(TransferIncomplete, match=r"out has 1,\d\d\d rows of digest .* where 1,\d\d\d of digest"):
            exported(snapshot, tmp_path / "out")
        assert not list((tmp_path / "out").glob("*"))
