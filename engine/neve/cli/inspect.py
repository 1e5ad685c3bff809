"""`neve inspect`: what a store holds."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime

from neve.cli.command import add_command, database, index_name, print_table, size
from neve.errors import IndexNotFound
from neve.index.database import Database
from neve.index.records import BucketRecord, IndexRecord
from neve.index.settings import effective
from neve.index.state import State

_PAGE = 500
_DESCRIPTION = """\
Show what a store holds: its vector buckets; the indexes of one bucket; or one index with its settings, its
manifest, the tail of its log that is not folded yet, and its segments: flat ones, which are searched row by
row, and compacted ones (ivf), which are searched by lists.

    neve inspect                        the buckets
    neve inspect library                the indexes of the bucket `library`
    neve inspect library/books          the index `books`
"""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_command(commands, "inspect", "show buckets, indexes, manifests, tails and sizes", _DESCRIPTION)
    parser.add_argument("name", nargs="?", type=index_name, metavar="BUCKET[/INDEX]", help="what to show")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    with database(args) as opened:
        bucket, index = args.name or ("", "")
        if index:
            _show_index(opened.index(bucket, index).read())
        elif bucket:
            _show_bucket(opened, bucket)
        else:
            _show_store(opened)
    return 0


def _show_store(opened: Database) -> None:
    rows = [
        (bucket.name, _time(bucket.created_s), bucket.state, sum(1 for _ in _indexes(opened, bucket.name)))
        for bucket in _buckets(opened)
    ]
    print_table(f"Store {opened.identity}", ("bucket", "created", "state", "indexes"), rows)


def _show_bucket(opened: Database, bucket: str) -> None:
    rows = []
    for record in _indexes(opened, bucket):
        try:
            state = opened.index(bucket, record.name).read()
        except IndexNotFound:
            continue
        rows.append(
            (
                record.name,
                record.config.dimension,
                record.config.metric,
                state.live_rows,
                len(state.segments),
                len(state.compacted),
                len(state.tail),
                size(_stored_bytes(state)),
            )
        )
    columns = ("index", "dimension", "metric", "vectors", "flat", "ivf", "tail entries", "stored")
    print_table(f"Bucket {bucket}", columns, rows)


def _show_index(state: State) -> None:
    record, base = state.record, state.base
    facts = (
        ("uid", record.uid),
        ("created", _time(record.created_s)),
        ("dimension, metric", f"{record.config.dimension}, {record.config.metric}"),
        ("non-filterable keys", ", ".join(record.config.non_filterable or ()) or "-"),
        ("tags", ", ".join(f"{key}={value}" for key, value in sorted(state.tags.items())) or "-"),
        ("settings", ", ".join(f"{name}={value:g}" for name, value in effective(state.settings).items())),
        ("vectors", f"{state.live_rows:,}"),
        ("stored", _stored(state)),
        ("manifest", f"{base.number} (folded to entry {base.folded_to}, work floor {base.work_floor})"),
        ("log", f"entry {state.position}, tail of {len(state.tail)} entries, {size(state.tail_bytes)}"),
        ("live-set digest", f"{state.digest():016x}"),
    )
    print_table(f"Index {record.bucket}/{record.name}", ("", ""), facts)
    rows: list[tuple[object, ...]] = [
        (s.info.name, "flat", s.info.rows, s.part.live_rows, "-", s.info.deleted, size(s.info.size_bytes), "-")
        for s in state.segments
    ]
    for s in state.compacted:
        filters = "-" if s.directory.filters is None else size(s.directory.filters.size_bytes)
        lists, stored = f"{s.directory.lists:,}", size(s.info.size_bytes)
        rows.append((s.info.name, "ivf", s.info.rows, s.info.live, lists, "-", stored, filters))
    columns = ("segment", "kind", "rows", "live", "lists", "tombstones", "stored", "of it filters")
    print_table("Segments", columns, rows)


def _stored_bytes(state: State) -> int:
    """Bytes of the segments and of the tail; what waits for collection is not among them."""
    flat = sum(segment.info.size_bytes for segment in state.segments)
    return state.tail_bytes + flat + sum(compacted.info.size_bytes for compacted in state.compacted)


def _stored(state: State) -> str:
    stored = _stored_bytes(state)
    if not state.live_rows:
        return size(stored)
    each, raw = stored / state.live_rows, 4 * state.config.dimension
    return f"{size(stored)}: {each:,.0f} bytes a vector, of which float32 {raw:,}"


def _buckets(opened: Database) -> Iterator[BucketRecord]:
    after, more = "", True
    while more:
        page, more = opened.list_buckets("", after, _PAGE)
        yield from page
        after = page[-1].name if page else ""


def _indexes(opened: Database, bucket: str) -> Iterator[IndexRecord]:
    after, more = "", True
    while more:
        page, more = opened.list_indexes(bucket, "", after, _PAGE)
        yield from page
        after = page[-1].name if page else ""


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
