"""Filters in the bench: which rows they keep, in whose words, what is true of queries with them, and what follows."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scripts.benchmarks.datasets import Dataset, Numbered
from scripts.benchmarks.figure import Figure
from scripts.benchmarks.filter_peers import ENGINES, FLAT, condition, sql, tries
from scripts.benchmarks.filter_sets import KS, NO_FILTER, Extended, filters, mixed, shares
from scripts.benchmarks.filter_sizes import index_bytes, metadata_bytes
from scripts.benchmarks.filters import wanted
from scripts.benchmarks.peers.lancedb_columns import FEW_VALUES, Columns
from scripts.benchmarks.ratios import ratios
from scripts.benchmarks.sides import COLD, RECALL, WARM

from neve.filters.parse import parse
from neve.segments.writer import write_segment
from neve.testing.reference import meets
from tests.clients.corpus import Corpus
from tests.unit.small_segment import METADATA, SmallSource

ROWS = 10_000
CHANCE = np.random.Generator(np.random.Philox(key=7))


def units(count: int, dimension: int = 8) -> np.ndarray:
    vectors = CHANCE.standard_normal((count, dimension), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """300 rows, of which one filter keeps every third, and another the 7 first."""
    rows = range(300)
    metadata = [{"third": row % 3 == 0, "row": row, "tags": ["a", str(row)]} for row in rows]
    conditions = {"third": {"third": True}, "few": {"row": {"$lt": 7}}}
    corpus = Corpus("some", Numbered(rows), units(300), metadata, (), conditions, "xxyzx", units(5), {"few": 7})
    return Dataset(corpus, "", tmp_path, corpus.keys.index)


def test_columns_keep_the_shares_that_filters_are_named_by() -> None:
    metadata = Extended([{"own": row} for row in range(ROWS)])
    rows = metadata[:]
    for name, document in shares(ROWS).items():
        assert sum(meets(document, row) for row in rows) == round(float(name.split()[0]) / 100 * ROWS), name
    assert sorted(row["serial"] for row in rows) == list(range(ROWS))
    assert rows[5:7] == metadata[5:7] == [metadata[5], metadata[6]]
    assert metadata[5]["own"] == 5


def test_a_filter_in_other_words_keeps_the_same_rows_and_is_not_remembered(dataset: Dataset) -> None:
    few = filters(dataset)["few"]
    documents = [few.document, *(few.again(number).document for number in range(1, 41))]
    assert len({parse(document, (), 100).text for document in documents}) == len(documents)
    for document in documents:
        np.testing.assert_array_equal(dataset.corpus.passing(document), few.mask)


def test_what_is_true_with_a_filter_is_found_once_by_brute_force(dataset: Dataset) -> None:
    corpus, known = dataset.corpus, filters(dataset)
    assert [(name, one.matches) for name, one in known.items()] == [(NO_FILTER, 300), ("third", 100), ("few", 7)]
    for one in known.values():
        ordered = -np.sort(-(corpus.queries @ corpus.vectors[one.mask].T), axis=1)
        for k in KS:
            np.testing.assert_allclose(one.floors[k], ordered[:, min(k, one.matches) - 1], atol=1e-6)
    [kept] = dataset.folder.glob("filters-*.npz")
    before = kept.stat().st_mtime_ns
    assert filters(dataset)["third"].matches == 100
    assert kept.stat().st_mtime_ns == before
    with pytest.raises(AssertionError, match="keeps 7 rows, not 8"):
        filters(replace(dataset, corpus=replace(corpus, kept={"few": 8})))


def test_recall_is_of_the_rows_that_pass_and_hits_that_do_not_are_no_hits(dataset: Dataset) -> None:
    corpus, known = dataset.corpus, filters(dataset)
    third = np.flatnonzero(known["third"].mask)
    order = third[np.argsort(-(corpus.queries[1] @ corpus.vectors[third].T))]
    keys = [corpus.keys[row] for row in order]
    recalls, fewest = known["third"].judged([1, 1, 1], 10, [keys[:10], keys[5:15], keys[:4]])
    assert (recalls.tolist(), fewest) == ([1.0, 0.5, 0.4], 0.4)
    few = list(corpus.keys[:7])
    assert known["few"].judged([3], 100, [few]) == (np.array([1.0]), 1.0)
    with pytest.raises(AssertionError, match="does not keep"):
        known["few"].judged([3], 10, [[*few, corpus.keys[7]]])
    with pytest.raises(AssertionError, match="come twice"):
        known["few"].judged([3], 10, [[few[0], few[0]]])


def test_queries_of_all_origins_are_asked_in_turn(dataset: Dataset) -> None:
    assert mixed(dataset) == [0, 2, 3, 1, 4]


@pytest.mark.parametrize(
    "document",
    [
        {"text": "it's"},
        {"text": {"$in": ["it's", "be"]}},
        {"text": {"$nin": ["it's", "be"]}},
        {"text": {"$startsWith": "b"}},
        {"number": {"$ne": 2}},
        {"number": {"$gt": 1, "$lte": 2.5}},
        {"number": {"$exists": False}},
        {"truth": {"$eq": False}},
        {"$or": [{"$and": [{"truth": True}, {"number": {"$lt": 2}}]}, {"text": {"$exists": True}}]},
    ],
    ids=json.dumps,
)
def test_sql_keeps_the_rows_that_the_filter_keeps(document: dict[str, Any]) -> None:
    texts, numbers, truths = (None, "it's", "be", "bee", "IT'S"), (None, 1, 2, 2.5, -3), (None, True, False)
    rows = [(text, number, truth) for text in texts for number in numbers for truth in truths]
    documents = [
        {name: value for name, value in zip(("text", "number", "truth"), row, strict=True) if value is not None}
        for row in rows
    ]
    base = sqlite3.connect(":memory:")
    base.create_function("starts_with", 2, lambda text, prefix: None if text is None else text.startswith(prefix))
    base.execute("CREATE TABLE told (place, `text`, `number`, `truth`)")
    base.executemany("INSERT INTO told VALUES (?, ?, ?, ?)", [(place, *row) for place, row in enumerate(rows)])
    found = base.execute(f"SELECT place FROM told WHERE {sql(document, ())} ORDER BY place").fetchall()
    base.close()
    expected = [place for place, row in enumerate(documents) if meets(document, row)]
    assert [place for (place,) in found] == expected
    assert 0 < len(expected) < len(rows)


def test_sql_of_lists_asks_for_their_members(dataset: Dataset) -> None:
    assert sql({"tags": "a"}, {"tags"}) == "array_has(`tags`, 'a')"
    negated = "(`tags` IS NULL OR NOT array_has_any(`tags`, ['a', 'b']))"
    assert sql({"tags": {"$nin": ["a", "b"]}}, {"tags"}) == negated
    with pytest.raises(ValueError, match="lists"):
        sql({"tags": {"$gt": 1}}, {"tags"})
    ours, lancedb, _ = ENGINES
    corpus = replace(dataset.corpus, filters={"tagged": {"tags": "17"}})
    known = filters(replace(dataset, corpus=corpus))
    assert condition(lancedb, known["tagged"]) == {"where": "array_has(`tags`, '17')"}
    assert condition(ours, known["tagged"]) == {"filter": '{"tags": "17"}'}
    assert condition(ours, known[NO_FILTER]) == condition(lancedb, known[NO_FILTER]) == {}
    tuned = {"nprobes": 5, "refine": 2}
    assert (tries(lancedb, known["tagged"], tuned), tries(ours, known["tagged"], {})) == ([tuned, FLAT], [{}])


def test_lancedb_has_columns_of_the_types_of_the_values_and_the_index_for_each(tmp_path: Path) -> None:
    rows = [{"many": f"{row}", "few": "x", "whole": row, "mixed": 1 if row else 0.5} for row in range(FEW_VALUES + 1)]
    rows += [{"truth": True, "list": []}, {"list": ["a"], "text": "hidden"}]
    keys = pa.array([str(row) for row in range(len(rows))])
    table = pa.table({"key": keys, "metadata": [json.dumps(row) for row in rows]})
    pq.write_table(table, tmp_path / "rows.parquet")
    columns = Columns.of(str(tmp_path / "rows.parquet"), ["text"])
    assert columns.indexes == {
        "many": "BTREE",
        "few": "BITMAP",
        "whole": "BTREE",
        "mixed": "BTREE",
        "truth": "BITMAP",
        "list": "LABEL_LIST",
    }
    beside = pa.Table.from_batches(map(columns.beside, table.to_batches()))
    assert beside.schema == columns.schema(table.schema)
    assert beside.slice(FEW_VALUES).drop_columns(["key", "metadata"]).to_pylist() == [
        {"many": str(FEW_VALUES), "few": "x", "whole": FEW_VALUES, "mixed": 1.0, "truth": None, "list": None},
        {"many": None, "few": None, "whole": None, "mixed": None, "truth": True, "list": []},
        {"many": None, "few": None, "whole": None, "mixed": None, "truth": None, "list": ["a"]},
    ]
    assert Columns.of(str(tmp_path / "rows.parquet"), None).indexes == {}


def test_every_byte_of_a_filter_index_is_that_of_a_key(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "uid" / "segments" / "name"
    folder.mkdir(parents=True)
    directory = write_segment(folder, "name", SmallSource(800, 6))
    index = directory.filters
    assert index is not None
    found = index_bytes(tmp_path)
    assert set(found) == {"a", "b", "c", "d"}
    own = sum(len(head) + 17 for head in index.heads)
    assert sum(found.values()) == pytest.approx((folder / "filters").stat().st_size + own)


def test_metadata_is_counted_by_key_as_json() -> None:
    rows: list[dict[str, Any]] = [json.loads(text) for text in METADATA]
    kinds, sizes = metadata_bytes(rows, ["metadata"])
    assert kinds == {"a": "number", "b": "list", "c": "string, few values", "d": "string, few values"}
    assert sizes == {"a": len('"a":1,'), "b": len('"b":[1,2],'), "c": len('"c":"é\\",\\"metadata\\":{",') + 1, "d": 7}


def test_how_much_recall_is_wanted_depends_on_how_many_match() -> None:
    assert [wanted(count).limit for count in (1, 1_000, 1_001, 10_000, 10_001)] == [1, 1, 0.995, 0.995, 0.97]


def test_with_a_filter_the_fastest_of_the_others_counts_that_recalls_as_much() -> None:
    values = {"neve": (2.0, 200.0, 0.99), "lancedb IVF_RQ": (9.0, 900.0, 0.98), "lancedb IVF_PQ": (5.0, 500.0, 0.9)}
    figures = [
        Figure("filter", name, value, "", {"set": "prose", "filter": "long"}, engine)
        for engine, each in values.items()
        for name, value in zip((WARM, COLD, RECALL), each, strict=True)
    ]
    found = {one.figure: (one.value, one.target) for one in ratios(figures)}
    assert [(value, str(target)) for value, target in found.values()] == [
        (4.5, "≥ 3"),
        (pytest.approx(0.01), "≥ -0.005"),
        (4.5, "≥ 2"),
        (pytest.approx(0.01), "≥ -0.005"),
    ]
    [poor, *_] = ratios([one for one in figures if one.engine != "lancedb IVF_RQ"])
    assert (poor.value, poor.params["best of the others"]) == (2.5, "lancedb IVF_PQ")
    assert ratios([one for one in figures if one.engine == "neve"]) == []
