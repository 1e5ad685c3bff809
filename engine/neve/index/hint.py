"""Hints: a shortcut to an index's newest known arrangement; may be stale, wrong or missing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from neve.dataclass import dataclass
from neve.errors import StoreError
from neve.index.manifest import Manifest
from neve.index.paths import hint as hint_key
from neve.index.records import IndexRecord, index_fields, index_record
from neve.store.envelope import seal, unseal
from neve.store.port import Failed, Found, Put, Reply, Store

DIRECTORIES_BYTES_MAX = 4 << 20
"""Directories are embedded while they are small together: a reader of a hint then knows what to read next."""
_DIRECTORY = "directory/"


@dataclass(frozen=True, slots=True)
class Hint:
    """`directories`: of compacted and pending segments by name, the whole object; empty where not embedded."""

    record: IndexRecord
    manifest: Manifest
    directories: Mapping[str, bytes]


def write_hint(store: Store, record: IndexRecord, manifest: Manifest, directories: Mapping[str, bytes]) -> None:
    """Overwrite the hint of an index; a failure is nobody's loss. 1 PUT."""
    fields = {"catalog": record.seq, "record": index_fields(record), "manifest": manifest.to_fields()}
    named = {segment.name for segment in (*manifest.compacted, *(manifest.pending or ()))}
    embedded = {name: raw for name, raw in directories.items() if name in named}
    if sum(map(len, embedded.values())) > DIRECTORIES_BYTES_MAX:
        embedded = {}
    sections = {_DIRECTORY + name: np.frombuffer(raw, np.uint8) for name, raw in embedded.items()}
    store.wave([Put(hint_key(record.bucket, record.name), seal(fields, sections))])


def read_hint(key: str, reply: Reply) -> Hint | None:
    """The hint in a Get's reply; None where there is none, or none that makes sense."""
    if isinstance(reply, Failed) or not isinstance(reply, Found):
        return None
    try:
        envelope = unseal(key, reply.body)
        fields = envelope.fields
        directories = {
            name.removeprefix(_DIRECTORY): raw.tobytes()
            for name, raw in envelope.sections.items()
            if name.startswith(_DIRECTORY)
        }
        record = index_record(fields["record"], fields["catalog"])
        return Hint(record, Manifest.from_fields(fields["manifest"]), directories)
    except (StoreError, LookupError, ValueError, TypeError):
        return None
