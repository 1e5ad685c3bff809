"""The sets that the bench measures on: the synthetic recipe, and what is true of queries."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scripts.benchmarks.datasets import NEAREST, Numbered, nearest
from scripts.benchmarks.synthetic import BLOCK_ROWS, NOISE, Recipe, Repeated, orthonormal, synthetic

CHANCE = np.random.Generator(np.random.Philox(key=5))


def units(count: int, dimension: int) -> np.ndarray:
    vectors = CHANCE.standard_normal((count, dimension), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize(("k", "block_rows"), [(1, 7), (10, 7), (10, 1000), (53, 10), (90, 20)])
def test_the_nearest_are_found_block_by_block(k: int, block_rows: int) -> None:
    vectors, queries = units(53, 8), units(5, 8)
    expected = np.sort(queries @ vectors.T, axis=1)[:, ::-1][:, :k]
    np.testing.assert_allclose(nearest(vectors, queries, k, block_rows), expected, atol=1e-6)


def test_the_map_keeps_lengths_and_angles_and_is_always_the_same() -> None:
    low = units(20, 12)
    high = low @ orthonormal(12, 30)
    np.testing.assert_allclose(high @ high.T, low @ low.T, atol=1e-5)
    np.testing.assert_array_equal(orthonormal(12, 30), orthonormal(12, 30))
    with pytest.raises(ValueError, match="do not fit"):
        orthonormal(30, 12)


def test_a_row_is_its_source_with_noise_of_half_its_norm() -> None:
    source = units(50, 200)
    recipe = Recipe(source, 256)
    rows = recipe.block(0)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    clean = source[recipe.order[np.arange(BLOCK_ROWS) % 50]] @ recipe.map
    expected = 1 / np.sqrt(1 + NOISE**2)
    assert np.einsum("ij,ij->i", rows, clean).mean() == pytest.approx(expected, abs=0.002)
    assert not np.array_equal(rows[:50], rows[50:100])  # the same sources, other noise
    assert not np.array_equal(rows, recipe.block(1))


def test_what_rows_come_from_gives_their_metadata_without_its_texts() -> None:
    metadata = [{"year": number, "text": "long"} for number in range(3)]
    repeated = Repeated(metadata, ["text"], np.array([2, 0, 1]), range(7))
    assert [row["year"] for row in repeated] == [2, 0, 1, 2, 0, 1, 2]
    assert list(repeated[4:6]) == [{"year": 0}, {"year": 1}]
    keys = Numbered(range(7))
    assert list(keys[4:6]) == ["00000004", "00000005"]
    assert keys.index(keys[5]) == 5


def test_a_set_is_written_once_and_begins_a_larger_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEVE_CACHE", str(tmp_path))
    small, large = synthetic(None, 300, 400), synthetic(None, 500, 400)
    table = pq.read_table(small.rows)
    written = table["vector"].combine_chunks().flatten().to_numpy().reshape(300, 400)
    np.testing.assert_array_equal(written, large.corpus.vectors[:300])
    assert table["key"].to_pylist() == list(small.corpus.keys)
    assert [json.loads(text) for text in table["metadata"].to_pylist()] == list(small.corpus.metadata)
    texts = sum(len(text.encode()) for name in ("key", "metadata") for text in table[name].to_pylist())
    assert small.size_bytes == written.nbytes + texts
    before = small.rows.stat().st_mtime_ns
    assert synthetic(None, 300, 400).rows.stat().st_mtime_ns == before


def test_recall_counts_what_is_as_near_as_the_kth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEVE_CACHE", str(tmp_path))
    dataset = synthetic(None, 300, 400)
    order = np.argsort(-(dataset.corpus.queries[:2] @ dataset.corpus.vectors.T), axis=1)
    keys = [[dataset.corpus.keys[row] for row in rows] for rows in order]
    for k in (10, NEAREST, 200):
        assert dataset.recalls([0, 1], k, [keys[0][:k], keys[1][k // 2 : k + k // 2]]).tolist() == [1.0, 0.5]
    assert dataset.recalls([1], 10, [[keys[1][0]] * 10]).tolist() == [0.1]
