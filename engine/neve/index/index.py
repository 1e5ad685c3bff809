"""One index as a process knows it: reads that share waves, writes that share entries, folds in the background."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

from neve.dataclass import dataclass
from neve.errors import ImportEnded, ImportOpen, IndexNotFound, NeveError, ObjectGone, PageTokenInvalid
from neve.index import paths
from neve.index.append import Appender, Draft
from neve.index.consistency import STRONG, Consistency
from neve.index.entry import Kind, Write, encode_bare, encode_begin, encode_configure, encode_end, encode_writes
from neve.index.fold import fold, fold_is_due, rebase
from neve.index.grace import GROUP_BYTES_MAX, Grace
from neve.index.group import Pending, WriteGroups
from neve.index.manifest import Import
from neve.index.reader import Ahead, Known, Reader
from neve.index.records import IndexRecord, encode_dropped
from neve.index.state import State
from neve.runtime import Runtime, Signal
from neve.store.create import create
from neve.store.port import PutNew, Store

COURTESY_S_MIN, COURTESY_S_MAX = 0.001, 1.0
COURTESY_FADING = 0.9
"""Who has met another writer pauses up to about one wave before each entry, less with each that met none: a winner
knows the head at once, a loser has to learn it first, and would lose for ever."""


Result = TypeVar("Result")


@dataclass(slots=True)
class _Flight:
    """A freshness wave that readers share; who arrives after it was sent takes the next one."""

    landed: Signal
    known: Known | None = None
    error: BaseException | None = None


class Index:
    """Handle of one index by name; cheap, thread-safe, and right after the index is dropped and made again."""

    def __init__(
        self,
        store: Store,
        runtime: Runtime,
        grace: Grace,
        bucket: str,
        name: str,
        arranged: Callable[[State], None] = lambda _: None,
    ) -> None:
        """`arranged` is told, soon and briefly, of each state with a manifest that was not known before."""
        self._store = store
        self._arranged = arranged
        self._runtime = runtime
        self._bucket = bucket
        self._name = name
        self._reader = Reader(store, runtime, grace)
        self._appender = Appender(store, runtime, grace, self._reader)
        self._groups = WriteGroups(runtime, self._commit, GROUP_BYTES_MAX)
        self._lock = threading.Lock()
        self._known: Known | None = None
        self._under_way: _Flight | None = None
        self._boarding: _Flight | None = None
        self._folding = False
        self._quiet = True
        self._append_s = 0.0
        self._courtesy_s = 0.0

    @property
    def known(self) -> State | None:
        """What this process knows of the index, however old; None before it is read and after it is dropped."""
        known = self._known
        return None if known is None else known.state

    def read(self, consistency: Consistency = STRONG, ahead: Ahead | None = None) -> State:
        """The state of the index, no older than asked. Strong and warm: one wave of 3 small GETs while nobody writes.

        A cold index is opened, with what lies `ahead` beside (see Reader.open). Raises IndexNotFound, StoreError.
        """
        known = self._known
        if known is not None and self._is_fresh(known, consistency):
            return known.state
        return self._fresh(ahead).state

    def _is_fresh(self, known: Known, consistency: Consistency) -> bool:
        """Whether knowledge is young enough without another wave."""
        bounded_s = consistency.bounded_s
        return bounded_s is not None and known.confirmed.until(self._runtime.now()) <= bounded_s

    def read_with(
        self, use: Callable[[State], Result], consistency: Consistency = STRONG, ahead: Ahead | None = None
    ) -> Result:
        """What `use` makes of a state as of `read`; where something that it names has been collected, of the newest.

        That happens to who reads more slowly, or goes by older knowledge, than the grace period allows. While a wave
        confirms what is known, `use` is already at work on it; where nobody wrote, no time is lost, else it is done
        again. So it must not mind to be.
        """
        known = self._known
        try:
            if known is None or not self._quiet or self._is_fresh(known, consistency):
                return use(self.read(consistency, ahead))
            guess: Future[Result] = Future()
            fresh = self._runtime.beside(self._fresh, lambda: _fulfil(guess, use, known.state))
            if guess.done() and fresh.state is known.state:
                return guess.result()
            return use(fresh.state)
        except ObjectGone:
            return use(self.read())

    def read_at(self, uid: str, manifest: int, position: int, arrangement: int) -> State:
        """The very state that a page token names; raises PageTokenInvalid, IndexNotFound."""
        state = self._known_or_open().state
        if state.uid != uid:
            state = self.read()
        if state.uid != uid:
            raise IndexNotFound(f"{self._bucket}/{self._name}")
        if (state.manifest, state.position) != (manifest, position):
            state = self._reader.read_at(state.record, manifest, position)
        if state.arrangement() != arrangement:  # an entry has been collected, and a late request took its place
            raise PageTokenInvalid("the state that the page token names is gone")
        return state

    def write(self, prepare: Callable[[IndexRecord], Write], invocation: str | None = None) -> None:
        """Commit what `prepare` makes for the index: all of it or nothing. Warm: one wave of 1 PUT and 2 GETs.

        `prepare` is a pure function that may raise to refuse; its refusal is checked on fresh knowledge of the index.
        It must not repeat a key. A repeat of an `invocation` that is still on record is answered, not applied again.
        Raises what `prepare` raises, IndexNotFound, OutcomeUnknown, StoreError.
        """
        state = self._known_or_open().state
        try:
            write = prepare(state.record)
        except Exception:
            fresh = self.read()
            if fresh.uid == state.uid:
                raise
            state, write = fresh, prepare(fresh.record)
        signal = self._runtime.signal()
        self._groups.submit(Pending(lambda other: prepare(other.record), invocation, state, write, signal))

    def rewrite(self, decide: Callable[[State], Write], invocation: str | None = None) -> None:
        """Commit what `decide` makes of the newest state, right after that state: no news of others come in between.

        `decide` may raise to refuse. Whenever others were first it is asked again, on the state after their news, maybe
        by another thread while this one waits, and must keep to the keys that it named first. A write without keys is
        none. Warm, alone: one wave of 3 GETs, what `decide` reads, and one of 1 PUT and 2 GETs. Raises as `write` does,
        StoreUnavailable too when others have been first for 30 s.
        """
        state = self.read()
        if invocation is not None and state.answered(invocation):
            return
        pending = Pending(decide, invocation, state, decide(state), self._runtime.signal(), follows_state=True)
        if pending.keys:
            self._groups.submit(pending)

    def tag(self, change: Callable[[Mapping[str, str]], Mapping[str, str]], invocation: str | None = None) -> None:
        """Replace the tags by `change` of them; asked again after a lost race. Raises as `write` does."""
        self._configure(lambda state: (change(state.tags), state.settings), invocation)

    def configure(
        self, change: Callable[[Mapping[str, float]], Mapping[str, float]], invocation: str | None = None
    ) -> None:
        """Replace the settings by `change` of them; asked again after a lost race. Raises as `write` does."""
        self._configure(lambda state: (state.tags, change(state.settings)), invocation)

    def _configure(
        self, change: Callable[[State], tuple[Mapping[str, str], Mapping[str, float]]], invocation: str | None
    ) -> None:
        def draft(state: State) -> Draft | None:
            if invocation is not None and state.answered(invocation):
                return None
            write_id = self._runtime.token()
            calls = () if invocation is None else (invocation,)
            return Draft(encode_configure(*change(state), calls, write_id), write_id, follows_state=True)

        self.read()
        self._append(draft)

    def drop(self) -> None:
        """Drop the index: of several callers one wins, the others get IndexNotFound. Raises as `write` does."""
        write_id = self._runtime.token()
        draft = Draft(encode_bare(Kind.DROP, write_id), write_id)
        self._append(lambda _: draft)

    def begin_import(self, source: str) -> tuple[State, Import]:
        """The open import of a source (its digest), begun if there is none, and a state in which it is open.

        Raises ImportOpen where that of another source is open, and as `write` does.
        """

        def draft(state: State) -> Draft | None:
            for found in state.imports:
                if found.source != source:
                    raise ImportOpen(state.record.path)
                return None
            write_id = self._runtime.token()
            return Draft(encode_begin(source, state.manifest, write_id), write_id, follows_state=True)

        self.read()
        state = self._append(draft).state
        if not state.imports:  # it has ended as soon as it had begun
            raise ImportEnded(state.record.path)
        return state, state.imports[0]

    def attach_import(self, import_id: str) -> State:
        """Attach an import whose segments a manifest names as pending, unless it is attached; the state after that.

        Raises ImportEnded where it has been abandoned, and as `write` does.
        """

        def draft(state: State) -> Draft | None:
            if state.answered(import_id):
                return None
            opened = state.open_import(import_id)
            if opened is None or opened.pending is None:  # an attach of what is not known could never be read
                raise ImportEnded(state.record.path)
            write_id = self._runtime.token()
            return Draft(encode_end(Kind.ATTACH, import_id, write_id), write_id, follows_state=True)

        self.read()
        return self._append(draft).state

    def abandon_import(self) -> Import | None:
        """Abandon for good the import that is open, and say which; None: there is none. Raises as `write` does."""
        abandoned: list[Import] = []

        def draft(state: State) -> Draft | None:
            abandoned[:] = state.imports
            if not abandoned:
                return None
            write_id = self._runtime.token()
            return Draft(encode_end(Kind.ABANDON, abandoned[0].id, write_id), write_id, follows_state=True)

        self.read()
        self._append(draft)
        return abandoned[0] if abandoned else None

    def fold(self) -> None:
        """Fold the tail until it is within its bound, whoever else folds. Raises StoreError, OutcomeUnknown."""
        while True:
            state = self._fresh().state
            if not state.tail:
                return
            folded = fold(self._store, self._runtime, state)
            if folded is not None:
                self._adopt(folded)
            known = self._known
            if known is None or not fold_is_due(known.state):
                return

    def _append(self, draft: Callable[[State], Draft | None]) -> Known:
        """Append to the index that has the name now: knowledge of one that is gone is no reason to refuse."""
        before = self._known_or_open()
        if self._courtesy_s > COURTESY_S_MIN:
            self._runtime.sleep(self._runtime.uniform(0, self._courtesy_s))
        begun = self._runtime.now()
        while True:
            try:
                known = self._install(self._appender.append(before, draft))
                break
            except IndexNotFound:
                before = self._fresh()
        took_s = begun.until(self._runtime.now())
        if known.state.uid == before.state.uid and known.state.position > before.state.position + 1:
            self._courtesy_s = min(self._append_s or took_s, COURTESY_S_MAX)
        else:
            self._append_s, self._courtesy_s = took_s, self._courtesy_s * COURTESY_FADING
        crossed = fold_is_due(known.state) and not fold_is_due(before.state)
        if crossed or fold_is_due(known.state, times=2):
            self._fold_soon()
        return known

    def _commit(self, group: list[Pending]) -> None:
        """Append one entry of a group's writes; each write's own refusal becomes its error."""

        def draft(state: State) -> Draft | None:
            valid = [p for p in group if self._still_valid(p, state)]
            if not valid:
                return None
            write_id = self._runtime.token()
            calls = [p.invocation for p in valid if p.invocation is not None]
            body = encode_writes([p.write for p in valid], calls, write_id)
            return Draft(body, write_id, any(p.follows_state for p in valid))

        self._append(draft)

    @staticmethod
    def _still_valid(pending: Pending, state: State) -> bool:
        """Whether a write still has to be applied, made anew for another index or, where it follows one, state."""
        if pending.error is not None or (pending.invocation is not None and state.answered(pending.invocation)):
            return False
        if pending.state.uid != state.uid or (pending.follows_state and pending.state is not state):
            try:
                pending.state, pending.write = state, pending.prepare(state)
            except Exception as error:
                pending.error = error
                return False
        return bool(pending.write.puts.keys or pending.write.deletes)

    def _fresh(self, ahead: Ahead | None = None) -> Known:
        """Knowledge confirmed by a wave that was sent after this call began; concurrent callers share one."""
        with self._lock:
            leads = self._boarding is None
            flight = self._boarding = self._boarding or _Flight(self._runtime.signal())
            before = self._under_way
        if leads:
            if before is not None:
                before.landed.wait()
            with self._lock:
                self._boarding, self._under_way = None, flight
            try:
                flight.known = self._install(self._refresh(ahead))
            except BaseException as error:
                flight.error = error
                if not isinstance(error, Exception):
                    raise
            finally:
                with self._lock:
                    self._under_way = None
                flight.landed.set()
        else:
            flight.landed.wait()
        if flight.error is not None:
            raise flight.error
        if flight.known is None or flight.known.state.dropped_at is not None:
            raise IndexNotFound(f"{self._bucket}/{self._name}")
        if fold_is_due(flight.known.state, times=2):
            self._fold_soon()
        return flight.known

    def _refresh(self, ahead: Ahead | None) -> Known:
        known = self._known
        if known is None:
            return self._reader.open(self._bucket, self._name, ahead)
        fresh = self._reader.refresh(known)
        self._quiet = fresh.state is known.state
        return fresh

    def _known_or_open(self) -> Known:
        return self._known or self._fresh()

    def _install(self, known: Known) -> Known:
        """Keep what is newest of what is known; of a dropped index nothing."""
        state = known.state
        if state.dropped_at is not None:
            self._forget(state)
            return known
        with self._lock:
            held = self._known
            if held is not None and held.state.uid == state.uid:
                if held.state.manifest > state.manifest:
                    known = Known(rebase(held.state, state), known.confirmed)
                elif held.state.position > state.position:
                    known = Known(rebase(state, held.state), held.confirmed)
            elif held is not None and known.confirmed.until(held.confirmed) > 0:
                return held
            self._known = known
        if held is None or (held.state.uid, held.state.manifest) != (known.state.uid, known.state.manifest):
            self._arranged(known.state)
        return known

    def _adopt(self, folded: State) -> None:
        """Take over the arrangement of a fold of ours; what it confirms is as old as what we knew."""
        with self._lock:
            held = self._known
            if held is not None and held.state.uid == folded.uid and held.state.manifest < folded.manifest:
                self._known = Known(rebase(folded, held.state), held.confirmed)
        self._arranged(folded)

    def _forget(self, dropped: State) -> None:
        """Absence is never remembered. Anyone who sees a drop writes the catalog's record of it, 1 PUT at most."""
        with self._lock:
            if self._known is not None and self._known.state.uid == dropped.uid:
                self._known = None
        record = dropped.record
        key = paths.catalog_record(record.bucket, record.name, record.seq + 1)
        with suppress(NeveError):
            create(self._store, self._runtime, PutNew(key, encode_dropped(record.uid, self._runtime.token())))

    def _fold_soon(self) -> None:
        with self._lock:
            if self._folding:
                return
            self._folding = True
        self._runtime.spawn(self._fold_in_background)

    def _fold_in_background(self) -> None:
        try:
            with suppress(NeveError):  # the next writer at twice the bound folds; what a failed fold wrote is collected
                self.fold()
        finally:
            with self._lock:
                self._folding = False


def _fulfil(guess: Future[Result], use: Callable[[State], Result], state: State) -> None:
    try:
        guess.set_result(use(state))
    except Exception as error:
        guess.set_exception(error)
