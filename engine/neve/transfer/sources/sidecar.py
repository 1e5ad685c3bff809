"""Keys and metadata of the rows of a matrix: numbers, or the rows of a Parquet or JSONL file beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TypeAlias

from neve.errors import SourceUnfit
from neve.transfer import files
from neve.transfer.mapping import ColumnMapping
from neve.transfer.sources.parts import SourcePart

Labels: TypeAlias = tuple[int, Sequence[object], Sequence[object], dict[int, str]]
"""First row of a block, keys, metadata documents, and problems by place."""


def labels(part: SourcePart, mapping: ColumnMapping, block_rows: int) -> Iterator[Labels]:
    """Keys and metadata of a part's rows in blocks. Raises SourceUnfit."""
    if mapping.rows is None:
        for start in range(part.start, part.stop, block_rows):
            count = min(block_rows, part.stop - start)
            first = part.base + start - part.start
            yield start, range(first, first + count), [None] * count, {}
        return
    row, blocks = part.start, _table if is_table(mapping.rows) else _lines
    for keys, documents, problems in blocks(mapping.rows, part.start, part.stop, mapping, block_rows):
        count = len(documents)
        yield row, keys or range(row, row + count), documents, problems
        row += count
    if row != part.stop:
        raise SourceUnfit(f"{mapping.rows} has {row:,} rows, fewer than {part.url}")


def sidecar_rows(url: str, mapping: ColumnMapping) -> int | None:
    """How many rows it has, where the format says so; raises SourceUnfit where it cannot be used."""
    if not is_table(url):
        return None
    from neve.transfer.sources.tables import beside_rows

    return beside_rows(url, mapping)


def is_table(url: str) -> bool:
    """Whether it is Parquet; else JSONL. Raises SourceUnfit for other names."""
    plain = files.split_options(url)[0]
    if plain.endswith((".jsonl", ".ndjson")):
        return False
    if plain.endswith((".parquet", ".pq")):
        return True
    raise SourceUnfit(f"{url}: keys and metadata come from a .parquet or a .jsonl file")


_Block: TypeAlias = tuple[Sequence[object], Sequence[object], dict[int, str]]


def _table(url: str, start: int, stop: int, mapping: ColumnMapping, block_rows: int) -> Iterator[_Block]:
    from neve.transfer.sources.tables import beside

    return beside(url, start, stop, mapping, block_rows)


def _lines(url: str, start: int, stop: int, mapping: ColumnMapping, block_rows: int) -> Iterator[_Block]:
    """Reads from the start of the file: where a line begins is known by those before it."""
    from neve.transfer.sources.lines import label_of, read_lines

    with files.reading(url):
        found = islice(read_lines(url, 0, files.size_of(url)), start, stop)
        while some := list(islice(found, block_rows)):
            keys: list[object] = []
            documents: list[object] = []
            problems: dict[int, str] = {}
            for place, (_, line) in enumerate(some):
                key, document, problem = label_of(line, mapping)
                keys.append(key)
                documents.append(document)
                if problem is not None:
                    problems[place] = problem
            yield keys, documents, problems
