"""The protocol of one index as programs of its actors: write, read, fold, compact, collect.

Each method is a program, or a part of one, in the form that `protocol_search` runs: it yields waves of requests and is
sent their replies. It is the formal companion of `engine/spec/protocol.md`. Where a rule can be broken on purpose the
code asks `self.mutant`, so that the tests can show what the rule is for.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from tests.model.protocol_mutants import Mutant
from tests.model.protocol_search import Confirmed, Program, Replies, Tell, Wave
from tests.model.protocol_store import (
    ABSENT,
    CREATED,
    EXISTS,
    NO_MANIFEST,
    NONE,
    UNKNOWN,
    Arrive,
    Delete,
    Entry,
    Get,
    Inventory,
    ListChain,
    Listing,
    ListLog,
    ListManifests,
    Manifest,
    Object,
    Path,
    PutNew,
    Request,
    Segment,
    View,
    after,
    arranged,
    catalog,
    file,
    log,
    manifest,
)


class Knowledge(NamedTuple):
    """What an actor knows of an index: catalog record k, manifest m, log up to n, and the rows these make."""

    k: int
    uid: str
    m: int
    n: int
    base: frozenset[str] = NONE  # rows of manifest m
    tail: tuple[tuple[int, Entry], ...] = ()  # entries above its folded_to, up to n

    @property
    def view(self) -> View:
        return View(self.uid, after(self.base, (entry for _, entry in self.tail)))


EMPTY = Entry("empty", "-")
Verdict = Generator[Any, Any, tuple[str, Knowledge]]
Found = tuple[Manifest, dict[int, Entry]]  # the newest manifest, and the log above its folded_to


class IndexProtocol:
    """The actors of one index.

    `names`: whether anyone touches the catalog here; if not, nobody asks it (fewer steps). `patience`: how often an
    actor begins again before it gives up without an answer.
    """

    def __init__(self, mutant: Mutant | None = None, *, names: bool = False, patience: int = 1) -> None:
        self.mutant = mutant
        self.names = names
        self.patience = patience

    def _fresh(self, replies: Replies) -> bool:
        """Judged on receipt of the last reply that is used: a young wave, on knowledge that is recent."""
        if self.mutant is Mutant.AGE_BEFORE_WAVE:
            return True
        return replies.young and (replies.recent or self.mutant is Mutant.OLD_KNOWLEDGE)

    # Write ------------------------------------------------------------------------------------------------------

    def write(self, entry: Entry, know: Knowledge | None) -> Program:
        """PutVectors, DeleteVectors or a setting: its entry once in the log, and the client told so."""
        arrives = know is None
        if know is None:
            know = yield from self.load(arrives=True)
        verdict, tried = "not found", ""
        while know is not None and know.uid not in ("", tried):
            tried = know.uid
            verdict, know = yield from self.append(entry, know, arrives=self.names and not arrives)
            arrives = True
            if verdict == "not found" and self.names:  # of this uid; the name may have another by now
                know = yield from self.load()
        if know is not None:
            yield Tell(verdict, entry.id)

    def append(self, entry: Entry, know: Knowledge, *, arrives: bool = True) -> Verdict:
        """`acknowledged`, `not found`, `unknown` (or, of a mutant, `refused`), and what is known then."""
        number, losses, verdict = know.n + 1, 0, "again"
        while verdict == "again":
            replies = yield Wave(self._try(entry, know, number), arrives=arrives)
            arrives, put = False, replies.answers[0]
            probes, lower = replies.answers[1 : 2 + self.names], replies.answers[2 + self.names :]
            current = self._fresh(replies) and self._nothing_newer(probes)
            if put == UNKNOWN:
                verdict = yield from self._settle(entry, log(know.uid, number))
            elif current and any(below is not None and below.ends for below in lower):
                verdict = "look" if None in lower else "not found"
            elif current and put == CREATED:
                verdict = yield from self._fill(know.uid, know.n + 1, lower)
            elif current and losses < 2:  # lost: the next number at once, the winner read beside it
                number, losses = number + 1, losses + 1
            else:
                verdict = "look"
            if verdict == "next":
                number, verdict = number + 1, "again"
            if verdict == "look":
                gone = self.names and probes[1] is not None
                verdict, know = yield from self._resolve(entry, know, number, put, gone)
                number, losses = know.n + 1, 0
        return verdict, know

    def _try(self, entry: Entry, know: Knowledge, number: int) -> tuple[Request, ...]:
        probes: tuple[Request, ...] = (Get(manifest(know.uid, know.m + 1)),)
        if self.names:
            probes += (Get(catalog(know.k + 1)),)
        between = tuple(Get(log(know.uid, below)) for below in range(know.n + 1, number))
        return (PutNew(log(know.uid, number), entry), *probes, *between)

    def _nothing_newer(self, probes: tuple[object, ...]) -> bool:
        manifest_next, catalog_next = probes[0], probes[1] if self.names else None
        return (manifest_next is None or self.mutant is Mutant.NO_MANIFEST_PROBE) and (
            catalog_next is None or self.mutant is Mutant.NO_CATALOG_PROBE
        )

    def _fill(self, uid: str, first: int, lower: tuple[Entry | None, ...]) -> Generator[Any, Any, str]:
        """Our entry is in the log: plug the holes below it."""
        holes = [first + i for i, below in enumerate(lower) if below is None]
        if not holes or self.mutant is Mutant.HOLE_BELOW:
            return "acknowledged"
        replies = yield Wave(tuple(PutNew(log(uid, hole), EMPTY) for hole in holes), starts=False)
        plugged = all(answer == CREATED for answer in replies.answers)
        return "acknowledged" if plugged and self._fresh(replies) else "look"

    def _settle(self, entry: Entry, path: Path) -> Generator[Any, Any, str]:
        """After an unknown outcome read back; absent = the same key and bytes again, never another key."""
        tries = 0
        while tries <= self.patience:
            tries += 1
            replies = yield Wave((Get(path),), starts=False)
            found = replies.answers[0]
            if found is not None and self.mutant is Mutant.ID_IGNORED:
                return "acknowledged"
            if found is None and self.mutant is Mutant.NOT_WRITTEN:
                return "refused"
            if found is None and self.mutant is Mutant.OTHER_NUMBER:
                return "next"
            if found not in (None, entry) and self.mutant is Mutant.OTHER_ID_LOST:
                return "next"
            if found is not None:
                return "look"
            replies = yield Wave((PutNew(path, entry),), starts=False)
            if replies.answers[0] != UNKNOWN:
                return "look"
        return "unknown"

    def _resolve(self, entry: Entry, know: Knowledge, number: int, put: str, gone: bool) -> Verdict:
        """LIST: what became of our entry at `number`, or where the head is now.

        `gone`: a later catalog record was seen. That question comes before the LIST of the data: a log that shows no
        drop although one was recorded before it was listed has been wiped, or is being wiped.
        """
        attempts = 0
        while attempts < self.patience:
            attempts += 1
            asked = self.names and not gone
            if asked:
                replies = yield Wave((ListChain("catalog"),))
                k, record = replies.answers[0]
                gone = k != know.k or record.uid != know.uid
            listing, found, replies = yield from self.list(know.uid, starts=not asked)
            if not (replies.young or self.mutant is Mutant.AGE_BEFORE_WAVE) or found is None:
                continue
            yield Confirmed()
            verdict = self._verdict(entry, number, put, *found, gone=gone, prompt=replies.prompt)
            if verdict == "plug":
                holes = tuple(hole for hole in range(found[0].folded_to + 1, number) if hole not in found[1])
                replies = yield Wave(tuple(PutNew(log(know.uid, hole), EMPTY) for hole in holes), starts=False)
                continue
            now = self._known(know.k, know.uid, listing.newest, *found)
            return "not found" if verdict == "again" and (gone or not now.uid) else verdict, now
        return "unknown", know

    def _verdict(
        self,
        entry: Entry,
        number: int,
        put: str,
        base: Manifest,
        entries: Mapping[int, Entry],
        *,
        gone: bool,
        prompt: bool,
    ) -> str:
        """What a LIST (and GETs) say about our try at `number`: pure."""
        if number <= base.folded_to:
            recorded = dict(base.fold).get(number)
            if recorded is None:
                return "again" if put == EXISTS else "unknown"
            return "acknowledged" if recorded == entry.id else "again"
        ours, dropped_at = entries.get(number), min((at for at, other in entries.items() if other.ends), default=None)
        whole = all(below in entries for below in range(base.folded_to + 1, min(number, dropped_at or number)))
        if gone:  # the log may be wiped already, or half wiped: only a drop that is older than our call is sure
            counted = ours == entry and dropped_at is not None and dropped_at > number
            if counted and whole and self.mutant is Mutant.TRUSTED_DEAD_LOG:
                return "acknowledged"
            sure = prompt or self.mutant is Mutant.NOT_FOUND_AFTER_SLEEP
            return "not found" if sure and not counted else "unknown"
        if not whole and self.mutant is not Mutant.HOLE_BELOW:
            return "plug"
        if dropped_at is not None and dropped_at < number:
            return "not found"
        if ours is None:
            return "again" if put == EXISTS else "unknown"
        return "acknowledged" if ours == entry else "again"

    # Read -------------------------------------------------------------------------------------------------------

    def read(self, know: Knowledge | None, reads: int = 1) -> Program:
        """A client that queries: warm where something is known, else cold."""
        while reads:
            reads -= 1
            probed, late = know is not None, self.mutant is Mutant.JOINED_LATE
            if know is not None:
                probes = (Get(log(know.uid, know.n + 1)), Get(manifest(know.uid, know.m + 1)))
                chain = (Get(catalog(know.k + 1)),) if self.names else ()
                replies = yield Wave((*probes, *chain, *((Arrive(),) if late else ())), arrives=not late)
                answers = replies.answers[: 2 + self.names]
                if self._fresh(replies) and not any(answers):
                    yield Confirmed()
                elif self._fresh(replies) and self._nothing_newer((None, *answers[2:])):
                    know = yield from self._catch_up(know, answers[0])
                else:
                    know = None
            if know is None:
                know = yield from self.load(arrives=not probed)
            if know is not None:
                yield Tell("read", know.view if know.uid else ABSENT)
                know = know if know.uid else None

    def _catch_up(self, know: Knowledge, following: Entry | None) -> Generator[Any, Any, Knowledge | None]:
        """Some probe was 200: LIST ∥ GET of the entry after next, then what is missing. None: start afresh, cold."""
        replies = yield Wave((ListLog(know.uid, know.n), Get(log(know.uid, know.n + 2))), starts=False)
        numbers, ahead = replies.answers
        replies = yield Wave((ListManifests(know.uid),), starts=False)
        listing = Listing(numbers, replies.answers[0])
        news = ((know.n + 1, following), (know.n + 2, ahead))
        have = {**dict(know.tail), **{number: entry for number, entry in news if entry is not None}}
        # an attach that the LIST does not show has happened since
        have = {n: entry for n, entry in have.items() if entry.kind != "attach" or n in listing.log or n <= know.n}
        missing = tuple(number for number in listing.log if number not in have)
        newer = (Get(manifest(know.uid, listing.newest)),) if listing.newest != know.m else ()
        gets = (*newer, *(Get(log(know.uid, number)) for number in missing))
        if gets:
            replies = yield Wave(gets, starts=False, ordered=True)
        answers: tuple[Any, ...] = replies.answers if gets else ()
        if not self._fresh(replies) or None in answers:
            return None
        yield Confirmed()
        entries = {**have, **dict(zip(missing, answers[len(newer) :], strict=True))}
        attached = any(entry.kind == "attach" for number, entry in entries.items() if number > know.n)
        if attached and not newer and self.mutant is not Mutant.UNKNOWN_ATTACH:
            return None
        base = answers[0] if newer else NO_MANIFEST._replace(segments=frozenset({Segment("known", 0, know.base)}))
        if not newer:
            base = base._replace(folded_to=know.n - len(know.tail))
        return self._known(know.k, know.uid, listing.newest, base, entries)

    def load(self, *, arrives: bool = False) -> Generator[Any, Any, Knowledge | None]:
        """The index from its names alone: LIST of the catalog, LIST of its data, what these name.

        Uid "" if there is no index; None if the store changed faster than it was read.
        """
        attempts = 0
        while attempts < self.patience:
            attempts += 1
            replies = yield Wave((ListChain("catalog"),), arrives=arrives)
            arrives, (k, record) = False, replies.answers[0]
            if record is None or not record.live:
                return Knowledge(k, "", 0, 0)
            listing, found, replies = yield from self.list(record.uid, starts=False)
            if not (replies.young or self.mutant is Mutant.AGE_BEFORE_WAVE) or found is None:
                continue
            yield Confirmed()
            if listing.empty and not record.opens:
                return Knowledge(k, "", 0, 0)  # not opened yet
            return self._known(k, record.uid, listing.newest, *found)
        return None

    def list(self, uid: str, *, starts: bool = True) -> Generator[Any, Any, tuple[Listing, Found | None, Replies]]:
        """LIST of an index's data, and GETs of all that it shows; the last replies say how old all this is now."""
        replies = yield Wave((ListLog(uid),), starts=starts)
        numbers = replies.answers[0]
        replies = yield Wave((ListManifests(uid),), starts=False)
        newest, gets = replies.answers[0], tuple(Get(log(uid, number)) for number in numbers)
        gets = (Get(manifest(uid, newest)), *gets) if newest else gets
        if gets:
            replies = yield Wave(gets, starts=False, ordered=True)
        listing = Listing(numbers, newest)
        return listing, self._found(listing, replies.answers if gets else ()), replies

    @staticmethod
    def _found(listing: Listing, answers: tuple[Any, ...]) -> Found | None:
        """Manifest and entries that those GETs brought; None if one that is needed has gone since the LIST."""
        base = answers[0] if listing.newest else NO_MANIFEST
        entries = dict(zip(listing.log, answers[len(answers) - len(listing.log) :], strict=True))
        if base is None or any(entry is None and number > base.folded_to for number, entry in entries.items()):
            return None
        return base, {number: entry for number, entry in entries.items() if number > base.folded_to}

    @staticmethod
    def _known(k: int, uid: str, m: int, base: Manifest, entries: Mapping[int, Entry]) -> Knowledge:
        """Any manifest with the contiguous log after it is one state; uid "" if a drop counts in it."""
        tail, number = [], base.folded_to + 1
        while number in entries:
            if entries[number].ends:
                return Knowledge(k, "", m, number)
            tail.append((number, entries[number]))
            number += 1
        return Knowledge(k, uid, m, number - 1, arranged(base, (one for _, one in tail)).rows, tuple(tail))

    # Manifests --------------------------------------------------------------------------------------------------

    def create(self, path: Path, item: Object) -> Generator[Any, Any, bool | None]:
        """put_new with the rule for unknown outcomes: ours, another's, or (None) never known."""
        tries = 0
        while tries <= self.patience:
            tries += 1
            replies = yield Wave((PutNew(path, item),))
            if replies.answers[0] != UNKNOWN and tries == 1:
                return bool(replies.answers[0] == CREATED)
            replies = yield Wave((Get(path),))
            if replies.answers[0] is not None:
                return bool(replies.answers[0] == item) or self.mutant is Mutant.ID_IGNORED
            if self.mutant is Mutant.NOT_WRITTEN:
                return False
        return None

    def newest(self, uid: str) -> Generator[Any, Any, tuple[int, Manifest, tuple[tuple[int, Entry], ...]] | None]:
        """LIST and GETs: the newest manifest and the contiguous log above it, without a drop and what follows."""
        listing, found, _ = yield from self.list(uid)
        if found is None:
            return None
        tail, number = [], found[0].folded_to + 1
        while number in found[1] and not found[1][number].ends:
            tail.append((number, found[1][number]))
            number += 1
        return listing.newest, found[0], tuple(tail)

    def fold(self, uid: str, name: str, folds: int = 1, merges: frozenset[str] = NONE) -> Program:
        """The tail and the flat segments that it `merges` become one flat segment; a loser plans anew."""
        attempts, won = 0, None
        while attempts < self.patience and folds:
            attempts += 1
            plan = yield from self.newest(uid)
            if plan is None or not plan[2]:
                continue
            parts = frozenset(part for part in plan[1].segments if part.name in merges)
            segment = self._folded(f"{name}{attempts}", *plan, parts)
            base = arranged(plan[1], (entry for _, entry in plan[2]))
            commit = base._replace(
                id=f"{name}{attempts}",
                parent=plan[1].id,
                folded_to=plan[2][-1][0],
                fold=tuple((number, entry.id) for number, entry in plan[2]),
                segments=base.segments - parts | {segment},
            )
            yield Wave((PutNew(file(uid, segment), segment),))
            won = yield from self.create(manifest(uid, plan[0] + 1), commit)
            folds = folds if won is False else folds - 1

    def _folded(
        self, name: str, planned: int, base: Manifest, tail: tuple[tuple[int, Entry], ...], parts: frozenset[Segment]
    ) -> Segment:
        """What a fold writes. A tombstone stays while a flat segment has an older row, or anything is compacted."""
        entries = [entry for _, entry in tail]
        hidden = NONE.union(*(segment.hides for segment in base.segments))
        rows = after(NONE.union(*(part.rows for part in parts)) - hidden, entries)
        hides = NONE.union(*(part.hides for part in parts), *(entry.removes for entry in entries))
        rest = base.segments - parts
        needed = base.compacted or (base.pending and self.mutant is not Mutant.PENDING_TOMBSTONES)
        if not needed or self.mutant is Mutant.TOMBSTONES_FORGOTTEN:
            hides &= NONE.union(*(segment.rows for segment in rest if not segment.compacted))
        return Segment(name, planned, rows, hides)

    def compact(self, uid: str, name: str, sources: frozenset[str] = NONE) -> Program:
        """All flat segments, and the compacted ones named, become one; it is long in the making.

        It is committed on whatever is newest by then, unless others have compacted meanwhile.
        """
        plan = yield from self.newest(uid)
        won: bool | None = False
        attempts = 0
        while plan is not None and won is False and attempts < self.patience:
            number, base, _ = plan
            if attempts == 0:
                planned = base
                parts = frozenset(p for p in base.segments if not p.compacted or p.name in sources)
                hidden = NONE.union(*(part.hides for part in parts))
                merged = Segment(
                    name, number, NONE.union(*(base.unmasked(part) for part in parts)) - hidden, compacted=True
                )
                yield Wave((PutNew(file(uid, merged), merged),))
            attempts += 1
            floor = 0 if self.mutant is Mutant.NO_WORK_FLOOR else base.floor
            beside = (base.compacted, base.masks) != (planned.compacted, planned.masks)
            decided = base.pending is not None and self.mutant is not Mutant.PENDING_COMPACTED
            if merged.planned < floor or decided or (beside and self.mutant is not Mutant.MASKS_OF_PLAN):
                break
            commit = base._replace(
                id=f"{name}.{attempts}",
                parent=base.id,
                fold=(),
                segments=(base.segments - base.compacted) - parts | (planned.compacted - parts) | {merged},
                masks=self._masks(base, planned, parts, merged),
            )
            won = yield from self.create(manifest(uid, number + 1), commit)
            if won is False:
                plan = yield from self.newest(uid)

    def _masks(
        self, base: Manifest, planned: Manifest, parts: frozenset[Segment], merged: Segment
    ) -> frozenset[tuple[str, str]]:
        """Those of the plan, what its flat inputs hide, and rows of inputs that a fold has merged since."""
        hidden = NONE.union(*(part.hides for part in parts))
        gone = [part for part in parts if not part.compacted and part not in base.segments]
        kept = planned.compacted - parts
        masks = {(name, row) for name, row in planned.masks if name in {segment.name for segment in kept}}
        if self.mutant is not Mutant.NO_MASKS:
            masks |= {(segment.name, row) for segment in kept for row in segment.rows & hidden}
        if self.mutant is not Mutant.INPUTS_REVIVED:
            masks |= {(merged.name, row) for part in gone for row in merged.rows & part.rows}
        return frozenset(masks)

    def configure_in_manifest(self, uid: str, setting: str) -> Program:
        """What a mutant does with a setting: commits it as a manifest."""
        replies = yield Wave((ListManifests(uid),), arrives=True)
        newest, base = replies.answers[0], NO_MANIFEST
        if newest:
            replies = yield Wave((Get(manifest(uid, newest)),))
            base = replies.answers[0]
        commit = base._replace(id=setting, parent=base.id, fold=(), settings=base.settings | {setting})
        won = yield from self.create(manifest(uid, newest + 1), commit)
        yield Tell("acknowledged" if won else "unknown", setting)

    # Collection -------------------------------------------------------------------------------------------------

    def collect_chains(self, uid: str, grace: int, day: int, rounds: int = 1) -> Program:
        """Log entries folded, and manifests superseded, long enough ago by the store's own times."""
        while rounds:
            rounds -= 1
            replies = yield Wave((Inventory(("log", "manifest"), uid),))
            ages = replies.answers[0]
            chain = [(path, age, one) for path, age, one in ages if path.kind == "manifest"]
            old = [one for _, age, one in chain if age >= grace or self.mutant is Mutant.OWN_CLOCK]
            folded_to = old[-1].folded_to if old else 0
            entries = [path for path, _, _ in ages if path.kind == "log" and path.number <= folded_to]
            stale = [path for (path, _, _), (_, age, _) in pairwise(chain) if age >= day]
            requests = tuple(Delete(path) for path in (*entries, *stale))
            if requests:
                yield Wave(requests)

    def collect_segments(self, uid: str, name: str, grace: int) -> Program:
        """Unnamed segments: first a work_floor, then those planned below it that nothing has named for long enough."""
        plan = yield from self.newest(uid)
        if plan is None:
            return
        if self.mutant is not Mutant.NO_WORK_FLOOR:
            number, base, _ = plan
            commit = base._replace(id=name, parent=base.id, fold=(), floor=number + 1)
            yield from self.create(manifest(uid, number + 1), commit)
        replies = yield Wave((Inventory(("manifest", "segment"), uid),))
        found = replies.answers[0]
        chain = [(path, age, one) for path, age, one in found if path.kind == "manifest"]
        old = [path for path, age, _ in chain if age >= grace]
        used = [one for path, _, one in chain if not old or path >= old[-1]]
        files = [path for path, _, _ in found if path.kind == "segment"]
        named = {file(uid, segment) for one in used for segment in one.segments}
        floor = chain[-1][2].floor if chain else 0
        if self.mutant is Mutant.NO_WORK_FLOOR:
            floor = plan[0] + 1
        requests = tuple(Delete(path) for path in files if path not in named and path.number < floor)
        if requests:
            yield Wave(requests)
