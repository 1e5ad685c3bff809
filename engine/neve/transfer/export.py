"""Export: one state of an index becomes Parquet files, or a table of LanceDB, and is read back.

Columns: `key` string, `vector` fixed_size_list<float32>, and `metadata`, JSON text; or, as `columns`, one typed column
for each metadata key that has one type throughout, and `metadata` for what is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from neve.compaction.build import Progress
from neve.errors import TargetUnfit, TransferIncomplete
from neve.transfer import files
from neve.transfer.columns import Schema, infer
from neve.transfer.mapping import ColumnMapping
from neve.transfer.rules import Rules
from neve.transfer.snapshot import Snapshot, Tally, digests
from neve.transfer.sources import plan_source, read_part

FILE_BYTES = 512 << 20
"""Vectors of a Parquet file, where several are written."""
GROUP_BYTES = 64 << 20
"""Vectors of a row group: they are held in memory twice."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export has done: so many rows, which have been read back and have that digest."""

    rows: int
    files: int
    digest: int


@dataclass(frozen=True, slots=True)
class Target:
    """Where to: a folder of Parquet files, one file, or a Lance dataset (`table`: of that name in a LanceDB folder)."""

    url: str
    table: str | None = None

    @property
    def dataset(self) -> str | None:
        """The URL of the Lance dataset; None for Parquet."""
        plain, query = files.split_options(self.url)
        if self.table is not None:
            return f"{plain.rstrip('/')}/{self.table}.lance{query}"
        return self.url if plain.rstrip("/").endswith(".lance") else None

    @property
    def is_file(self) -> bool:
        return files.split_options(self.url)[0].endswith((".parquet", ".pq"))


def export(snapshot: Snapshot, target: Target, *, columns: bool, progress: Progress) -> Exported:
    """Write all rows of a state, and read them back; deletes what it has written if that fails.

    `columns` reads the state twice. Memory: some 200 MiB, and the recent rows. Raises TargetUnfit where something is
    there already or cannot be written, TransferIncomplete where other rows are read back than were written,
    TransferError as `Snapshot.blocks`, ObjectCorrupt, StoreError, OSError.
    """
    target = Target(files.absolute(target.url), target.table)
    _check_empty(target)
    dimension = snapshot.state.config.dimension
    schema = infer(snapshot.blocks(), dimension) if columns else Schema.plain(dimension)
    tally = Tally()
    written: list[str] = []
    try:
        with files.writing(target.url):
            if target.dataset is not None:
                _write_lance(target.dataset, schema, _batches(snapshot, schema, tally, progress), written)
            else:
                _write_parquet(target, schema, _batches(snapshot, schema, tally, progress), written)
        _verify(snapshot, target, written, tally, progress)
    except BaseException:
        for url in written:
            with suppress(Exception):
                files.remove(url)
        raise
    return Exported(tally.rows, len(written), tally.digest)


def _batches(snapshot: Snapshot, schema: Schema, tally: Tally, progress: Progress) -> Iterator[pa.RecordBatch]:
    for puts in snapshot.blocks():
        if puts.keys:
            tally.add(digests(puts))
            yield schema.batch(puts)
            progress("write", tally.rows, max(tally.rows, snapshot.rows))


def _write_parquet(target: Target, schema: Schema, batches: Iterator[pa.RecordBatch], written: list[str]) -> None:
    """One file, or parts of half a GiB, each of row groups of 64 MiB."""
    row_bytes = 4 * schema.dimension
    held: list[pa.RecordBatch] = []
    part: _Part | None = None

    def flush() -> None:
        nonlocal part
        if part is None:
            plain, query = files.split_options(target.url)
            url = target.url if target.is_file else f"{plain.rstrip('/')}/part-{len(written):05d}.parquet{query}"
            written.append(url)
            part = _Part(url, schema.arrow)
        part.write(pa.Table.from_batches(held, schema.arrow))
        held.clear()
        if part.rows * row_bytes >= FILE_BYTES and not target.is_file:
            part.close()
            part = None

    try:
        for batch in batches:
            held.append(batch)
            if sum(one.num_rows for one in held) * row_bytes >= GROUP_BYTES:
                flush()
        if held or not written:
            flush()
    finally:
        if part is not None:
            part.close()


class _Part:
    """A Parquet file that is being written."""

    def __init__(self, url: str, schema: pa.Schema) -> None:
        self.rows = 0
        self._file = files.create(url)
        self._writer = pq.ParquetWriter(self._file, schema, compression="zstd", use_dictionary=_dictionary(schema))

    def write(self, group: pa.Table) -> None:
        self._writer.write_table(group, row_group_size=max(1, group.num_rows))
        self.rows += group.num_rows

    def close(self) -> None:
        self._writer.close()
        self._file.close()


def _dictionary(schema: pa.Schema) -> list[str]:
    """Columns of which values may repeat; those of vectors and keys do not."""
    return [field.name for field in schema if field.name not in ("key", "vector")]


def _write_lance(url: str, schema: Schema, batches: Iterator[pa.RecordBatch], written: list[str]) -> None:
    """A dataset comes to be with its last file."""
    import lance

    plain, options = files.lance_options(url)
    written.append(url)
    reader = pa.RecordBatchReader.from_batches(schema.arrow, batches)
    lance.write_dataset(reader, plain, mode="create", storage_options=options)


def _check_empty(target: Target) -> None:
    with files.writing(target.url):
        system, path = files.filesystem(target.dataset or target.url)
        there = system.exists(path) and (not system.isdir(path) or bool(system.ls(path, detail=False)))
    if there:
        raise TargetUnfit(f"{target.dataset or target.url} is there already: name another target, or delete it first")


def _verify(snapshot: Snapshot, target: Target, written: list[str], expected: Tally, progress: Progress) -> None:
    """Read everything back as an import would."""
    mapping = ColumnMapping(key="key", vector="vector")
    rules, found = Rules.of(snapshot.state.config), Tally()
    source = plan_source(written, mapping)
    for part in source.parts:
        for puts, _ in read_part(part, mapping, rules):
            found.add(digests(puts))
            progress("verify", found.rows, expected.rows)
    if found != expected:
        raise TransferIncomplete(
            f"{target.url} has {found.rows:,} rows of digest {found.digest:016x} "
            f"where {expected.rows:,} of digest {expected.digest:016x} were written"
        )
