"""Appending to the log of an index: the one way in which an index changes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from neve.dataclass import dataclass
from neve.errors import IndexNotFound, ObjectGone, OutcomeUnknown, StoreError, StoreUnavailable
from neve.index import entry as entries
from neve.index import manifest as manifests
from neve.index import paths
from neve.index.entry import Kind, LogEntry, encode_bare
from neve.index.grace import Grace
from neve.index.reader import Known, Reader
from neve.index.state import State
from neve.runtime import Instant, Runtime
from neve.store.create import create, settle
from neve.store.port import Created, Exists, Get, PutNew, Reply, Store, body

BUDGET_S = 30.0
PLUGS_MAX = 16
JITTER = 0.5
"""After a lost race a writer waits up to this share of the lost wave, so that losers do not stay in step."""


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry's bytes. One that `follows_state` was made from a state and may only stand right after it."""

    body: bytes
    write_id: str
    follows_state: bool = False


class _Lost(Exception):
    """Another writer's entry has the number; nothing of ours is in the log."""


class Appender:
    """Appends entries; keeps nothing."""

    def __init__(self, store: Store, runtime: Runtime, grace: Grace, reader: Reader) -> None:
        self._store = store
        self._runtime = runtime
        self._grace = grace
        self._reader = reader

    def append(self, known: Known, draft: Callable[[State], Draft | None]) -> Known:
        """Append what `draft` makes of the newest known state, and return the state with it.

        `draft` is asked again after every lost race, and may say None: nothing is left to do. One wave of 1 PUT and
        2 GETs when nobody else writes. Raises IndexNotFound, OutcomeUnknown, StoreError; on IndexNotFound and
        StoreError nothing was appended.
        """
        begun = self._runtime.now()
        while True:
            sent = self._runtime.now()
            if known.confirmed.until(sent) > self._grace.knowledge_s:
                known = self._reader.refresh(known)
            if known.state.dropped_at is not None:
                raise IndexNotFound(known.state.record.path)
            made = draft(known.state)
            if made is None:
                return known
            try:
                return self._try(known, made)
            except _Lost:
                if begun.until(self._runtime.now()) > BUDGET_S:
                    raise StoreUnavailable("too many writers of one index: no number was won in time") from None
                self._runtime.sleep(self._runtime.uniform(0, JITTER) * sent.until(self._runtime.now()))
                known = self._reader.refresh(known)

    def _try(self, known: Known, draft: Draft) -> Known:
        """One try at the head, and one more at the next number beside reading the winner. Raises _Lost."""
        state = known.state
        number = state.position + 1
        sent = self._runtime.now()
        reply, *probes = self._store.wave([self._put(state, number, draft), *self._probes(state)])
        if isinstance(reply, Exists) and not draft.follows_state:
            number += 1
            winner_key = paths.log_entry(state.uid, number - 1)
            sent = self._runtime.now()
            reply, winner, *probes = self._store.wave(
                [self._put(state, number, draft), Get(winner_key), *self._probes(state)]
            )
            if isinstance(reply, Created):
                state = self._with_winner(state, winner)
        elif isinstance(reply, Exists):
            raise _Lost
        settled = isinstance(reply, Created)
        if not settled and not self._is_ours(state, number, draft, reply, sent):
            raise _Lost
        if settled and state.position == number - 1 and self._confirm(probes, sent):
            return Known(self._acknowledged(state, number, draft), sent)
        return self._resolve(known.state, number, draft, sent if settled else None)

    def _put(self, state: State, number: int, draft: Draft) -> PutNew:
        return PutNew(paths.log_entry(state.uid, number), draft.body)

    def _probes(self, state: State) -> list[Get]:
        record = state.record
        return [
            Get(paths.manifest(state.uid, state.manifest + 1)),
            Get(paths.catalog_record(record.bucket, record.name, record.seq + 1)),
        ]

    def _with_winner(self, state: State, reply: Reply) -> State:
        """The state with the entry that won the number below ours; as it was if that could not be read."""
        try:
            raw = body(reply)
            return state if raw is None else state.apply(self._decode(state, state.position + 1, raw))
        except StoreError:
            return state

    def _is_ours(self, state: State, number: int, draft: Draft, reply: Reply, sent: Instant) -> bool:
        if isinstance(reply, Exists):  # a first try that was refused: not ours, whatever is there
            return False
        return settle(self._store, self._runtime, self._put(state, number, draft), reply, sent) is None

    def _confirm(self, probes: list[Reply], sent: Instant) -> bool:
        """Whether the wave of the create proves it: both probes 404, and all replies in while the wave was young."""
        try:
            superseded = any(body(probe) is not None for probe in probes)
        except StoreError:
            return False
        return not superseded and self._is_young(sent)

    def _acknowledged(self, state: State, number: int, draft: Draft) -> State:
        if state.dropped_at is not None:
            raise IndexNotFound(state.record.path)
        return state.apply(self._decode(state, number, draft.body))

    def _resolve(self, known: State, number: int, draft: Draft, created: Instant | None) -> Known:
        """What became of an entry that is in the store, where its own wave does not prove it: a LIST tells.

        `created` is when its create was sent, None where that was not answered at once.
        """
        try:
            for _ in range(PLUGS_MAX):
                sent = self._runtime.now()
                ended = body(self._store.wave([self._probes(known)[1]])[0]) is not None
                state = self._reader.follow(known)
                if ended and state.dropped_at is None:  # the drop was there before: its log has been wiped since
                    raise ObjectGone(f"the log of {known.record.path} has been wiped")
                if state.dropped_at is not None and state.base.folded_to < number:
                    self._judge_dropped(state, number, ended=ended, young=self._is_young(created))
                if not self._is_young(sent):
                    continue
                if state.base.folded_to >= number:
                    self._find_folded(state, number, draft, settled=created is not None)
                    return Known(state, sent)
                if state.position >= number:
                    self._find_in_tail(state, number, draft)
                    return Known(state, sent)
                self._plug(state)
        except ObjectGone as error:
            wiped = False
            with suppress(StoreError):  # who cannot tell must not say that nothing was appended
                wiped = body(self._store.wave([self._probes(known)[1]])[0]) is not None
            if wiped and self._is_young(created):  # data go a grace period after the drop, so the create came after it
                raise IndexNotFound(known.record.path) from error
            raise OutcomeUnknown(f"entry {number} was created, and its log has been collected") from error
        except StoreError as error:
            raise OutcomeUnknown(f"entry {number} was created, but not confirmed: {error}") from error
        raise OutcomeUnknown(f"entry {number} was created, but the log below it could not be completed")

    def _is_young(self, sent: Instant | None) -> bool:
        return sent is not None and sent.until(self._runtime.now()) <= self._grace.wave_s

    def _judge_dropped(self, state: State, number: int, *, ended: bool, young: bool) -> None:
        """What a drop in the log says of our entry; raises unless it stands or is the drop itself.

        Once the catalog knows of the drop (`ended`) the log may be half wiped, and late requests may stand in it. Who
        created an entry just now knows that it came after a drop below it; nothing else can be told.
        """
        dropped_at = state.dropped_at or 0
        if dropped_at < number and (young or not ended):
            raise IndexNotFound(state.record.path)
        if ended and not (young and dropped_at == number):
            raise OutcomeUnknown(f"the index was dropped while entry {number} was under way")

    def _find_in_tail(self, state: State, number: int, draft: Draft) -> None:
        ids = {entry.number: entry.write_id for entry in state.tail}
        if ids.get(number, draft.write_id) != draft.write_id:
            raise OutcomeUnknown(f"entry {number} of the log is another's")

    def _find_folded(self, state: State, number: int, draft: Draft, *, settled: bool) -> None:
        """Manifests from the newest down to the one that folded the entry name its write id. 1 GET each."""
        base = state.base
        while True:
            ids = {entry.number: entry.write_id for entry in base.folded}
            if ids.get(number) == draft.write_id:
                return
            if number in ids and settled:  # the number was taken and folded long ago; ours is a ghost below it
                raise _Lost
            if number in ids or base.number <= 1:
                raise OutcomeUnknown(f"no manifest tells what became of entry {number}")
            key = paths.manifest(state.uid, base.number - 1)
            raw = body(self._store.wave([Get(key)])[0])
            before = None if raw is None else manifests.decode(key, raw)
            if before is None or before.write_id != base.parent:
                raise OutcomeUnknown(f"the manifest that folded entry {number} has been collected")
            base = before

    def _plug(self, state: State) -> None:
        """Fill the empty number above a state: no entry above it counts until it exists. 1 PUT."""
        empty = encode_bare(Kind.EMPTY, self._runtime.token())
        create(self._store, self._runtime, PutNew(paths.log_entry(state.uid, state.position + 1), empty))

    def _decode(self, state: State, number: int, raw: bytes) -> LogEntry:
        key = paths.log_entry(state.uid, number)
        return entries.decode(key, raw, number, state.config.dimension)
