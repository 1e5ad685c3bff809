"""Every format of sources gives the same rows, wherever it lies; planning cuts them into parts."""

from __future__ import annotations

from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from neve.errors import SourceChanged, SourceUnfit
from neve.transfer import files
from neve.transfer.mapping import ColumnMapping
from neve.transfer.sources import parts, plan_source
from tests.servers.object_store import ObjectStore
from tests.unit.transfer_rows import (
    DIMENSION,
    EXPECTED,
    KEYS,
    METADATA,
    PLAIN,
    ROWS,
    VECTORS,
    WRITERS,
    imported,
    lines,
    read,
    records,
    table,
    vector_column,
    write_fvecs,
)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 250 rows, or of 20,000 bytes."""
    monkeypatch.setattr(parts, "PART_ROWS", 250)
    monkeypatch.setattr("neve.transfer.sources.lines.PART_BYTES", 20_000)


@pytest.mark.usefixtures("small_parts")
class TestFormats:
    @pytest.mark.parametrize("name", WRITERS)
    def test_tables_and_lines(self, name: str, tmp_path: Path) -> None:
        WRITERS[name](tmp_path / name)
        source = plan_source([str(tmp_path / name)], ColumnMapping())
        assert source.dimension == DIMENSION
        assert source.rows == pytest.approx(ROWS, rel=0.01)
        assert len(source.parts) > 1 or name == "a.feather"  # which has one record batch
        assert read(source, ColumnMapping()) == (EXPECTED, [])

    @pytest.mark.parametrize(
        "column",
        [
            vector_column(pa.float64()),
            vector_column(fixed=False),
            vector_column(pa.float64(), fixed=False),
            vector_column(fixed=False).cast(pa.large_list(pa.float32())),
        ],
        ids=lambda column: str(column.type),
    )
    def test_types_of_vectors(self, column: pa.Array, tmp_path: Path) -> None:
        pq.write_table(table().set_column(1, "vector", column), tmp_path / "a.parquet")
        assert imported(tmp_path / "a.parquet") == (EXPECTED, [])

    def test_half_precision(self, tmp_path: Path) -> None:
        pq.write_table(table(key=pa.array(KEYS), vector=vector_column(pa.float16())), tmp_path / "a.parquet")
        halves = VECTORS.astype(np.float16).astype(np.float32)
        found, rejects = imported(tmp_path / "a.parquet")
        assert rejects == []
        assert found == {key: (vector.tobytes(), {}) for key, vector in zip(KEYS, halves, strict=True)}

    @pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f4"])
    def test_npy_rows_are_numbered(self, dtype: str, tmp_path: Path) -> None:
        for name, some in (("a", VECTORS[:300]), ("b", VECTORS[300:])):
            np.save(tmp_path / f"{name}.npy", some.astype(dtype))
        found, rejects = imported(tmp_path, mapping=ColumnMapping(key_prefix="v/"))
        assert rejects == []
        assert found == {f"v/{row}": (vector.tobytes(), {}) for row, vector in enumerate(VECTORS)}

    @pytest.mark.parametrize("beside", ["rows.parquet", "rows.jsonl"])
    @pytest.mark.parametrize("name", ["a.npy", "a.fvecs"])
    def test_keys_and_metadata_beside_a_matrix(self, name: str, beside: str, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", VECTORS)
        write_fvecs(tmp_path / "a.fvecs")
        pq.write_table(table().drop_columns("vector"), tmp_path / "rows.parquet", row_group_size=170)
        (tmp_path / "rows.jsonl").write_text(
            lines([{"key": key, **row} for key, row in zip(KEYS, METADATA, strict=True)])
        )
        mapping = ColumnMapping(rows=str(tmp_path / beside))
        assert imported(tmp_path / name, mapping=mapping) == (EXPECTED, [])

    def test_a_file_beside_must_fit(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", VECTORS)
        pq.write_table(table().drop_columns("vector").slice(0, 999), tmp_path / "rows.parquet")
        with pytest.raises(SourceUnfit, match=r"rows.parquet has 999 rows, and .*a.npy has 1,000"):
            imported(tmp_path / "a.npy", mapping=ColumnMapping(rows=str(tmp_path / "rows.parquet")))
        (tmp_path / "rows.jsonl").write_text(lines([{"key": key} for key in KEYS[:600]]))
        with pytest.raises(SourceUnfit, match=r"rows.jsonl has 600 rows, fewer than .*a.npy"):
            imported(tmp_path / "a.npy", mapping=ColumnMapping(rows=str(tmp_path / "rows.jsonl")))

    def test_lines_belong_to_one_part_wherever_it_is_cut(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "a.jsonl"
        path.write_text("\n\n" + lines(records()[:40]).rstrip("\n"))
        monkeypatch.setattr("neve.transfer.files._READ_BYTES", 97)
        for size in range(60, 400, 37):
            monkeypatch.setattr("neve.transfer.sources.lines.PART_BYTES", size)
            found, rejects = imported(path)
            assert (list(found), rejects) == (KEYS[:40], [])


class TestWhere:
    def test_folders_wildcards_and_several(self, tmp_path: Path) -> None:
        (tmp_path / "deep").mkdir()
        for place, name in enumerate(("b.parquet", "deep/a.parquet", "_hidden.parquet", ".c.parquet")):
            pq.write_table(table().slice(place * 10, 10), tmp_path / name)
        (tmp_path / "README.md").write_text("no data")
        assert set(imported(tmp_path)[0]) == set(KEYS[:20])
        assert set(imported(tmp_path / "*.parquet")[0]) >= set(KEYS[:10])
        assert set(imported(tmp_path / "b.parquet", tmp_path / "deep")[0]) == set(KEYS[:20])

    def test_tables_of_lancedb(self, tmp_path: Path) -> None:
        import lancedb

        connection = lancedb.connect(str(tmp_path / "db"))
        connection.create_table("books", table())
        assert imported(tmp_path / "db") == (EXPECTED, [])
        connection.create_table("films", table().slice(0, 5))
        with pytest.raises(SourceUnfit, match="has several tables: name one by --table; there are: books, films"):
            imported(tmp_path / "db")
        assert len(imported(tmp_path / "db", mapping=ColumnMapping(table="films"))[0]) == 5
        with pytest.raises(SourceUnfit, match="has no table 'songs'"):
            imported(tmp_path / "db", mapping=ColumnMapping(table="songs"))

    @pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.arrows", "a.jsonl", "a.npy", "a.fvecs"])
    def test_fsspec(self, name: str, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", VECTORS)
        write_fvecs(tmp_path / "a.fvecs")
        if name in WRITERS:
            WRITERS[name](tmp_path / name)
        fsspec.filesystem("memory").pipe_file(f"/{tmp_path.name}/{name}", (tmp_path / name).read_bytes())
        for url in (f"memory://{tmp_path.name}/{name}", f"memory://{tmp_path.name}/*"):
            assert imported(url) == imported(tmp_path / name)

    @pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.jsonl", "a.npy", "a.lance"])
    def test_s3(self, name: str, tmp_path: Path, minio: ObjectStore) -> None:
        np.save(tmp_path / "a.npy", VECTORS)
        if name in WRITERS:
            WRITERS[name](tmp_path / name)
        base, _, query = minio.fresh_url().partition("?")
        url = f"{base}/some/{name}?{query}"
        system, path = files.filesystem(url)
        system.put(str(tmp_path / name), path, recursive=True)
        assert imported(url) == imported(tmp_path / name)
        if name != "a.lance":
            assert imported(f"{base}/some/*?{query}") == imported(tmp_path / name)
            assert imported(f"{base}/some?{query}") == imported(tmp_path / name)
            source = plan_source([f"{base}/some?{query}"], PLAIN)
            system.pipe_file(path, b"another")
            with pytest.raises(SourceChanged, match="has changed since the import began"):
                read(source, PLAIN)
