"""JSONL: records as PutVectors takes them, or flat objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import orjson

from neve.api.document import parse_json
from neve.api.shapes import Float32Vector, Violations
from neve.errors import Malformed, SourceUnfit
from neve.transfer import files
from neve.transfer.mapping import DOCUMENT, KEY_NAMES, Column, ColumnMapping, Columns, choose
from neve.transfer.rules import NULL, Raw
from neve.transfer.sources.parts import PART_BYTES, Head, SourcePart, even_cuts

_HEAD_BYTES = 1 << 20
_VECTOR = Float32Vector()
_BEYOND = float(1 << 63)


class Jsonl:
    """Parts are ranges of bytes; the first line says which members are what."""

    def fingerprint(self, url: str, _mapping: ColumnMapping) -> str:
        return files.fingerprint(url)

    def head(self, url: str, mapping: ColumnMapping) -> Head:
        with files.reading(url):
            size = files.size_of(url)
            lines = [line for _, line in read_lines(url, 0, min(size, _HEAD_BYTES))]
        if not lines:
            return Head(0, 0, [], PART_BYTES)
        columns = _columns(url, lines[0], mapping)
        vector = _vector(parse_json(lines[0])[columns.vector])  # type: ignore[index]
        dimension = 0 if isinstance(vector, str) else len(vector)
        rows = round(size / (sum(map(len, lines)) + len(lines)) * len(lines))
        return Head(rows, dimension, even_cuts(size, PART_BYTES), PART_BYTES)

    def read(self, part: SourcePart, mapping: ColumnMapping, dimension: int, block_rows: int) -> Iterator[Raw]:
        with files.reading(part.url):
            first = next(read_lines(part.url, 0, files.size_of(part.url)))[1]
            columns = _columns(part.url, first, mapping)
            lines = read_lines(part.url, part.start, part.stop)
            while some := list(islice(lines, block_rows)):
                yield _raw(part.url, some, columns, mapping, dimension)


def read_lines(url: str, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
    """The lines that begin in bytes [start, stop) and are not blank, each with the byte it begins at.

    Reads in pieces of 8 MiB, and up to one beyond the range.
    """
    at = max(0, start - 1)  # a newline there says that a line begins at `start`
    skipping, rest = start > 0, b""
    for piece in files.ranges(url, at, files.size_of(url)):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if at >= stop:
                return
            if line.strip() and not skipping:
                yield at, line
            at, skipping = at + len(line) + 1, False
        if at >= stop:
            return
    if rest.strip() and not skipping and at < stop:
        yield at, rest


def label_of(line: bytes, mapping: ColumnMapping) -> tuple[object, object, str | None]:
    """Key, metadata and problem of a line beside a file of vectors."""
    found = _parsed(line)
    if isinstance(found, str):
        return None, None, found
    key = mapping.key or next((name for name in KEY_NAMES if name in found), None)
    return found.get(key), _document(found, {key, mapping.vector}, mapping), None


def _raw(url: str, lines: list[tuple[int, bytes]], columns: Columns, mapping: ColumnMapping, dimension: int) -> Raw:
    vectors = np.zeros((len(lines), dimension), np.float32)
    keys: list[object] = []
    documents: list[object] = []
    problems: dict[int, str] = {}
    for place, (_, line) in enumerate(lines):
        found = _parsed(line, columns.vector)
        if isinstance(found, str):
            problems[place] = found
            found = {}
        else:
            vector = _vector(found.get(columns.vector))
            if isinstance(vector, str):
                problems[place] = vector
            elif len(vector) != dimension:
                problems[place] = f"vector must have length {dimension}, but has length {len(vector)}"
            else:
                vectors[place] = vector
        keys.append(found.get(columns.key))
        documents.append(_document(found, {columns.key, columns.vector}, mapping))
    return Raw(url, [at for at, _ in lines], keys, vectors, documents, problems)


def _columns(url: str, line: bytes, mapping: ColumnMapping) -> Columns:
    found = _parsed(line)
    if isinstance(found, str):
        raise SourceUnfit(f"{url}: the first line: {found}")
    columns = [Column(name, _type(value), _kinds(value)) for name, value in found.items()]
    plain = ColumnMapping(mapping.key, mapping.vector)  # lines need not have the same members
    return choose(url, columns, plain)


def _parsed(line: bytes, vector: str | None = None) -> dict[Any, Any] | str:
    """The object of a line, or what is wrong with it."""
    try:
        found = orjson.loads(line)
        if isinstance(found, dict) and any(_is_large(value) for name, value in found.items() if name != vector):
            found = parse_json(line)  # five times slower, and exact where orjson makes a double of an integer
    except (ValueError, Malformed):
        return "The line is not valid JSON"
    return found if isinstance(found, dict) else "An object was expected"


def _is_large(value: object) -> bool:
    """Whether a number in a value may be an integer beyond 64 bits."""
    if isinstance(value, dict):
        return any(map(_is_large, value.values()))
    if isinstance(value, list):
        return any(map(_is_large, value))
    return isinstance(value, float) and abs(value) >= _BEYOND


def _vector(found: object) -> np.ndarray | str:
    """A vector float32 [d], as a list or as PutVectors has it, or what is wrong with it."""
    if found is None:
        return NULL.format("data")
    try:
        with np.errstate(over="ignore"):
            vector: Any = _VECTOR.decode(found if isinstance(found, dict) else {"float32": found}, "data", Violations())
    except Malformed as error:
        return str(error)
    return vector  # type: ignore[no-any-return]


def _document(found: Mapping[str, object], taken: set[str | None], mapping: ColumnMapping) -> object:
    """The metadata of a line: its member `metadata` if that is an object, and beside it other members with a value."""
    if mapping.metadata is None:
        beside = {name: value for name, value in found.items() if name not in taken and value is not None}
    else:
        beside = {name: found[name] for name in mapping.metadata if found.get(name) is not None}
    whole = beside.get(DOCUMENT)
    if not isinstance(whole, dict):
        return beside
    del beside[DOCUMENT]
    return {**whole, **beside}


def _type(value: object) -> str:
    return "object" if isinstance(value, dict) else "array" if isinstance(value, list) else type(value).__name__


def _kinds(value: object) -> frozenset[str]:
    if isinstance(value, dict):
        return frozenset({"vector" if list(value) == ["float32"] else "document", "value"})
    if isinstance(value, list):
        numbers = all(isinstance(element, int | float) for element in value) and len(value) > 0
        return frozenset({"vector", "value"} if numbers else {"value"})
    return frozenset({"key", "value"} if isinstance(value, str | int) else {"value"})
