"""How far a long command has come."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from neve.compaction.build import Progress


@contextmanager
def bar(title: str) -> Iterator[Progress]:
    """A progress bar on standard error where that is a terminal; a total of 0 is one that is not known."""
    if not sys.stderr.isatty():
        yield lambda _stage, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(title)
        yield lambda stage, done, total: shown.update(
            task, description=f"{title} {stage}", completed=done, total=total or None
        )
