"""Rows of a source that an index cannot hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

import orjson


@dataclass(frozen=True, slots=True)
class Reject:
    """One row, counted from 0 in its file (in JSONL: the byte at which its line begins), and what is wrong with it."""

    url: str
    row: int
    key: str | None
    reason: str

    def to_fields(self) -> list[str | int | None]:
        return [self.url, self.row, self.key, self.reason]

    @classmethod
    def from_fields(cls, fields: Sequence[str | int | None]) -> Reject:
        """Raises ValueError on what is none."""
        url, row, key, reason = fields
        return cls(str(url), int(row or 0), None if key is None else str(key), str(reason))


class RejectLog:
    """Counts rejects by reason, and writes them to a file where one is given, one JSON object a line."""

    def __init__(self, path: Path | None = None) -> None:
        """Raises OSError."""
        self.reasons: Counter[str] = Counter()
        self._file: IO[bytes] | None = None if path is None else path.open("wb")

    @property
    def count(self) -> int:
        return self.reasons.total()

    def add(self, rejects: Sequence[Reject]) -> None:
        """Raises OSError."""
        self.reasons.update(reject.reason for reject in rejects)
        if self._file is not None:
            self._file.writelines(orjson.dumps(reject, option=orjson.OPT_APPEND_NEWLINE) for reject in rejects)

    def __enter__(self) -> RejectLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
