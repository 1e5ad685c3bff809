"""Reading the state of an index: cold from the catalog, warm by three probes, and on from what is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Protocol

from neve.dataclass import dataclass
from neve.errors import IndexNotFound, ObjectCorrupt, ObjectGone, PageTokenInvalid, StoreUnavailable
from neve.index import entry as entries
from neve.index import manifest as manifests
from neve.index import paths
from neve.index.chain import list_all, newest_number
from neve.index.entry import Kind, LogEntry
from neve.index.grace import Grace
from neve.index.held import Held, pieces
from neve.index.hint import Hint, read_hint
from neve.index.manifest import Manifest, first_manifest
from neve.index.records import IndexRecord, decode_created
from neve.index.state import Compacted, State, apply_all
from neve.runtime import Instant, Runtime
from neve.segments.directory import Directory
from neve.store.port import Get, List, Listed, Missing, Reply, Request, Store, body, listed

OPENINGS_MAX = 3
LOOK_AHEAD = 7
"""Log entries read beside the LIST that catches up."""


@dataclass(frozen=True, slots=True)
class Known:
    """A state, and when the wave that confirmed it as the newest was sent."""

    state: State
    confirmed: Instant


class Ahead(Protocol):
    """What a query wants to read beside the opening of an index, going by the hint's word."""

    def requests(self, record: IndexRecord, directories: Sequence[Directory]) -> Sequence[Request]:
        """Requests for immutable objects; `directories` are those of all compacted segments, or none is known."""
        ...

    def more(self, compacted: Sequence[Compacted]) -> Sequence[Request]:
        """Requests for what comes next, where opening the index needs one more wave."""
        ...

    def take(self, replies: Sequence[Reply]) -> None:
        """The replies to what was requested last; raises nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Scan:
    """What a LIST shows of an index's data: log numbers after a given one, and the newest manifest (0: none)."""

    log: frozenset[int]
    manifest: int

    def contiguous(self, after: int) -> range:
        """Numbers from `after` + 1 on without a gap: above a gap no entry counts."""
        stop = after + 1
        while stop in self.log:
            stop += 1
        return range(after + 1, stop)


class Reader:
    """Reads states; keeps none."""

    def __init__(self, store: Store, runtime: Runtime, grace: Grace) -> None:
        self._store = store
        self._runtime = runtime
        self._grace = grace

    def open(self, bucket: str, name: str, ahead: Ahead | None = None) -> Known:
        """The newest state, read from the catalog on: 2 waves with a good hint and no tail, else up to 5.

        With a hint that knows the directories, `ahead` is asked once for more requests to send in its second wave.
        Raises IndexNotFound, ObjectGone, ObjectCorrupt, StoreUnavailable. A dropped index whose catalog does not say
        so yet is returned as a state with `dropped_at`.
        """
        gone: ObjectGone | None = None
        for _ in range(OPENINGS_MAX):
            sent = self._runtime.now()
            try:
                state = self._open_once(bucket, name, ahead)
            except ObjectGone as error:  # collected between LIST and GET by a collector that we were slower than
                if gone is not None:
                    raise
                gone = error
                continue
            if self._is_young(sent):
                if state.position == 0:
                    raise IndexNotFound(f"{bucket}/{name}")
                return Known(state, sent)
        raise gone or StoreUnavailable("the store answers too slowly to confirm the state of an index")

    def refresh(self, known: Known) -> Known:
        """The newest state, by what is known: one wave of 3 GETs while nothing was written, two or three after.

        Raises as `open` does.
        """
        state, record = known.state, known.state.record
        sent = self._runtime.now()
        if known.confirmed.until(sent) > self._grace.knowledge_s:
            return self.open(record.bucket, record.name)
        replies = self._store.wave(
            [
                Get(paths.log_entry(state.uid, state.position + 1)),
                Get(paths.manifest(state.uid, state.manifest + 1)),
                Get(paths.catalog_record(record.bucket, record.name, record.seq + 1)),
            ]
        )
        news = [body(reply) is not None for reply in replies]
        if any(news[:2]) and not news[2]:
            try:
                state = self.follow(state, replies[0])
            except ObjectGone:
                return self.open(record.bucket, record.name)
        if news[2] or not self._is_young(sent):
            return self.open(record.bucket, record.name)
        return Known(state, sent)

    def read_at(self, record: IndexRecord, manifest: int, position: int) -> State:
        """The very state of a manifest and position again, within the grace period; raises PageTokenInvalid."""
        try:
            base = self._manifest(record, manifest)
            wanted = range(base.folded_to + 1, position + 1)
            if base.folded_to > position:
                raise PageTokenInvalid("the page token names no state")
            return self._assemble(record, base, wanted, Held(), [])
        except ObjectGone as error:
            raise PageTokenInvalid("the state that the page token names has been collected") from error

    def entries(self, record: IndexRecord, numbers: Sequence[int]) -> list[LogEntry]:
        """Those entries of the log, which are there. 1 GET each, in one wave; raises ObjectGone, ObjectCorrupt."""
        raws = self._bodies([Get(paths.log_entry(record.uid, number)) for number in numbers]) if numbers else []
        return [self._entry(record, number, raw) for number, raw in zip(numbers, raws, strict=True)]

    def scan(self, uid: str, after: int, first: Listed | None = None) -> Scan:
        """The log after a number, and the newest manifest. 1 LIST for each 1,000 log entries not yet collected."""
        log: set[int] = set()
        start = paths.log_entry(uid, after)
        pages = list(first.entries) if first is not None else []
        rest = (
            []
            if first is not None and first.complete
            else list_all(self._store, paths.data_folder(uid), pages[-1].key if pages else start)
        )
        for group in (pages, rest):
            for listing in group:
                if listing.key.startswith(paths.log_folder(uid)):
                    if (number := paths.number(listing.key)) is not None:
                        log.add(number)
                elif listing.key.startswith(paths.manifest_folder(uid)):
                    return Scan(frozenset(log), paths.manifest_number(listing.key) or 0)
        return Scan(frozenset(log), 0)

    def _is_young(self, sent: Instant) -> bool:
        return sent.until(self._runtime.now()) <= self._grace.wave_s

    def _open_once(self, bucket: str, name: str, ahead: Ahead | None) -> State:
        chain, hint_key = paths.catalog_chain(bucket, name), paths.hint(bucket, name)
        replies = self._store.wave([List(chain), Get(hint_key)])
        page = listed(replies[0])
        seq = newest_number(page.entries)
        if not page.complete:
            seq = max(seq, newest_number(list_all(self._store, chain, page.entries[-1].key)))
        if seq % 2 == 0:
            raise IndexNotFound(f"{bucket}/{name}")
        hint = read_hint(hint_key, replies[1])
        if hint is not None and hint.record.seq == seq:
            with suppress(ObjectGone):
                state = self._open_by_hint(hint, ahead)
                if state.position > 0:
                    return state
        key = paths.catalog_record(bucket, name, seq)
        return self._open_without_hint(decode_created(key, self._bodies([Get(key)])[0], seq))

    def _open_by_hint(self, hint: Hint, ahead: Ahead | None) -> State:
        """Two waves: LIST beside the segments that the hint speaks of, and what lies ahead; then the tail."""
        record, base = hint.record, hint.manifest
        held = Held()
        held.take_directories(hint)
        missing = [piece for piece in pieces(record, base) if piece.key not in held]
        first = List(paths.data_folder(record.uid), paths.log_entry(record.uid, base.folded_to))
        beside = ahead.requests(record, held.directories(record, base)) if ahead is not None else []
        replies = self._store.wave([first, *(Get(piece.key) for piece in missing), *beside])
        if ahead is not None:
            ahead.take(replies[1 + len(missing) :])
        scan = self.scan(record.uid, base.folded_to, listed(replies[0]))
        held.take(missing, replies[1 : 1 + len(missing)])
        if scan.manifest < base.number:  # a hint beyond the newest manifest speaks of something that never counted
            return self._open_without_hint(record)
        return self._newest(record, base, scan, held, [], ahead)

    def _open_without_hint(self, record: IndexRecord) -> State:
        everything, newest = self._store.wave(
            [List(paths.data_folder(record.uid)), List(paths.manifest_folder(record.uid), limit=1)]
        )
        heads = [n for e in listed(newest).entries if (n := paths.manifest_number(e.key)) is not None]
        base = self._manifest(record, max(heads, default=0))
        page = listed(everything)
        past_log = page.complete or not page.entries[-1].key.startswith(paths.log_folder(record.uid))
        scan = self.scan(record.uid, base.folded_to, page if past_log else None)
        return self._newest(record, base, scan, Held(), [])

    def follow(self, state: State, next_entry: Reply = Missing()) -> State:  # noqa: B008, a constant
        """From a known state to the newest of the same uid, whatever the catalog says of it.

        A LIST beside the next few entries, then what is missing in one wave. `next_entry` is the reply of a Get of the
        next entry where there was one. Raises ObjectGone where what the state rests on has been collected or wiped.
        """
        uid, position = state.uid, state.position
        ahead = range(position + 2, position + 2 + LOOK_AHEAD)
        # without a manifest the first entry stays: that it is there tells a log from a ghost in a wiped one
        listed_after = position if state.manifest else 0
        requests: list[Request] = [List(paths.data_folder(uid), paths.log_entry(uid, listed_after))]
        requests += [Get(paths.log_entry(uid, number)) for number in ahead]
        page, *replies = self._store.wave(requests)
        found = {number: body(reply) for number, reply in zip(ahead, replies, strict=True)}
        found[position + 1] = body(next_entry)
        tail = [self._entry(state.record, number, raw) for number, raw in sorted(found.items()) if raw is not None]
        scan = self.scan(uid, listed_after, listed(page))
        if scan.manifest == 0 and 1 not in scan.log:
            raise ObjectGone(f"the log of {uid} has been wiped")
        # an import that the LIST does not show as attached was attached since, and so were its segments named
        tail = [entry for entry in tail if entry.kind is not Kind.ATTACH or entry.number in scan.log]
        scan = Scan(scan.log | {entry.number for entry in tail}, scan.manifest)
        if scan.manifest < state.manifest:
            raise ObjectGone(f"the manifests of {uid} have been collected")
        if scan.manifest == state.manifest:
            missing = [n for n in scan.contiguous(position) if n not in {entry.number for entry in tail}]
            return apply_all(state, self._in_order([*tail, *self.entries(state.record, missing)], position))
        return self._newest(state.record, state.base, scan, Held.of(state), [*state.tail, *tail])

    def _newest(
        self,
        record: IndexRecord,
        base: Manifest,
        scan: Scan,
        held: Held,
        tail: Sequence[LogEntry],
        ahead: Ahead | None = None,
    ) -> State:
        """The state of the newest manifest that a scan shows, with the log after it."""
        if scan.manifest > base.number:
            base = self._manifest(record, scan.manifest)
        log = scan.log | {entry.number for entry in tail}
        return self._assemble(record, base, Scan(log, base.number).contiguous(base.folded_to), held, tail, ahead)

    def _assemble(
        self,
        record: IndexRecord,
        base: Manifest,
        wanted: range,
        held: Held,
        tail: Sequence[LogEntry],
        ahead: Ahead | None = None,
    ) -> State:
        """A state from a manifest and the log entries `wanted`, reading in one wave what is not in hand."""
        numbers = {entry.number for entry in tail}
        unread = [number for number in wanted if number not in numbers]
        missing = [piece for piece in pieces(record, base) if piece.key not in held]
        keys = [*(piece.key for piece in missing), *(paths.log_entry(record.uid, number) for number in unread)]
        raws = self._bodies_beside(record, base, held, [Get(key) for key in keys], ahead) if keys else []
        for piece, raw in zip(missing, raws, strict=False):
            held.add(piece, raw)
        read = [self._entry(record, n, raw) for n, raw in zip(unread, raws[len(missing) :], strict=True)]
        state = held.base_state(record, base)
        return apply_all(state, [e for e in self._in_order([*tail, *read], base.folded_to) if e.number in wanted])

    def _manifest(self, record: IndexRecord, number: int) -> Manifest:
        if number == 0:
            return first_manifest(record.tags)
        key = paths.manifest(record.uid, number)
        found = manifests.decode(key, self._bodies([Get(key)])[0])
        if found.number != number:
            raise ObjectCorrupt(f"{key} is manifest {found.number}")
        return found

    def _entry(self, record: IndexRecord, number: int, raw: bytes) -> LogEntry:
        return entries.decode(paths.log_entry(record.uid, number), raw, number, record.config.dimension)

    def _bodies_beside(
        self, record: IndexRecord, base: Manifest, held: Held, gets: Sequence[Get], ahead: Ahead | None
    ) -> list[bytes]:
        """Bodies as of `_bodies`, and in the same wave what lies ahead."""
        beside = ahead.more(held.compacted(record, base.compacted)) if ahead is not None else []
        replies = self._store.wave([*gets, *beside])
        if ahead is not None:
            ahead.take(replies[len(gets) :])
        return self._found(gets, replies[: len(gets)])

    def _bodies(self, gets: Sequence[Get]) -> list[bytes]:
        """Bodies of objects that must be there; raises ObjectGone where one is not. One wave."""
        return self._found(gets, self._store.wave(gets))

    @staticmethod
    def _found(gets: Sequence[Get], replies: Sequence[Reply]) -> list[bytes]:
        raws = []
        for get, reply in zip(gets, replies, strict=True):
            raw = body(reply)
            if raw is None:
                raise ObjectGone(f"{get.key} is named but not there")
            raws.append(raw)
        return raws

    @staticmethod
    def _in_order(found: Iterable[LogEntry], after: int) -> list[LogEntry]:
        """Entries by number, without a gap from `after` on."""
        by_number = {entry.number: entry for entry in found}
        run = Scan(frozenset(by_number), 0).contiguous(after)
        return [by_number[number] for number in run]
