"""Log entries: the news of an index, in one order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from neve.dataclass import dataclass
from neve.errors import ObjectCorrupt
from neve.segments.flat import Batch, no_rows, pack, unpack
from neve.segments.rows import Keys, Puts, Rows, merge_rows
from neve.store.envelope import seal, unseal


class Kind(StrEnum):
    OPEN = "open"
    """The first entry: without it an index that stands in the catalog does not exist yet."""
    WRITE = "write"
    CONFIGURE = "configure"
    DROP = "drop"
    BEGIN = "begin"
    """An import begins: its rows have this entry's number as their position."""
    ATTACH = "attach"
    """All rows of an import are there from here on."""
    ABANDON = "abandon"
    """The import will never be attached."""
    EMPTY = "empty"
    """Fills a number that a writer skipped; no news."""


@dataclass(frozen=True, slots=True)
class Write:
    """What a write does, all of it at once; no key occurs twice."""

    puts: Puts
    deletes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One entry; `tags` and `settings` only where it configures, `invocations` are the SDK calls that it answers.

    `import_id` only where it begins or ends an import, `source` (digest of what is imported) and `since` (the newest
    manifest known then) only where it begins one.
    """

    number: int
    write_id: str
    kind: Kind
    invocations: tuple[str, ...]
    batch: Batch
    tags: Mapping[str, str]
    settings: Mapping[str, float]
    size_bytes: int
    import_id: str = ""
    source: str = ""
    since: int = 0


def encode_writes(writes: Sequence[Write], invocations: Sequence[str], write_id: str) -> bytes:
    """Bytes of an entry of several writes that share no key. The entry's number is its key's, not in its bytes."""
    puts = [Rows.of(write.puts, 0) for write in writes if len(write.puts.keys)]
    deletes = [key.encode() for write in writes for key in write.deletes]
    batch = Batch(merge_rows(puts) if puts else no_rows(0), Keys.of(deletes, 0)[0])
    fields = {"kind": Kind.WRITE, "id": write_id, "invocations": list(invocations)}
    return seal(fields, pack(batch, positions=False))


def encode_configure(
    tags: Mapping[str, str], settings: Mapping[str, float], invocations: Sequence[str], write_id: str
) -> bytes:
    """Bytes of an entry that holds all tags and all settings from here on."""
    fields = {"kind": Kind.CONFIGURE, "id": write_id, "invocations": list(invocations)}
    return seal({**fields, "tags": dict(tags), "settings": dict(settings)})


def encode_begin(source: str, since: int, import_id: str) -> bytes:
    """Bytes of an entry that begins an import; the import's id is the entry's own."""
    return seal({"kind": Kind.BEGIN, "id": import_id, "invocations": [], "source": source, "since": since})


def encode_end(kind: Kind, import_id: str, write_id: str) -> bytes:
    """Bytes of an entry that attaches or abandons an import. It answers for the import as for an SDK's call."""
    calls = [import_id] if kind is Kind.ATTACH else []
    return seal({"kind": kind, "id": write_id, "invocations": calls, "import": import_id})


def encode_bare(kind: Kind, write_id: str) -> bytes:
    """Bytes of an entry that says no more than its kind."""
    return seal({"kind": kind, "id": write_id, "invocations": []})


def decode(key: str, body: bytes, number: int, dimension: int) -> LogEntry:
    """The entry of an object; raises ObjectCorrupt, StoreForeign."""
    envelope = unseal(key, body)
    try:
        fields = envelope.fields
        kind = Kind(fields["kind"])
        return LogEntry(
            number,
            fields["id"],
            kind,
            tuple(fields["invocations"]),
            unpack(envelope.sections, dimension, number),
            fields.get("tags", {}),
            fields.get("settings", {}),
            len(body),
            fields["id"] if kind is Kind.BEGIN else fields.get("import", ""),
            fields.get("source", ""),
            fields.get("since", 0),
        )
    except (LookupError, ValueError, TypeError) as error:
        raise ObjectCorrupt(f"{key} is not a log entry of an index of dimension {dimension}") from error
