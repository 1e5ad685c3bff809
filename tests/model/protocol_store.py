"""The store of the model, and what the protocol promises about it.

The store offers what a real one must: create if absent, read after write, LIST. It is an immutable map of named
objects; every change makes another map, so the search can go back to any of them. Beside it stands the *truth*: the one
order of everything that took effect, which no actor sees and against which every answer is judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import ClassVar, NamedTuple

CREATED, EXISTS, UNKNOWN = "created", "exists", "unknown"
NONE: frozenset[str] = frozenset()


class Entry(NamedTuple):
    """log/<n>: `open`, `write`, `delete` (of the row that its id ends with), `configure`, `drop`, `empty` (a plug).

    `begin` of an import whose row its id ends with, and `attach`, whose id is that row. A row i/a has the key of row a.
    `undo` is the drop by a CreateIndex that finds its bucket gone, told apart so that the truth can judge it.
    """

    kind: str
    id: str

    @property
    def is_news(self) -> bool:
        """Whether queries see it."""
        return self.kind in ("write", "delete", "configure")

    @property
    def removes(self) -> frozenset[str]:
        """The row that it deletes, and what else has its key."""
        row = self.id.split()[-1]
        return frozenset({row, row.split("/")[-1]}) if self.kind == "delete" else NONE

    @property
    def adds(self) -> frozenset[str]:
        return frozenset({self.id}) if self.is_news and self.kind != "delete" else NONE

    @property
    def ends(self) -> bool:
        """Whether nothing counts after this entry."""
        return self.kind in ("drop", "undo")


class Segment(NamedTuple):
    """An immutable file of rows; `planned` is the manifest its work started from.

    `hides`: older rows that a flat segment overrides or deletes, wherever they are.
    """

    name: str
    planned: int
    rows: frozenset[str]
    hides: frozenset[str] = NONE
    compacted: bool = False


class Manifest(NamedTuple):
    """manifest/<m>: how the log up to `folded_to` is arranged. `settings` is used by one mutant only.

    `masks`: (segment, row) for rows of compacted segments that no longer count. `begun`: where an open import began.
    `pending`, `pending_masks`: the compacted segments and masks as they will be once it is attached; None: not known.
    """

    id: str
    parent: str
    folded_to: int = 0
    fold: tuple[tuple[int, str], ...] = ()
    segments: frozenset[Segment] = frozenset()
    masks: frozenset[tuple[str, str]] = frozenset()
    floor: int = 0
    settings: frozenset[str] = NONE
    begun: int = 0
    pending: frozenset[Segment] | None = None
    pending_masks: frozenset[tuple[str, str]] = frozenset()

    @property
    def attached(self) -> Manifest:
        """With what is pending in place of what is compacted."""
        if self.pending is None:
            return self
        flat = self.segments - self.compacted
        return self._replace(
            segments=flat | self.pending, masks=self.pending_masks, begun=0, pending=None, pending_masks=frozenset()
        )

    @property
    def rows(self) -> frozenset[str]:
        """What a query sees of the segments: neither masked nor hidden."""
        hidden = NONE.union(*(segment.hides for segment in self.segments))
        return self.settings.union(*(self.unmasked(segment) for segment in self.segments)) - hidden

    @property
    def compacted(self) -> frozenset[Segment]:
        return frozenset(segment for segment in self.segments if segment.compacted)

    def unmasked(self, segment: Segment) -> frozenset[str]:
        return frozenset(row for row in segment.rows if (segment.name, row) not in self.masks)


def after(rows: frozenset[str], entries: Iterable[Entry]) -> frozenset[str]:
    """The rows after some entries."""
    for entry in entries:
        rows = (rows | entry.adds) - entry.removes
    return rows


def arranged(base: Manifest, entries: Iterable[Entry]) -> Manifest:
    """A manifest as the log above it would have it."""
    return base.attached if any(entry.kind == "attach" for entry in entries) else base


NO_MANIFEST = Manifest("nothing folded", "")


class Record(NamedTuple):
    """catalog/<k>: odd = created, even = dropped. `opens`: the index exists by it, not by `open` in its log."""

    id: str
    uid: str
    live: bool
    opens: bool = False


class Bucket(NamedTuple):
    """bucket/<j>: `open`, `closing` or `dropped`."""

    id: str
    status: str


Object = Entry | Segment | Manifest | Record | Bucket


class Path(NamedTuple):
    """The name of one object. `of` is the uid (for a segment uid/name), empty for catalog and bucket."""

    kind: str
    of: str
    number: int

    def __str__(self) -> str:
        return "/".join(str(part) for part in self if part != "")


def log(uid: str, number: int) -> Path:
    return Path("log", uid, number)


def manifest(uid: str, number: int) -> Path:
    return Path("manifest", uid, number)


def catalog(number: int) -> Path:
    return Path("catalog", "", number)


def bucket(number: int) -> Path:
    return Path("bucket", "", number)


def file(uid: str, segment: Segment) -> Path:
    return Path("segment", f"{uid}/{segment.name}", segment.planned)


class Get(NamedTuple):
    path: Path


class PutNew(NamedTuple):
    path: Path
    object: Object


class Append(NamedTuple):
    """What a writer of whom only the effect is of interest leaves: this entry, at the head of the log."""

    uid: str
    entry: Entry


class Delete(NamedTuple):
    path: Path


class ListLog(NamedTuple):
    """The first part of a LIST of data/<uid>/, which comes in the order of the names: log numbers above `after`."""

    uid: str
    after: int = 0


class ListManifests(NamedTuple):
    """Its second part, a step of its own, for no store promises a LIST of one moment: the newest manifest's number."""

    uid: str


class ListChain(NamedTuple):
    """LIST of a catalog or bucket chain and GET of its newest record; the answer is (number, record), or (0, None)."""

    kind: str


class Inventory(NamedTuple):
    """What a collector lists under a prefix, and GETs of it: every (path, age by the store's own times, object)."""

    kinds: tuple[str, ...]
    uid: str = ""


class Erase(NamedTuple):
    """Delete by prefix: what a store would do to whatever lies there *now*. Only a mutant asks for it."""

    kind: str


class Arrive(NamedTuple):
    """No request: a query comes in while a wave is under way. Only a mutant lets it join."""


Request = Get | PutNew | Append | Delete | ListLog | ListManifests | ListChain | Inventory | Erase | Arrive


class Listing(NamedTuple):
    """What both parts of a LIST showed."""

    log: tuple[int, ...]
    newest: int  # manifest; 0 = none

    @property
    def empty(self) -> bool:
        return not self.log and not self.newest


class Store:
    """An immutable map path → (object, age). Equal stores are one Python object, so they compare by identity."""

    __slots__ = ("ages", "objects")
    _all: ClassVar[dict[frozenset[tuple[Path, Object, int]], Store]] = {}
    objects: dict[Path, Object]
    ages: dict[Path, int]

    @classmethod
    def of(cls, objects: dict[Path, Object], ages: Mapping[Path, int]) -> Store:
        key = frozenset((path, item, ages.get(path, 0)) for path, item in objects.items())
        store = cls._all.get(key)
        if store is None:
            store = cls._all[key] = cls()
            store.objects, store.ages = objects, {path: ages.get(path, 0) for path in objects}
        return store

    def apply(self, request: Request) -> tuple[Store, object]:
        """One request, executed now: the store after it, and the reply."""
        match request:
            case Get(path):
                return self, self.objects.get(path)
            case PutNew(path, item):
                if path in self.objects:
                    return self, EXISTS
                return Store.of({**self.objects, path: item}, self.ages), CREATED
            case Delete(path):
                return self._without({path}), None
            case Erase(kind):
                return self._without({path for path in self.objects if path.kind == kind}), None
            case ListLog(uid, after):
                numbers = (path.number for path in self.objects if path.kind == "log" and path.of == uid)
                return self, tuple(sorted(number for number in numbers if number > after))
            case ListManifests(uid):
                return self, self.newest("manifest", uid)[0]
            case ListChain(kind):
                return self, self.newest(kind)
            case Inventory(kinds, uid):
                found = (path for path in self.objects if path.kind in kinds and path.of.startswith(uid))
                return self, tuple((path, self.ages[path], self.objects[path]) for path in sorted(found))
            case Append() | Arrive():
                return self, None  # an Append is executed as the create that it is

    def concrete(self, request: Request) -> Request:
        """An `Append` as the create that it is now; any other request as it is."""
        if not isinstance(request, Append):
            return request
        _, newest = self.newest("manifest", request.uid)
        number = newest.folded_to + 1 if isinstance(newest, Manifest) else 1
        while log(request.uid, number) in self.objects:
            number += 1
        return PutNew(log(request.uid, number), request.entry)

    def older(self, limits: Mapping[str, int]) -> Store:
        """The same store one unit of time later; beyond the limit of its kind an age makes no difference."""
        ages = {path: min(age + 1, limits.get(path.kind, 0)) for path, age in self.ages.items()}
        return Store.of(self.objects, ages)

    def newest(self, kind: str, of: str = "") -> tuple[int, Object | None]:
        number = max((path.number for path in self.objects if path.kind == kind and path.of == of), default=0)
        return number, self.objects.get(Path(kind, of, number))

    def _without(self, paths: set[Path]) -> Store:
        kept = {path: item for path, item in self.objects.items() if path not in paths}
        return Store.of(kept, self.ages) if len(kept) < len(self.objects) else self


class View(NamedTuple):
    """What a query may answer: the index of that uid with these rows, or (uid "") no index."""

    uid: str
    rows: frozenset[str]


ABSENT = View("", NONE)


class Event(NamedTuple):
    """`create`, `write`, `delete`, `configure`, `drop` or `undo`, at the moment it took effect."""

    kind: str
    uid: str
    id: str


class Truth(NamedTuple):
    """What took effect, in order; how many log entries of each uid count; what clients heard: done, refused."""

    history: tuple[Event, ...] = ()
    counted: frozenset[tuple[str, int]] = frozenset()
    acknowledged: frozenset[str] = NONE
    refused: frozenset[str] = NONE


@cache
def state_after(history: tuple[Event, ...]) -> View:
    """The state of the name after these events."""
    view, since = ABSENT, NONE  # what has been removed since an import began
    for event in history:
        if event.kind == "create":
            view = View(event.uid, NONE)
        elif event.kind in ("drop", "undo"):
            view = ABSENT
        elif event.kind == "begin":
            since = NONE
        elif event.kind == "attach":
            kept = view.rows - {event.id.split("/")[-1]}
            view = View(view.uid, kept | (frozenset({event.id}) - since))
        else:
            since |= Entry(event.kind, event.id).removes
            view = View(view.uid, after(view.rows, [Entry(event.kind, event.id)]))
    return view


class Broken(Exception):
    """A promise is broken; the message names it."""


def promise(holds: bool, text: str) -> None:
    if not holds:
        raise Broken(text)


def observe(store: Store, after: Store, request: PutNew | Delete | Erase, truth: Truth) -> Truth:
    """The truth once `store` has become `after`. Raises Broken if the change breaks a promise on stored state."""
    if isinstance(request, PutNew):
        path, item = request
        if isinstance(item, Record) and path.number > store.newest("catalog")[0] and item.live and item.opens:
            promise(not any(event.uid == item.uid for event in truth.history), "a dropped index never comes back")
            truth = truth._replace(history=(*truth.history, Event("create", item.uid, item.uid)))
        _, record = store.newest("catalog")
        known = isinstance(record, Record) and record.live and record.uid == path.of
        if known and isinstance(item, Manifest) and path.number == store.newest("manifest", path.of)[0] + 1:
            _check_manifest(store, path, item)
            events = (Event("configure", path.of, setting) for setting in item.settings if setting == item.id)
            truth = truth._replace(history=(*truth.history, *events))
        if isinstance(item, Entry):
            truth = _count(after, path.of, truth)
    _check_store(after, truth)
    return truth


def _count(store: Store, uid: str, truth: Truth) -> Truth:
    """Above what counts already an entry counts only if all lower ones exist; after a drop nothing counts."""
    counted = dict(truth.counted)
    history = list(truth.history)
    while not any(event.uid == uid and event.kind in ("drop", "undo") for event in history):
        entry = store.objects.get(log(uid, counted.get(uid, 0) + 1))
        if not isinstance(entry, Entry):
            break
        counted[uid] = counted.get(uid, 0) + 1
        if entry.kind == "empty":
            continue
        if entry.kind == "open":
            history.append(Event("create", uid, uid))
            continue
        promise(entry.id not in truth.refused, "a refused write is seen by none")
        promise(all(event.id != entry.id for event in history), "a write happens once or never")
        if entry.kind == "undo" and state_after(tuple(history)).uid == uid:
            rows = state_after(tuple(history)).rows | {uid}
            promise(not rows & truth.acknowledged, "no index goes, unless deleted, with acknowledged work in it")
        history.append(Event(entry.kind, uid, entry.id))
    return truth._replace(history=tuple(history), counted=frozenset(counted.items()))


def _check_manifest(store: Store, path: Path, new: Manifest) -> None:
    """A manifest that becomes the newest: its parent, its fold, its floor, its files, its rows."""
    old = store.objects.get(manifest(path.of, path.number - 1), NO_MANIFEST)
    assert isinstance(old, Manifest)
    promise(new.parent == old.id, "a manifest's parent is the one before it")
    promise(new.folded_to >= old.folded_to and new.floor >= old.floor, "folded_to and work_floor never go back")
    added = new.segments - old.segments
    promise(all(segment.planned >= old.floor for segment in added), "no new segment below work_floor")
    entries = [store.objects.get(log(path.of, number)) for number in range(old.folded_to + 1, new.folded_to + 1)]
    promise(all(isinstance(entry, Entry) for entry in entries), "only entries that count are folded")
    if new.settings == old.settings:
        folded = [entry for entry in entries if isinstance(entry, Entry)]
        promise(
            new.rows == after(arranged(old, folded).rows, folded),
            "the live set is the same before and after fold and compaction",
        )


def _check_store(store: Store, truth: Truth) -> None:
    """Whoever looked at the store now, with nothing known, would see the truth."""
    view = state_after(truth.history)
    _, record = store.newest("catalog")
    if isinstance(record, Record) and record.live:
        seen = look(store, record)
        promise(seen.rows >= view.rows & truth.acknowledged, "nothing is acknowledged that a later state lacks")
        promise(seen == view, "the store tells the truth: log above folded_to, segments and catalog agree")
        _, newest = store.newest("manifest", record.uid)
        if isinstance(newest, Manifest):
            named = newest.segments | (newest.pending or frozenset())
            there = all(file(record.uid, segment) in store.objects for segment in named)
            promise(there, "every file that a manifest names exists")
    else:
        promise(view == ABSENT, "an index goes only by a drop in its log")
    _, bucket_record = store.newest("bucket")
    if isinstance(bucket_record, Bucket) and bucket_record.status == "dropped":
        trusted = (view.rows | {view.uid}) & truth.acknowledged
        promise(not trusted, "a bucket is never dropped under an acknowledged index")


def look(store: Store, record: Record) -> View:
    """What the objects under data/<uid>/ say."""
    uid, (_, newest) = record.uid, store.newest("manifest", record.uid)
    base = newest if isinstance(newest, Manifest) else NO_MANIFEST
    tail, number = [], base.folded_to + 1
    while isinstance(entry := store.objects.get(log(uid, number)), Entry):
        if entry.ends:
            return ABSENT
        tail.append(entry)
        number += 1
    return View(uid, after(arranged(base, tail).rows, tail)) if number > 1 or record.opens else ABSENT


def judge(outcome: str, what: str | View, truth: Truth, arrived: int) -> Truth:
    """The truth once a client has heard `outcome`. Raises Broken if it was told wrong."""
    times = [state_after(truth.history[:moment]) for moment in range(arrived, len(truth.history) + 1)]
    if isinstance(what, View):
        promise(what in times, f"no stale strong read: {show(what)} was no state since the read began")
        return truth
    if outcome in ("acknowledged", "exists"):
        took_effect = any(event.id == what for event in truth.history)
        promise(took_effect, f"nothing is acknowledged that a later state lacks: {what}")
        truth = truth._replace(acknowledged=truth.acknowledged | {what})
    if outcome == "refused":
        promise(all(event.id != what for event in truth.history), f"a refused write is seen by none: {what}")
        truth = truth._replace(refused=truth.refused | {what})
    if outcome == "not found":
        promise(ABSENT in times, f"NotFound only if the index was absent at some moment of the call: {what}")
        promise(all(event.id != what for event in truth.history), f"a refused write is seen by none: {what}")
        truth = truth._replace(refused=truth.refused | {what})
    return truth


def show(value: object) -> str:
    """A value as the traces print it."""
    match value:
        case View(uid, rows):
            return f"{uid}{{{', '.join(sorted(rows))}}}" if uid else "no index"
        case Entry(kind, id_):
            return kind if kind == "empty" else f"{kind} {id_}"
        case Manifest():
            listed = ", ".join(sorted(value.rows)) or "no rows"
            return f"{value.id} (on {value.parent}; folds to {value.folded_to}; {listed})"
        case Record():
            return f"{'created' if value.live else 'dropped'} {value.uid}"
        case Bucket():
            return value.status
        case Segment():
            return value.name
        case tuple():
            return "(" + ", ".join(show(part) for part in value) + ")" if value else "nothing"
        case None:
            return "404"
        case _:
            return str(value)
