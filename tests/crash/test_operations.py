"""Every store request of every operation, met by every fate: promises hold, and the world goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import pytest

from neve.compaction import compact as compaction
from neve.errors import NeveError, OutcomeUnknown
from neve.testing.faults import Crash, Fate, FaultStore, possible
from tests.compacting import short_calibrations, workspaces
from tests.crash.world import (
    NO_DISK,
    OPERATIONS,
    Operation,
    Process,
    Snapshot,
    World,
    check_imported,
    check_resumed,
    check_whole,
    prepared,
)
from tests.importing import all_large

FATES = (Fate.CRASH_BEFORE, Fate.CRASH_AFTER, Fate.LOST_REQUEST, Fate.LOST_REPLY, Fate.LATE, Fate.CONFLICT)
WARM = frozenset({"put", "put after a fold", "delete", "tag index", "delete index"})
"""Operations that are also interrupted in a process that knows the index already."""
COMPACTIONS = frozenset({"first compaction", "compaction", "compaction of nothing"})
IMPORTS = frozenset({"first import", "import"})
FATES_OF_IMPORTS = (Fate.LOST_REPLY, Fate.LATE, Fate.CONFLICT)
"""They send many requests, so each meets one of these in turn, and the end of the process."""
RESUMED = frozenset({Fate.CRASH_AFTER, Fate.LOST_REPLY, Fate.LATE})
"""After these the next compaction comes first; after the others new writes do, and a fold that may take inputs away."""


CASES = [(name, warm) for name in OPERATIONS for warm in ((False, True) if name in WARM else (False,))]


@pytest.fixture
def disks() -> Iterator[Path]:
    """For workspaces; meanwhile masks are objects of their own, calibrations short, and no import is one write."""
    with ExitStack() as stack:
        stack.enter_context(short_calibrations())
        stack.enter_context(all_large())
        stack.enter_context(patch.object(compaction, "MASK_INLINE_BYTES_MAX", 0))
        yield stack.enter_context(workspaces())


@pytest.mark.parametrize(("name", "warm"), CASES, ids=[f"{name}-{'warm' if warm else 'cold'}" for name, warm in CASES])
def test_every_request_of_it_may_meet_every_fate(name: str, warm: bool, disks: Path) -> None:
    operation = OPERATIONS[name]
    world = prepared(operation, disks if name in COMPACTIONS | IMPORTS else NO_DISK)
    before = world.snapshot()
    requests, after = _undisturbed(world, operation, warm=warm)
    assert requests >= 1
    assert (before == after) >= (name in COMPACTIONS)
    tried = 0
    for number in range(requests):
        in_turn = (Fate.CRASH_AFTER, FATES_OF_IMPORTS[number % len(FATES_OF_IMPORTS)])
        for fate in in_turn if name in IMPORTS else FATES:
            tried += _interrupt(world.copy(), operation, number, fate, (before, after), warm=warm)
    assert tried >= (requests if name in IMPORTS else 2 * requests)


def _process(world: World, script: Mapping[int, Fate], *, warm: bool) -> tuple[Process, FaultStore]:
    """A process on a store whose requests meet the fates of `script`, which may still change."""
    store = FaultStore(world.store, lambda number, request: script.get(number, Fate.SERVED))
    process = world.process(store)
    if warm:
        process.database.index("library", "books").read()
    return process, store


def _undisturbed(world: World, operation: Operation, *, warm: bool) -> tuple[int, Snapshot]:
    """How many requests the operation sends when nothing goes wrong, and what is seen then."""
    world = world.copy()
    process, store = _process(world, {}, warm=warm)
    opening = len(store.requests)
    operation.act(process)
    return len(store.requests) - opening, world.snapshot()


def _interrupt(
    world: World, operation: Operation, number: int, fate: Fate, states: tuple[Snapshot, Snapshot], *, warm: bool
) -> bool:
    """Run the operation with one request disturbed; False where that fate cannot meet that request."""
    before, after = states
    script: dict[int, Fate] = {}
    process, store = _process(world, script, warm=warm)
    disturbed = len(store.requests) + number
    script[disturbed] = fate
    allowed = [before, after]
    try:
        operation.act(process)
        allowed = [after]
    except (Crash, OutcomeUnknown):
        pass
    except NeveError:
        allowed = [before]
    if not possible(fate, store.requests[disturbed]):
        return False
    seen = world.snapshot()
    assert seen in allowed, f"request {number}, {fate}: {seen} after {allowed}"
    if store.land():
        late = world.snapshot()
        assert late in ([seen, after] if len(allowed) == 2 else [seen]), f"request {number} landed late: {late}"
        seen = late
    if operation.act is Process.load:
        check_imported(world, seen, after, abandon=number % 2 == 0)
        check_whole(world, after, compactions=number % 8 == 0)
        return True
    if world.disks is not NO_DISK and fate in RESUMED:
        check_resumed(world, seen)
    check_whole(world, seen)
    return True
