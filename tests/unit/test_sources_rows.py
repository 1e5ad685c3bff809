"""Rows that an index cannot hold are rejected one by one; columns are found, or asked for; changes are noticed."""

from __future__ import annotations

import datetime
import decimal
import json
import os
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from neve.api.limits import LIMITS
from neve.errors import SourceChanged, SourceUnfit
from neve.transfer.mapping import ColumnMapping
from neve.transfer.rejects import Reject, RejectLog
from neve.transfer.rules import Rules
from neve.transfer.sources import SourcePart, plan_source, read_part
from neve.vectors.metric import Metric
from tests.unit.transfer_rows import EXPECTED, KEYS, RULES, imported, lines, read, records, table

GOOD = [1.0, 2.0, 3.0, 4.0]
KEY_NULL = "Value at 'key' failed to satisfy constraint: Member must not be null"
DATA_NULL = "Value at 'data' failed to satisfy constraint: Member must not be null"
LONG = (
    "Value with length {} at 'key' failed to satisfy constraint: Member must have length between 1 and 1024, inclusive"
)
NO_VECTOR = ("null vector", None, None, DATA_NULL)
BAD: list[tuple[Any, Any, Any, str]] = [
    (None, GOOD, None, KEY_NULL),
    ("", GOOD, None, LONG.format(0)),
    ("x" * 1025, GOOD, None, LONG.format(1025)),
    ("é" * 600, GOOD, None, "Record key length exceeds the maximum allowed"),
    ("short", GOOD[:3], None, "vector must have length 4, but has length 3"),
    ("long", [*GOOD, 5.0], None, "vector must have length 4, but has length 5"),
    ("zero", [0.0] * 4, None, "cosine distance does not support vectors with zero norm"),
    ("huge", [1e300, 0, 0, 0.0], None, "vector contains NaNs or Infs"),
    ("large", GOOD, {"text": "x" * 2100}, "Filterable metadata must have at most 2048 bytes"),
    ("larger", GOOD, {"long": "x" * 41_000}, "Metadata object must have at most 40960 bytes"),
    ("many", GOOD, {f"n{i}": i for i in range(51)}, "Metadata object must have at most 50 keys"),
    ("empty list", GOOD, {"tags": []}, "Empty arrays are not allowed in metadata"),
    ("mixed list", GOOD, {"tags": ["a", 1]}, "Metadata array values must be strings or numbers"),
    ("nested", GOOD, {"a": {"b": 1}}, "Metadata values must be strings, numbers, booleans, or arrays"),
    ("null member", GOOD, {"a": None}, "Metadata values must be strings, numbers, booleans, or arrays"),
    ("no object", GOOD, ["a"], "Metadata must be an object"),
]
RULES_LONG = Rules(4, Metric.COSINE, frozenset({"long"}), LIMITS["aws"])


def expected_rejects(url: Path, rows: list[int], some: list[tuple[Any, Any, Any, str]]) -> list[Reject]:
    return [Reject(str(url), row, key, reason) for row, (key, *_, reason) in zip(rows, some, strict=True)]


class TestRejects:
    def test_columns(self, tmp_path: Path) -> None:
        path = tmp_path / "a.parquet"
        not_finite = "vector contains NaNs or Infs"
        more = [("inf", [np.inf, 0, 0, 0], None, not_finite), ("nan", [np.nan, 0, 0, 0], None, not_finite)]
        some = [*BAD, *more, NO_VECTOR]
        rows = [("before", GOOD, {"a": 1}, ""), *some, ("after", GOOD, None, "")]
        keys, vectors, metadata, _ = zip(*rows, strict=True)
        documents = [None if found is None else json.dumps(found) for found in metadata]
        pq.write_table(pa.table({"key": keys, "vector": vectors, "metadata": documents}), path)
        found, rejects = imported(path, rules=RULES_LONG)
        assert {key: value[1] for key, value in found.items()} == {"before": {"a": 1}, "after": {}}
        assert {value[0] for value in found.values()} == {np.array(GOOD, np.float32).tobytes()}
        assert sorted(rejects, key=lambda reject: reject.row) == expected_rejects(path, list(range(1, 20)), some)

    def test_lines(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        objects = [{"key": key, "data": {"float32": vector}, "metadata": found} for key, vector, found, _ in BAD[:13]]
        some = [
            '{"key": "not json"',
            "[]",
            '{"key": "no data"}',
            '{"key": "text", "data": {"float32": ["a"]}}',
            '{"key": "union", "data": {"float64": [1]}}',
            '{"key": 1.5, "data": {"float32": [1, 2, 3, 4]}}',
            '{"key": "inf", "data": {"float32": ["Infinity", 2, 3, 4]}}',
        ]
        path.write_text(lines(records()[:1]) + lines(objects) + "\n".join(some) + "\n" + lines(records()[1:2]))
        found, rejects = imported(path, rules=RULES_LONG)
        assert set(found) == set(KEYS[:2])
        reasons = [reject.reason for reject in rejects]
        assert reasons == [
            *(reason for *_, reason in BAD[:13]),
            "The line is not valid JSON",
            "An object was expected",
            DATA_NULL,
            "A number was expected",
            "Vector data must have exactly one member, float32",
            "A string was expected",
            "vector contains NaNs or Infs",
        ]
        content = path.read_bytes()
        starts = [0, *(place + 1 for place, byte in enumerate(content) if byte == ord("\n"))]
        assert [reject.row for reject in rejects] == starts[1 : 1 + len(rejects)], "bytes at which the lines begin"

    def test_other_rules(self, tmp_path: Path) -> None:
        path = tmp_path / "a.parquet"
        rows = [("zero", [0.0] * 4, "x" * 2100), ("one", GOOD, "x" * 70_000)]
        keys, vectors, texts = zip(*rows, strict=True)
        pq.write_table(pa.table({"key": keys, "vector": vectors, "text": texts}), path)
        euclidean = Rules(4, Metric.EUCLIDEAN, frozenset(), LIMITS["wide"])
        found, rejects = imported(path, rules=euclidean)
        assert set(found) == {"zero"}
        assert [reject.reason for reject in rejects] == ["Filterable metadata must have at most 65536 bytes"]
        free = Rules(4, Metric.EUCLIDEAN, frozenset({"text"}), LIMITS["wide"])
        assert imported(path, rules=free)[1] == []

    def test_the_size_that_is_just_allowed(self, tmp_path: Path) -> None:
        """2,048 by the size model: 4, and 12 + 2 a number, and 8 + 1 + the text."""
        path = tmp_path / "a.parquet"
        texts = ["x" * (2048 - 4 - 10 * 14 - 9 + more) for more in (0, 1)]
        numbers = {f"n{i}": [0, 0] for i in range(10)}
        pq.write_table(pa.table({"key": ["a", "b"], "vector": [GOOD, GOOD], "t": texts, **numbers}), path)
        found, rejects = imported(path)
        assert list(found) == ["a"]
        assert [reject.key for reject in rejects] == ["b"]

    def test_log(self, tmp_path: Path) -> None:
        some = [Reject("a", 3, "k", "bad"), Reject("a", 4, None, "bad"), Reject("b", 0, "é", "worse")]
        with RejectLog(tmp_path / "rejects.jsonl") as log:
            log.add(some[:2])
            log.add(some[2:])
        assert (log.count, dict(log.reasons)) == (3, {"bad": 2, "worse": 1})
        found = [json.loads(line) for line in (tmp_path / "rejects.jsonl").read_text().splitlines()]
        assert found[2] == {"url": "b", "row": 0, "key": "é", "reason": "worse"}
        assert [Reject.from_fields(reject.to_fields()) for reject in some] == some
        with RejectLog() as log:
            log.add(some)
        assert log.count == 3


def test_long_integers_in_lines_keep_their_digits(tmp_path: Path) -> None:
    numbers = {"long": 12345678901234567890123, "float": 1e30, "list": [2**70]}
    path = tmp_path / "a.jsonl"
    path.write_text(lines([{"key": "a", "vector": GOOD, **numbers}, {"key": "b", "vector": GOOD, "metadata": numbers}]))
    assert [found for _, found in imported(path)[0].values()] == [numbers, numbers]


class TestColumns:
    def write(self, path: Path, **columns: Any) -> Path:
        pq.write_table(pa.table({"key": ["a"], "vector": [GOOD], **columns}), path / "a.parquet")
        return path / "a.parquet"

    def test_values(self, tmp_path: Path) -> None:
        day = datetime.date(2024, 2, 29)
        time = datetime.datetime(2024, 2, 29, 12, 30, 1, 5)
        found, rejects = imported(
            self.write(
                tmp_path,
                words=pa.array(["x"]).dictionary_encode(),
                day=pa.array([day]),
                time=pa.array([time]),
                nanos=pa.array([time]).cast(pa.timestamp("ns", "UTC")),
                price=pa.array([decimal.Decimal("1.25")]),
                half=pa.array([np.float16(0.5)]),
                big=pa.array([2**64 - 1], pa.uint64()),
                nothing=pa.nulls(1),
                numbers=[[1.5, 2.0]],
                __index_level_0__=[7],
            )
        )
        assert rejects == []
        assert found["a"][1] == {
            "words": "x",
            "day": "2024-02-29",
            "time": "2024-02-29T12:30:01.000005",
            "nanos": "2024-02-29T12:30:01.000005+00:00",
            "price": 1.25,
            "half": 0.5,
            "big": 2**64 - 1,
            "numbers": [1.5, 2.0],
        }

    @pytest.mark.parametrize(
        "column",
        [
            pa.array(['{"a": 1, "b": [1.5], "long": 12345678901234567890123}']),
            pa.array([b'{"a": 1, "b": [1.5], "long": 12345678901234567890123}']).cast(pa.string()),
        ],
    )
    def test_metadata_as_json(self, column: pa.Array, tmp_path: Path) -> None:
        found, _ = imported(self.write(tmp_path, metadata=column, beside=[2], a=["over"]))
        assert found["a"][1] == {"a": "over", "b": [1.5], "long": 12345678901234567890123, "beside": 2}

    def test_metadata_as_struct_or_map(self, tmp_path: Path) -> None:
        structs = pa.array([{"a": 1, "b": None}])
        assert imported(self.write(tmp_path, metadata=structs))[0]["a"][1] == {"a": 1}
        maps = pa.array([[("a", "x"), ("b", None)]], pa.map_(pa.string(), pa.string()))
        assert imported(self.write(tmp_path, metadata=maps))[0]["a"][1] == {"a": "x"}

    def test_numbers_that_json_has_not(self, tmp_path: Path) -> None:
        _, rejects = imported(self.write(tmp_path, n=[np.nan]))
        assert [reject.reason for reject in rejects] == ["Metadata numbers must be finite"]
        _, rejects = imported(self.write(tmp_path, n=[[1.0, np.inf]]))
        assert [reject.reason for reject in rejects] == ["Metadata numbers must be finite"]

    def test_chosen(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, id=[17], other=[[5.0, 6.0, 7.0, 8.0]], word=["w"])
        assert list(imported(path, mapping=ColumnMapping(vector="vector"))[0]) == ["a"]
        mapping = ColumnMapping(key="id", vector="other", metadata=("word",), key_prefix="n")
        assert imported(path, mapping=mapping)[0] == {
            "n17": (np.array([5, 6, 7, 8], np.float32).tobytes(), {"word": "w"})
        }
        assert imported(path, mapping=ColumnMapping(metadata=()))[0]["a"][1] == {}

    @pytest.mark.parametrize(
        ("columns", "mapping", "message"),
        [
            (
                {"word": ["w"], "vector": [GOOD]},
                ColumnMapping(),
                r"no column is known to hold the keys: name one by --key; there are: word \(string\), vector \(list",
            ),
            (
                {"id": [1], "uid": [2], "vector": [GOOD]},
                ColumnMapping(),
                "several columns may hold the keys: name one by --key",
            ),
            (
                {"id": [1], "a": [GOOD], "b": [GOOD]},
                ColumnMapping(),
                "several columns may hold the vectors: name one by --vector",
            ),
            ({"id": [1]}, ColumnMapping(), "no column holds vectors"),
            ({"id": [1], "v": [GOOD]}, ColumnMapping(key="ID"), r"has no column 'ID'; there are: id \(int64\), v"),
            (
                {"id": [1], "v": [GOOD]},
                ColumnMapping(key="v", vector="v"),
                "holds no keys",
            ),
            ({"id": [1], "v": [GOOD]}, ColumnMapping(vector="id"), "column 'id' of type int64 holds no vectors"),
            (
                {"id": [1], "v": [GOOD], "s": [{"a": 1}]},
                ColumnMapping(),
                "metadata cannot hold column 's' of type struct<a: int64>: name the columns that it is to have by",
            ),
            (
                {"id": [1], "v": [GOOD], "raw": [b"x"]},
                ColumnMapping(),
                "metadata cannot hold column 'raw' of type binary",
            ),
        ],
    )
    def test_unclear(self, columns: dict[str, Any], mapping: ColumnMapping, message: str, tmp_path: Path) -> None:
        pq.write_table(pa.table(columns), tmp_path / "a.parquet")
        with pytest.raises(SourceUnfit, match=message):
            plan_source([str(tmp_path / "a.parquet")], mapping)

    def test_unclear_lines(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        for line, message in (
            (
                '{"word": "a", "vector": [1.5]}',
                r"no column is known to hold the keys: .*word \(str\), vector \(array\)",
            ),
            ("[1]", "the first line: An object was expected"),
            ("{", "the first line: The line is not valid JSON"),
        ):
            path.write_text(line)
            with pytest.raises(SourceUnfit, match=message):
                plan_source([str(path)], ColumnMapping())


class TestUnfit:
    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("a.parquet", b"no parquet", "cannot read .*a.parquet: "),
            ("a.arrow", b"no arrow", "cannot read .*a.arrow: "),
            ("a.npy", b"no npy", "cannot read .*a.npy: "),
            ("a.fvecs", b"\x02\0\0\0\0", "a.fvecs is not an .fvecs file of one dimension: it begins with 2"),
            ("a.txt", b"", "a.txt is of no known format: known are .parquet"),
        ],
    )
    def test_files(self, name: str, content: bytes, message: str, tmp_path: Path) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SourceUnfit, match=message):
            plan_source([str(tmp_path / name)], ColumnMapping())

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (np.zeros(4, np.float32), r"holds float32 of shape \(4,\): vectors are a matrix of numbers"),
            (np.zeros((2, 2), np.complex64), "holds complex64 of shape"),
            (np.asfortranarray(np.zeros((2, 3))), "is in Fortran order: save numpy.ascontiguousarray of it"),
        ],
    )
    def test_arrays(self, array: np.ndarray, message: str, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(SourceUnfit, match=message):
            plan_source([str(tmp_path / "a.npy")], ColumnMapping())

    def test_dimension_of_an_array(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.ones((2, 3)))
        with pytest.raises(SourceUnfit, match="has vectors of dimension 3, and the index has 4"):
            imported(tmp_path / "a.npy")

    @pytest.mark.parametrize("url", ["nothing.parquet", "nothing/*.parquet", "nothing.lance", "nope://a/b.parquet"])
    def test_absent(self, url: str, tmp_path: Path) -> None:
        name = url if "://" in url else str(tmp_path / url)
        with pytest.raises(SourceUnfit, match=r"there is no|has no file to import|cannot read|cannot open nope://"):
            plan_source([name], ColumnMapping())

    def test_empty(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_text("")
        pq.write_table(table().slice(0, 0), tmp_path / "b.parquet")
        source = plan_source([str(tmp_path)], ColumnMapping())
        assert (source.rows, source.parts) == (0, ())
        with pytest.raises(SourceUnfit, match=r"has no file to import: known are .parquet"):
            plan_source([str(tmp_path / "*.npy")], ColumnMapping())

    def test_text_that_is_none(self, tmp_path: Path) -> None:
        broken = pa.Array.from_buffers(
            pa.string(), 1, [None, pa.py_buffer(np.array([0, 1], "<i4")), pa.py_buffer(b"\xff")]
        )
        pq.write_table(pa.table({"key": ["a"], "vector": [GOOD], "text": broken}), tmp_path / "a.parquet")
        with pytest.raises(SourceUnfit, match=r"cannot read .*UTF8"):
            imported(tmp_path / "a.parquet")


class TestChanges:
    def test_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a.parquet"
        pq.write_table(table(), path)
        source = plan_source([str(path)], ColumnMapping())
        assert plan_source([str(path)], ColumnMapping()) == source
        assert plan_source([str(path)], ColumnMapping(key_prefix="x")).digest != source.digest
        os.utime(path, (1, 1))
        with pytest.raises(SourceChanged, match=r"a.parquet has changed since the import began"):
            next(read_part(source.parts[0], ColumnMapping(), RULES))
        assert plan_source([str(path)], ColumnMapping()).digest != source.digest

    def test_a_file_while_it_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "a.parquet"
        pq.write_table(table(), path)
        [part] = plan_source([str(path)], ColumnMapping()).parts
        blocks = read_part(part, ColumnMapping(), RULES)
        next(blocks)
        os.utime(path, (1, 1))
        with pytest.raises(SourceChanged):
            list(blocks)

    def test_a_file_beside(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.ones((3, 4)))
        (tmp_path / "rows.jsonl").write_text(lines([{"key": "a"}, {"key": "b"}, {"key": "c"}]))
        mapping = ColumnMapping(rows=str(tmp_path / "rows.jsonl"))
        source = plan_source([str(tmp_path / "a.npy")], mapping)
        os.utime(tmp_path / "rows.jsonl", (1, 1))
        with pytest.raises(SourceChanged):
            read(source, mapping)

    def test_a_version_of_a_dataset_stays(self, tmp_path: Path) -> None:
        path = str(tmp_path / "a.lance")
        lance.write_dataset(table(), path)
        mapping = ColumnMapping()
        source = plan_source([path], mapping)
        lance.write_dataset(table().slice(0, 10), path, mode="overwrite")
        assert [
            key for part in source.parts for puts, _ in read_part(part, mapping, RULES) for key in puts.keys
        ] == KEYS
        assert plan_source([path], mapping).rows == 10

    def test_fields(self) -> None:
        mapping = ColumnMapping(key="a", metadata=("b", "c"), rows="d")
        assert ColumnMapping.from_fields(json.loads(json.dumps(mapping.to_fields()))) == mapping
        part = SourcePart("u", "parquet", 1, 2, "f", 3)
        assert SourcePart.from_fields(json.loads(json.dumps(part.to_fields()))) == part


def test_expected_rows_are_what_they_seem() -> None:
    assert EXPECTED["k10"][1] == {
        "word": 'a "quoted" 10\n',
        "place": 1.25,
        "count": 10,
        "even": True,
        "tags": ["x", "10"],
        "rare": "é",
    }
