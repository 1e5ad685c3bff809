"""Verification: reads a store whole and holds every named invariant of the protocol against it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from neve.errors import IndexNotFound, NeveError, ObjectGone, StoreError
from neve.index import manifest as manifests
from neve.index import paths
from neve.index.chain import list_all
from neve.index.database import Database
from neve.index.hint import read_hint
from neve.index.manifest import Import, Manifest
from neve.index.reader import Reader
from neve.index.records import IndexRecord, decode_created
from neve.index.state import Compacted, State
from neve.segments.rows import Keys, hash_key, live_digest
from neve.segments.stream import key_blocks, verify_segment
from neve.segments.term_writer import TermRows
from neve.store.port import Failed, Get, Missing, body

_READ_AHEAD = 16


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken invariant: its name as in the protocol's specification, the object or index, and what is wrong."""

    invariant: str
    where: str
    detail: str


@dataclass(slots=True)
class Verified:
    objects: int = 0
    indexes: int = 0
    rows: int = 0
    findings: list[Finding] = field(default_factory=list)


def verify(database: Database, bucket: str = "", index: str = "") -> Verified:
    """Verify a store, a bucket or one index. Reads every object in question once and the newest state once more.

    Finds nothing in a store that nobody has damaged, at any moment, whatever has crashed. Raises StoreError.
    """
    return _Verifier(database).run(bucket, index)


class _Verifier:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._store = database.store
        self._reader = Reader(database.store, database.runtime, database.grace)
        self._verified = Verified()
        self._whole: set[str] = set()

    def run(self, bucket: str, index: str) -> Verified:
        whole = not bucket
        if whole:
            self._checksums(paths.BUCKETS)
        folder = paths.CATALOG if whole else paths.catalog_folder(bucket)
        self._checksums(folder if not index else paths.catalog_chain(bucket, index))
        for record in list(self._live_records(folder)):
            if not index or record.name == index:
                try:
                    self._index(record)
                except IndexNotFound:
                    continue
                except NeveError as error:
                    self._find("readable", f"{record.bucket}/{record.name}", str(error))
        return self._verified

    def _live_records(self, folder: str) -> Iterator[IndexRecord]:
        newest: dict[str, str] = {}
        for entry in list_all(self._store, folder):
            newest[entry.key.rsplit("/", 1)[0]] = entry.key
        for key in newest.values():
            number = paths.number(key) or 0
            with suppress(StoreError):  # a damaged record has been found by its checksum
                raw = body(self._store.wave([Get(key)])[0]) if number % 2 == 1 else None
                if raw is not None:
                    yield decode_created(key, raw, number)

    def _checksums(self, folder: str) -> None:
        """checksum: the bytes of every object of one envelope match their checksum."""
        keys = [entry.key for entry in list_all(self._store, folder) if paths.is_sealed(entry.key)]
        for start in range(0, len(keys), _READ_AHEAD):
            some = keys[start : start + _READ_AHEAD]
            for key, reply in zip(some, self._store.wave([Get(key) for key in some]), strict=True):
                if isinstance(reply, Failed):
                    self._find("checksum", key, str(reply.error))
                self._verified.objects += not isinstance(reply, Missing)

    def _index(self, record: IndexRecord) -> None:
        where = f"{record.bucket}/{record.name}"
        self._checksums(paths.data_folder(record.uid))
        hint_key = paths.hint(record.bucket, record.name)
        hint = read_hint(hint_key, self._store.wave([Get(hint_key)])[0])
        state = self._reader.open(record.bucket, record.name).state
        if state.uid != record.uid or state.dropped_at is not None:
            return
        if hint is not None and hint.record.uid == state.uid and hint.manifest.number > state.manifest:
            self._find("newest", where, f"manifest {hint.manifest.number}, which counted, is gone")
        self._verified.indexes += 1
        self._verified.rows += state.live_rows
        self._rows(where, state)
        self._imports(where, state)
        if state.base.number == 0:
            return
        self._arrangement(where, record, state.base)
        self._chain(where, record, state.base)

    def _rows(self, where: str, state: State) -> None:
        """sorted: rows stand in (hash, key) order, hashes are those of the keys. unique: a key is live once."""
        live: set[bytes] = set()
        for part in state.parts:
            keys = part.rows.keys
            pairs = [(int(h), key) for h, key in zip(keys.hashes, keys.keys, strict=True)]
            if any(h != hash_key(key) for h, key in pairs) or any(a >= b for a, b in pairwise(pairs)):
                self._find("sorted", where, "rows are not in the order of their keys' hashes")
            mine = {pairs[row][1] for row in np.flatnonzero(part.live)}
            if live & mine:
                self._find("unique", where, f"{len(live & mine)} keys are live twice")
            live |= mine
        attached = set(live)
        for compacted in state.compacted:
            self._compacted(where, state, compacted, live)
        for compacted in state.pending:
            self._compacted(where, state, compacted, attached)

    def _compacted(self, where: str, state: State, compacted: Compacted, live: set[bytes]) -> None:
        """segment: a compacted segment's files agree with its directory. live-set: its mask leaves what its info says.

        recent: no recent row or tombstone is older than a row that it hides. Adds the segment's live keys to `live`.
        So it is with pending segments, among themselves: they stand for the others once the import is attached.
        """
        directory, info = compacted.directory, compacted.info
        try:
            if directory.folder not in self._whole:
                with tempfile.TemporaryDirectory() as scratch:
                    terms = TermRows(Path(scratch) / "terms", state.config.non_filterable or ())
                    verify_segment(directory, self._fetch, terms=terms)
                self._whole.add(directory.folder)
            blocks = list(key_blocks(directory, self._fetch))
        except StoreError as error:
            self._find("segment", where, str(error))
            return
        rows, digest = 0, 0
        for block in blocks:
            entries = block.entries
            alive = np.ones(len(block), np.bool_) if compacted.masked is None else ~compacted.masked[entries["row"]]
            rows += int(np.count_nonzero(alive))
            digest += live_digest(entries["hash"][alive], entries["position"][alive])
            keys = block.as_keys()
            for recent in state.recent_keys:
                mine, theirs = keys.match(recent)
                if np.any(alive[mine] & (keys.positions[mine] > recent.positions[theirs])):
                    self._find("recent", where, f"a recent key is older than its row in segment {info.name}")
                alive[mine] = False
            found = set(block.keys.pick(np.flatnonzero(alive).tolist()))
            if live & found:
                self._find("unique", where, f"{len(live & found)} keys are live twice")
            live |= found
        if (rows, digest % 2**64) != (info.live, info.digest):
            self._find("live-set", where, f"segment {info.name} does not hold the live rows that its manifest says")

    def _imports(self, where: str, state: State) -> None:
        """import: at most one is open, and the log has what was written since, for it to learn the keys."""
        if len(state.imports) > 1:
            self._find("import", where, f"{len(state.imports)} imports are open")
        for one in state.imports:
            if not (one.begun <= state.position and one.since <= state.manifest):
                self._find("import", where, f"import {one.id} began at {one.begun}/{one.since}, ahead of the index")
            log = self._reader.scan(state.uid, one.begun).contiguous(one.begun)
            if log.stop <= state.position and self._is_open(state, one):
                self._find("import", where, f"entry {log.stop}, written since import {one.id} began, is gone")

    def _is_open(self, state: State, opened: Import) -> bool:
        """Whether an import is still open: if it has ended meanwhile, the log may have been collected."""
        record = state.record
        return self._reader.open(record.bucket, record.name).state.open_import(opened.id) is not None

    def _visible_digest(self, state: State) -> int:
        """Digest of the live set itself: without the rows of compacted segments that a recent key hides."""
        digest = state.digest()
        for compacted in state.compacted:
            for block in key_blocks(compacted.directory, self._fetch):
                hidden = np.zeros(len(block), np.bool_)
                for recent in state.recent_keys:
                    hidden[block.as_keys().match(recent)[0]] = True
                if compacted.masked is not None:
                    hidden &= ~compacted.masked[block.entries["row"]]
                digest -= live_digest(block.entries["hash"][hidden], block.entries["position"][hidden])
        return digest % 2**64

    def _fetch(self, key: str, start: int, stop: int) -> bytes:
        raw = body(self._store.wave([Get(key, start, stop)])[0])
        if raw is None:
            raise ObjectGone(f"{key} is named but not there")
        return raw

    def _arrangement(self, where: str, record: IndexRecord, base: Manifest) -> None:
        """live-set: what a manifest's segments hold is what it says it holds, by count and digest."""
        state = self._reader.read_at(record, base.number, base.folded_to)
        if (state.live_rows, state.digest()) != (base.live_rows, base.live_digest):
            self._find("live-set", where, f"manifest {base.number} says {base.live_rows} rows, found {state.live_rows}")
        for segment in state.segments:
            info = segment.info
            if (info.rows, info.deleted, info.live) != (
                len(segment.part.rows),
                len(segment.deleted),
                segment.part.live_rows,
            ):
                self._find("live-set", where, f"segment {info.name} does not hold what manifest {base.number} says")
            if _beyond(segment.part.rows.keys, base.folded_to) or _beyond(segment.deleted, base.folded_to):
                self._find("positions", where, f"segment {info.name} holds rows above {base.folded_to}")

    def _chain(self, where: str, record: IndexRecord, newest: Manifest) -> None:
        """parent, work-floor, fold: each manifest against the one before it, as far down as they are still there."""
        after = newest
        while after.number > 1:
            key = paths.manifest(record.uid, after.number - 1)
            raw = body(self._store.wave([Get(key)])[0])
            if raw is None:
                return
            before = manifests.decode(key, raw)
            if before.write_id != after.parent:
                self._find("parent", where, f"manifest {after.number} does not name {before.number} as its parent")
                return
            for name in set(after.folders) - set(before.folders):
                if paths.segment_planned_on(name) < before.work_floor:
                    self._find("work-floor", where, f"segment {name} was planned below the floor")
            self._fold(where, record, before, after)
            after = before

    def _fold(self, where: str, record: IndexRecord, before: Manifest, after: Manifest) -> None:
        """fold: a manifest holds what the one before it and the log after that hold, where they can be read."""
        folded = range(before.folded_to + 1, after.folded_to + 1)
        kept = after.folded_to == before.folded_to and after.folded == before.folded
        if not kept and [entry.number for entry in after.folded] != list(folded):
            self._find("fold", where, f"manifest {after.number} does not record what it folded")
        try:
            state = self._reader.read_at(record, before.number, after.folded_to)
        except NeveError:
            return
        if {(entry.number, entry.write_id) for entry in state.tail} != {(e.number, e.write_id) for e in after.folded}:
            return  # collected, and a late request stands at one of the numbers
        self._carried(where, state, after)
        if before.compacted != after.compacted:
            arranged = self._reader.read_at(record, after.number, after.folded_to)
            if self._visible_digest(state) != self._visible_digest(arranged):
                self._find("live-set", where, f"manifest {after.number} does not hold what it compacted")
            return
        if (state.digest(), state.live_rows) != (after.live_digest, after.live_rows):
            self._find("fold", where, f"manifest {after.number} does not hold what it folded")

    def _carried(self, where: str, state: State, after: Manifest) -> None:
        """import: a manifest has the imports of the one before it and the log; it may add what is pending, once."""
        found = [replace(one, pending=None) for one in after.imports]
        if found != [replace(one, pending=None) for one in state.imports]:
            self._find("import", where, f"manifest {after.number} does not have the imports that it folded")
        elif any(a.pending != b.pending is not None for a, b in zip(after.imports, state.imports, strict=True)):
            self._find("import", where, f"manifest {after.number} changes what an import was to attach")

    def _find(self, invariant: str, where: str, detail: str) -> None:
        self._verified.findings.append(Finding(invariant, where, detail))


def _beyond(keys: Keys, position: int) -> bool:
    return bool(len(keys)) and int(keys.positions.max()) > position
