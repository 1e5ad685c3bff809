"""How large a filter index is for each kind of metadata keys, beside the metadata itself."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
from tests.clients.corpus import Corpus

from neve.segments.directory import Directory
from neve.segments.terms import TermBlock, stem_of

FEW_VALUES = 1_000
_BLOCK_BYTES = 8 + 4 + 4 + 1
"""What the directory has of a block beside its head: start, checksum, count, flags."""


@dataclass(frozen=True, slots=True)
class KindSize:
    """Bytes of the keys of one kind: `metadata` as JSON, `index` as stored, with its share of directories."""

    kind: str
    keys: Sequence[str]
    metadata: int
    index: float


def sizes(store: Path, corpus: Corpus) -> list[KindSize]:
    """What the compacted segments in a folder take for each kind of a corpus's filterable keys."""
    index = index_bytes(store)
    kinds, metadata = metadata_bytes(corpus.metadata, corpus.non_filterable)
    return [
        KindSize(kind, keys, sum(metadata[key] for key in keys), sum(index[key] for key in keys))
        for kind in sorted(set(kinds.values()))
        for keys in [[key for key, own in kinds.items() if own == kind]]
    ]


def metadata_bytes(
    metadata: Sequence[Mapping[str, object]], without: Sequence[str]
) -> tuple[dict[str, str], Counter[str]]:
    """The kind of each key, and the bytes of its members in all rows."""
    total: Counter[str] = Counter()
    kinds: dict[str, str] = {}
    texts: dict[str, set[str]] = {}
    for row in metadata:
        for key, value in row.items():
            if key in without:
                continue
            total[key] += len(orjson.dumps({key: value})) - 1  # both braces, and a comma that is not there
            if isinstance(value, str):
                seen = texts.setdefault(key, set())
                if len(seen) <= FEW_VALUES:
                    seen.add(value)
            elif key not in kinds:
                kinds[key] = "list" if isinstance(value, list) else "boolean" if isinstance(value, bool) else "number"
    for key, seen in texts.items():
        kinds[key] = f"string, {'few' if len(seen) <= FEW_VALUES else 'many'} values"
    return kinds, total


def index_bytes(store: Path) -> dict[str, float]:
    """Stored bytes of filter indexes by key; those of a block that keys share by their rows and texts in it."""
    total: dict[str, float] = defaultdict(float)
    for path in store.glob("data/*/segments/*/directory"):
        directory = Directory.decode(str(path), path.read_bytes(), "")
        index = directory.filters
        assert index is not None, f"{path.parent} has no filter index"
        raw = (path.parent / index.object).read_bytes()
        bounds = index.starts.tolist()
        for head, start, stop in zip(index.heads, bounds, bounds[1:], strict=False):
            block = TermBlock.decode(directory.rows, raw[start:stop])
            parts: Counter[str] = Counter()
            for key, weight in _weights(block):
                parts[key] += weight
            stored = stop - start + len(head) + _BLOCK_BYTES
            for key, weight in parts.items():
                total[key] += stored * weight / parts.total()
    return total


def _weights(block: TermBlock) -> Iterator[tuple[str, int]]:
    """The key of each term of a block, and what the term takes of it, about."""
    for number, rows in enumerate(np.diff(block.ends.astype(np.int64)).tolist()):
        term = block.term(number)
        key = stem_of(term)[:-3].replace(b"\0\xff", b"\0").decode()
        yield key, rows + len(block.suffixes[number])
