"""The protocol of names: catalog and bucket chains, and the wiping of what was dropped.

An index is dropped by an entry in its own log, and the even record of its catalog chain only says so afterwards. In
the same way it exists from the first entry of its log on: its odd record only announces it. A bucket is closed before
anyone looks whether it is empty.
"""

from __future__ import annotations

from collections.abc import Generator
from itertools import pairwise
from typing import Any

from tests.model.protocol import IndexProtocol, Knowledge
from tests.model.protocol_mutants import Mutant
from tests.model.protocol_search import Program, Tell, Wave
from tests.model.protocol_store import (
    Bucket,
    Delete,
    Entry,
    Erase,
    Inventory,
    ListChain,
    Record,
    bucket,
    catalog,
    log,
)

DATA = ("log", "manifest", "segment")


class NameProtocol(IndexProtocol):
    """The actors of a name: create and drop an index, create and delete its bucket, wipe what was dropped."""

    def create_index(self, uid: str) -> Program:
        """CreateIndex: the next odd record, another look at the bucket, then `open` as the first entry of the log."""
        replies = yield Wave((ListChain("bucket"),), arrives=True)
        if replies.answers[0][1].status == "dropped":
            return
        replies = yield Wave((ListChain("catalog"),))
        k, record = replies.answers[0]
        if record is not None and record.live:
            state = yield from self.load()
            if state is None or state.k != k:
                return
            if state.uid:
                yield Tell("exists", state.uid)
                return
            if state == Knowledge(k, "", 0, 0):  # announced, not opened: help its creator, one of us opens it
                yield from self._open(record.uid, k)
            else:  # dropped, and nobody has said so yet
                yield from self.create(catalog(k + 1), Record(f"even {k + 1}", record.uid, live=False))
            return
        opens = self.mutant is Mutant.EXISTS_BY_RECORD
        created = yield from self.create(catalog(k + 1), Record(uid, uid, live=True, opens=opens))
        if created:
            yield from self._open(uid, k + 1)

    def _open(self, uid: str, k: int) -> Generator[Any, Any, None]:
        """An open bucket seen after the odd record will not be dropped under it: its deleter sees that record."""
        looks = 0
        while looks < 2 and self.mutant is not Mutant.NO_LOOK_AT_BUCKET:
            looks += 1
            replies = yield Wave((ListChain("bucket"),))
            j, home = replies.answers[0]
            if home.status == "dropped":
                yield from self._withdraw(uid, k)
                return
            if home.status == "open":
                break
            reopened = yield from self.create(bucket(j + 1), Bucket(f"reopened for {uid}", "open"))
            if reopened:
                break
            if looks == 2:
                return
        opened: bool | None = True
        if self.mutant is not Mutant.EXISTS_BY_RECORD:
            opened = yield from self.create(log(uid, 1), Entry("open", uid))
        if opened:
            yield Tell("acknowledged", uid)

    def _withdraw(self, uid: str, k: int) -> Generator[Any, Any, None]:
        """The bucket is gone: `undo` as the first entry, unless somebody could still open the index."""
        if self.mutant is Mutant.EXISTS_BY_RECORD:
            yield from self.append(Entry("undo", f"undo {uid}"), Knowledge(k, uid, 0, 0), arrives=False)
        else:
            yield from self.create(log(uid, 1), Entry("undo", f"undo {uid}"))

    def delete_index(self, name: str, know: Knowledge) -> Program:
        """DeleteIndex: `drop` in the log, then the even record."""
        verdict, _ = yield from self.append(Entry("drop", name), know)
        yield Tell(verdict, name)
        if verdict == "acknowledged":
            yield from self.create(catalog(know.k + 1), Record(f"even {know.k + 1}", know.uid, live=False))

    def delete_bucket(self, name: str) -> Program:
        """DeleteVectorBucket: `closing`, LIST of the indexes, then `dropped`, or `open` again."""
        attempts = 0
        while attempts < 2:
            attempts += 1
            replies = yield Wave((ListChain("bucket"),))
            j, home = replies.answers[0]
            if home.status == "dropped":
                return
            if home.status == "open" and self.mutant is not Mutant.NO_CLOSING:
                closed = yield from self.create(bucket(j + 1), Bucket(f"closing by {name}", "closing"))
                if not closed:
                    continue
                j += 1
            replies = yield Wave((ListChain("catalog"),))
            k, record = replies.answers[0]
            if record is not None and record.live:
                killed = yield from self._kill(record)
                if not killed:
                    yield from self.create(bucket(j + 1), Bucket(f"kept by {name}", "open"))
                    return
                yield from self.create(catalog(k + 1), Record(f"even {k + 1}", record.uid, live=False))
            yield from self.create(bucket(j + 1), Bucket(f"dropped by {name}", "dropped"))
            return

    def _kill(self, record: Record) -> Generator[Any, Any, bool]:
        """Whether an announced index will never open, because our `undo` is the first entry of its log."""
        listing, _, _ = yield from self.list(record.uid)
        if record.opens or not listing.empty:
            return False
        won = yield from self.create(log(record.uid, 1), Entry("undo", f"undo {record.uid}"))
        return bool(won)

    def create_bucket(self, name: str) -> Program:
        """CreateVectorBucket over a dropped one."""
        replies = yield Wave((ListChain("bucket"),))
        j, home = replies.answers[0]
        if home.status == "dropped":
            yield from self.create(bucket(j + 1), Bucket(name, "open"))

    def wipe(self, grace: int) -> Program:
        """The data of an index goes because a dropped record names it, never because none does."""
        replies = yield Wave((Inventory(("catalog",)),))
        chain = replies.answers[0]
        dropped = {one.uid for _, age, one in chain if not one.live and age >= grace}
        known = {one.uid for _, _, one in chain}
        replies = yield Wave((Inventory(DATA),))
        found = [(path, path.of.split("/")[0]) for path, _, _ in replies.answers[0]]
        if self.mutant is Mutant.GARBAGE_BY_ABSENCE:
            dropped = {uid for _, uid in found} - known
        requests = tuple(Delete(path) for path, uid in found if uid in dropped)
        if requests:
            yield Wave(requests)

    def collect_names(self, month: int) -> Program:
        """Catalog records superseded long enough ago; the newest of a chain stays, so no number comes twice."""
        replies = yield Wave((Inventory(("catalog",)),))
        chain = replies.answers[0]
        stale = [path for (path, _, _), (_, age, _) in pairwise(chain) if age >= month]
        gone = bool(chain) and chain[-1][0].number % 2 == 0 and chain[-1][1] >= month
        if gone and self.mutant is Mutant.CATALOG_BY_NAME:
            yield Wave((Erase("catalog"),))
            return
        if gone and self.mutant is Mutant.LAST_RECORD_COLLECTED:
            stale = [path for path, _, _ in chain]
        if stale:
            yield Wave(tuple(Delete(path) for path in stale))
