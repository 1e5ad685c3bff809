"""What can be imported: files of vectors, read by part.

source = plan_source(["s3://bucket/books/*.parquet"], ColumnMapping())
rules = Rules.of(config)
for part in source.parts:
    for puts, rejects in read_part(part, mapping, rules): ...
check_unchanged(source, mapping)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module

from neve.errors import SourceChanged, SourceUnfit
from neve.segments.rows import Puts
from neve.transfer.mapping import ColumnMapping
from neve.transfer.rejects import Reject
from neve.transfer.rules import Rules, checked
from neve.transfer.sources.expand import REMOTE, expand
from neve.transfer.sources.parts import Format, Source, SourcePart, split

__all__ = ["FORMATS", "REMOTE", "Source", "SourcePart", "plan_source", "read_part"]

FORMATS = {
    "parquet": ("neve.transfer.sources.tables", "Parquet"),
    "arrow": ("neve.transfer.sources.tables", "Arrow"),
    "lance": ("neve.transfer.sources.tables", "Lance"),
    "npy": ("neve.transfer.sources.arrays", "Npy"),
    "fvecs": ("neve.transfer.sources.arrays", "Fvecs"),
    "jsonl": ("neve.transfer.sources.lines", "Jsonl"),
    "s3vectors": ("neve.transfer.remote", "RemoteIndex"),
}
"""Where each format is; imported when it is met, since each needs other libraries."""


def plan_source(urls: Sequence[str], mapping: ColumnMapping, format_: str | None = None) -> Source:
    """The parts of all files that some paths, folders, wildcards and URLs stand for, in their order.

    Each format is known by its name's ending unless told. Reads heads only: about 2 requests a file (a remote Arrow
    file is read whole). Raises SourceUnfit where something is missing or unreadable, or columns are not clear.
    """
    parts: list[SourcePart] = []
    rows = dimension = 0
    found = [pair for url in urls for pair in expand(url, mapping, format_)]
    if mapping.rows is not None and [name for _, name in found] not in (["npy"], ["fvecs"]):
        raise SourceUnfit("keys and metadata from another file go with one .npy or .fvecs file")
    for url, name in found:
        format_of = _format(name)
        fingerprint = format_of.fingerprint(url, mapping)
        head = format_of.head(url, mapping)
        parts += split(head, url, name, fingerprint, rows)
        rows, dimension = rows + head.rows, dimension or head.dimension
    return Source.of(parts, rows, dimension, mapping)


def read_part(part: SourcePart, mapping: ColumnMapping, rules: Rules) -> Iterator[tuple[Puts, list[Reject]]]:
    """The rows of a part in blocks of at most 8 MiB of vectors; what breaks a rule is rejected, the rest goes on.

    A key may repeat; the last row counts. Raises SourceChanged where the file is not the one that was planned with, or
    no longer at the end; and SourceUnfit.
    """
    format_of = _format(part.format)
    _check(part, format_of, mapping)
    for raw in format_of.read(part, mapping, rules.dimension, rules.block_rows):
        yield checked(raw, rules, mapping.key_prefix)
    _check(part, format_of, mapping)


def _check(part: SourcePart, format_of: Format, mapping: ColumnMapping) -> None:
    if part.format != "lance" and format_of.fingerprint(part.url, mapping) != part.fingerprint:
        raise SourceChanged(f"{part.url} has changed since the import began")


def _format(name: str) -> Format:
    module, class_name = FORMATS[name]
    found: Format = getattr(import_module(module), class_name)()
    return found
