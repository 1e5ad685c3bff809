"""Collection: deletes what has been superseded for longer than its grace period, by the store's own clock alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from neve.errors import NeveError, ObjectGone, StoreUnavailable
from neve.index import manifest as manifests
from neve.index import paths
from neve.index.chain import list_all
from neve.index.commit import commit
from neve.index.database import Database
from neve.index.hint import read_hint
from neve.index.manifest import Manifest
from neve.index.records import IndexRecord, decode_created, dropped_uid
from neve.store.create import create
from neve.store.envelope import seal
from neve.store.port import Delete, Entry, Get, List, PutNew, Store, body, done, listed

_DELETE_MAX = 1000


@dataclass(slots=True)
class Collected:
    """How many objects of each kind a collection deleted, and what it had to leave, with the reason."""

    log_entries: int = 0
    segments: int = 0
    jobs: int = 0
    """Of several machines, that nobody has gone on with."""
    manifests: int = 0
    records: int = 0
    dropped_indexes: int = 0
    left: list[str] = field(default_factory=list)


def collect(database: Database) -> Collected:
    """Collect a whole store. About 1 LIST for each 1,000 objects, 1 GET for each manifest of the last hour.

    Safe beside any number of readers, writers and other collectors, and after a crash at any point. An index that
    cannot be collected is named in the result and does not keep the others from it. Raises StoreError.
    """
    collector = _Collector(database, _store_now_s(database))
    collector.scratch()
    collector.buckets()
    collector.catalog()
    return collector.collected


def _store_now_s(database: Database) -> float:
    """The store's own time: LastModified of an object just created. 1 PUT, 1 LIST, 1 DELETE."""
    store, token = database.store, database.runtime.token()
    folder = f"{paths.SCRATCH}{token}/"
    key = folder + "now"
    create(store, database.runtime, PutNew(key, seal({"id": token})))
    entries = listed(store.wave([List(folder)])[0]).entries
    done(store.wave([Delete((key,))])[0])
    if not entries:  # we slept between the two, and another collector has cleared the scratch folder
        raise StoreUnavailable("the collector was too slow to learn the store's time")
    return entries[0].modified_s


class _Collector:
    def __init__(self, database: Database, now_s: float) -> None:
        self._database = database
        self._store: Store = database.store
        self._grace = database.grace
        self._now_s = now_s
        self.collected = Collected()

    def scratch(self) -> None:
        """What self-tests and collectors that died have left."""
        entries = list_all(self._store, paths.SCRATCH)
        self._delete([entry.key for entry in entries if self._age_s(entry) >= self._grace.manifests_s])

    def buckets(self) -> None:
        for chain in _chains(list_all(self._store, paths.BUCKETS)):
            self._superseded(chain)

    def catalog(self) -> None:
        """Wipe what was dropped, collect what lives, chain by chain; what is damaged is left alone, and named."""
        for chain in _chains(list_all(self._store, paths.CATALOG)):
            try:
                self._dropped(chain)
                newest = chain[-1]
                if _number(newest) % 2 == 1:
                    self._index(decode_created(newest.key, self._get(newest.key), _number(newest)))
                self._superseded(chain)
            except NeveError as error:
                self.collected.left.append(f"{chain[-1].key}: {error}")

    def _superseded(self, chain: list[Entry]) -> None:
        """Records of one chain whose successor is old enough. The last one stays, so that no number comes twice."""
        old = [entry.key for entry, after in pairwise(chain) if self._age_s(after) >= self._grace.records_s]
        self.collected.records += self._delete(old)

    def _dropped(self, chain: list[Entry]) -> None:
        """All data of each uid that a record names as dropped: again as long as the record of its creation stands."""
        for created, dropped in pairwise(chain):
            pair = _number(dropped) % 2 == 0 and _number(created) == _number(dropped) - 1
            if pair and self._age_s(dropped) >= self._grace.segments_s:
                uid = dropped_uid(dropped.key, self._get(dropped.key))
                self.collected.dropped_indexes += self._wipe(uid)

    def _wipe(self, uid: str) -> bool:
        """Delete an index: manifests before the log, and its first entry before the others.

        So a log that still shows entries but no manifest and no first entry is known to be half wiped.
        """
        keys = [entry.key for entry in list_all(self._store, paths.data_folder(uid))]
        log = [key for key in keys if key.startswith(paths.log_folder(uid))]
        self._delete(key for key in keys if key not in set(log))
        self._delete(key for key in log if key == paths.log_entry(uid, 1))
        self._delete(log)
        return bool(keys)

    def _index(self, record: IndexRecord) -> None:
        """One live index: log entries and segments superseded by the newest manifest that is older than the grace."""
        listing = list(list_all(self._store, paths.data_folder(record.uid)))
        stored = {n: entry for entry in listing if (n := _manifest_number(record.uid, entry)) is not None}
        jobs = self._jobs(listing)
        if not stored:
            return
        recent = self._recent_chain(record.uid, stored)
        oldest = recent[-1]
        if self._age_s(stored[oldest.number]) >= self._grace.segments_s:
            self._segments(record, listing, recent, jobs)
            log = paths.log_folder(record.uid)
            last = _last_to_go(recent)
            folded = [e.key for e in listing if e.key.startswith(log) and _number(e) <= last]
            self.collected.log_entries += self._delete(folded)
        numbers = sorted(stored)
        old = [
            stored[number].key
            for number, after in pairwise(numbers)
            if self._age_s(stored[after]) >= self._grace.manifests_s
        ]
        self.collected.manifests += self._delete(old)

    def _recent_chain(self, uid: str, stored: Mapping[int, Entry]) -> list[Manifest]:
        """From the newest manifest by parent ids down to the first that is older than the grace, as far as it goes."""
        chain: list[Manifest] = []
        number = max(stored)
        while number in stored:
            key = paths.manifest(uid, number)
            manifest = manifests.decode(key, self._get(key))
            if chain and chain[-1].parent != manifest.write_id:
                break
            chain.append(manifest)
            if self._age_s(stored[number]) >= self._grace.segments_s:
                break
            number -= 1
        return chain

    def _jobs(self, listing: list[Entry]) -> list[int]:
        """The manifests that jobs of several machines were planned on; one that nobody has touched for long goes."""
        files: dict[str, list[Entry]] = defaultdict(list)
        for entry in listing:
            if (job := paths.job_of(entry.key)) is not None:
                files[job].append(entry)
        dead = [job for job in files if min(map(self._age_s, files[job])) >= self._grace.manifests_s]
        self._delete(entry.key for job in dead for entry in files[job])
        self.collected.jobs += len(dead)
        return [paths.segment_planned_on(job) for job in files if job not in dead]

    def _segments(self, record: IndexRecord, listing: list[Entry], recent: list[Manifest], jobs: Sequence[int]) -> None:
        """Segments that no recent manifest names, once the work floor keeps commits from naming them.

        What has been uploaded since an import or a job of several machines began stays while that goes on: it may take
        days to name it.
        """
        newest = recent[0]
        floor = min([recent[-1].number, *(one.since for one in newest.imports), *jobs])
        named = {name for manifest in recent for name in manifest.folders}
        folder = paths.segments_folder(record.uid)
        files: dict[str, list[str]] = defaultdict(list)
        for entry in listing:
            if entry.key.startswith(folder):
                files[entry.key[len(folder) :].split("/", 1)[0]].append(entry.key)
        doomed = [name for name in files if name not in named and paths.segment_planned_on(name) < floor]
        if not doomed:
            return
        if newest.work_floor < floor:
            token = self._database.runtime.token()
            raised = replace(newest, number=newest.number + 1, write_id=token, parent=newest.write_id, work_floor=floor)
            if not commit(self._store, self._database.runtime, record, newest, raised, self._directories(record)):
                return
        self._delete(key for name in doomed for key in files[name])
        self.collected.segments += len(doomed)

    def _directories(self, record: IndexRecord) -> Mapping[str, bytes]:
        """Those that the hint embeds, so that the next one embeds them too. 1 GET."""
        key = paths.hint(record.bucket, record.name)
        hint = read_hint(key, self._store.wave([Get(key)])[0])
        return {} if hint is None or hint.record.uid != record.uid else hint.directories

    def _delete(self, keys: Iterable[str]) -> int:
        doomed = list(keys)
        for start in range(0, len(doomed), _DELETE_MAX):
            done(self._store.wave([Delete(tuple(doomed[start : start + _DELETE_MAX]))])[0])
        return len(doomed)

    def _get(self, key: str) -> bytes:
        raw = body(self._store.wave([Get(key)])[0])
        if raw is None:
            raise ObjectGone(f"{key} was listed and is gone")
        return raw

    def _age_s(self, entry: Entry) -> float:
        return self._now_s - entry.modified_s


def _chains(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Records grouped by the folder of their chain, in order of their numbers."""
    chains: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if paths.number(entry.key) is not None:
            chains[entry.key.rsplit("/", 1)[0]].append(entry)
    return list(chains.values())


def _last_to_go(recent: Sequence[Manifest]) -> int:
    """The last log entry that nobody needs: who imports has yet to learn which keys were written since it began."""
    return min([recent[-1].folded_to, *(one.begun for one in recent[0].imports)])


def _number(entry: Entry) -> int:
    return paths.number(entry.key) or 0


def _manifest_number(uid: str, entry: Entry) -> int | None:
    return paths.manifest_number(entry.key) if entry.key.startswith(paths.manifest_folder(uid)) else None
