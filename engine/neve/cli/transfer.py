"""`neve import` and `neve export`: vectors in bulk, from and to files, tables and other S3 Vectors endpoints."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

from neve.api.limits import LIMITS
from neve.api.options import CallOptions
from neve.api.service import Identity, Service
from neve.cli.command import add_command, database, print_table, size, store_url
from neve.cli.compact import add_work, executor_of
from neve.cli.progress import bar
from neve.cli.service import Commands, a_number, one_index
from neve.compaction.build import Means
from neve.compaction.elsewhere import Elsewhere
from neve.compaction.executors import Inline
from neve.compaction.workspace import workspaces
from neve.errors import BucketExists, IndexExists, SourceUnfit
from neve.index.database import Database
from neve.index.records import IndexConfig
from neve.transfer.elsewhere import Reading, ScatteredWork
from neve.transfer.files import absolute
from neve.transfer.import_ import SMALL_ROWS, Imported, MakeWork, ReadPart, import_rows
from neve.transfer.mapping import ColumnMapping
from neve.transfer.rejects import RejectLog
from neve.transfer.remote import check_arrived, send
from neve.transfer.rules import Rules
from neve.transfer.snapshot import Snapshot
from neve.transfer.sources import FORMATS, REMOTE, Source, plan_source, read_part
from neve.vectors.metric import Metric

_IMPORT = """\
Import vectors from Parquet, Arrow IPC, Lance and LanceDB, .npy, .fvecs and JSONL files, or from another
S3 Vectors endpoint. More than 10,000 rows go straight to segments, and are visible all at once at the end.

    neve import media/films films.parquet                          columns are found by name and type
    neve import media/films 's3://bucket/films/*.parquet' --key film_id --vector embedding --create
    neve import media/films vectors.npy --rows titles.jsonl        keys and metadata from another file
    neve import media/films lancedb-folder --table films
    neve import media/films 's3vectors://media/films?endpoint=http://127.0.0.1:8000'

A row that the index cannot hold is rejected, and the others are imported. Keys that are there already are
overwritten, except those that others write while the import runs. An import that is killed goes on where
it was when the same command is given again; `neve import --abandon BUCKET/INDEX` gives it up.

Credentials come from the environment: AWS_ACCESS_KEY_ID and the other standard variables.
"""
_EXPORT = """\
Export one state of an index, and read it back: to a folder of Parquet files, to one file (TARGET ends in
.parquet), to a Lance dataset (.lance), to a table of a LanceDB folder (--table), or to an index behind
another S3 Vectors endpoint, which gets what it does not have yet.

    neve export media/films s3://backup/films
    neve export media/films films.parquet --columns
    neve export media/films lancedb-folder --table films
    neve export media/films 's3vectors://media/films?endpoint=http://127.0.0.1:8000' --create

Credentials come from the environment: AWS_ACCESS_KEY_ID and the other standard variables.
"""
_REASONS_SHOWN = 5


def register(commands: Commands) -> None:
    importing = add_command(commands, "import", "take in vectors from files, tables and endpoints", _IMPORT)
    importing.add_argument("name", type=one_index, metavar="BUCKET/INDEX")
    importing.add_argument("sources", nargs="*", metavar="SOURCE", help="files, folders, wildcards, URLs")
    _add_mapping(importing)
    _add_creation(importing)
    importing.add_argument(
        "--limits", choices=list(LIMITS), default="aws", help="of metadata, as for `neve serve` (aws)"
    )
    importing.add_argument("--rejects", type=Path, metavar="FILE", help="write rejected rows to a JSONL file")
    count = a_number(int, 0, 10**12)
    importing.add_argument("--max-rejects", type=count, default=0, metavar="N", help="rejects that are no failure (0)")
    add_work(importing)
    importing.add_argument("--abandon", action="store_true", help="first give up the import that is open, if one is")
    importing.set_defaults(func=partial(_told, run_import))
    exporting = add_command(commands, "export", "write an index to files, tables and endpoints", _EXPORT)
    exporting.add_argument("name", type=one_index, metavar="BUCKET/INDEX")
    exporting.add_argument("target", metavar="TARGET", help="a folder, a file, or a URL")
    exporting.add_argument("--table", metavar="NAME", help="of a LanceDB folder, which TARGET is")
    exporting.add_argument("--columns", action="store_true", help="typed columns for metadata, where it is uniform")
    exporting.add_argument("--create", action="store_true", help="create bucket and index at the other endpoint")
    exporting.set_defaults(func=partial(_told, run_export))


def _add_mapping(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--key", metavar="COLUMN", help="holds the keys: text or integers")
    parser.add_argument("--vector", metavar="COLUMN", help="holds the vectors: lists of float16, 32 or 64")
    metadata = "all (the other columns), none, or COLUMN,COLUMN…; one named metadata holds whole documents (all)"
    parser.add_argument("--metadata", type=_columns, default=None, metavar="COLUMNS", help=metadata)
    parser.add_argument("--key-prefix", default="", metavar="TEXT", help="put before every key")
    parser.add_argument("--table", metavar="NAME", help="of a LanceDB folder")
    parser.add_argument(
        "--rows", metavar="FILE", help="Parquet or JSONL with keys and metadata of a .npy or .fvecs file"
    )
    parser.add_argument(
        "--format", choices=[name for name in FORMATS if name != "s3vectors"], help="whatever names say"
    )


def _add_creation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--create", action="store_true", help="create the index, and its bucket, unless there is one")
    parser.add_argument("--dimension", type=a_number(int, 1, 16_384), metavar="N", help="of it (that of the source)")
    parser.add_argument("--metric", choices=[str(metric) for metric in Metric], default="cosine", help="of it (cosine)")
    keys = "its metadata keys that cannot be filtered by: KEY,KEY…"
    parser.add_argument("--non-filterable", type=lambda text: text.split(","), default=[], metavar="KEYS", help=keys)


def run_import(args: argparse.Namespace) -> int:
    begun, (bucket, index) = time.monotonic(), args.name
    with database(args) as opened:
        if args.abandon:
            _abandon(opened, args.name)
        if not args.sources:
            if args.abandon:
                return 0
            raise SourceUnfit("nothing to import: name a SOURCE")
        mapping = _mapping(args)
        source = plan_source(args.sources, mapping, args.format)
        if args.create:
            _create(opened, args, source)
        rules = Rules.of(_config(opened, args.name), args.limits)
        read = partial(read_part, mapping=mapping, rules=rules)
        _try_first_rows(source, read, args.max_rejects)
        with RejectLog(args.rejects) as log, executor_of(args) as executor, bar("/".join(args.name)) as progress:
            means = Means(workspaces(), args.memory, executor, progress)
            elsewhere: MakeWork | None = None
            if args.on:
                reading = Reading(mapping, rules, args.limits, means, Elsewhere(store_url(args), args.segment_rows))
                elsewhere, means = partial(ScatteredWork, reading=reading), replace(means, executor=Inline())
            done = import_rows(opened, bucket, index, source, read, means, log.add, elsewhere)
            for url in args.sources if done is not None else ():
                if url.startswith(REMOTE):
                    check_arrived(Snapshot.of(opened, *args.name), url, log.count, progress)
    return _tell_import(args, done, log, time.monotonic() - begun)


def run_export(args: argparse.Namespace) -> int:
    begun = time.monotonic()
    with database(args) as opened, bar("/".join(args.name)) as progress:
        snapshot = Snapshot.of(opened, *args.name)
        if args.target.startswith(REMOTE):
            sent = send(snapshot, args.target, create=args.create, progress=progress)
            rows, digest = sent.rows, sent.digest
            cells = [("sent", sent.sent), ("there already", rows - sent.sent), ("others there", sent.others)]
        else:
            from neve.transfer.export import Target, export  # needs pyarrow, which endpoints do not

            done = export(snapshot, Target(args.target, args.table), columns=args.columns, progress=progress)
            rows, digest, cells = done.rows, done.digest, [("files", done.files)]
    told = [("rows", rows), *cells, ("digest", f"{digest:016x}"), *_rate(rows, time.monotonic() - begun)]
    print_table(
        f"Exported {'/'.join(args.name)} to {args.target}", [name for name, _ in told], [[value for _, value in told]]
    )
    return 0


def _told(run: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Run a command; what the local disk or lost processes keep it from is told in one line."""
    try:
        return run(args)
    except (OSError, BrokenExecutor) as error:
        print(f"neve: {error}", file=sys.stderr)
        return 1


def _mapping(args: argparse.Namespace) -> ColumnMapping:
    rows = None if args.rows is None else absolute(args.rows)
    return ColumnMapping(args.key, args.vector, args.metadata, args.key_prefix, args.table, rows)


def _columns(text: str) -> tuple[str, ...] | None:
    """all, none, or names."""
    return None if text == "all" else () if text == "none" else tuple(text.split(","))


def _config(opened: Database, name: tuple[str, str]) -> IndexConfig:
    return opened.index(*name).read().config


def _abandon(opened: Database, name: tuple[str, str]) -> None:
    abandoned = opened.index(*name).abandon_import()
    print("abandoned the import that was open" if abandoned else "no import was open")


def _create(opened: Database, args: argparse.Namespace, source: Source) -> None:
    """Create bucket and index where they are missing, by the rules of the API."""
    dimension = args.dimension or source.dimension
    if not dimension:
        raise SourceUnfit("the source has no vector to tell the dimension by: name it by --dimension")
    service, options = Service(opened, Identity(), LIMITS[args.limits]), CallOptions()
    bucket, index = args.name
    shape = {"dataType": "float32", "dimension": dimension, "distanceMetric": args.metric}
    if args.non_filterable:
        shape["metadataConfiguration"] = {"nonFilterableMetadataKeys": args.non_filterable}
    with suppress(BucketExists):
        service.call("CreateVectorBucket", {"vectorBucketName": bucket}, options)
    with suppress(IndexExists):
        service.call("CreateIndex", {"vectorBucketName": bucket, "indexName": index, **shape}, options)


def _try_first_rows(source: Source, read: ReadPart, rejects_max: int) -> None:
    """Refuse a large source whose first rows are all rejected, before anything is begun: the mapping will be wrong."""
    if source.rows <= SMALL_ROWS:
        return
    for puts, rejects in chain.from_iterable(read(part) for part in source.parts):
        if puts.keys or len(rejects) <= rejects_max:
            return
        raise SourceUnfit(f"none of the first {len(rejects):,} rows can be imported: {rejects[0].reason}")


def _tell_import(args: argparse.Namespace, done: Imported | None, log: RejectLog, seconds: float) -> int:
    path = "/".join(args.name)
    if done is None:
        print(f"another process has finished this import into {path}")
        return 0
    cells = [("rows", done.rows), ("rejected", done.rejected), *_rate(done.rows, seconds)]
    left_out = (("repeated", done.repeated), ("overtaken", done.overtaken), ("replaced", done.replaced))
    cells[2:2] = [(name, count) for name, count in left_out if count]
    if done.lists:
        cells += [("lists", done.lists), ("bytes", size(done.size_bytes))]
    _print(f"Imported into {path}", cells)
    for reason, count in log.reasons.most_common(_REASONS_SHOWN):
        print(f"neve: rejected {count:,}: {reason}", file=sys.stderr)
    if done.rejected and args.rejects is None:
        print("neve: --rejects FILE says which rows", file=sys.stderr)
    return 1 if done.rejected > args.max_rejects else 0


def _print(title: str, cells: Sequence[tuple[str, object]]) -> None:
    print_table(title, [name for name, _ in cells], [[value for _, value in cells]])


def _rate(rows: int, seconds: float) -> list[tuple[str, object]]:
    return [("seconds", f"{seconds:.1f}"), ("rows/s", round(rows / max(seconds, 1e-3)))]
