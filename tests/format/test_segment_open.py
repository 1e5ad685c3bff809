"""Other programs open a segment: LanceDB its folder, lance its data sets, DuckDB and pandas its Parquet file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import duckdb
import lance
import lancedb
import numpy as np
import pandas as pd
import pytest
from lance.file import LanceFileReader

from neve.segments import writer
from neve.segments.directory import Directory
from neve.segments.layout import code_row
from neve.segments.writer import write_segment
from tests.unit.small_segment import SmallSource

SOURCE = SmallSource(3000, 30, dimension=32)


@dataclass(frozen=True)
class Written:
    folder: Path
    directory: Directory

    @property
    def codes(self) -> np.ndarray:
        """All code rows, as the directory says where they lie."""
        directory, dtype = self.directory, code_row(SOURCE.dimension)
        rows = int(directory.list_starts[-1])
        return np.fromfile(self.folder / directory.codes_object, dtype, rows, offset=directory.codes_offset)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("segment")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "PAGE_BYTES", 50_000)
        return Written(folder, write_segment(folder, folder.name, SOURCE))


def test_lancedb_opens_the_folder_as_a_database(written: Written) -> None:
    database = lancedb.connect(written.folder)
    assert sorted(database.list_tables().tables) == ["codes", "vectors"]
    vectors = database.open_table("vectors")
    assert vectors.count_rows() == SOURCE.rows
    found = vectors.search(SOURCE.vectors[77]).limit(1).to_list()
    assert np.array_equal(np.array(found[0]["vector"], np.float32), SOURCE.vectors[77])
    assert database.open_table("codes").count_rows() == len(written.codes)


def test_lance_opens_the_datasets_of_one_fragment_and_one_column(written: Written) -> None:
    vectors = lance.dataset(written.folder / "vectors.lance")
    stacked = np.stack(vectors.to_table()["vector"].to_numpy())
    assert np.array_equal(stacked, SOURCE.vectors)
    codes = lance.dataset(written.folder / "codes.lance")
    assert b"".join(codes.to_table()["code"].to_pylist()) == written.codes.tobytes()
    for dataset, name in ((vectors, "vector"), (codes, "code")):
        assert dataset.data_storage_version == "2.0"
        assert dataset.schema.names == [name]
        assert [len(fragment.data_files()) for fragment in dataset.get_fragments()] == [1]


def test_the_directory_addresses_the_data_files_of_the_datasets(written: Written) -> None:
    directory = written.directory
    for name, address in (("vectors", directory.vectors_object), ("codes", directory.codes_object)):
        [fragment] = lance.dataset(written.folder / f"{name}.lance").get_fragments()
        assert address == f"{name}.lance/data/{fragment.data_files()[0].path}"
        pages = LanceFileReader(str(written.folder / address)).metadata().columns[0].pages
        assert len(pages) > 3
    vectors = np.fromfile(
        written.folder / directory.vectors_object, "<f4", SOURCE.vectors.size, offset=directory.vectors_offset
    )
    assert np.array_equal(vectors.reshape(SOURCE.vectors.shape), SOURCE.vectors)


def test_duckdb_reads_keys_and_metadata(written: Written) -> None:
    path = str(written.folder / "rows.parquet")
    found = duckdb.execute("SELECT key, record FROM read_parquet(?)", [path]).fetchall()
    assert [key.encode() for key, _ in found] == SOURCE.keys
    assert [json.loads(record) for _, record in found] == records()
    query = "SELECT count(*) FROM read_parquet(?) WHERE record->>'$.metadata.a' = '1'"
    assert duckdb.execute(query, [path]).fetchall() == [(SOURCE.rows // 5,)]


def test_pandas_reads_keys_and_metadata(written: Written) -> None:
    frame = pd.read_parquet(written.folder / "rows.parquet")
    assert frame.columns.tolist() == ["key", "record"]
    assert [key.encode() for key in frame["key"]] == SOURCE.keys
    assert [json.loads(record) for record in frame["record"]] == records()


def records() -> list[dict[str, object]]:
    pairs = zip(SOURCE.keys, SOURCE.metadata, strict=True)
    return [{"key": key.decode(), "metadata": json.loads(metadata)} for key, metadata in pairs]
