"""What is made of figures: ratios between engines and sizes, lines of pictures."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from scripts.benchmarks import tiers
from scripts.benchmarks.__main__ import read
from scripts.benchmarks.figure import Figure, Param, Target
from scripts.benchmarks.plots import Line, by_tier, curves, draw, grown
from scripts.benchmarks.ratios import ratios
from scripts.benchmarks.sides import BUILD, COLD, MEGABYTES, RECALL, REQUESTS, WARM

FAST, RIVAL, POOR = "neve", "lancedb IVF_RQ", "infino"
PROSE: dict[str, Param] = {"set": "prose", "rows": 200_000, "dimension": 384, "origin": "member"}


def told(figures: list[Figure]) -> dict[str, tuple[float, str, object]]:
    return {one.figure: (one.value, one.engine, one.target) for one in figures}


def test_only_those_at_equal_recall_are_compared_with() -> None:
    values = {FAST: (2.0, 0.985), RIVAL: (9.0, 0.98), POOR: (4.0, 0.9)}
    figures = [Figure("peers", WARM, ms, "ms", PROSE, engine) for engine, (ms, _) in values.items()]
    figures += [Figure("peers", RECALL, recall, "", PROSE, engine) for engine, (_, recall) in values.items()]
    [ratio] = ratios(figures)
    assert ratio.value == 4.5
    assert ratio.params["best of the others"] == RIVAL
    assert ratios([one for one in figures if one.engine != FAST]) == []


def test_the_best_of_the_others_may_be_another_for_each_figure() -> None:
    new = {**PROSE, "way": "new handle"}
    values = {BUILD: (10.0, 20.0, 16.0), COLD: (200.0, 2400.0, 5000.0), REQUESTS: (80.0, 500.0, 320.0)}
    figures = [
        Figure("peers", name, value, "", {"set": "prose"} if name == BUILD else new, engine)
        for name, each in values.items()
        for engine, value in zip((FAST, RIVAL, POOR), each, strict=True)
    ]
    found = ratios([*figures, Figure("search", COLD, 1.0, "ms", new, POOR)])
    assert [(one.value, one.target.limit if one.target else None) for one in found] == [(1.6, 1.5), (12, 10), (4, 5)]


def test_growth_is_from_the_smallest_to_the_largest_set_of_as_many_dimensions() -> None:
    sizes = {100_000: 60.0, 300_000: 66.0, 1_000_000: 75.0}
    figures = [
        Figure("growth", REQUESTS, value, "", {"rows": rows, "dimension": 768, "way": "new handle"}, FAST)
        for rows, value in sizes.items()
    ]
    figures.append(
        Figure("growth", REQUESTS, 500.0, "", {"rows": 5_000_000, "dimension": 384, "way": "new handle"}, FAST)
    )
    assert told(ratios(figures)) == {f"growth of cold {REQUESTS}": (1.25, FAST, Target(1.5))}
    [shorter] = ratios(figures[:2])
    assert shorter.target is None


def sweep(engine: str, setting: str, recall: float, megabytes: float) -> list[Figure]:
    params = {**PROSE, "sweep": setting}
    return [
        Figure("peers", RECALL, recall, "", params, engine),
        Figure("peers", MEGABYTES, megabytes, "MB", params, engine),
    ]


def test_tiers_are_shown_from_the_slowest(tmp_path: Path) -> None:
    figures = [
        Figure(tiers.SUITE, f"{tiers.LATENCY} {which}", value, "ms", {**PROSE, "tier": tier, "k": 10})
        for tier, values in {tiers.IN_MEMORY: (70.0, 80.0), tiers.COLD: (200.0, 400.0)}.items()
        for which, value in zip(("p50", "p99"), values, strict=True)
    ]
    assert by_tier(figures) == [(tiers.COLD, 200.0, 400.0), (tiers.IN_MEMORY, 70.0, 80.0)]
    assert [path.name for path in draw(figures, tmp_path)] == ["tiers.png", "tiers.svg"]


def test_pictures_are_drawn_of_what_was_measured(tmp_path: Path) -> None:
    figures = [*sweep(RIVAL, "b", 0.99, 9.0), *sweep(RIVAL, "a", 0.9, 3.0), *sweep(FAST, "", 0.985, 4.0)]
    assert curves(figures, MEGABYTES) == [Line(FAST, [4.0], [0.985]), Line(RIVAL, [3.0, 9.0], [0.9, 0.99])]
    assert [path.name for path in draw(figures, tmp_path)] == ["recall-bytes.png", "recall-bytes.svg"]
    figures = [
        Figure("growth", COLD, value, "ms", {"rows": rows, "dimension": 768, "way": way}, RIVAL)
        for way, values in {"new handle": (7.0, 8.0), "second query": (1.0, 2.0)}.items()
        for rows, value in zip((300_000, 100_000), values, strict=True)
    ]
    assert grown(figures, COLD) == [Line(RIVAL, [100_000, 300_000], [8.0, 7.0])]
    [png, svg] = draw(figures, tmp_path)
    assert png.read_bytes().startswith(b"\x89PNG")
    assert "<svg" in svg.read_text()


def test_figures_of_earlier_runs_are_read_as_they_were(tmp_path: Path) -> None:
    figures = [Figure("load", "QPS", 401.5, "queries/s", {"workers": 2}, target=Target(400, at_least=True))]
    figures += sweep(FAST, "", 0.98, 3.0)
    file = tmp_path / "figures.json"
    file.write_text(json.dumps([asdict(figure) for figure in figures]))
    assert read(file) == figures
