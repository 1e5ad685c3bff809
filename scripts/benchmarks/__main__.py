"""Measures the engine on this machine and prints a table. Every number is measured in the run that prints it.

Suites: ingest (the Debian set, or the sample without it, into a folder and into MinIO), query (exact, over HTTP and
in process, and its recall), writers (independent processes that share an index), wave (requests asked of the store),
search (posting lists on the prose and Debian sets, cold behind a store with S3's delays and warm, beside LanceDB and
infino, which a first run installs; what was built is kept in NEVE_CACHE).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table
from scripts.benchmarks import ingest, query, search, wave, writers
from scripts.benchmarks.figure import Figure
from scripts.benchmarks.stand import Stand, stand
from tests.servers.tools import ROOT

SUITES: dict[str, Callable[[Stand], list[Figure]]] = {
    module.SUITE: module.run for module in (wave, writers, query, ingest, search)
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suite", action="append", choices=SUITES, help="run this suite only; may be repeated")
    parser.add_argument("--quick", action="store_true", help="a smoke test of minutes: figures not worth quoting")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # a polite kill ends the servers too
    with stand(chosen.quick, data_folder()) as ready:
        figures = [figure for name in chosen.suite or SUITES for figure in run_suite(name, ready)]
    if chosen.json is not None:
        chosen.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=1) + "\n")
    show(figures)


def data_folder() -> Path | None:
    """The folder of the big sets, where there is one."""
    folder = Path(os.environ.get("NEVE_DATA") or ROOT.parent / "shared" / "data")
    return folder if folder.is_dir() else None


def run_suite(name: str, ready: Stand) -> list[Figure]:
    begun = time.monotonic()
    print(f"measuring {name} …", file=sys.stderr, flush=True)
    figures = SUITES[name](ready)
    print(f"measured {name} in {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return figures


def show(figures: Sequence[Figure]) -> None:
    """One row for all figures of a suite that depend on the same."""
    table = Table("suite", "engine", "depends on", "figures", title="Measured on this machine, just now")
    rows: dict[tuple[str, str, str], list[str]] = {}
    for figure in figures:
        params = ", ".join(f"{name} {value}" for name, value in figure.params.items())
        rows.setdefault((figure.suite, figure.engine, params), []).append(told(figure))
    for row, lines in rows.items():
        table.add_row(*row, "\n".join(lines))
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def told(figure: Figure) -> str:
    """A figure, and its target where it has one: green when it is reached."""
    value = f"{figure.figure} [bold]{figure.value:,.4g}[/] {figure.unit}".rstrip()
    if figure.target is None:
        return value
    return f"{value} [{'green' if figure.target.reached(figure.value) else 'red'}]({figure.target})[/]"


if __name__ == "__main__":
    main()
