"""Which ranges to ask for when many blocks of objects are wanted: a pure plan, no request."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from neve.dataclass import dataclass
from neve.store.port import Block, Get


@dataclass(frozen=True, slots=True)
class Spacing:
    """When two blocks of an object are one request. A request costs as much time as the bytes it could have read over.

    `gap_bytes`: blocks at most that far apart are always joined. `gap_bytes_max`: they are joined even that far apart
    while there are more than `requests` requests, the nearest first. `span_bytes_max`: no request joins more than that,
    lest the one slow connection among many decide the wave; only a block that is longer itself is asked for whole.
    """

    gap_bytes: int = 80 << 10
    gap_bytes_max: int = 256 << 10
    requests: int = 64
    span_bytes_max: int = 1 << 20


SPACING = Spacing()


def coalesce(blocks: Sequence[Block], spacing: Spacing) -> list[Get]:
    """Requests that together read all the blocks, in order of object and start; each names the blocks it reads.

    The blocks of one object may touch and repeat; ones that overlap may be read twice.
    """
    ordered = sorted(set(blocks), key=_place)
    joined = _joined(ordered, spacing)
    spans: list[Get] = []
    taken: list[Block] = []
    stop = 0
    for place, block in enumerate(ordered):
        if taken and (place not in joined or block.stop - taken[0].start > spacing.span_bytes_max):
            spans.append(_span(taken, stop))
            taken, stop = [], 0
        taken.append(block)
        stop = max(stop, block.stop)
    if taken:
        spans.append(_span(taken, stop))
    return spans


def _joined(ordered: Sequence[Block], spacing: Spacing) -> set[int]:
    """The places of the blocks that go with the one before them, the spacing's length aside."""
    gaps = {
        place: after.start - before.stop
        for place, (before, after) in enumerate(pairwise(ordered), 1)
        if before.key == after.key and after.start - before.stop <= spacing.gap_bytes_max
    }
    near = {place for place, gap in gaps.items() if gap <= spacing.gap_bytes}
    too_many = len(ordered) - len(near) - spacing.requests
    if too_many > 0:
        near.update(sorted(gaps.keys() - near, key=gaps.__getitem__)[:too_many])
    return near


def _span(blocks: Sequence[Block], stop: int) -> Get:
    return Get(blocks[0].key, blocks[0].start, stop, blocks=tuple(blocks))


def _place(block: Block) -> tuple[str, int, int]:
    return block.key, block.start, block.stop
