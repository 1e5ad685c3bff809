"""Committing a manifest: at most one successor of a manifest ever counts."""

from __future__ import annotations

from collections.abc import Mapping

from neve.index import manifest as manifests
from neve.index import paths
from neve.index.hint import write_hint
from neve.index.manifest import Manifest
from neve.index.records import IndexRecord
from neve.runtime import Runtime
from neve.store.create import create
from neve.store.port import Get, List, PutNew, Store, body, listed


def commit(
    store: Store,
    runtime: Runtime,
    record: IndexRecord,
    parent: Manifest,
    manifest: Manifest,
    directories: Mapping[str, bytes],
) -> bool:
    """Whether `manifest`, planned on `parent`, is now part of the chain. 2 LIST, 1 PUT, and 1 PUT of the hint.

    `directories` are what is at hand of those of its compacted segments, for the hint.

    A create alone does not count: the number may have been free because the whole chain around it was collected. So
    the newest is listed again afterwards, and must be ours or name us as its parent. The caller plans anew when this is
    False. Raises OutcomeUnknown, StoreError.
    """
    new = set(manifest.folders) - set(parent.folders)
    if any(paths.segment_planned_on(name) < parent.work_floor for name in new):
        return False
    if _newest(store, record.uid) != parent.number:
        return False
    if create(store, runtime, PutNew(paths.manifest(record.uid, manifest.number), manifest.encode())) is not None:
        return False
    if not _counts(store, record.uid, manifest):
        return False
    write_hint(store, record, manifest, directories)
    return True


def _newest(store: Store, uid: str) -> int:
    page = listed(store.wave([List(paths.manifest_folder(uid), limit=1)])[0])
    return max((n for entry in page.entries if (n := paths.manifest_number(entry.key)) is not None), default=0)


def _counts(store: Store, uid: str, manifest: Manifest) -> bool:
    if _newest(store, uid) == manifest.number:
        return True
    key = paths.manifest(uid, manifest.number + 1)
    raw = body(store.wave([Get(key)])[0])
    return raw is not None and manifests.decode(key, raw).parent == manifest.write_id
