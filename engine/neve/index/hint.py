"""Hints: a shortcut to an index's newest known arrangement; may be stale, wrong or missing."""

from __future__ import annotations

from dataclasses import dataclass

from neve.errors import StoreError
from neve.index.manifest import Manifest
from neve.index.paths import hint as hint_key
from neve.index.records import IndexRecord, index_fields, index_record
from neve.store.envelope import seal, unseal
from neve.store.port import Failed, Found, Put, Reply, Store


@dataclass(frozen=True, slots=True)
class Hint:
    record: IndexRecord
    manifest: Manifest


def write_hint(store: Store, record: IndexRecord, manifest: Manifest) -> None:
    """Overwrite the hint of an index; a failure is nobody's loss. 1 PUT."""
    fields = {"catalog": record.seq, "record": index_fields(record), "manifest": manifest.to_fields()}
    store.wave([Put(hint_key(record.bucket, record.name), seal(fields))])


def read_hint(key: str, reply: Reply) -> Hint | None:
    """The hint in a Get's reply; None where there is none, or none that makes sense."""
    if isinstance(reply, Failed) or not isinstance(reply, Found):
        return None
    try:
        fields = unseal(key, reply.body).fields
        return Hint(index_record(fields["record"], fields["catalog"]), Manifest.from_fields(fields["manifest"]))
    except (StoreError, LookupError, ValueError, TypeError):
        return None
