"""Manifests: how the news of an index are arranged; never news themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from neve.errors import ObjectCorrupt
from neve.store.envelope import seal, unseal


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """One segment that a manifest names; `live` rows are those that no other position of their key hides."""

    name: str
    rows: int
    deleted: int
    live: int
    size_bytes: int


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
    tags: Mapping[str, str]
    live_rows: int
    live_digest: int
    work_floor: int

    def to_fields(self) -> dict[str, Any]:
        """JSON members. Digests are hexadecimal: JSON numbers above 2^53 do not survive every reader."""
        folded = [[entry.number, entry.write_id, list(entry.invocations)] for entry in self.folded]
        return {
            "number": self.number,
            "id": self.write_id,
            "parent": self.parent,
            "folded_to": self.folded_to,
            "folded": folded,
            "segments": [asdict(segment) for segment in self.segments],
            "tags": dict(self.tags),
            "live_rows": self.live_rows,
            "live_digest": f"{self.live_digest:016x}",
            "work_floor": self.work_floor,
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
            segments=tuple(SegmentInfo(**segment) for segment in fields["segments"]),
            tags=fields["tags"],
            live_rows=fields["live_rows"],
            live_digest=int(fields["live_digest"], 16),
            work_floor=fields["work_floor"],
        )

    def encode(self) -> bytes:
        return seal(self.to_fields())


def first_manifest(tags: Mapping[str, str]) -> Manifest:
    """The manifest of an index that has none: nothing folded, nothing held."""
    return Manifest(0, "", "", 0, (), (), tags, 0, 0, 0)


def decode(key: str, body: bytes) -> Manifest:
    """The manifest of an object; raises ObjectCorrupt, StoreForeign."""
    try:
        return Manifest.from_fields(unseal(key, body).fields)
    except (LookupError, ValueError, TypeError) as error:
        raise ObjectCorrupt(f"{key} is not a manifest") from error
