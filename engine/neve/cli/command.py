"""What commands share: the store that they work on, and the tables that they print."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from neve.errors import StoreUnfit
from neve.index.database import Database
from neve.runtime import SystemRuntime
from neve.store.connect import FORMS, connect


def add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str, description: str
) -> argparse.ArgumentParser:
    """A command with its `--store` option."""
    parser = commands.add_parser(
        name, help=summary, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", metavar="URL", default=os.environ.get("NEVE_STORE"), help=f"{FORMS} (NEVE_STORE)")
    return parser


def store_url(args: argparse.Namespace) -> str:
    """The store's URL; raises StoreUnfit where none is given."""
    if not args.store:
        raise StoreUnfit(f"no store is given: use --store URL or NEVE_STORE ({FORMS})")
    url: str = args.store
    return url


@contextmanager
def database(args: argparse.Namespace) -> Iterator[Database]:
    """The database of a command's store, closed afterwards."""
    opened = Database.open(connect(store_url(args)), SystemRuntime())
    try:
        yield opened
    finally:
        opened.close()


def index_name(text: str) -> tuple[str, str]:
    """BUCKET or BUCKET/INDEX as (bucket, index); the index is "" where none is named."""
    bucket, _, index = text.partition("/")
    if not bucket or "/" in index:
        raise argparse.ArgumentTypeError(f"{text!r} is not BUCKET or BUCKET/INDEX")
    return bucket, index


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on standard output; numbers stand right."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", header_style="bold")
    cells = [list(row) for row in rows]
    for place, column in enumerate(columns):
        numeric = bool(cells) and all(isinstance(row[place], int | float) for row in cells)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    Console().print(table)


def size(count: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
