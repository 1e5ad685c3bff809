"""Which columns of a source are keys, vectors and metadata."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from neve.errors import SourceUnfit

KEY_NAMES = ("key", "id", "_id", "vector_id", "uid", "uuid", "pk")
VECTOR_NAMES = ("vector", "embedding", "embeddings", "values", "emb")
DOCUMENT = "metadata"
_INDEX_OF_PANDAS = re.compile(r"__index_level_\d+__")


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """What a user says of a source's columns; what is None is found by names and types."""

    key: str | None = None
    vector: str | None = None
    metadata: tuple[str, ...] | None = None
    """The columns that become metadata; None: all others, and () none."""
    key_prefix: str = ""
    """Put before every key."""
    table: str | None = None
    """Which table of a LanceDB folder."""
    rows: str | None = None
    """A Parquet or JSONL file whose row i has key and metadata of vector i of a .npy or .fvecs file."""

    def to_fields(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> ColumnMapping:
        """Raises LookupError, TypeError on what is no mapping."""
        names = fields["metadata"]
        return cls(**{**fields, "metadata": None if names is None else tuple(names)})


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a source; `kinds` say what it may be: "key", "vector", "document" (whole metadata), "value"."""

    name: str
    type: str
    kinds: frozenset[str]


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns to read: `document` holds whole metadata, beside `metadata`. Where rows are numbered `key` is None,
    and `vector` where the vectors are in another file.
    """

    key: str | None
    vector: str | None
    document: str | None
    metadata: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """All of them, each once."""
        found = (self.key, self.vector, self.document, *self.metadata)
        return list(dict.fromkeys(name for name in found if name is not None))


def choose(url: str, columns: Sequence[Column], mapping: ColumnMapping, *, beside: bool = False) -> Columns:
    """Which columns are what; raises SourceUnfit, naming all there are, where that is not clear.

    `beside` a file of vectors, no vector column is needed, and no key column.
    """
    named = {column.name: column for column in columns}
    asked = (mapping.key, None if beside else mapping.vector, *(mapping.metadata or ()))
    if missing := [name for name in asked if name and name not in named]:
        raise SourceUnfit(f"{url} has no column {missing[0]!r}; {_listed(columns)}")
    vector = None if beside else mapping.vector or _vector(url, columns)
    key = mapping.key or _key(url, columns, beside)
    for role, chosen in (("key", key), ("vector", vector)):
        if chosen is not None and role not in named[chosen].kinds:
            kind = named[chosen].type
            raise SourceUnfit(f"{url}: column {chosen!r} of type {kind} holds no {role}s; {_listed(columns)}")
    if mapping.metadata is None:
        names = [name for name in named if name not in (key, vector) and not _INDEX_OF_PANDAS.fullmatch(name)]
    else:
        names = list(mapping.metadata)
    document = next((name for name in names if name == DOCUMENT and "document" in named[name].kinds), None)
    names = [name for name in names if name != document]
    for name in names:
        if "value" not in named[name].kinds:
            raise SourceUnfit(
                f"{url}: metadata cannot hold column {name!r} of type {named[name].type}: "
                "name the columns that it is to have by --metadata"
            )
    return Columns(key, vector, document, tuple(names))


def _vector(url: str, columns: Sequence[Column]) -> str:
    able = [column.name for column in columns if "vector" in column.kinds]
    likely = [name for name in able if name.lower() in VECTOR_NAMES]
    for names in (able, likely):
        if len(names) == 1:
            return names[0]
    problem = "several columns may hold the vectors" if able else "no column holds vectors"
    raise SourceUnfit(f"{url}: {problem}: name one by --vector; {_listed(columns)}")


def _key(url: str, columns: Sequence[Column], numbered: bool) -> str | None:
    likely = [column.name for column in columns if "key" in column.kinds and column.name.lower() in KEY_NAMES]
    if len(likely) > 1 and "key" in likely:
        return "key"
    if len(likely) == 1:
        return likely[0]
    if numbered and not likely:
        return None
    problem = "several columns may hold the keys" if likely else "no column is known to hold the keys"
    raise SourceUnfit(f"{url}: {problem}: name one by --key; {_listed(columns)}")


def _listed(columns: Sequence[Column]) -> str:
    return "there are: " + ", ".join(f"{column.name} ({column.type})" for column in columns)
