"""Pictures of figures: recall against latency and bytes, growth with the number of rows, latency by tier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure as Picture
from matplotlib.ticker import FuncFormatter
from scripts.benchmarks import growth, side_by_side, tiers
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


def by_tier(figures: Sequence[Figure]) -> list[tuple[str, float, float]]:
    """Median and 99th percentile of a query by tier, the slowest tier first."""
    values: dict[str, dict[str, float]] = {}
    for one in figures:
        if one.suite == tiers.SUITE:
            values.setdefault(str(one.params["tier"]), {})[one.figure] = one.value
    p50, p99 = f"{tiers.LATENCY} p50", f"{tiers.LATENCY} p99"
    return [(tier, values[tier][p50], values[tier][p99]) for tier in tiers.TIERS if tier in values]


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
        if spans := by_tier(figures):
            written += _saved(_tiers(spans, _tier_setting(figures)), folder / "tiers")
        panels = [(label, grown(figures, y)) for y, label in PANELS]
        if any(lines for _, lines in panels):
            written += _saved(_growth(panels), folder / "growth")
    return written


def _setting(figures: Sequence[Figure]) -> str:
    told = next(one.params for one in figures if "sweep" in one.params)
    return f"{told['set']} set, {told['rows']:,} × {told['dimension']}, {told['origin']} queries, k = 10"


def _tier_setting(figures: Sequence[Figure]) -> str:
    told = next(one.params for one in figures if one.suite == tiers.SUITE)
    return f"One query of the {told['set']} set ({told['rows']:,} rows, k = {told['k']}) by where the index is"


def _tiers(spans: Sequence[tuple[str, float, float]], setting: str) -> Picture:
    picture = Picture(figsize=(8, 3.2), layout="constrained")
    axes = picture.subplots()
    names, medians, slow = zip(*spans, strict=True)
    colour, marker = STYLES["neve"]
    axes.hlines(names, medians, slow, color=colour, linewidth=2.5)
    axes.plot(medians, names, marker, color=colour, markersize=10, label="p50")
    axes.plot(slow, names, "|", color=colour, markersize=16, markeredgewidth=2.5, label="p99")
    for tier, p50, p99 in spans:
        axes.text(p99 * 1.15, tier, f"{_rounded(p50)} ms, p99 {_rounded(p99)} ms", va="center", fontsize=10)
    axes.set_xscale("log")
    axes.set_xlim(min(medians) / 2, max(slow) * 12)
    axes.margins(y=0.2)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_formatter(FuncFormatter(_plain))
    axes.set_xlabel("ms, from a store 63 ms away")
    picture.suptitle(setting, x=0.01, ha="left", fontsize=12)
    picture.legend(loc="outside lower center", ncols=2, frameon=False)
    return picture


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


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


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
