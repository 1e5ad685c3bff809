"""Measures the engine on this machine and prints a table. Every number is measured in the run that prints it.

Suites: ingest (the Debian set, or the sample without it, into a folder and into MinIO), query (exact, over HTTP and
in process, and its recall), writers (independent processes that share an index), wave (requests asked of the store),
search (posting lists on the prose and Debian sets, cold behind a store with S3's delays and warm, beside LanceDB and
infino, which a first run installs; what was built is kept in NEVE_CACHE), tiers (the same query from that store, from
the local disk and from memory), peers (from Parquet to answers, side by side
with LanceDB by two indexes and infino), load (queries and puts a second over HTTP), growth (synthetic sets of up to a
million rows, and one of five when it is asked for), filter (queries with filters that keep from half of the rows to
one of ten thousand, beside LanceDB with scalar indexes), coldstart (from a new process to its first answer, by the
packaged function and the runtime interface client, beside LanceDB's and infino's import and first query), costs
(dollars by counted requests and measured time, beside the hosted service's list prices).

A long suite can be measured in pieces: `--only growth:1m --json million.json`. `--from FILE` takes up the figures of
earlier runs, so that `--from a.json --from b.json --plots DIR` shows them together, with the ratios between them, and
measures nothing by itself.
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
from scripts.benchmarks import (
    coldstart,
    costs,
    filters,
    growth,
    ingest,
    load,
    query,
    search,
    side_by_side,
    tiers,
    wave,
    writers,
)
from scripts.benchmarks.figure import Figure, Target
from scripts.benchmarks.ratios import ratios
from scripts.benchmarks.sides import ALL
from scripts.benchmarks.stand import Stand, stand
from tests.servers.tools import ROOT, Unavailable

PIECED = (side_by_side, load, growth, filters, coldstart)
SUITES: dict[str, Callable[[Stand], list[Figure]]] = {
    module.SUITE: module.run for module in (wave, writers, query, ingest, search, tiers, costs, *PIECED)
}
PIECES = {f"{module.SUITE}:{name}": piece for module in PIECED for name, piece in module.PIECES.items()}


def main() -> None:
    chosen = arguments().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # a polite kill ends the servers too
    figures = [figure for file in chosen.earlier for figure in read(file)]
    parts = [*(chosen.suite or []), *(chosen.only or [])] or ([] if chosen.earlier else list(SUITES))
    if parts:
        with stand(chosen.quick, data_folder(), chosen.engine or (), drop=chosen.drop) as ready:
            for name in parts:
                figures += run_part(name, ready)
                write(figures, chosen.json)  # after each, so that none is lost to what comes later
    write(figures, chosen.json)
    everything = [*figures, *ratios(figures)]
    if chosen.plots is not None:
        from scripts.benchmarks.plots import draw  # here, since no other run needs matplotlib

        draw(everything, chosen.plots)
    show(everything)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suite", action="append", choices=SUITES, help="run this suite only; may be repeated")
    parser.add_argument("--only", action="append", choices=PIECES, metavar="SUITE:PIECE", help=", ".join(PIECES))
    names = [engine.option for engine in ALL]
    parser.add_argument(
        "--engine", action="append", choices=names, help="in peers, growth and filter this one only; repeatable"
    )
    parser.add_argument(
        "--drop", action="store_true", help="delete what growth and filter have made (30 GB a million rows) afterwards"
    )
    parser.add_argument("--quick", action="store_true", help="a smoke test of minutes: figures not worth quoting")
    parser.add_argument(
        "--from", dest="earlier", action="append", type=Path, default=[], metavar="FILE", help="see above"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw them there, as PNG and SVG")
    return parser


def read(file: Path) -> list[Figure]:
    """The figures that a run wrote."""
    told = json.loads(file.read_text())
    return [Figure(**{**one, "target": Target(**one["target"]) if one["target"] else None}) for one in told]


def data_folder() -> Path | None:
    """The folder of the big sets, where there is one."""
    folder = Path(os.environ.get("NEVE_DATA") or ROOT.parent / "shared" / "data")
    return folder if folder.is_dir() else None


def write(figures: Sequence[Figure], file: Path | None) -> None:
    if file is not None:
        file.write_text(json.dumps([asdict(figure) for figure in figures], indent=1) + "\n")


def run_part(name: str, ready: Stand) -> list[Figure]:
    """A suite or a piece of one; nothing of one for which this machine lacks something, which is told on stderr."""
    begun = time.monotonic()
    print(f"measuring {name} …", file=sys.stderr, flush=True)
    try:
        figures = (SUITES | PIECES)[name](ready)
    except Unavailable as error:
        print(f"NOT MEASURED: {name}: {error}", file=sys.stderr)
        return []
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
