"""What a shard is asked and what it answers, as values and as JSON.

All that a task names is immutable: it may be done late, twice, or by whoever has it at hand.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import astuple
from typing import Any

import numpy as np

from neve.dataclass import dataclass
from neve.filters.expression import Condition
from neve.index.manifest import CompactedInfo
from neve.query.lists import LOCATION_ROW
from neve.segments.layout import ROWS_MAX
from neve.store.blocks import Tally

VERSION = 1
"""Of tasks and results: who knows another one refuses."""
HITS_MAX = 80_000
"""Rows of one result: 40 bytes each, and a third more as text, are 4.3 MB of the 6 MB that Lambda hands over."""
CONDITION_BYTES_MAX = 1 << 20
LISTS_MAX = 250_000
PORTIONS_MAX = 256
DIMENSION_MAX = 16_384
"""What a task holds at most: the text of a filter, twice as long within JSON, lists of 4 bytes, segments with masks of
4 KiB, and a point, all but the filter a third more as text, are 5.0 MB of those 6 MB."""
SHARE_BYTES_MAX = 512 << 20
"""Lists that one task may be of: a shard has them in memory at once."""
HIT = np.dtype([("coarse", "<f4"), ("fine", "<f4"), ("row", "<u4"), ("location", LOCATION_ROW)])
_UID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_SEGMENT = re.compile(r"[0-9]{16}-[0-9a-f]{32}", re.ASCII)
_MISTAKES = (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)


class TaskInvalid(ValueError):
    """What a shard was handed is no task, or one of another version; the message quotes nothing of it."""


class ResultInvalid(ValueError):
    """What a shard answered is not the result of its task, or one of another version."""


@dataclass(frozen=True, slots=True, eq=False)
class Portion:
    """Some lists of one segment: their numbers uint32 [n], rising, none of them empty."""

    info: CompactedInfo
    lists: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class ShardTask:
    """The best `count` rows by the coarser query for `point` (float32 [d], see `as_point`), of each of some portions.

    Rows that are masked, or do not satisfy the condition, do not count.
    """

    uid: str
    point: np.ndarray
    condition: Condition | None
    count: int
    portions: tuple[Portion, ...]

    def to_fields(self) -> dict[str, object]:
        """JSON members."""
        return {
            "version": VERSION,
            "uid": self.uid,
            "point": _text(self.point),
            "filter": None if self.condition is None else self.condition.text,
            "count": self.count,
            "portions": [[portion.info.to_fields(), _text(portion.lists)] for portion in self.portions],
        }

    @classmethod
    def from_fields(cls, document: object) -> ShardTask:
        """The task of JSON members; raises TaskInvalid."""
        if not isinstance(document, Mapping) or "portions" not in document:
            raise TaskInvalid("not a task of a shard")
        if document.get("version") != VERSION:
            raise TaskInvalid(f"this shard takes tasks of version {VERSION}, and was given another")
        try:
            text = document["filter"]
            task = cls(
                document["uid"],
                _array(document["point"], np.dtype("<f4")),
                None if text is None else Condition.from_text(text),
                document["count"],
                tuple(Portion(_info(info), _array(lists, np.dtype("<u4"))) for info, lists in document["portions"]),
            )
            faults = [fault for fault, found in _faults(task) if found]
        except _MISTAKES:
            raise TaskInvalid(f"not a task of version {VERSION}") from None
        if faults:
            raise TaskInvalid(faults[0])
        return task


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """What came of a portion: how many code rows were scored, and the best as HIT [n], best first."""

    rows: int
    hits: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class ShardResult:
    """What came of a task; and what it took: `gets` of each wave, bytes read, and reads sent again."""

    scored: tuple[Scored, ...]
    tally: Tally
    gets: tuple[int, ...]
    bytes_read: int
    hedges: int

    def to_fields(self) -> dict[str, object]:
        """JSON members."""
        return {
            "version": VERSION,
            "scored": [[one.rows, _text(one.hits)] for one in self.scored],
            "tally": list(astuple(self.tally)),
            "gets": list(self.gets),
            "bytes": self.bytes_read,
            "hedges": self.hedges,
        }

    @classmethod
    def from_fields(cls, document: Mapping[str, Any], task: ShardTask) -> ShardResult:
        """The result of JSON members; raises ResultInvalid where it cannot be that of the task."""
        if document.get("version") != VERSION:
            raise ResultInvalid(f"it answers in another version than {VERSION}")
        try:
            scored = tuple(Scored(_count(rows), _array(hits, HIT)) for rows, hits in document["scored"])
            for portion, one in zip(task.portions, scored, strict=True):
                if not _is_result(one, task.count, portion.info.rows):
                    raise ResultInvalid("it answers something else than it was asked")
            tally = Tally(*map(_count, document["tally"]))
            gets = tuple(map(_count, document["gets"]))
            return cls(scored, tally, gets, _count(document["bytes"]), _count(document["hedges"]))
        except ResultInvalid:
            raise
        except _MISTAKES:
            raise ResultInvalid(f"it answers with no result of version {VERSION}") from None


def _text(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode()


def _array(text: str, dtype: np.dtype[Any]) -> np.ndarray:
    """The array of such a text; raises TypeError, ValueError."""
    return np.frombuffer(base64.b64decode(text, validate=True), dtype)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**53:
        raise ValueError("no count")
    return value


def _info(document: Any) -> CompactedInfo:
    info = CompactedInfo.from_fields(document)
    names = [info.name] if not info.mask.reference else [info.name, info.mask.reference]
    if not all(_SEGMENT.fullmatch(name) for name in names):
        raise ValueError("no name of a segment")
    if not (1 <= _count(info.rows) <= ROWS_MAX and _count(info.mask.count) <= info.rows):
        raise ValueError("no segment")
    return info


def _faults(task: ShardTask) -> list[tuple[str, bool]]:
    """What may be wrong with a task whose members have their types, and whether it is."""
    point, portions = task.point, task.portions
    return [
        ("the index of the task has no uid", not _UID.fullmatch(task.uid)),
        ("the point of the task is none", not 1 <= len(point) <= DIMENSION_MAX or not bool(np.isfinite(point).all())),
        ("the task names too many segments, or none", not 1 <= len(portions) <= PORTIONS_MAX),
        ("the task asks for too many rows, or none", not 1 <= _count(task.count) * len(portions) <= HITS_MAX),
        ("lists of the task do not rise", any(not _rise(portion.lists) for portion in portions)),
    ]


def _rise(lists: np.ndarray) -> bool:
    return 0 < len(lists) <= LISTS_MAX and bool(np.all(lists[1:] > lists[:-1]))


def _is_result(scored: Scored, count: int, rows: int) -> bool:
    hits = scored.hits
    return (
        len(hits) <= min(count, scored.rows)
        and bool(np.all(hits["row"] < rows))
        and bool(np.isfinite(hits["coarse"]).all() and np.isfinite(hits["fine"]).all())
        and bool(np.all(hits["coarse"][1:] <= hits["coarse"][:-1]))
    )
