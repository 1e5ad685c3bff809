"""Names of the indexes that a job is to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from functools import partial

from neve.errors import BucketNotFound
from neve.index.database import Database
from neve.index.records import BucketRecord, IndexRecord

_PAGE = 1000


def index_names(database: Database, bucket: str = "", index: str = "") -> Iterator[tuple[str, str]]:
    """Bucket and name of a bucket's indexes, or of all; of one index just that. Raises BucketNotFound, StoreError."""
    if index:
        yield bucket, index
        return
    for name in [bucket] if bucket else _pages(lambda after: database.list_buckets("", after, _PAGE)):
        with nullcontext() if bucket else suppress(BucketNotFound):  # dropped since it was listed
            for found in _pages(partial(database.list_indexes, name, "", limit=_PAGE)):
                yield name, found


def _pages(page: Callable[[str], tuple[Sequence[BucketRecord | IndexRecord], bool]]) -> Iterator[str]:
    """All names of a listing that goes on after a given one."""
    after, more = "", True
    while more:
        records, more = page(after)
        yield from (record.name for record in records)
        after = records[-1].name if records else after
