"""`neve compact`: turns what has been written into segments that are searched by reading a few ranges."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from neve.cli.command import add_command, database, index_name, print_table, size, store_url
from neve.cli.progress import bar
from neve.compaction.build import MEMORY_BYTES, Means
from neve.compaction.cluster import dask_cluster
from neve.compaction.compact import FAILURES, Compaction, compact
from neve.compaction.compact_elsewhere import compact_elsewhere
from neve.compaction.elsewhere import SEGMENT_ROWS, Elsewhere
from neve.compaction.executors import processes, threads
from neve.compaction.names import index_names
from neve.compaction.workspace import workspaces
from neve.errors import IndexNotFound, NeveError
from neve.index.database import Database
from neve.store.tiers import parse_size

_COMPACT = """\
Merge what has been written to an index into a segment that queries search by reading a few ranges of it. Without
a name all indexes are looked at, and those compacted where it is due (10,000 rows or 64 MiB written since the last
time); an index named by itself is compacted however little there is.

Asked for by name, an index is folded first, so that the newest writes are taken in as well.

Safe beside any number of readers, writers, collectors and other compactions. One that is killed goes on where it
was when it is started again. Superseded files are deleted by `neve collect`, an hour later at the earliest.
"""
WATCH_PAUSE_S = 10.0
WORKERS_MAX = 64
_COLUMNS = ("index", "rows", "lists", "bytes", "seconds", "written / new")
MEMORY_BYTES_MIN = 64 << 20


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_command(commands, "compact", "merge what was written into segments", _COMPACT)
    parser.add_argument("name", nargs="?", type=index_name, metavar="BUCKET[/INDEX]", help="what to compact (all)")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--full", action="store_true", help="leave each index a single segment, whatever its size")
    how.add_argument("--watch", action="store_true", help="go on, until interrupted, with whatever becomes due")
    add_work(parser)
    parser.set_defaults(func=run_compact)


def add_work(parser: argparse.ArgumentParser) -> None:
    """Options that say what does the work."""
    parser.add_argument(
        "--memory", type=memory_size, default=MEMORY_BYTES, metavar="SIZE", help="bound; on a cluster, of a task (2GiB)"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--workers", type=worker_count, default=0, metavar="N", help="processes to share the work (none)"
    )
    where.add_argument("--on", metavar="ADDRESS", help="a Dask cluster's scheduler, such as tcp://scheduler:8786")
    parser.add_argument(
        "--segment-rows", type=row_count, default=SEGMENT_ROWS, metavar="N", help="on a cluster: of a segment (4194304)"
    )


def memory_size(text: str) -> int:
    """A number of bytes such as 2GiB, 512MiB or 1073741824."""
    try:
        size_bytes = parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if size_bytes < MEMORY_BYTES_MIN:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size of at least 64MiB")
    return size_bytes


def worker_count(text: str) -> int:
    """A number of processes; 0 stands for none but this one."""
    if not text.isdigit() or int(text) > WORKERS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number up to {WORKERS_MAX}")
    return int(text)


def row_count(text: str) -> int:
    """A positive number of rows."""
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of rows")
    return int(text)


def executor_of(args: argparse.Namespace) -> AbstractContextManager[Executor]:
    """What does the work: a cluster (`--on`), processes (`--workers`), or this process."""
    if args.on:
        return dask_cluster(args.on)
    return processes(args.workers) if args.workers else threads()


def run_compact(args: argparse.Namespace) -> int:
    stopped = threading.Event()
    workers = executor_of(args)
    with database(args) as opened, workers as executor, _signals_set(stopped, args.watch):
        means = Means(workspaces(), args.memory, executor)
        told: set[str] = set()
        while True:
            done, failures = _compact_all(opened, args, means, stopped)
            for failure in failures:
                if failure not in told:  # once, however often it is tried again
                    print(f"neve: {failure}", file=sys.stderr)
            told = set(failures)
            if done:
                print_table("Compacted", _COLUMNS, done)
            elif not (args.watch or failures):
                print("nothing to compact, or another process of this machine is at it")
            if not args.watch:
                return 1 if failures else 0
            if stopped.wait(WATCH_PAUSE_S):
                return 0


def _compact_all(
    opened: Database, args: argparse.Namespace, means: Means, stopped: threading.Event
) -> tuple[list[tuple[object, ...]], list[str]]:
    """Compact what is asked for or due: rows for the table, and what failed, which does not keep others from it."""
    rows: list[tuple[object, ...]] = []
    failures: list[str] = []
    asked = bool(args.name and args.name[1]) and not args.watch
    elsewhere = Elsewhere(store_url(args), args.segment_rows)
    work = partial(compact_elsewhere, elsewhere=elsewhere) if args.on else compact
    try:
        for bucket, index in index_names(opened, *(args.name or ("", ""))):
            if stopped.is_set():
                break
            begun = time.monotonic()
            try:
                with bar(f"{bucket}/{index}") as progress:
                    some = replace(means, progress=progress)
                    done = work(opened, bucket, index, some, asked=asked, full=args.full)
                if done is not None:
                    rows.append((f"{bucket}/{index}", *_cells(done, time.monotonic() - begun)))
            except IndexNotFound as error:
                if args.name and args.name[1]:  # else it was dropped since it was listed
                    failures.append(str(error))
            except FAILURES as error:
                failures.append(f"{bucket}/{index}: {error}")
    except NeveError as error:
        failures.append(str(error))
    return rows, failures


def _cells(done: Compaction, seconds: float) -> tuple[object, ...]:
    return done.rows, done.lists, size(done.size_bytes), f"{seconds:.1f}", f"{done.amplification:.2f}"


@contextmanager
def _signals_set(stopped: threading.Event, watch: bool) -> Iterator[None]:
    """While watching, SIGINT and SIGTERM let what is under way end well, and a second one does not."""
    if not watch:
        yield
        return
    previous: dict[int, Any] = {}

    def stop(number: int, _frame: object) -> None:
        stopped.set()
        signal.signal(number, previous[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        previous[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for handled, handler in previous.items():
            signal.signal(handled, handler)
