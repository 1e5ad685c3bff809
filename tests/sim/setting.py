"""What a run is made of: faults, pace and crew, drawn from a seed or chosen to provoke one weakness."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from neve.testing.faults import CALM, ROUGH, FaultPlan

BUCKETS = ("b0", "b1")
INDEXES = ("i0", "i1")
CREW = {
    "admin": (("administer", 14),),
    "writer-a": (("write", 24), ("write", 24)),
    "writer-b": (("write", 24), ("write", 12)),
    "reader": (("read", 24), ("read", 16), ("page", 10)),
    "keeper": (("fold", 10), ("collect", 10)),
    "other-keeper": (("collect", 6),),
    "compactor-a": (("compact", 3),),
    "compactor-b": (("compact", 3),),
    "importer-a": (("import", 3),),
    "importer-b": (("import", 2),),
}
"""Processes, and the duty and the number of operations of each of their tasks."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One world. `stretch` multiplies all pauses; `short` is the share of pauses of seconds, the others last longer.

    `mask_bytes`: larger masks are objects of their own. `small_rows`: imports of more are no single write. `clocks_s`:
    how far the wall clocks of processes are off, at least and at most.
    """

    faults: FaultPlan
    crew: dict[str, tuple[tuple[str, int], ...]]
    names: int = 4
    fold_entries: int = 4
    stretch: float = 1.0
    short: float = 0.7
    mask_bytes: int = 0
    small_rows: int = 0
    clocks_s: tuple[float, float] = (-3600.0, 3600.0)

    def indexes(self) -> list[tuple[str, str]]:
        """The names of buckets and indexes that everybody uses."""
        return [(bucket, index) for bucket in BUCKETS for index in INDEXES][: self.names]


def drawn(seed: int) -> Setting:
    """The setting of a seed: anything that may happen, in many mixtures."""
    random = Random(f"setting/{seed}")
    return Setting(
        faults=_draw_faults(random),
        crew=CREW,
        names=random.choice([1, 2, 4]),
        fold_entries=random.choice([2, 3, 5, 8]),
        stretch=random.choice([0.05, 1.0, 1.0, 8.0, 60.0]),
        short=random.choice([0.5, 0.7, 0.9]),
        mask_bytes=random.choice([0, 4096]),
        small_rows=random.choice([0, 0, 0, 2]),
    )


def _draw_faults(random: Random) -> FaultPlan:
    """Each fault present or not, all rarer or more frequent; one run in twenty has none."""
    if random.random() < 0.05:
        return CALM
    scale = random.choice([0.3, 1.0, 1.0, 3.0])
    kinds = (
        "unavailable",
        "conflict",
        "lost_request",
        "lost_reply",
        "late",
        "slow",
        "cut",
        "flipped",
        "freeze",
        "kill",
    )
    chances = {kind: getattr(ROUGH, kind) * scale * (random.random() < 0.7) for kind in kinds}
    return replace(ROUGH, **chances, store_clock_error_s=random.choice([0.0, 450.0]))
