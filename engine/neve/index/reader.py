"""Reading the state of an index: cold from the catalog, warm by three probes, and on from what is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from neve.errors import IndexNotFound, ObjectCorrupt, ObjectGone, PageTokenInvalid, StoreError, StoreUnavailable
from neve.index import entry as entries
from neve.index import manifest as manifests
from neve.index import paths
from neve.index.chain import list_all, newest_number
from neve.index.entry import LogEntry
from neve.index.grace import Grace
from neve.index.hint import Hint, read_hint
from neve.index.manifest import Manifest, SegmentInfo, first_manifest
from neve.index.records import IndexRecord, decode_created
from neve.index.state import State, apply_all, base_state
from neve.runtime import Instant, Runtime
from neve.segments.flat import Batch, unpack
from neve.store.envelope import unseal
from neve.store.port import Get, List, Listed, Missing, Reply, Request, Store, body, listed

OPENINGS_MAX = 3
LOOK_AHEAD = 7
"""Log entries read beside the LIST that catches up."""


@dataclass(frozen=True, slots=True)
class Known:
    """A state, and when the wave that confirmed it as the newest was sent."""

    state: State
    confirmed: Instant


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

    def open(self, bucket: str, name: str) -> Known:
        """The newest state, read from the catalog on: 3 waves with a good hint, else up to 5.

        Raises IndexNotFound, ObjectGone, ObjectCorrupt, StoreUnavailable. A dropped index whose catalog does not say
        so yet is returned as a state with `dropped_at`.
        """
        gone: ObjectGone | None = None
        for _ in range(OPENINGS_MAX):
            sent = self._runtime.now()
            try:
                state = self._open_once(bucket, name)
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
            return self._assemble(record, base, wanted, {}, [])
        except ObjectGone as error:
            raise PageTokenInvalid("the state that the page token names has been collected") from error

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

    def _open_once(self, bucket: str, name: str) -> State:
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
                state = self._open_by_hint(hint)
                if state.position > 0:
                    return state
        key = paths.catalog_record(bucket, name, seq)
        return self._open_without_hint(decode_created(key, self._bodies([Get(key)])[0], seq))

    def _open_by_hint(self, hint: Hint) -> State:
        """Two waves: LIST beside the segments that the hint speaks of, then the tail."""
        record, base = hint.record, hint.manifest
        requests: list[Request] = [List(paths.data_folder(record.uid), paths.log_entry(record.uid, base.folded_to))]
        requests += [Get(paths.flat_segment(record.uid, segment.name)) for segment in base.segments]
        replies = self._store.wave(requests)
        scan = self.scan(record.uid, base.folded_to, listed(replies[0]))
        batches = self._batches(record, base, replies[1:])
        if scan.manifest < base.number:  # a hint beyond the newest manifest speaks of something that never counted
            return self._open_without_hint(record)
        return self._newest(record, base, scan, batches, [])

    def _open_without_hint(self, record: IndexRecord) -> State:
        everything, newest = self._store.wave(
            [List(paths.data_folder(record.uid)), List(paths.manifest_folder(record.uid), limit=1)]
        )
        heads = [n for e in listed(newest).entries if (n := paths.manifest_number(e.key)) is not None]
        base = self._manifest(record, max(heads, default=0))
        page = listed(everything)
        past_log = page.complete or not page.entries[-1].key.startswith(paths.log_folder(record.uid))
        scan = self.scan(record.uid, base.folded_to, page if past_log else None)
        return self._newest(record, base, scan, {}, [])

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
        scan = Scan(scan.log | {entry.number for entry in tail}, scan.manifest)
        if scan.manifest < state.manifest:
            raise ObjectGone(f"the manifests of {uid} have been collected")
        if scan.manifest == state.manifest:
            missing = [n for n in scan.contiguous(position) if n not in {entry.number for entry in tail}]
            return apply_all(state, self._in_order([*tail, *self._entries(state.record, missing)], position))
        batches = {s.info.name: Batch(s.part.rows, s.deleted) for s in state.segments}
        return self._newest(state.record, state.base, scan, batches, [*state.tail, *tail])

    def _newest(
        self,
        record: IndexRecord,
        base: Manifest,
        scan: Scan,
        batches: Mapping[str, Batch],
        tail: Sequence[LogEntry],
    ) -> State:
        """The state of the newest manifest that a scan shows, with the log after it."""
        if scan.manifest > base.number:
            base = self._manifest(record, scan.manifest)
        log = scan.log | {entry.number for entry in tail}
        return self._assemble(record, base, Scan(log, base.number).contiguous(base.folded_to), batches, tail)

    def _assemble(
        self,
        record: IndexRecord,
        base: Manifest,
        wanted: range,
        batches: Mapping[str, Batch],
        tail: Sequence[LogEntry],
    ) -> State:
        """A state from a manifest and the log entries `wanted`, reading in one wave what is not in hand."""
        held = {entry.number for entry in tail}
        segments = [segment for segment in base.segments if segment.name not in batches]
        missing = [number for number in wanted if number not in held]
        keys = [paths.flat_segment(record.uid, segment.name) for segment in segments]
        keys += [paths.log_entry(record.uid, number) for number in missing]
        raws = self._bodies([Get(key) for key in keys]) if keys else []
        loaded = {
            segment.name: _batch(key, raw, record, segment)
            for segment, key, raw in zip(segments, keys, raws[: len(segments)], strict=False)
        }
        read = [self._entry(record, n, raw) for n, raw in zip(missing, raws[len(segments) :], strict=True)]
        state = base_state(record, base, {**batches, **loaded})
        return apply_all(state, [e for e in self._in_order([*tail, *read], base.folded_to) if e.number in wanted])

    def _manifest(self, record: IndexRecord, number: int) -> Manifest:
        if number == 0:
            return first_manifest(record.tags)
        key = paths.manifest(record.uid, number)
        found = manifests.decode(key, self._bodies([Get(key)])[0])
        if found.number != number:
            raise ObjectCorrupt(f"{key} is manifest {found.number}")
        return found

    def _entries(self, record: IndexRecord, numbers: Sequence[int]) -> list[LogEntry]:
        raws = self._bodies([Get(paths.log_entry(record.uid, number)) for number in numbers]) if numbers else []
        return [self._entry(record, number, raw) for number, raw in zip(numbers, raws, strict=True)]

    def _entry(self, record: IndexRecord, number: int, raw: bytes) -> LogEntry:
        return entries.decode(paths.log_entry(record.uid, number), raw, number, record.config.dimension)

    def _batches(self, record: IndexRecord, base: Manifest, replies: Sequence[Reply]) -> dict[str, Batch]:
        """Segments read on a hint's word; what failed or is gone is simply not in hand."""
        batches = {}
        for segment, reply in zip(base.segments, replies, strict=True):
            with suppress(StoreError):
                if (raw := body(reply)) is not None:
                    key = paths.flat_segment(record.uid, segment.name)
                    batches[segment.name] = _batch(key, raw, record, segment)
        return batches

    def _bodies(self, gets: Sequence[Get]) -> list[bytes]:
        """Bodies of objects that must be there; raises ObjectGone where one is not. One wave."""
        raws = []
        for get, reply in zip(gets, self._store.wave(gets), strict=True):
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


def _batch(key: str, raw: bytes, record: IndexRecord, info: SegmentInfo) -> Batch:
    try:
        envelope = unseal(key, raw)
        batch = unpack(envelope.sections, record.config.dimension)
        if (envelope.fields["name"], len(batch.rows), len(batch.deleted)) == (info.name, info.rows, info.deleted):
            return batch
    except (LookupError, ValueError, TypeError) as error:
        raise ObjectCorrupt(f"{key} is not a segment of an index of dimension {record.config.dimension}") from error
    raise ObjectCorrupt(f"{key} is not the segment that its manifest names")
