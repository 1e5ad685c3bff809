"""Pictures of figures: recall against latency and against bytes, growth with the number of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure as Picture
from matplotlib.ticker import FuncFormatter
from scripts.benchmarks import growth, side_by_side
from scripts.benchmarks.figure import Figure
from scripts.benchmarks.sides import BUILD, BUILD_MEMORY, COLD, MEGABYTES, RECALL, REQUESTS, WARM

STYLES: Mapping[str, tuple[str, str]] = {
    "neve": ("#0072B2", "o"),
    "lancedb IVF_RQ": ("#D55E00", "s"),
    "lancedb IVF_PQ": ("#E69F00", "D"),
    "infino": ("#009E73", "^"),
}
"""Colour and marker of each engine; the colours differ for all kinds of eyes (Okabe and Ito)."""
PANELS = (
    (BUILD, "import + index ready, s"),
    (BUILD_MEMORY, "peak memory of the build, GiB"),
    (WARM, "warm query, one thread, ms"),
    (COLD, "cold query, ms"),
    (REQUESTS, "requests of a cold query"),
    (MEGABYTES, "MB of a cold query"),
)
DIMENSION = 768
RECALL_MIN = 0.85
"""What recalls less is of no use to anyone, and not shown."""
_LOOKS = {"font.size": 11, "axes.grid": True, "grid.color": "#dddddd", "axes.axisbelow": True, "svg.hashsalt": "neve"}


@dataclass(frozen=True, slots=True)
class Line:
    """The points of one engine, in the order in which they are joined."""

    engine: str
    x: Sequence[float]
    y: Sequence[float]


def curves(figures: Sequence[Figure], x: str) -> list[Line]:
    """Recall against another figure, for the settings that the engines were tried with."""
    points: dict[str, dict[str, dict[str, float]]] = {}
    for one in figures:
        if one.suite == side_by_side.SUITE and "sweep" in one.params:
            points.setdefault(one.engine, {}).setdefault(str(one.params["sweep"]), {})[one.figure] = one.value
    lines = []
    for engine in [engine for engine in STYLES if engine in points]:
        settings = points[engine].values()
        found = sorted((values[RECALL], values[x]) for values in settings if {x, RECALL} <= values.keys())
        if found:
            lines.append(Line(engine, [point[1] for point in found], [point[0] for point in found]))
    return lines


def grown(figures: Sequence[Figure], y: str) -> list[Line]:
    """A figure against the number of rows, for the sets of DIMENSION dimensions; cold, of a new handle."""
    points: dict[str, dict[float, float]] = {}
    for one in figures:
        told = {"way": "new handle", **one.params}
        place = one.suite, one.figure, told.get("dimension"), told["way"]
        if place == (growth.SUITE, y, DIMENSION, "new handle"):
            points.setdefault(one.engine, {})[float(told["rows"])] = one.value
    return [
        Line(engine, sorted(values), [values[rows] for rows in sorted(values)]) for engine, values in points.items()
    ]


def draw(figures: Sequence[Figure], folder: Path) -> list[Path]:
    """Write the pictures that there are figures for, each as PNG and SVG; what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with mpl.rc_context(_LOOKS):
        for name, x, label in (
            ("recall-latency", WARM, "warm query, one thread, p50 in ms"),
            ("recall-bytes", MEGABYTES, "read for a cold query, MB"),
        ):
            if lines := curves(figures, x):
                written += _saved(_recall(lines, label, _setting(figures)), folder / name)
        panels = [(label, grown(figures, y)) for y, label in PANELS]
        if any(lines for _, lines in panels):
            written += _saved(_growth(panels), folder / "growth")
    return written


def _setting(figures: Sequence[Figure]) -> str:
    told = next(one.params for one in figures if "sweep" in one.params)
    return f"{told['set']} set, {told['rows']:,} × {told['dimension']}, {told['origin']} queries, k = 10"


def _recall(lines: Sequence[Line], label: str, setting: str) -> Picture:
    picture = Picture(figsize=(8, 5), layout="constrained")
    axes = picture.subplots()
    for line in lines:
        _plot(axes, line)
    axes.set_xscale("log")
    axes.set_xlabel(label)
    axes.set_ylabel("recall@10")
    axes.set_ylim(min(RECALL_MIN, *(line.y[-1] - 0.01 for line in lines)), 1.005)
    axes.xaxis.set_major_formatter(FuncFormatter(_plain))
    axes.xaxis.set_minor_formatter(FuncFormatter(_sparse))
    axes.axhline(0.98, color="#888888", linewidth=1, linestyle=":")
    axes.text(axes.get_xlim()[0], 0.9805, " 0.98", color="#666666", fontsize=9, va="bottom")
    picture.suptitle(setting, x=0.01, ha="left", fontsize=12)
    picture.legend(loc="outside lower center", ncols=len(lines), frameon=False)
    return picture


def _growth(panels: Sequence[tuple[str, Sequence[Line]]]) -> Picture:
    picture = Picture(figsize=(13, 7.5), layout="constrained")
    every: dict[str, Any] = {}
    for axes, (label, lines) in zip(picture.subplots(2, 3).flat, panels, strict=True):
        for line in lines:
            every[line.engine] = _plot(axes, line)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_title(label, loc="left", fontsize=12)
        axes.set_xlabel("rows")
        rows = sorted({x for line in lines for x in line.x})
        axes.set_xticks(rows, [_count(x) for x in rows])
        axes.set_xticks([], minor=True)
        axes.yaxis.set_major_formatter(FuncFormatter(_plain))
        axes.yaxis.set_minor_formatter(FuncFormatter(_sparse))
    picture.suptitle(f"Growth at equal recall, synthetic set, {DIMENSION} dimensions", x=0.01, ha="left")
    picture.legend(every.values(), every, loc="outside upper right", ncols=len(every), frameon=False)
    return picture


def _plot(axes: Any, line: Line) -> Any:
    colour, marker = STYLES[line.engine]
    ours = line.engine == "neve"
    width = 2.5 if ours else 1.5
    [drawn] = axes.plot(
        line.x, line.y, color=colour, marker=marker, linewidth=width, label=line.engine, zorder=3 if ours else 2
    )
    return drawn


def _plain(value: float, _: int) -> str:
    return f"{value:,g}"


def _sparse(value: float, _: int) -> str:
    """Between powers of ten, 2 and 5 of them are written."""
    return f"{value:,g}" if f"{value:e}"[0] in "25" else ""


def _count(rows: float) -> str:
    return f"{rows / 1e6:g} M" if rows >= 1e6 else f"{rows / 1e3:g} k"


def _saved(picture: Picture, path: Path) -> list[Path]:
    files = [path.with_suffix(suffix) for suffix in (".png", ".svg")]
    for file in files:
        picture.savefig(file, dpi=150, metadata={"Date": None} if file.suffix == ".svg" else None)
    return files
