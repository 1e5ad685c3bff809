"""Segments that have nothing but a filter index, and metadata and filters of every kind to try it with."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

from neve.query.session import Session
from neve.segments import term_writer, terms
from neve.segments.directory import Directory
from neve.segments.term_writer import TermRows, write_terms
from neve.segments.terms import TermBlock
from neve.segments.writer import write_segment
from neve.store.blocks import Blocks
from neve.store.port import Put
from neve.store.steady import SteadyStore
from neve.testing.clock import ManualClock, ManualRuntime
from neve.testing.objects import MemoryStore, Objects
from tests.unit.small_segment import SmallSource

KEYS = ["", "a", "a\0", "a\0\0b", "\0", "b", "é", "$x", "key" * 40]
TEXTS = [
    *("", "x", "x\0", "x\0\0", "y", "é", "\uffff", "\U0010ffff", "1", "true"),
    *("z" * size for size in (47, 48, 49, 63, 64, 65, 200)),
    *("z" * 64 + end for end in ("a", "b", "\0")),
    *("é" * size for size in (24, 32, 33, 40)),
    "z" * 47 + "é" + "z" * 30,
]
NUMBERS = [
    *(0, -0.0, 1, 1.0, -1, 2, 2.5, -2.5, 0.1, 1e-300, 5e-324, -5e-324),
    *(1e300, -1e300, 1.7976931348623157e308, 2**53, 2**53 + 1, -(2**63), 2**64, 10**40, -(10**40)),
]
keys = st.sampled_from(KEYS)
texts = st.sampled_from(TEXTS)
numbers = st.sampled_from(NUMBERS) | st.integers(-3, 3) | st.floats(allow_nan=False, allow_infinity=False)
scalars = texts | numbers | st.booleans()
values = (
    scalars
    | st.lists(scalars, max_size=5)
    | st.lists(st.integers(-3, 3), min_size=1, max_size=6)
    | st.sampled_from([None, {}, {"a": 1}, [None, 1], [[1]]])
)
documents = st.dictionaries(keys, values, max_size=4)
stored = st.dictionaries(
    keys,
    scalars | st.lists(texts, min_size=1, max_size=4) | st.lists(numbers, min_size=1, max_size=4),
    max_size=4,
)
"""As an index takes them."""


def filters_with(prefixes: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, object]]:
    """Filters of every operator, type and combination."""
    tests = st.one_of(
        st.tuples(st.sampled_from(["$eq", "$ne"]), scalars),
        st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), numbers),
        st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(scalars, min_size=1, max_size=4)),
        st.tuples(st.just("$exists"), st.booleans()),
        st.tuples(st.just("$startsWith"), prefixes),
    )
    asked = keys.filter(lambda key: key[:1] != "$")
    return st.recursive(
        st.dictionaries(asked, st.lists(tests, min_size=1, max_size=3).map(dict), min_size=1, max_size=1),
        lambda parts: st.builds(
            lambda kind, inner: {kind: inner}, st.sampled_from(["$and", "$or"]), st.lists(parts, min_size=1, max_size=4)
        ),
        max_leaves=8,
    )


filters = filters_with(st.sampled_from([text for text in TEXTS if len(text.encode()) <= 48]))
"""Those that the index answers."""
some_rows = st.lists(documents, min_size=1, max_size=9)
picks = st.binary(min_size=1, max_size=90)
"""For `rows_of`."""
_folders = (f"segment-{number}/" for number in count())


@contextmanager
def small_blocks(postings: int = 5, text_bytes: int = 60, memory_bytes: int = 3000, share: int = 3) -> Iterator[None]:
    """Blocks of few terms, terms that go on in the next block, runs in files, and bitmaps for one row in `share`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(term_writer, "BLOCK_POSTINGS", postings)
        patch.setattr(term_writer, "BLOCK_TEXT_BYTES", text_bytes)
        patch.setattr(term_writer, "MEMORY_BYTES", memory_bytes)
        for module in (terms, term_writer):
            patch.setattr(module, "DENSE_SHARE", share)
        yield


def as_json(metadata: object) -> bytes:
    """As clients' metadata is stored: numbers with all their digits."""
    return json.dumps(metadata, ensure_ascii=False).encode()


def _template() -> Directory:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "s").mkdir()
        return write_segment(Path(folder) / "s", "s", SmallSource(4, 1))


TEMPLATE = _template()


def rows_of(pool: list[dict[str, object]], picked: bytes) -> list[bytes]:
    """Many rows out of few, so that terms have many."""
    return [as_json(pool[pick % len(pool)]) for pick in picked]


class Indexed:
    """The filter index of some rows' metadata (JSON objects), as a segment of a folder of its own would have it."""

    def __init__(self, metadata: Sequence[bytes], ignored: Sequence[str] = (), step: int = 7) -> None:
        self.folder = next(_folders)
        self.objects = Objects(ManualClock())
        with tempfile.TemporaryDirectory() as scratch:
            gathered = TermRows(Path(scratch) / "terms", ignored)
            for first in range(0, len(metadata), step):
                gathered.add(first, metadata[first : first + step])
            self.runs = len(list((Path(scratch) / "terms").iterdir()))
            self.index = write_terms(Path(scratch) / "filters", gathered.postings(), len(metadata))
            self.raw = (Path(scratch) / "filters").read_bytes()
        self.objects.apply(Put(self.folder + "filters", self.raw))
        edges = np.linspace(0, len(metadata), TEMPLATE.lists + 1).astype(np.uint32)
        self.directory = replace(
            TEMPLATE, rows=len(metadata), primary_starts=edges, filters=self.index, folder=self.folder
        )

    def session(self) -> Session:
        """One that has read nothing."""
        return Session(SteadyStore(MemoryStore(self.objects), ManualRuntime(ManualClock())), Blocks(1 << 24))

    def block(self, number: int) -> TermBlock:
        return TermBlock.decode(self.directory.rows, self.raw_block(number))

    def raw_block(self, number: int) -> bytes:
        [block] = self.directory.filter_blocks([number])
        return self.raw[block.start : block.stop]
