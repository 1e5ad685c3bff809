"""What follows from figures of several engines or sizes: how many times faster than the others, and how it grows.

Figures may come from several runs, which have each measured a piece.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from scripts.benchmarks import filters, growth, side_by_side
from scripts.benchmarks.figure import Figure, Param, Target
from scripts.benchmarks.filter_sets import NO_FILTER
from scripts.benchmarks.search_warm import EQUAL_RECALL
from scripts.benchmarks.sides import BUILD, COLD, MEGABYTES, RECALL, REQUESTS, WARM

RECALL_SLACK = 0.005
"""Engines are tuned on some of the queries; on all of them recall may come out so much lower, and still be equal."""
OURS = "neve"
FASTER = Target(10.0, at_least=True)
FEWER = Target(5.0, at_least=True)
SOONER = Target(1.5, at_least=True)


@dataclass(frozen=True, slots=True)
class Contest:
    """One figure, the smaller the better, and what the best of the others' divided by ours is to be, by set."""

    figure: str
    name: str
    targets: Mapping[str, Target]


CONTESTS = (
    Contest(BUILD, "import + index", {"prose": SOONER, "synthetic-500000x768": SOONER}),
    Contest(WARM, WARM, {"synthetic-1000000x768": Target(3.0, at_least=True)}),
    Contest(COLD, COLD, {"prose": FASTER}),
    Contest(REQUESTS, "cold requests", {"prose": FEWER}),
)
FILTERED = {COLD: Target(3.0, at_least=True), WARM: Target(2.0, at_least=True)}
NOT_LOWER = Target(-RECALL_SLACK, at_least=True)
GROWTH = {REQUESTS: Target(1.5), MEGABYTES: Target(2.5)}
GROWTH_ROWS = (100_000, 1_000_000)
DIMENSION = 768


def ratios(figures: Sequence[Figure]) -> list[Figure]:
    """Ratios of what is among the figures of peers, growth and filter; those that lack a side are left out."""
    mine = [one for one in figures if one.suite in (side_by_side.SUITE, growth.SUITE) and "sweep" not in one.params]
    filtered = [one for one in figures if one.suite == filters.SUITE]
    return [*_against_peers(mine), *_growth([one for one in mine if one.suite == growth.SUITE]), *_filtered(filtered)]


def _against_peers(figures: Sequence[Figure]) -> Iterator[Figure]:
    """Against the best of the others, of those that reach the common recall."""
    recalls = {(*_place(one)[:3], one.engine): one.value for one in figures if one.figure == RECALL}
    for contest in CONTESTS:
        sides: dict[tuple[Param, ...], dict[str, float]] = {}
        for one in figures:
            recall = recalls.get((*_place(one)[:3], one.engine), EQUAL_RECALL)  # a build has none
            if one.figure == contest.figure and (one.engine == OURS or recall >= EQUAL_RECALL - RECALL_SLACK):
                sides.setdefault(_place(one), {})[one.engine] = one.value
        for (suite, name, origin, way), values in sides.items():
            ours = values.pop(OURS, None)
            if ours is None or not values:
                continue
            best = min(values, key=lambda engine: values[engine])
            params = {"set": name, "origin": origin, "way": way, "best of the others": best}
            target = contest.targets.get(str(name)) if way in ("", "new handle") and origin in ("", "member") else None
            yield Figure(
                str(suite),
                f"{contest.name}, best of the others / ours",
                values[best] / ours,
                "×",
                {key: value for key, value in params.items() if value},
                target=target,
            )


def _filtered(figures: Sequence[Figure]) -> Iterator[Figure]:
    """With each filter, against the fastest of the others at the common recall, else the one of the best recall."""
    sides: dict[tuple[Param, Param], dict[str, dict[str, float]]] = {}
    for one in figures:
        if one.figure in (RECALL, *FILTERED):
            place = one.params["set"], one.params["filter"]
            sides.setdefault(place, {}).setdefault(one.engine, {})[one.figure] = one.value
    for (name, filter_), values in sides.items():
        for figure, target in FILTERED.items():
            whole = {engine: one for engine, one in values.items() if {figure, RECALL} <= one.keys()}
            ours = whole.pop(OURS, None)
            if ours is None or not whole:
                continue
            equal = [engine for engine, one in whole.items() if one[RECALL] >= EQUAL_RECALL - RECALL_SLACK]
            if equal:
                best = min(equal, key=lambda engine: whole[engine][figure])
            else:
                best = max(whole, key=lambda engine: whole[engine][RECALL])
            params = {"set": name, "filter": filter_, "best of the others": best}
            wanted = None if filter_ == NO_FILTER else target
            ratio = whole[best][figure] / ours[figure]
            yield Figure(filters.SUITE, f"{figure}, best of the others / ours", ratio, "×", params, target=wanted)
            more = ours[RECALL] - whole[best][RECALL]
            lower = None if filter_ == NO_FILTER else NOT_LOWER
            yield Figure(filters.SUITE, f"recall, ours - theirs, {figure}", more, "", params, target=lower)


def _place(figure: Figure) -> tuple[Param, ...]:
    """Suite, set, origin and way; "" for what a figure does not depend on."""
    return (figure.suite, *(figure.params.get(name, "") for name in ("set", "origin", "way")))


def _growth(figures: Sequence[Figure]) -> Iterator[Figure]:
    """Of every engine's first query of a new handle, from the smallest set to the largest of as many dimensions."""
    for name, target in GROWTH.items():
        sizes: dict[str, dict[int, float]] = {}
        for one in figures:
            if one.figure == name and one.params["way"] == "new handle" and one.params["dimension"] == DIMENSION:
                sizes.setdefault(one.engine, {})[int(one.params["rows"])] = one.value
        for engine, values in sizes.items():
            few, many = min(values), max(values)
            if few < many:
                wanted = target if engine == OURS and (few, many) == GROWTH_ROWS else None
                params: dict[str, Param] = {"from": few, "to": many}
                growth_of = values[many] / values[few]
                yield Figure(growth.SUITE, f"growth of cold {name}", growth_of, "×", params, engine, wanted)
