"""Vectors, keys and metadata that an index cannot hold."""

from __future__ import annotations

from collections.abc import Sequence

from tests.catalogue.cases import ONES, POINTS, WORDS, Case, Members, invalid, metadata, record

NOT_FINITE = "vector contains NaNs or Infs"
ZERO_NORM = "cosine distance does not support vectors with zero norm"
_VALUES = "Metadata values must be strings, numbers, booleans, or arrays"
_ELEMENTS = "Metadata array values must be strings or numbers"
_FILTERABLE = "Filterable metadata must have at most 2048 bytes"
_TOTAL = "Metadata object must have at most 40960 bytes"
_LONG_KEY = "Record key length exceeds the maximum allowed"
_DUPLICATES = "Request must not contain duplicate keys"


def _data(*values: object) -> Members:
    return {"key": "bad", "data": {"float32": list(values)}}


RECORDS: Sequence[Case] = (
    record("dimension", _data(1, 2), "vector must have length 4, but has length 2"),
    record("no-components", _data(), "vector must have length 4, but has length 0"),
    record("nan", _data("NaN", 0, 0, 1), NOT_FINITE),
    record("infinity", _data(1, "Infinity", 0, 1), NOT_FINITE, index=POINTS),
    record("minus-infinity", _data("-Infinity", 1, 1, 1), NOT_FINITE),
    record("infinite-as-float32", _data(1e39, 1, 1, 1), NOT_FINITE, index=POINTS),
    record("zero", _data(0, 0, 0, 0), ZERO_NORM),
    record("zero-as-float32", _data(1e-46, 0, 0, 0), ZERO_NORM),
    record("vector-before-metadata", {**_data(1), "metadata": []}, "vector must have length 4, but has length 1"),
    metadata("filterable-size", {"f": "x" * 2036}, _FILTERABLE),
    metadata("filterable-size-by-key", {"ffffffffff": "x" * 2027}, _FILTERABLE),
    metadata("filterable-size-in-utf8", {"f": "é" * 1018}, _FILTERABLE),
    metadata("filterable-size-of-numbers", {"f": [0] * 255}, _FILTERABLE),
    metadata("total-size", {"raw": "x" * 40_946}, _TOTAL),
    metadata("keys", {str(number): 0 for number in range(51)}, "Metadata object must have at most 50 keys"),
    metadata("null-value", {"a": None}, _VALUES),
    metadata("object-value", {"a": {"b": 1}}, _VALUES),
    metadata("object-value-not-filterable", {"raw": {"b": 1}}, _VALUES),
    metadata("mixed-array", {"a": [1, "1"]}, _ELEMENTS),
    metadata("array-of-booleans", {"a": [True]}, _ELEMENTS),
    metadata("array-with-boolean", {"a": [1, True]}, _ELEMENTS),
    metadata("array-of-null", {"a": [None]}, _ELEMENTS),
    metadata("array-of-arrays", {"a": [[1]]}, _ELEMENTS),
    metadata("array-empty", {"a": []}, "Empty arrays are not allowed in metadata"),
    metadata("scalar-metadata", 5, "Metadata must be an object"),
    metadata("array-metadata", [], "Metadata must be an object"),
    metadata("text-metadata", "{}", "Metadata must be an object"),
    invalid(
        "put-key-bytes",
        "PutVectors",
        {**WORDS, "vectors": [{"key": "é" * 513, "data": ONES}]},
        _LONG_KEY,
        ("vectors[0].key", _LONG_KEY),
    ),
    invalid("get-key-bytes", "GetVectors", {**WORDS, "keys": ["a", "€" * 342]}, _LONG_KEY, ("keys[1]", _LONG_KEY)),
    invalid("delete-key-bytes", "DeleteVectors", {**WORDS, "keys": ["𝄞" * 257]}, _LONG_KEY, ("keys[0]", _LONG_KEY)),
    invalid("delete-twice", "DeleteVectors", {**WORDS, "keys": ["a", "b", "a"]}, _DUPLICATES, ("keys", _DUPLICATES)),
)
