"""Protocols that are wrong in one point each, those of design §5: every one must be caught, and a test sees to that.

Where chance finds the weakness soon, it does, by the seeds of a setting that provokes it; else a scenario by hand does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import numpy as np

from neve.compaction import collect as collection
from neve.compaction import compact as compaction
from neve.compaction.build import NewSegment
from neve.compaction.plan import Plan
from neve.errors import OutcomeUnknown, StoreUnavailable
from neve.index import append, fold, held, index, manifest, paths
from neve.index.chain import list_all
from neve.index.grace import Grace
from neve.index.index import Index
from neve.index.manifest import CompactedInfo, Manifest
from neve.index.reader import Ahead, Known
from neve.index.records import IndexRecord
from neve.index.state import Compacted, State
from neve.runtime import Instant, Runtime
from neve.segments import directory
from neve.segments.directory import Directory
from neve.segments.rows import Keys, live_masks, merge_keys
from neve.store import create
from neve.store.envelope import unseal
from neve.store.port import Created, Failed, Get, PutNew, Reply, Store, Unknown, body
from neve.testing.faults import CALM, FaultPlan
from neve.transfer.attach import Finish
from tests.sim import directed, directed_imports
from tests.sim.setting import Setting
from tests.sim.world import run

BUSY = Setting(
    faults=CALM,
    crew={
        "writer-a": (("write", 40),),
        "writer-b": (("write", 40),),
        "reader": (("read", 60),),
        "keeper": (("fold", 40), ("collect", 40)),
        "other-keeper": (("collect", 30),),
    },
    names=1,
    fold_entries=3,
    short=0.4,
)
"""One busy index and much upkeep, without a fault."""

SLOW = replace(
    BUSY,
    faults=FaultPlan(slow=0.2, slow_s=(5, 1_500)),
    crew={
        "writer-a": (("write", 60),),
        "writer-b": (("write", 60),),
        "reader": (("read", 60), ("read", 60), ("read", 60)),
        "keeper": (("fold", 40), ("collect", 80)),
        "other-keeper": (("fold", 40), ("collect", 80)),
    },
    short=0.8,
    clocks_s=(3600, 3600),
)
"""The same with a network that takes its time, and clocks that run ahead."""

LOSSY = replace(
    BUSY, faults=FaultPlan(lost_request=0.03, lost_reply=0.05, late=0.1, late_s=(10, 400), kill=0.002), short=0.2
)
"""The same with replies that never come and requests that come late."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A change of the protocol, and what goes wrong with it: a scenario that raises, but not with the real protocol."""

    name: str
    changed: Callable[[], ExitStack]
    scenario: Callable[[], None]

    @contextmanager
    def alive(self) -> Iterator[None]:
        with self.changed():
            yield


def seeds(setting: Setting, count: int) -> Callable[[], None]:
    """The scenario of that many seeds of a setting."""

    def play() -> None:
        for seed in range(count):
            run(seed, setting)

    return play


def _changed(*changes: tuple[object, str, Any]) -> Callable[[], ExitStack]:
    def enter() -> ExitStack:
        stack = ExitStack()
        for target, name, value in changes:
            stack.enter_context(patch.object(target, name, value))
        return stack

    return enter


def settle_absent_as_failed(store: Store, runtime: Runtime, put: PutNew, reply: Reply, sent: Instant) -> bytes | None:
    """After a lost reply a 404 is taken for "not written": the request may still be under way."""
    match reply:
        case Created():
            return None
        case Failed(error):
            raise error
    found = body(store.wave([Get(put.key)])[0])
    if found is None:
        raise StoreUnavailable(f"{put.key} was not written")
    return None if found == put.body else found


def settle_any_as_ours(store: Store, runtime: Runtime, put: PutNew, reply: Reply, sent: Instant) -> bytes | None:
    """After a lost reply whatever is there is taken for ours."""
    if not isinstance(reply, Unknown):
        return real_settle(store, runtime, put, reply, sent)
    found = body(store.wave([Get(put.key)])[0])
    return None if found is not None else real_settle(store, runtime, put, reply, sent)


real_settle = create.settle


def commit_old_plan(
    store: Store, runtime: Runtime, record: IndexRecord, parent: Manifest, planned: Manifest, directories: Any
) -> bool:
    """Who loses the race of a commit puts the segment of the old plan under the new manifest, masks and all."""
    if real_commit(store, runtime, record, parent, planned, directories):
        return True
    newest = max(n for e in list_all(store, paths.manifest_folder(record.uid)) if (n := paths.manifest_number(e.key)))
    found = body(store.wave([Get(paths.manifest(record.uid, newest))])[0])
    if found is None:
        return False
    rival = manifest.decode("rival", found)
    old = {segment.name for segment in parent.segments}
    ours = tuple(segment for segment in planned.segments if segment.name not in old)
    merged = old - {segment.name for segment in planned.segments}
    kept = tuple(segment for segment in rival.segments if segment.name not in merged)
    carried = replace(
        rival, number=newest + 1, write_id=runtime.token(), parent=rival.write_id, folded=(), segments=(*kept, *ours)
    )
    return real_commit(store, runtime, record, rival, carried, directories)


real_commit = fold.commit


def fold_with_settings_of_parent(store: Store, runtime: Runtime, state: State) -> State | None:
    """Settings live in manifests: a fold keeps those of the manifest it follows."""
    return real_fold(store, runtime, replace(state, tags=state.base.tags))


real_fold = fold.fold


def fresh_joining_late(self: Index, ahead: Ahead | None = None) -> Known:
    """A reader joins a freshness wave that has been sent already."""
    flight = self._under_way
    if flight is None:
        return real_fresh(self, ahead)
    flight.landed.wait()
    if flight.error is not None:
        raise flight.error
    if flight.known is None:
        raise OutcomeUnknown("the wave that was joined brought nothing")
    return flight.known


real_fresh = Index._fresh


def records_forgotten_at_once(self: Any, chain: list[Any]) -> None:
    """The chain of a dropped name is deleted with its data, so that its numbers begin anew."""
    newest = chain[-1]
    dropped = newest.key.startswith(paths.CATALOG) and (paths.number(newest.key) or 0) % 2 == 0
    if dropped and self._age_s(newest) >= self._grace.segments_s:
        self.collected.records += self._delete([entry.key for entry in chain])


def catalog_and_absentees(self: Any) -> None:
    """Data that no catalog record names are garbage: those of an index that was created meanwhile, too."""
    named = set()
    for entry in list_all(self._store, paths.CATALOG):
        raw = body(self._store.wave([Get(entry.key)])[0])
        named.update(part for part in (raw or b"").decode(errors="replace").split('"') if len(part) == 32)
    real_catalog(self)
    for uid in {entry.key.split("/")[1] for entry in list_all(self._store, "data/")} - named:
        self._delete([entry.key for entry in list_all(self._store, paths.data_folder(uid))])


real_catalog = collection._Collector.catalog


def new_info_of_plan(self: Any, manifest: Manifest, new: NewSegment) -> CompactedInfo:
    """All rows of the inputs count, also those that a fold has merged into another segment since."""
    return real_new_info(self, replace(manifest, segments=(*manifest.segments, *self._plan.flat)), new)


real_new_info = compaction.Run._new_info


def hiding_flat_rows_alone(*arguments: Any, compacted: bool) -> Keys:
    """A fold keeps the tombstones that hide flat rows, and forgets compacted ones."""
    return real_still_hiding(*arguments, compacted=False)


def hiding_for_ever(tombstones: Any, live: Keys, kept: Any, *, compacted: bool) -> Keys:
    """A fold keeps tombstones that something newer supersedes."""
    runs = [keys for keys in tombstones if len(keys)]
    if not runs or not compacted:
        return real_still_hiding(tombstones, live, kept, compacted=compacted)
    return merge_keys([k.take(np.flatnonzero(mask)) for k, mask in zip(runs, live_masks(runs), strict=True)])[0]


real_still_hiding = fold._still_hiding


def newest_without_floor(store: Store, bucket: str, name: str) -> tuple[IndexRecord, Manifest]:
    """A compaction does not ask since when its work has been collected."""
    record, found = real_newest(store, bucket, name)
    return record, replace(found, work_floor=0)


real_newest = compaction.newest


def directory_as_told(key: str, raw: bytes, record: IndexRecord, info: CompactedInfo) -> Directory:
    """A directory is taken for that of the segment whose name it was given under."""
    envelope = unseal(key, raw)
    return directory._parse(envelope.fields, envelope.sections, paths.segment_folder(record.uid, info.name))


def holds_on_before_an_attach(self: Plan, manifest: Manifest) -> bool:
    """A compaction commits while an import may be attached at any moment."""
    return {*self.merged, *self.kept} == set(manifest.compacted)


def last_folded(recent: Sequence[Manifest]) -> int:
    """The collector deletes what was written since an import began."""
    return recent[-1].folded_to


def settled_at_once(self: Finish, state: State) -> bool:
    """An import is attached beside recent rows that are older than it."""
    if state.base.folded_to >= self._import.begun:
        return True
    fold.fold(self._store, self._runtime, state)
    return False


def nothing_overtaken(self: Finish, new: object, state: State) -> None:
    """What was written since an import began is left to hide its rows: until it is compacted."""


def nothing_replaced(self: Finish, state: State, one: Compacted, new: object) -> CompactedInfo:
    """Segments that were there before keep rows of the import's keys."""
    return one.info


MUTANTS = (
    Mutant(
        "age judged before the wave",
        _changed((Grace, "wave_s", property(lambda self: math.inf))),
        directed.writer_asleep_within_its_wave,
    ),
    Mutant(
        "grace by own clock",
        _changed((collection, "_store_now_s", lambda database: database.runtime.now().wall_s)),
        directed.writer_beside_a_collector_with_a_fast_clock,
    ),
    Mutant(
        "404 read as not written",
        _changed((create, "settle", settle_absent_as_failed), (append, "settle", settle_absent_as_failed)),
        seeds(LOSSY, 3),
    ),
    Mutant(
        "write id ignored",
        _changed((create, "settle", settle_any_as_ours), (append, "settle", settle_any_as_ours)),
        seeds(LOSSY, 8),
    ),
    Mutant("masks of the plan", _changed((fold, "commit", commit_old_plan)), seeds(SLOW, 5)),
    Mutant(
        "no work floor",
        _changed((collection, "commit", lambda *planned: True)),
        directed.old_work_on_a_new_manifest,
    ),
    Mutant(
        "catalog deleted by name",
        _changed((collection._Collector, "_superseded", records_forgotten_at_once)),
        directed.index_forgotten_by_all_but_a_writer,
    ),
    Mutant(
        "garbage by absence",
        _changed((collection._Collector, "catalog", catalog_and_absentees)),
        directed.index_made_while_collected,
    ),
    Mutant("settings in the manifest", _changed((index, "fold", fold_with_settings_of_parent)), seeds(BUSY, 3)),
    Mutant(
        "a wave joined late", _changed((Index, "_fresh", fresh_joining_late)), directed.reader_arriving_during_a_wave
    ),
    Mutant(
        "compacted segments without masks",
        _changed((compaction, "hidden", lambda *_: (np.empty(0, np.uint32), 0))),
        directed.compaction_of_overwritten_rows,
    ),
    Mutant(
        "compaction of its plan",
        _changed((Plan, "holds_on", lambda self, manifest: True)),
        directed.compaction_beside_another,
    ),
    Mutant(
        "inputs that a fold has merged",
        _changed((compaction.Run, "_new_info", new_info_of_plan)),
        directed.inputs_folded_away_under_a_compaction,
    ),
    Mutant(
        "tombstones of flat rows alone",
        _changed((fold, "_still_hiding", hiding_flat_rows_alone)),
        directed.tombstone_of_a_compacted_row,
    ),
    Mutant(
        "tombstones for ever",
        _changed((fold, "_still_hiding", hiding_for_ever)),
        directed.tombstone_older_than_a_compacted_row,
    ),
    Mutant(
        "compaction below the work floor",
        _changed((compaction, "newest", newest_without_floor)),
        directed.compaction_asleep_before_its_commit,
    ),
    Mutant(
        "directories on the hint's word",
        _changed((held, "_directory", directory_as_told)),
        directed.hint_with_anothers_directories,
    ),
    Mutant(
        "compaction of what is pending",
        _changed((Plan, "holds_on", holds_on_before_an_attach)),
        directed_imports.import_asleep_before_it_attaches,
    ),
    Mutant(
        "tombstones of attached rows alone",
        _changed((fold, "_still_hiding", hiding_flat_rows_alone)),
        directed_imports.deletion_while_an_import_is_pending,
    ),
    Mutant(
        "log collected under an import",
        _changed((collection, "_last_to_go", last_folded)),
        directed_imports.import_that_takes_days,
    ),
    Mutant(
        "import beside older recent rows",
        _changed((Finish, "_settle", settled_at_once)),
        directed_imports.import_over_older_rows,
    ),
    Mutant(
        "import over newer rows",
        _changed((Finish, "_overtake", nothing_overtaken)),
        directed_imports.import_beside_writes,
    ),
    Mutant(
        "import without masks",
        _changed((Finish, "_less_replaced", nothing_replaced)),
        directed_imports.import_over_older_rows,
    ),
)
"""The ten that the design names, then those of compaction, then those of imports."""
