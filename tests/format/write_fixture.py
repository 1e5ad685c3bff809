"""Writes the store that is kept as a fixture: `python -m tests.format.write_fixture FOLDER`, once for a format version.

Time, chance and content are fixed. What it must read as is kept beside it, in plain Python, without the engine.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import orjson

from neve.compaction import compact as compaction
from neve.compaction.build import Means
from neve.compaction.compact import compact
from neve.index.database import Database
from neve.index.entry import Kind, Write, encode_bare
from neve.index.paths import log_entry
from neve.index.records import Encryption, IndexConfig
from neve.segments.rows import Puts
from neve.store.folder import FolderStore
from neve.store.port import Created, PutNew
from neve.testing.clock import ManualClock, ManualRuntime
from neve.vectors.metric import Metric

BOOKS = IndexConfig(4, Metric.COSINE, ("text",), Encryption())
SHAPES = IndexConfig(3, Metric.EUCLIDEAN, None, Encryption())
STONES = IndexConfig(8, Metric.COSINE, None, Encryption())
MASK_BYTES = 40
"""Larger masks are objects of their own here: one of the two is."""


@dataclass(slots=True)
class Expected:
    """What one index must read as: rows as [vector, metadata] by key, and its tags."""

    rows: dict[str, tuple[list[float], dict[str, Any]]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


class Librarian:
    """Writes to one index and keeps in mind what it must hold."""

    def __init__(self, database: Database, name: str, config: IndexConfig, tags: dict[str, str]) -> None:
        database.create_index("library", name, config, tags, quota=100)
        self.index = database.index("library", name)
        self.expected = Expected(tags=dict(tags))
        self._dimension = config.dimension

    def put(self, *numbers: int, version: int) -> None:
        rows = {f"key-{number:03d}": self._row(number, version) for number in numbers}
        vectors = np.array([vector for vector, _ in rows.values()], np.float32)
        metadata = [orjson.dumps(document) for _, document in rows.values()]
        self.index.write(lambda _: Write(Puts(tuple(rows), vectors, metadata)), f"call-{version}-{numbers[0]}")
        self.expected.rows |= rows

    def delete(self, *numbers: int) -> None:
        keys = [f"key-{number:03d}" for number in numbers]
        nothing = Puts((), np.empty((0, self._dimension), np.float32), ())
        self.index.write(lambda _: Write(nothing, keys))
        for key in keys:
            self.expected.rows.pop(key, None)

    def tag(self, tags: dict[str, str]) -> None:
        self.index.tag(lambda old: {**old, **tags})
        self.expected.tags |= tags

    def _row(self, number: int, version: int) -> tuple[list[float], dict[str, Any]]:
        """Components are multiples of 1/8, so that JSON and float32 both hold them exactly."""
        turns = number // 63
        steps = [number * (place + 3) + 5 * version + turns * place * place for place in range(self._dimension)]
        vector = [(step % 63 - 31) / 8 + 0.0625 for step in steps]
        document: dict[str, Any] = {"number": number, "version": version, "even": number % 2 == 0}
        if number % 3 == 0:
            document["shelf"] = ["é", "雪", "a/b"][: number % 4]
        return vector, document if number % 5 else {}


def write_fixture(folder: Path) -> dict[str, Any]:
    """Write the store; what it must read as, ready for JSON."""
    store = FolderStore(folder)
    database = Database.open(store, ManualRuntime(ManualClock(), "fixture"))
    database.create_bucket("library", Encryption(), {"owner": "névé", "empty": ""}, quota=10)
    database.create_bucket("attic", Encryption(), {}, quota=10)
    database.delete_bucket("attic")
    database.create_bucket("cellar", Encryption(), {}, quota=10)
    database.tag_bucket("cellar", lambda _: {"cold": "yes"})

    books = Librarian(database, "books", BOOKS, {"kind": "books"})
    for first in range(0, 400, 50):
        books.put(*range(first, first + 50), version=1)
    books.index.fold()
    books.put(*range(390, 430), version=2)
    books.delete(*range(20))
    books.tag({"reviewed": "2026"})
    books.index.fold()  # beside the large segment: a small one with tombstones
    books.put(5, 6, 500, version=3)
    books.index.fold()
    books.put(399, 400, version=4)
    books.delete(6, 21, 9_999)
    books.tag({"kind": "books and more"})
    skipped = books.index.read()
    plug = PutNew(log_entry(skipped.uid, skipped.position + 1), encode_bare(Kind.EMPTY, "0" * 32))
    assert store.wave([plug]) == [Created()]
    books.put(21, version=5)

    shapes = Librarian(database, "shapes", SHAPES, {})
    shapes.put(1, 2, 3, version=1)
    shapes.delete(2)
    gone = Librarian(database, "gone", SHAPES, {})
    gone.put(1, version=1)
    database.delete_index("library", "gone")
    Librarian(database, "again", SHAPES, {"life": "first"}).put(7, version=1)
    database.delete_index("library", "again")
    again = Librarian(database, "again", BOOKS, {"life": "second"})
    again.put(8, version=2)

    stones = Librarian(database, "stones", STONES, {"kind": "stones"})
    write_compacted(database, stones)

    living = {"again": again, "books": books, "shapes": shapes, "stones": stones}
    return {
        "identity": database.identity,
        "buckets": {"cellar": {"cold": "yes"}, "library": {"owner": "névé", "empty": ""}},
        "indexes": {name: {"rows": one.expected.rows, "tags": one.expected.tags} for name, one in living.items()},
    }


def write_compacted(database: Database, stones: Librarian) -> None:
    """Three compacted segments, two of them with masks; a flat one with rows and tombstones that hide some; a tail."""
    stones.put(*range(300), version=1)
    compact_now(database)
    stones.put(*range(290, 380), version=2)
    stones.delete(3, 4, 1_000)
    compact_now(database)
    stones.put(*range(0, 300, 20), version=3)
    stones.delete(310, 311, 77)
    compact_now(database)
    stones.put(5, 295, 300, 400, version=4)
    stones.delete(6, 296, 20)
    stones.index.fold()
    stones.put(7, 401, version=5)
    stones.delete(8, 297, 400)


def compact_now(database: Database) -> None:
    with patch.object(compaction, "MASK_INLINE_BYTES_MAX", MASK_BYTES), tempfile.TemporaryDirectory() as work:
        assert compact(database, "library", "stones", Means(Path(work)), asked=True) is not None


def main() -> None:
    folder = Path(sys.argv[1])
    expected = write_fixture(folder / "store")
    for scratch in (".staging", "scratch"):
        shutil.rmtree(folder / "store" / scratch, ignore_errors=True)
    (folder / "expected.json").write_bytes(orjson.dumps(expected, option=orjson.OPT_SORT_KEYS))


if __name__ == "__main__":
    main()
