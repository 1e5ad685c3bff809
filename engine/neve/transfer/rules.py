"""The rules of PutVectors, row by row: what breaks one is rejected with the words that PutVectors has for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import orjson

from neve.api.document import dump_json
from neve.api.limits import LIMITS, Limits
from neve.api.records import key_problem, metadata_problem
from neve.errors import Malformed
from neve.index.records import IndexConfig
from neve.segments.rows import Puts
from neve.transfer.rejects import Reject
from neve.vectors.metric import Metric

_KEY_LENGTH_MAX = 1024
_ENTRY_BYTES, _SLACK_BYTES = 7, 4
"""By how much a number's share in the size model is larger than in JSON, at most; every other scalar's is smaller."""
_SCALARS = frozenset((str, int, float, bool))
_NO_METADATA = b"{}"

NULL = "Value at '{}' failed to satisfy constraint: Member must not be null"


@dataclass(frozen=True, slots=True)
class Rules:
    """What an index and a profile of limits ask of a row."""

    dimension: int
    metric: Metric
    non_filterable: frozenset[str]
    limits: Limits

    @classmethod
    def of(cls, config: IndexConfig, profile: str = "wide") -> Rules:
        return cls(config.dimension, config.metric, frozenset(config.non_filterable or ()), LIMITS[profile])

    @property
    def block_rows(self) -> int:
        """Rows of a block: 8 MiB of vectors."""
        return max(1, (8 << 20) // (4 * self.dimension))


@dataclass(slots=True)
class Raw:
    """Rows as a source has them: `rows` their numbers, `vectors` float32 [n, d], `problems` by place, found so far."""

    url: str
    rows: Sequence[int]
    keys: Sequence[object]
    vectors: np.ndarray
    documents: Sequence[object]
    problems: dict[int, str]


def checked(raw: Raw, rules: Rules, key_prefix: str = "") -> tuple[Puts, list[Reject]]:
    """The rows that keep the rules, and the others. A key that repeats is in it as often."""
    keys: list[str] = []
    metadata: list[bytes] = []
    bad: dict[int, str] = {}
    vectors = _vector_problems(raw.vectors, rules)
    for place, (key, document) in enumerate(zip(raw.keys, raw.documents, strict=True)):
        text = key if key.__class__ is str else _text(key)
        problem = raw.problems.get(place)
        if text is not None:
            text = key_prefix + text
            if not 0 < len(text) <= _KEY_LENGTH_MAX // 4:
                problem = problem or _key_problem(text)
        elif problem is None:
            problem = NULL.format("key") if key is None else "A string was expected"
        problem = problem or vectors.get(place)
        if problem is None:
            found = _NO_METADATA if document is None else encoded(document, rules)
            if isinstance(found, bytes):
                assert text is not None
                keys.append(text)
                metadata.append(found)
                continue
            problem = found
        bad[place] = problem
    matrix = raw.vectors
    if bad:
        matrix = np.delete(matrix, list(bad), axis=0)
    rejects = [Reject(raw.url, raw.rows[place], _text(raw.keys[place]), reason) for place, reason in bad.items()]
    return Puts(keys, np.ascontiguousarray(matrix), metadata), rejects


def encoded(document: object, rules: Rules) -> bytes | str:
    """Metadata as JSON, or what is wrong with it (a string)."""
    try:
        found = orjson.dumps(document)
    except TypeError:  # an integer beyond 64 bits, or no JSON at all
        try:
            found = dump_json(document)
        except Malformed as error:
            return str(error)
    if isinstance(document, dict) and _SCALARS.issuperset(map(type, document.values())):
        count = len(document)
        most = len(found) + _ENTRY_BYTES * count + _SLACK_BYTES
        if count <= rules.limits.metadata_keys and most <= rules.limits.filterable_bytes:
            return found
    return metadata_problem(document, rules.non_filterable, rules.limits) or found


def _text(key: object) -> str | None:
    """A key as text; None where it is none."""
    if isinstance(key, str):
        return key
    return str(key) if isinstance(key, int) and not isinstance(key, bool) else None


def _key_problem(key: str) -> str | None:
    if not 0 < len(key) <= _KEY_LENGTH_MAX:
        bounds = f"Member must have length between 1 and {_KEY_LENGTH_MAX}, inclusive"
        return f"Value with length {len(key)} at 'key' failed to satisfy constraint: {bounds}"
    return key_problem(key)


def _vector_problems(vectors: np.ndarray, rules: Rules) -> dict[int, str]:
    """What is wrong with some of the vectors, float32 [n, d] of the right dimension, by place."""
    finite = np.isfinite(vectors).all(axis=1)
    problems = dict.fromkeys(np.flatnonzero(~finite).tolist(), "vector contains NaNs or Infs")
    if rules.metric is Metric.COSINE:
        zero = "cosine distance does not support vectors with zero norm"
        problems |= dict.fromkeys(np.flatnonzero(~vectors.any(axis=1)).tolist(), zero)
    return problems
