"""A client of the engine in the simulation: every operation, with what it promised and what it showed, on record."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import orjson

from neve.compaction.build import Progress
from neve.errors import (
    BucketExists,
    BucketNotEmpty,
    BucketNotFound,
    ImportOpen,
    IndexExists,
    IndexNotFound,
    NeveError,
    ObjectGone,
    OutcomeUnknown,
    PageTokenInvalid,
    Refused,
)
from neve.index.consistency import STRONG, Consistency
from neve.index.database import Database
from neve.index.entry import Write
from neve.index.grace import GRACE
from neve.index.records import Encryption, IndexConfig
from neve.index.state import State
from neve.query.search import Query
from neve.segments.rows import Puts
from neve.testing.simulation import Process, Simulation
from neve.vectors.metric import Metric
from tests.importing import Given, import_in
from tests.reading import everything, nearest
from tests.sim.history import SOMETHING, Change, History, Outcome, Violation

KEYS = tuple(f"k{number}" for number in range(6))
CONFIG = IndexConfig(2, Metric.EUCLIDEAN, None, Encryption())
QUOTA = 100


@dataclass(frozen=True, slots=True)
class Sighting:
    """A state of an index as some read showed it."""

    uid: str
    manifest: int
    position: int
    begun_s: float
    ended_s: float
    strong: bool
    creation: str
    values: Mapping[str, str | None]


@dataclass(slots=True, eq=False)
class Load:
    """A source, and the change that importing it is; a process that fails leaves it to the next one to go on."""

    rows: Given
    change: Change
    tries: int = 0
    under_way: int = 0
    outcomes: set[Outcome] = field(default_factory=set)

    def begin(self) -> None:
        self.change.repeated |= self.tries > 0
        self.tries += 1
        self.under_way += 1
        self.change.end(Outcome.PENDING, math.inf)

    def end(self, outcome: Outcome, now_s: float) -> None:
        """One try has ended; of all of them together the least is known."""
        self.under_way -= 1
        self.outcomes.add(outcome)
        if not self.under_way:
            worst = next(one for one in (Outcome.UNKNOWN, Outcome.DONE, Outcome.REFUSED) if one in self.outcomes)
            self.change.end(worst, now_s)

    @property
    def is_done(self) -> bool:
        return self.change.outcome is Outcome.DONE


@dataclass(slots=True)
class Record:
    """Everything that the clients of one run did and saw."""

    simulation: Simulation
    history: History = field(default_factory=History)
    sightings: list[Sighting] = field(default_factory=list)
    creations: dict[str, Change] = field(default_factory=dict)
    loads: dict[str, Load] = field(default_factory=dict)
    """The last one of each index."""
    outcomes: Counter[str] = field(default_factory=Counter)
    values: int = 0

    def fresh_value(self) -> str:
        self.values += 1
        return f"v{self.values}"


def registers(bucket: str, index: str) -> dict[str, str | None]:
    """Everything that a name may hold, empty: what a drop leaves."""
    name = f"{bucket}/{index}"
    return {name: None, f"{name}#tags": None, **{f"{name}:{key}": None for key in KEYS}}


def contents(database: Database, state: State) -> dict[str, str]:
    """Key → value of the live rows of a state; raises Violation where a key lives twice, or a search lacks one."""
    rows = everything(database, state)
    found = {row.key: orjson.loads(row.metadata)["v"] for row in rows}
    if len(found) != len(rows):
        raise Violation(f"a key lives twice in one state: {[row.key for row in rows]}")
    if state.compacted:
        hits = nearest(database, state, Query(np.ones(CONFIG.dimension, np.float32), 1000))
        if {key: orjson.loads(raw)["v"] for key, _, raw in hits} != found or len(hits) != len(found):
            raise Violation(f"a search finds {hits}, a listing {found}")
    return found


class Client:
    """The engine in one process, used by several tasks."""

    def __init__(self, record: Record, process: Process, database: Database, *, strict: bool = False) -> None:
        """`strict`: in a world without faults only refusals are answers; anything else is raised."""
        self.database = database
        self._strict = strict
        self._record = record
        self._simulation = record.simulation
        self._history = record.history
        self.process = process
        self._open: list[Change] = []
        self._loading: list[Load] = []

    def died(self) -> None:
        """The process has ended: what was under way may have happened, but nobody will begin it anew."""
        for change in self._open:
            change.end(Outcome.UNKNOWN, self._simulation.now_s)
        for load in self._loading:
            load.end(Outcome.UNKNOWN, self._simulation.now_s)

    def sleep(self, seconds: float) -> None:
        self.process.runtime.sleep(seconds)

    def keep(self, task: Callable[[Database], object], name: str) -> None:
        """Do upkeep, which no client sees; a failure is put on record."""
        try:
            task(self.database)
        except Refused:
            self._count(name, "refused")
        except NeveError as error:
            self._fault(name, error)
        else:
            self._count(name, "done")

    # Changes

    def write(self, bucket: str, index: str, puts: list[str], deletes: list[str], *, again: bool) -> Outcome:
        """Put and delete keys; `again`: a write of unknown outcome is repeated with the SDK's id, as the SDKs do."""
        name = f"{bucket}/{index}"
        values = {key: self._record.fresh_value() for key in puts}
        change = self._begin(
            f"write {name}", {f"{name}:{k}": v for k, v in values.items()} | {f"{name}:{k}": None for k in deletes}
        )
        rows = Puts(
            puts,
            np.full((len(puts), 2), float(len(self._history.changes)), np.float32),
            [orjson.dumps({"v": values[key]}) for key in puts],
        )
        call = self.process.runtime.token()
        handle = self.database.index(bucket, index)
        outcome = self._change(change, lambda: handle.write(lambda _: Write(rows, deletes), call))
        if again and outcome is Outcome.UNKNOWN:
            change.repeated = True
            self.sleep(self.process.runtime.uniform(0, 1))
            if self._change(change, lambda: handle.write(lambda _: Write(rows, deletes), call)) is Outcome.REFUSED:
                outcome = Outcome.UNKNOWN  # the repeat was refused, the first try may stand
            else:
                outcome = change.outcome
        self._end(change, outcome)
        return outcome

    def new_load(self, bucket: str, index: str, keys: Sequence[str]) -> Load:
        """A source that has a row for each of some keys; of those of one key the last counts."""
        name = f"{bucket}/{index}"
        values = [self._record.fresh_value() for _ in keys]
        change = self._history.begin(
            f"{self.process.name}'s import into {name}",
            self._simulation.now_s,
            {f"{name}:{key}": value for key, value in zip(keys, values, strict=True)},
        )
        vector = (float(len(self._history.changes)),) * CONFIG.dimension
        items = [(key, vector, orjson.dumps({"v": value})) for key, value in zip(keys, values, strict=True)]
        load = self._record.loads[name] = Load(Given(items, CONFIG.dimension, values[0]), change)
        return load

    def load(self, bucket: str, index: str, load: Load, machine: Path, progress: Progress) -> Outcome:
        """Import, or go on with it."""

        def told(stage: str, done: int, total: int) -> None:
            if load.change.stands_by_s == math.inf:
                load.change.stands_by_s = self._simulation.now_s
            progress(stage, done, total)

        load.begin()
        self._loading.append(load)
        self._simulation.note(f"{self.process.name} goes on with {load.change.name}: {load.change.values}")
        outcome, answer = Outcome.DONE, "done"
        try:
            import_in(self.database, machine, bucket, index, load.rows, progress=told)
        except ImportOpen as error:
            outcome, answer = Outcome.REFUSED, repr(error)
        except NeveError as error:
            outcome, answer = Outcome.UNKNOWN, repr(error)
        if self._strict and outcome is not Outcome.DONE:
            raise Violation(f"{load.change.name} in a world without faults: {answer}")
        self._loading.remove(load)
        load.end(outcome, self._simulation.now_s)
        self._count("import", answer.split("(")[0])
        self._simulation.note(f"{load.change.name}: {answer}")
        return outcome

    def tag(self, bucket: str, index: str) -> None:
        value = self._record.fresh_value()
        change = self._begin(f"tag {bucket}/{index}", {f"{bucket}/{index}#tags": value})
        handle = self.database.index(bucket, index)
        self._end(change, self._change(change, lambda: handle.tag(lambda tags: {**tags, "t": value})))

    def create_index(self, bucket: str, index: str) -> None:
        name = f"{bucket}/{index}"
        value = self._record.fresh_value()
        change = self._begin(f"create {name}", {name: value})
        self._record.creations[value] = change
        self._end(
            change,
            self._change(
                change,
                lambda: self.database.create_index(bucket, index, CONFIG, {"c": value}, quota=QUOTA),
                half_way=True,
            ),
        )
        if change.outcome is Outcome.DONE:
            self._observe(change, {bucket: SOMETHING})

    def drop_index(self, bucket: str, index: str) -> None:
        change = self._begin(f"drop {bucket}/{index}", registers(bucket, index))
        self._end(change, self._change(change, lambda: self.database.delete_index(bucket, index)))

    def create_bucket(self, bucket: str) -> None:
        value = self._record.fresh_value()
        change = self._begin(f"create {bucket}", {bucket: value})
        self._end(
            change,
            self._change(change, lambda: self.database.create_bucket(bucket, Encryption(), {"c": value}, quota=QUOTA)),
        )

    def tag_bucket(self, bucket: str) -> None:
        value = self._record.fresh_value()
        change = self._begin(f"tag {bucket}", {f"{bucket}#tags": value})
        self._end(
            change, self._change(change, lambda: self.database.tag_bucket(bucket, lambda tags: {**tags, "t": value}))
        )

    def drop_bucket(self, bucket: str, indexes: tuple[str, ...]) -> None:
        change = self._begin(f"drop {bucket}", {bucket: None, f"{bucket}#tags": None})
        self._end(change, self._change(change, lambda: self.database.delete_bucket(bucket), half_way=True))
        if change.outcome is Outcome.DONE:
            self._observe(change, {f"{bucket}/{index}": None for index in indexes})

    # Reads

    def read(self, bucket: str, index: str, bounded_s: float | None = None) -> State | None:
        """A state, checked in itself and put on record; None where there is none to be had."""
        name = f"{bucket}/{index}"
        begun_s = self._simulation.now_s
        title = f"{self.process.name} reads {name}"
        fresh_s = math.nan if bounded_s is None else begun_s - bounded_s
        consistency = STRONG if bounded_s is None else Consistency(bounded_s)
        try:
            state = self.database.index(bucket, index).read(consistency)
        except IndexNotFound:
            self._history.observe(title, begun_s, self._simulation.now_s, registers(bucket, index), fresh_s)
            self._count("read", "IndexNotFound")
            return None
        except NeveError as error:
            self._fault("read", error)
            return None
        self._count("read", "found")
        ended_s = self._simulation.now_s
        found = self._contents(name, state, begun_s if bounded_s is None else math.nan)
        if found is not None:
            self._see(name, state, found, (begun_s, ended_s), bounded_s is None, title, fresh_s)
        return state

    def _contents(self, name: str, state: State, newest_s: float) -> dict[str, str] | None:
        """The rows of a state, which was the newest at some moment after `newest_s`, if that is known.

        Immutable as they are, they can all be read for a grace period from then on.
        """
        try:
            return contents(self.database, state)
        except ObjectGone as error:
            self._count("content", "ObjectGone")
            if self._simulation.now_s - newest_s < GRACE.segments_s / 2:
                raise Violation(f"rows of {name} at {state.position} have gone before their time: {error}") from error
        except NeveError as error:
            self._fault("content", error)
        return None

    def read_again(self, bucket: str, index: str, state: State, seen_s: float) -> None:
        """The very state that a token names, seen first at `seen_s`; raises Violation on another one."""
        try:
            token = (state.uid, state.manifest, state.position, state.arrangement())
            again = self.database.index(bucket, index).read_at(*token)
        except (PageTokenInvalid, IndexNotFound) as error:
            self._count("token", type(error).__name__)
            if isinstance(error, PageTokenInvalid) and self._simulation.now_s - seen_s < GRACE.segments_s / 2:
                raise Violation(f"the token of {bucket}/{index} did not hold: {error}") from error
            return
        except NeveError as error:
            self._fault("token", error)
            return
        self._count("token", "found")
        before, after = (self._contents(f"{bucket}/{index}", one, seen_s) for one in (state, again))
        if (
            (None not in (before, after) and (before != after))
            or again.uid != state.uid
            or again.position != state.position
        ):
            raise Violation(f"the token of {bucket}/{index} at {state.position} names another state now")

    def read_bucket(self, bucket: str) -> None:
        begun_s = self._simulation.now_s
        values: dict[str, str | None] = {bucket: None, f"{bucket}#tags": None}
        try:
            tags = self.database.bucket(bucket).tags
            values = {bucket: tags["c"], f"{bucket}#tags": tags.get("t")}
        except BucketNotFound:
            self._count("bucket", "BucketNotFound")
        except NeveError as error:
            self._fault("bucket", error)
            return
        else:
            self._count("bucket", "found")
        self._history.observe(f"{self.process.name} reads {bucket}", begun_s, self._simulation.now_s, values)

    def list_indexes(self, bucket: str, indexes: tuple[str, ...]) -> None:
        """A listing may still show an index whose drop the catalog does not know of; it lacks none that exists."""
        begun_s = self._simulation.now_s
        try:
            records, _ = self.database.list_indexes(bucket, "", "", 50)
        except BucketNotFound:
            self._count("list", "BucketNotFound")
            return
        except NeveError as error:
            self._fault("list", error)
            return
        self._count("list", "found")
        shown = {record.name for record in records}
        lacking: dict[str, str | None] = {f"{bucket}/{index}": None for index in indexes if index not in shown}
        title = f"{self.process.name} lists {bucket}"
        self._history.observe(title, begun_s, self._simulation.now_s, {bucket: SOMETHING, **lacking})

    # How

    def _begin(self, name: str, values: Mapping[str, str | None]) -> Change:
        number = len(self._history.changes)
        change = self._history.begin(f"{self.process.name}'s {number} {name}", self._simulation.now_s, values)
        self._open.append(change)
        if self._simulation.trace is not None:
            self._simulation.note(f"{change.name} begins: {change.values}")
        return change

    def _end(self, change: Change, outcome: Outcome) -> None:
        change.end(outcome, self._simulation.now_s)
        self._open.remove(change)

    def _change(self, change: Change, ask: Callable[[], object], *, half_way: bool = False) -> Outcome:
        """Ask for a change and say what is known of it; an operation of several steps may fail `half_way`."""
        words = change.name.split(" ", 2)[2]
        outcome, answer = Outcome.DONE, "done"
        try:
            ask()
        except OutcomeUnknown as error:
            outcome, answer = Outcome.UNKNOWN, repr(error)
        except (IndexNotFound, BucketNotFound, IndexExists, BucketExists, BucketNotEmpty) as error:
            outcome, answer = Outcome.REFUSED, repr(error)
            self._observe_refusal(change, words, error)
        except NeveError as error:
            outcome, answer = Outcome.UNKNOWN if half_way else Outcome.REFUSED, repr(error)
        if self._strict and outcome is Outcome.UNKNOWN:
            raise Violation(f"{change.name} in a world without faults: {answer}")
        self._count(words.split(" ")[0], answer.split("(")[0])
        self._simulation.note(f"{change.name}: {answer}")
        change.outcome = outcome
        return outcome

    def _observe_refusal(self, change: Change, words: str, error: NeveError) -> None:
        """What a refusal tells: the name was there, or it was not."""
        name = words.split(" ")[1]
        bucket = name.split("/")[0]
        match error:
            case IndexNotFound():
                self._observe(change, {name: None})
            case BucketNotFound():
                self._observe(change, {bucket: None})
            case IndexExists() | BucketExists() if not self._rivals(change, name):
                self._observe(change, {name: SOMETHING})

    def _rivals(self, change: Change, name: str) -> bool:
        """Whether someone else is about to create the name: who loses to him is refused, even if he fails later."""
        return any(
            other.values.get(name) is not None and other is not change and other.returned_s >= change.begun_s
            for other in self._history.changes
        )

    def _observe(self, change: Change, values: Mapping[str, str | None]) -> None:
        self._history.observe(f"answer to {change.name}", change.begun_s, self._simulation.now_s, values)

    def _see(
        self,
        name: str,
        state: State,
        found: Mapping[str, str],
        span_s: tuple[float, float],
        strong: bool,
        title: str,
        fresh_s: float,
    ) -> None:
        begun_s, ended_s = span_s
        creation = state.record.tags["c"]
        values: dict[str, str | None] = {name: creation, f"{name}#tags": state.tags.get("t")}
        values |= {f"{name}:{key}": found.get(key) for key in KEYS}
        if state.digest() != state.base.live_digest and not state.tail:
            raise Violation(f"{title}: the live set of manifest {state.manifest} is not the one that it was made of")
        self._history.observe(f"{title} at {state.position}", begun_s, ended_s, values, fresh_s)
        self._record.sightings.append(
            Sighting(state.uid, state.manifest, state.position, begun_s, ended_s, strong, creation, values)
        )
        self._simulation.note(f"{title} at {state.manifest}/{state.position}: {values}")

    def _fault(self, operation: str, error: NeveError) -> None:
        self._simulation.note(f"{self.process.name} {operation}: {error!r}")
        if self._strict:
            raise Violation(f"{operation} in a world without faults") from error
        self._count(operation, type(error).__name__)

    def _count(self, operation: str, outcome: str) -> None:
        self._record.outcomes[f"{operation} {outcome}"] += 1
