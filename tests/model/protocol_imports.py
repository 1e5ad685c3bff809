"""The protocol of imports: rows of a segment that is built elsewhere, there as a whole from one entry of the log on."""

from __future__ import annotations

from collections.abc import Mapping

from tests.model.protocol_mutants import Mutant
from tests.model.protocol_names import NameProtocol
from tests.model.protocol_search import Program, Tell, Wave
from tests.model.protocol_store import (
    NONE,
    Entry,
    Get,
    ListLog,
    ListManifests,
    Manifest,
    PutNew,
    Segment,
    file,
    log,
    manifest,
)


class ImportProtocol(NameProtocol):
    """The actor that imports, beside all others."""

    def import_(self, uid: str, row: str, begun: int) -> Program:
        """An import that began at an entry that is folded, from its upload on; nothing recent is older than it."""
        attempts, verdict, segment = 0, "again", None
        while attempts < self.patience and verdict == "again":
            attempts += 1
            replies = yield Wave((ListLog(uid, begun),))
            numbers = replies.answers[0]
            replies = yield Wave((ListManifests(uid),))
            newest = replies.answers[0]
            replies = yield Wave((Get(manifest(uid, newest)), *(Get(log(uid, n)) for n in numbers)), ordered=True)
            base = replies.answers[0]
            entries = dict(zip(numbers, replies.answers[1:], strict=True))
            if base is None or any(n not in entries for n in range(begun + 1, base.folded_to + 1)):
                continue
            if segment is None:
                segment = Segment(f"s {row}", newest, frozenset({row}), compacted=True)
                yield Wave((PutNew(file(uid, segment), segment),))
            commit = self._pending(base, f"pending{attempts}", segment, row, entries)
            won = yield from self.create(manifest(uid, newest + 1), commit)
            verdict = {True: "pending", False: "again", None: "unknown"}[won]
        if verdict == "pending":
            know = yield from self.load()
            if know is not None:
                verdict, _ = yield from self.append(Entry("attach", row), know, arrives=False)
                yield Tell(verdict, row)

    def _pending(self, base: Manifest, name: str, segment: Segment, row: str, entries: Mapping[int, Entry]) -> Manifest:
        """The manifest that names the import's segment as pending: masked are its rows that were removed since."""
        written = NONE.union(*(entry.removes for entry in entries.values()))
        written = NONE if self.mutant is Mutant.OVERTAKEN_ROWS else written
        older = {(one.name, row.split("/")[-1]) for one in base.compacted if row.split("/")[-1] in one.rows}
        masks = base.masks | older | {(segment.name, gone) for gone in segment.rows & written}
        pending = base.compacted | {segment}
        return base._replace(id=name, parent=base.id, fold=(), pending=pending, pending_masks=masks)
