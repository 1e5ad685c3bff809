"""Upkeep as functions: events that ask for compaction and collection, and what becomes of them.

A platform may hand over an event twice, end a function at any moment, or freeze it: jobs lose nothing by that.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Protocol
from urllib.parse import unquote_plus

from neve.compaction.collect import collect
from neve.compaction.compact import FAILURES
from neve.compaction.names import index_names
from neve.compaction.within import Limits, OutOfTime, compact_within, cores_and_memory
from neve.dataclass import dataclass
from neve.errors import IndexNotFound, NeveError
from neve.index.database import Database
from neve.index.paths import named_by_hint
from neve.runtime import SystemRuntime
from neve.store.connect import connect
from neve.wire.event import EventInvalid
from neve.wire.function import settings_of

_SCHEDULES = ("aws.events", "aws.scheduler")


class JobFailed(NeveError):
    """Something is left undone that the next event may mend; a line for each index, with its reason."""


class InvocationContext(Protocol):
    """What Lambda hands over beside an event, as far as jobs look at it."""

    def get_remaining_time_in_millis(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """What an event asks for: some indexes, None for all; `directly` if whether it is due does not matter."""

    indexes: Sequence[tuple[str, str]] | None = None
    directly: bool = False


class Jobs:
    """The jobs of one function. Its store is opened by the first event."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Raises Unstartable."""
        self._settings = settings_of(environment)
        self._database: Database | None = None
        # A function has no home; below the folder for temporary files is room that outlives an event.
        os.environ.setdefault("NEVE_CACHE", str(Path(gettempdir()) / "neve"))

    def compact(self, event: object, context: InvocationContext) -> dict[str, object]:
        """Compact what an event asks for, as far as time allows: what was done, and the index where it stopped.

        Raises EventInvalid, and JobFailed when all that could be done has been.
        """
        limits = Limits.here(lambda: context.get_remaining_time_in_millis() / 1000, *cores_and_memory())
        asked = asked_of(event)
        told: dict[str, object] = {"compacted": (done := [])}
        failures: list[str] = []
        try:
            database = self._opened()
            for bucket, index in _in_any_order(database, asked.indexes):
                try:
                    found = compact_within(database, bucket, index, self._settings.store, limits, asked=asked.directly)
                    if found is not None:
                        done.append({"index": f"{bucket}/{index}", **asdict(found)})
                except IndexNotFound as error:
                    if asked.directly:  # else it was dropped since the event
                        failures.append(str(error))
                except OutOfTime:
                    told["stoppedAt"] = f"{bucket}/{index}"
                    break
                except FAILURES as error:
                    failures.append(f"{bucket}/{index}: {error}")
        except NeveError as error:
            failures.append(str(error))
        if failures:
            raise JobFailed("\n".join(failures))
        return told

    def collect(self) -> dict[str, object]:
        """Collect the store, whatever asks for it: how many objects of each kind were deleted. Raises JobFailed."""
        try:
            found = asdict(collect(self._opened()))
        except NeveError as error:
            raise JobFailed(str(error)) from None
        if left := found.pop("left"):
            raise JobFailed("\n".join(left))
        return found

    def _opened(self) -> Database:
        if self._database is None:
            self._database = Database.open(connect(self._settings.store), SystemRuntime())
        return self._database


def asked_of(event: object) -> Asked:
    """What an event asks to be compacted; raises EventInvalid.

    {"bucket": …, "index": …}; a notification of S3, whose keys of hints name what has changed; a schedule, or {}: all.
    """
    if not isinstance(event, Mapping):
        raise EventInvalid("the event is not an object")
    if "bucket" in event or "index" in event:
        bucket, index = event.get("bucket"), event.get("index")
        if set(event) != {"bucket", "index"} or not (isinstance(bucket, str) and isinstance(index, str)):
            raise EventInvalid('an event that names an index is {"bucket": "…", "index": "…"}')
        return Asked([(bucket, index)], directly=True)
    if "Records" in event:
        return Asked(list(dict.fromkeys(_notified(event["Records"]))))
    if event.get("Event") == "s3:TestEvent":  # sent once, when notifications are set up
        return Asked([])
    if not event or event.get("source") in _SCHEDULES:
        return Asked()
    raise EventInvalid('not a schedule, a notification of S3, or {"bucket": "…", "index": "…"}')


def _notified(records: Any) -> Iterable[tuple[str, str]]:
    """Bucket and name of the indexes whose hints some records tell of; other keys say nothing that is not there too."""
    try:
        keys = [record["s3"]["object"]["key"] for record in records]
        named = [named_by_hint(unquote_plus(key)) for key in keys]
    except (LookupError, TypeError, AttributeError):
        raise EventInvalid("a record of the event is not that of an object of S3") from None
    return [index for index in named if index is not None]


def _in_any_order(database: Database, indexes: Sequence[tuple[str, str]] | None) -> list[tuple[str, str]]:
    """What is named, or all: in another order each time, so that none is always the one that time runs out over."""
    names = index_names(database) if indexes is None else indexes
    return sorted(names, key=lambda _: database.runtime.uniform(0, 1))
