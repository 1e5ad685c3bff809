"""All buckets and indexes of one store."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import islice

from neve.errors import (
    BucketExists,
    BucketNotEmpty,
    BucketNotFound,
    IndexExists,
    IndexNotFound,
    LimitExceeded,
    OutcomeUnknown,
    StoreError,
    StoreForeign,
)
from neve.index import paths
from neve.index.chain import list_all, newest_number
from neve.index.entry import Kind, encode_bare
from neve.index.grace import GRACE, Grace
from neve.index.hint import write_hint
from neve.index.index import Index
from neve.index.manifest import first_manifest
from neve.index.records import (
    BucketRecord,
    BucketState,
    Encryption,
    IndexConfig,
    IndexRecord,
    decode_bucket,
    decode_created,
    encode_bucket,
    encode_created,
    encode_dropped,
)
from neve.index.state import State
from neve.runtime import Runtime
from neve.store.blocks import Blocks
from neve.store.counting import BilledStore
from neve.store.create import create
from neve.store.envelope import FORMAT_VERSION, seal, unseal
from neve.store.port import Get, PutNew, Reply, Store, body
from neve.store.selftest import self_test
from neve.store.steady import SteadyStore

Change = Callable[[Mapping[str, str]], Mapping[str, str]]
MEMORY_BYTES = 1 << 30
RECORDS_CACHED_MAX = 20_000
HANDLES_CACHED_MAX = 1_000


class Database:
    """The buckets and indexes of a store; thread-safe. Several processes may share a store without knowing it."""

    def __init__(self, store: Store, runtime: Runtime, grace: Grace, identity: str, blocks: Blocks) -> None:
        self.store = store
        self.blocks = blocks
        self.runtime = runtime
        self.grace = grace
        self.identity = identity
        self._lock = threading.Lock()
        self._records: OrderedDict[str, bytes] = OrderedDict()
        self._handles: OrderedDict[tuple[str, str], Index] = OrderedDict()
        self._open_uids: set[str] = set()
        self.arranged: Callable[[State], None] | None = None
        """Told of each arrangement of an index that becomes known: whether it wants compacting."""

    @classmethod
    def open(cls, store: Store, runtime: Runtime, grace: Grace = GRACE, *, blocks: Blocks | None = None) -> Database:
        """The database of a store, made on first use after the store has passed its self-test. 1 GET once it is made.

        `blocks` are the tiers that compacted segments are read through; MEMORY_BYTES of memory if None.

        Raises StoreUnfit, StoreForeign, and what the store raises.
        """
        store = SteadyStore(BilledStore(store), runtime)
        found = body(store.wave([Get(paths.IDENTITY)])[0])
        if found is None:
            fields = {
                "id": runtime.token(),
                "created_s": int(runtime.now().wall_s),
                "self_test": self_test(store, runtime),
            }
            own = seal(fields)
            found = create(store, runtime, PutNew(paths.IDENTITY, own)) or own
        identity = unseal(paths.IDENTITY, found).fields.get("id")
        if not isinstance(identity, str):
            raise StoreForeign(f"{paths.IDENTITY} is not that of a store of format {FORMAT_VERSION}")
        return cls(store, runtime, grace, identity, blocks or Blocks(MEMORY_BYTES))

    def close(self) -> None:
        """Wait for folds under way, and for what is on its way to the local disk. The store needs no closing."""
        self.blocks.close()
        self.runtime.close()

    # Buckets

    def create_bucket(self, name: str, encryption: Encryption, tags: Mapping[str, str], *, quota: int) -> BucketRecord:
        """Create a bucket; of several creators one wins. Raises BucketExists, LimitExceeded. 2 LIST, 1 PUT."""
        seq, newest = self._newest_bucket(name)
        if newest is not None and newest.state is not BucketState.DROPPED:
            raise BucketExists(name)
        keys = list(self._newest_keys(paths.BUCKETS))
        if len(keys) >= quota and sum(r.state is not BucketState.DROPPED for r in self._buckets(keys)) >= quota:
            raise LimitExceeded("vector buckets")
        record = BucketRecord(name, BucketState.OPEN, int(self.runtime.now().wall_s), encryption, dict(tags))
        if self._put_bucket(seq + 1, record) is not None:
            raise BucketExists(name)
        return record

    def bucket(self, name: str) -> BucketRecord:
        """A bucket as it is now; raises BucketNotFound. 1 LIST, and 1 GET of a record not seen before."""
        return self._existing_bucket(name)[1]

    def list_buckets(self, prefix: str, after: str, limit: int) -> tuple[list[BucketRecord], bool]:
        """Buckets whose names start with `prefix` and sort after `after`, at most `limit`; whether more follow.

        1 LIST for each 1,000 records, and 1 GET of each record not seen before.
        """
        start = max(paths.BUCKETS + prefix, paths.bucket_chain(after) + paths.PAST_NUMBERS if after else "")
        found: list[BucketRecord] = []
        keys = self._newest_keys(paths.BUCKETS, start, prefix)
        while chunk := list(islice(keys, limit + 1 - len(found))):
            found += [record for record in self._buckets(chunk) if record.state is not BucketState.DROPPED]
        return found[:limit], len(found) > limit

    def delete_bucket(self, name: str) -> None:
        """Delete an empty bucket; raises BucketNotFound, BucketNotEmpty. It stays while any index of it may be made."""
        seq, record = self._existing_bucket(name)
        if record.state is BucketState.OPEN:
            if self._has_index(name):
                raise BucketNotEmpty(name)
            seq += 1
            if self._put_bucket(seq, replace(record, state=BucketState.CLOSING)) is not None:
                return self.delete_bucket(name)
        occupied = self._has_index(name)
        last = replace(record, state=BucketState.OPEN if occupied else BucketState.DROPPED)
        winner = self._put_bucket(seq + 1, last) or last
        if winner.state is BucketState.DROPPED and winner is not last:
            raise BucketNotFound(name)
        if winner.state is BucketState.CLOSING:  # somebody tagged it meanwhile
            return self.delete_bucket(name)
        if winner.state is BucketState.OPEN:
            raise BucketNotEmpty(name)
        return None

    def tag_bucket(self, name: str, change: Change) -> None:
        """Replace a bucket's tags by `change` of them; asked again after a lost race. Raises BucketNotFound."""
        while True:
            seq, record = self._existing_bucket(name)
            if self._put_bucket(seq + 1, replace(record, tags=dict(change(record.tags)))) is None:
                return

    # Indexes

    def create_index(
        self, bucket: str, name: str, config: IndexConfig, tags: Mapping[str, str], *, quota: int
    ) -> IndexRecord:
        """Create an index; of several creators one wins. Raises BucketNotFound, IndexExists, LimitExceeded."""
        self._existing_bucket(bucket)
        chain = paths.catalog_chain(bucket, name)
        newest = max(list_all(self.store, chain), key=lambda entry: entry.key, default=None)
        seq = 0 if newest is None else paths.number(newest.key) or 0
        if newest is not None and seq % 2 == 1:
            if self._is_alive(newest.key):
                raise IndexExists(f"{bucket}/{name}")
            seq += 1
        if sum(1 for _ in islice(self._live_index_keys(paths.catalog_folder(bucket)), quota)) == quota:
            raise LimitExceeded("indexes")
        uid, created_s = self.runtime.token(), int(self.runtime.now().wall_s)
        record = IndexRecord(bucket, name, seq + 1, uid, created_s, config, dict(tags))
        key = paths.catalog_record(bucket, name, record.seq)
        if create(self.store, self.runtime, PutNew(key, encode_created(record, self.runtime.token()))) is not None:
            raise IndexExists(f"{bucket}/{name}")
        if not self._hold_bucket(bucket):
            self._begin_log(record, Kind.DROP)
            self._write_drop(record)
            raise BucketNotFound(bucket)
        if not self._open_log(record):
            return self.create_index(bucket, name, config, tags, quota=quota)
        write_hint(self.store, record, first_manifest(record.tags), {})
        return record

    def list_indexes(self, bucket: str, prefix: str, after: str, limit: int) -> tuple[list[IndexRecord], bool]:
        """Indexes of a bucket as `list_buckets` lists buckets; raises BucketNotFound."""
        self._existing_bucket(bucket)
        folder = paths.catalog_folder(bucket)
        start = max(folder + prefix, paths.catalog_chain(bucket, after) + paths.PAST_NUMBERS if after else "")
        found: list[IndexRecord] = []
        keys = self._live_index_keys(folder, start, prefix)
        while chunk := list(islice(keys, limit + 1 - len(found))):
            found += self._opened(chunk)
        return found[:limit], len(found) > limit

    def delete_index(self, bucket: str, name: str) -> None:
        """Drop an index; raises IndexNotFound, OutcomeUnknown. 1 PUT in its log, 1 PUT in the catalog."""
        self.index(bucket, name).drop()

    def index(self, bucket: str, name: str) -> Index:
        """The handle of an index that may or may not exist. No request."""
        with self._lock:
            handle = self._handles.pop((bucket, name), None)
            if handle is None:
                handle = Index(self.store, self.runtime, self.grace, bucket, name, self._arranged)
            self._handles[bucket, name] = handle
            while len(self._handles) > HANDLES_CACHED_MAX:
                self._handles.popitem(last=False)
            return handle

    def known(self) -> list[State]:
        """The states of indexes that this process has lately worked with, as it knows them. No request."""
        with self._lock:
            handles = list(self._handles.values())
        return [state for handle in handles if (state := handle.known) is not None]

    def _arranged(self, state: State) -> None:
        if self.arranged is not None:
            self.arranged(state)

    # Chains

    def _newest_bucket(self, name: str) -> tuple[int, BucketRecord | None]:
        seq = newest_number(list_all(self.store, paths.bucket_chain(name)))
        if seq == 0:
            return 0, None
        key = paths.bucket_record(name, seq)
        return seq, decode_bucket(key, self._read_records([key])[0])

    def _buckets(self, keys: list[str]) -> list[BucketRecord]:
        return [decode_bucket(key, raw) for key, raw in zip(keys, self._read_records(keys), strict=True)]

    def _existing_bucket(self, name: str) -> tuple[int, BucketRecord]:
        seq, record = self._newest_bucket(name)
        if record is None or record.state is BucketState.DROPPED:
            raise BucketNotFound(name)
        return seq, record

    def _put_bucket(self, seq: int, record: BucketRecord) -> BucketRecord | None:
        """Create a record of a bucket's chain; None when it is ours, else the winner."""
        key = paths.bucket_record(record.name, seq)
        winner = create(self.store, self.runtime, PutNew(key, encode_bucket(record, self.runtime.token())))
        return None if winner is None else decode_bucket(key, winner)

    def _hold_bucket(self, name: str) -> bool:
        """Look at a bucket again now that an index of it is in the catalog: a deleter sees it there, or loses here.

        False when the bucket has been dropped meanwhile.
        """
        while True:
            seq, bucket = self._newest_bucket(name)
            if bucket is None or bucket.state is BucketState.DROPPED:
                return False
            if bucket.state is BucketState.OPEN:
                return True
            if self._put_bucket(seq + 1, replace(bucket, state=BucketState.OPEN)) is None:
                return True

    def _begin_log(self, record: IndexRecord, kind: Kind) -> bool:
        """Write an index's first log entry: `open` makes it exist, `drop` forbids it. Whether ours is the one."""
        first = PutNew(paths.log_entry(record.uid, 1), encode_bare(kind, self.runtime.token()))
        return create(self.store, self.runtime, first) is None

    def _open_log(self, record: IndexRecord) -> bool:
        """Open an index that the catalog announces; False when somebody ended the announcement first.

        Where the catalog has its drop already, either it was opened by us and dropped at once, and the log shows that;
        or it was ended and wiped while we slept, and our entry stands alone, a ghost. Raises OutcomeUnknown when we
        slept so long that the log of a real drop may be wiped too.
        """
        sent = self.runtime.now()
        if not self._begin_log(record, Kind.OPEN):
            return False
        key = paths.catalog_record(record.bucket, record.name, record.seq + 1)
        if body(self.store.wave([Get(key)])[0]) is None:
            return True
        lived = sum(1 for _ in islice(list_all(self.store, paths.data_folder(record.uid)), 2)) > 1
        if not lived and sent.until(self.runtime.now()) > self.grace.wave_s:
            raise OutcomeUnknown(f"{record.path} was opened, or had been ended long before")
        return lived

    def _write_drop(self, record: IndexRecord) -> None:
        """The catalog's record of a drop that the log has already; anyone may write it."""
        key = paths.catalog_record(record.bucket, record.name, record.seq + 1)
        create(self.store, self.runtime, PutNew(key, encode_dropped(record.uid, self.runtime.token())))

    def _has_index(self, bucket: str) -> bool:
        return any(self._is_alive(key) for key in self._live_index_keys(paths.catalog_folder(bucket)))

    def _is_alive(self, key: str) -> bool:
        """Whether a catalog record of a creation is that of a live index; if not, it never will be afterwards.

        A creation that never got as far as the first log entry (its process died, or its request landed long after
        everyone gave up on it) is ended by writing that entry in its place.
        """
        record = decode_created(key, self._read_records([key])[0], paths.number(key) or 0)
        index = self.index(record.bucket, record.name)
        for _ in range(2):  # the first entry may have been written between the read and ours
            with suppress(IndexNotFound):
                return index.read().uid == record.uid
            if self._begin_log(record, Kind.DROP):
                break
        self._write_drop(record)
        return False

    def _opened(self, keys: list[str]) -> list[IndexRecord]:
        """Of the records of creations those that have been opened, which is known once and for all."""
        raws = self._read_records(keys)
        records = [decode_created(key, raw, paths.number(key) or 0) for key, raw in zip(keys, raws, strict=True)]
        opened = {record.uid for record in records} & self._open_uids
        asked = [record for record in records if record.uid not in opened]
        firsts = self.store.wave([Get(paths.log_entry(record.uid, 1)) for record in asked]) if asked else []
        opened |= {r.uid for r, first in zip(asked, firsts, strict=True) if self._was_opened(r, first)}
        if len(self._open_uids) > RECORDS_CACHED_MAX:
            self._open_uids.clear()
        self._open_uids |= opened
        return [record for record in records if record.uid in opened]

    def _was_opened(self, record: IndexRecord, first: Reply) -> bool:
        """By the reply of an index's first log entry: one that is gone may have been folded and collected."""
        with suppress(StoreError):
            raw = body(first)
            if raw is not None:
                return unseal(paths.log_entry(record.uid, 1), raw).fields.get("kind") == Kind.OPEN
        with suppress(IndexNotFound):
            return self.index(record.bucket, record.name).read().uid == record.uid
        return False

    def _live_index_keys(self, folder: str, after: str = "", prefix: str = "") -> Iterator[str]:
        return (key for key in self._newest_keys(folder, after, prefix) if (paths.number(key) or 0) % 2 == 1)

    def _newest_keys(self, folder: str, after: str = "", prefix: str = "") -> Iterator[str]:
        """The newest record's key of each chain below a folder whose name starts with `prefix`, in order of names."""
        held = ""
        for entry in list_all(self.store, folder, after):
            if not entry.key.startswith(folder + prefix):
                break
            if held and held.rsplit("/", 1)[0] != entry.key.rsplit("/", 1)[0]:
                yield held
            held = entry.key
        if held:
            yield held

    def _read_records(self, keys: list[str]) -> list[bytes]:
        """Records by key, which never change once made: read once and kept."""
        with self._lock:
            held = {key: self._records[key] for key in keys if key in self._records}
        missing = [key for key in keys if key not in held]
        replies = self.store.wave([Get(key) for key in missing]) if missing else []
        for key, reply in zip(missing, replies, strict=True):
            raw = body(reply)
            if raw is None:
                raise OutcomeUnknown(f"{key} was listed and is gone")
            held[key] = raw
        with self._lock:
            self._records.update((key, held[key]) for key in missing)
            while len(self._records) > RECORDS_CACHED_MAX:
                self._records.popitem(last=False)
        return [held[key] for key in keys]
