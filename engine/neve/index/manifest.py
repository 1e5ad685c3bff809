"""Manifests: how the news of an index are arranged; never news themselves."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

from neve.dataclass import dataclass
from neve.errors import ObjectCorrupt
from neve.store.envelope import seal, unseal


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """A flat segment; `live` rows, with `digest`, are those that no newer flat segment hides."""

    name: str
    rows: int
    deleted: int
    live: int
    size_bytes: int
    digest: int

    def to_fields(self) -> list[Any]:
        return [self.name, self.rows, self.deleted, self.live, self.size_bytes, _hex(self.digest)]

    @classmethod
    def from_fields(cls, fields: list[Any]) -> SegmentInfo:
        name, rows, deleted, live, size_bytes, digest = fields
        return cls(name, rows, deleted, live, size_bytes, int(digest, 16))


@dataclass(frozen=True, slots=True)
class Mask:
    """The rows of a compacted segment that are no longer live: a roaring bitmap in its portable form.

    Small ones lie in the manifest itself, others in an object of their own, in the segments' folder `reference`.
    """

    count: int = 0
    inline: bytes = b""
    reference: str = ""


@dataclass(frozen=True, slots=True)
class CompactedInfo:
    """A compacted segment; `live` rows, with `digest`, are those that its mask leaves."""

    name: str
    rows: int
    live: int
    size_bytes: int
    digest: int
    mask: Mask = Mask()

    def to_fields(self) -> list[Any]:
        mask = [self.mask.count, base64.b64encode(self.mask.inline).decode(), self.mask.reference]
        return [self.name, self.rows, self.live, self.size_bytes, _hex(self.digest), mask]

    @classmethod
    def from_fields(cls, fields: list[Any]) -> CompactedInfo:
        name, rows, live, size_bytes, digest, (masked, inline, reference) = fields
        mask = Mask(masked, base64.b64decode(inline, validate=True), reference)
        return cls(name, rows, live, size_bytes, int(digest, 16), mask)


@dataclass(frozen=True, slots=True)
class Import:
    """An import that has begun and not ended; its id is the write id of the entry `begun`, its rows' position.

    `since` is the newest manifest that was known then. `pending` are all compacted segments of the index as they will
    be once it is attached, None until they are known.
    """

    id: str
    begun: int
    source: str
    since: int
    pending: tuple[CompactedInfo, ...] | None = None

    def to_fields(self) -> list[Any]:
        pending = None if self.pending is None else [segment.to_fields() for segment in self.pending]
        return [self.id, self.begun, self.source, self.since, pending]

    @classmethod
    def from_fields(cls, fields: list[Any]) -> Import:
        id_, begun, source, since, pending = fields
        infos = None if pending is None else tuple(CompactedInfo.from_fields(segment) for segment in pending)
        return cls(id_, begun, source, since, infos)


@dataclass(frozen=True, slots=True)
class FoldedEntry:
    """A log entry that a manifest folded: what is left of it once it is collected."""

    number: int
    write_id: str
    invocations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """One manifest; number 0, which is never stored, is that of an index without any."""

    number: int
    write_id: str
    parent: str
    folded_to: int
    folded: tuple[FoldedEntry, ...]
    segments: tuple[SegmentInfo, ...]
    compacted: tuple[CompactedInfo, ...]
    tags: Mapping[str, str]
    settings: Mapping[str, float]
    work_floor: int
    imports: tuple[Import, ...] = ()
    """At most one, so far."""

    @property
    def live_rows(self) -> int:
        """Live rows, where those of compacted segments that a flat segment hides are still counted."""
        return sum(segment.live for segment in self._all)

    @property
    def live_digest(self) -> int:
        """Order-free digest of the rows that `live_rows` counts."""
        return sum(segment.digest for segment in self._all) % 2**64

    @property
    def pending(self) -> tuple[CompactedInfo, ...] | None:
        """The compacted segments as an import that may be attached at any moment will have them; None: there is none.

        As long as there is one, nobody compacts.
        """
        return next((one.pending for one in self.imports if one.pending is not None), None)

    @property
    def folders(self) -> Iterator[str]:
        """Names of all folders in the segments' folder that the manifest names."""
        compacted = (*self.compacted, *(self.pending or ()))
        yield from (segment.name for segment in self.segments)
        yield from (segment.name for segment in compacted)
        yield from (segment.mask.reference for segment in compacted if segment.mask.reference)

    @property
    def _all(self) -> tuple[SegmentInfo | CompactedInfo, ...]:
        return (*self.segments, *self.compacted)

    def to_fields(self) -> dict[str, Any]:
        """JSON members. Digests are hexadecimal: JSON numbers above 2^53 do not survive every reader."""
        folded = [[entry.number, entry.write_id, list(entry.invocations)] for entry in self.folded]
        return {
            "number": self.number,
            "id": self.write_id,
            "parent": self.parent,
            "folded_to": self.folded_to,
            "folded": folded,
            "segments": [segment.to_fields() for segment in self.segments],
            "compacted": [segment.to_fields() for segment in self.compacted],
            "tags": dict(self.tags),
            "settings": dict(self.settings),
            "work_floor": self.work_floor,
            "imports": [one.to_fields() for one in self.imports],
        }

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Manifest:
        """The manifest of JSON members; raises LookupError, ValueError or TypeError where they are not one."""
        return cls(
            number=fields["number"],
            write_id=fields["id"],
            parent=fields["parent"],
            folded_to=fields["folded_to"],
            folded=tuple(FoldedEntry(number, id_, tuple(calls)) for number, id_, calls in fields["folded"]),
            segments=tuple(SegmentInfo.from_fields(segment) for segment in fields["segments"]),
            compacted=tuple(CompactedInfo.from_fields(segment) for segment in fields["compacted"]),
            tags=fields["tags"],
            settings=fields["settings"],
            work_floor=fields["work_floor"],
            imports=tuple(Import.from_fields(one) for one in fields.get("imports", ())),
        )

    def encode(self) -> bytes:
        return seal(self.to_fields())


def first_manifest(tags: Mapping[str, str]) -> Manifest:
    """The manifest of an index that has none: nothing folded, nothing held."""
    return Manifest(0, "", "", 0, (), (), (), tags, {}, 0)


def decode(key: str, body: bytes) -> Manifest:
    """The manifest of an object; raises ObjectCorrupt, StoreForeign."""
    try:
        return Manifest.from_fields(unseal(key, body).fields)
    except (LookupError, ValueError, TypeError) as error:
        raise ObjectCorrupt(f"{key} is not a manifest") from error


def _hex(digest: int) -> str:
    return f"{digest:016x}"
