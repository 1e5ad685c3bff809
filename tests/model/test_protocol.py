"""The protocol of design §4, searched exhaustively; and each of its rules, broken, found out.

Every scenario is a few actors on a small store. The search tries all orders of their requests, with clocks that stand
still or jump between any two, creates whose reply is lost and which land at any later moment, and conflicts. The true
protocol keeps every promise in every one of these worlds; each mutant breaks one in some scenario, and its shortest
trace is what the rule is there to prevent (`pytest -k mutant -s` prints them).

MODEL_DEPTH=deep searches larger scenarios, in finer units of time and with more going wrong, for some minutes.
"""

from __future__ import annotations

import ast
import inspect
import os
from collections.abc import Callable
from types import ModuleType

import pytest

from tests.model import protocol, protocol_imports, protocol_names
from tests.model.protocol import Knowledge
from tests.model.protocol_imports import ImportProtocol
from tests.model.protocol_mutants import Mutant
from tests.model.protocol_names import NameProtocol
from tests.model.protocol_search import Ages, Program, Scenario, Search, Wave
from tests.model.protocol_store import (
    Append,
    Bucket,
    Entry,
    Event,
    Manifest,
    Object,
    Path,
    PutNew,
    Record,
    Segment,
    Store,
    Truth,
    bucket,
    catalog,
    file,
    log,
    manifest,
)

DEEP = int(os.environ.get("MODEL_DEPTH") == "deep")
AGES = Ages(half=1, grace=2, knowledge=2, day=4, month=5) if DEEP else Ages()
CREATED_X = Event("create", "X", "X")
KNOWN = Knowledge(1, "X", 0, 0)
OPENED = Knowledge(1, "X", 0, 1, tail=((1, Entry("open", "X")),))
HOME: dict[Path, Object] = {bucket(1): Bucket("bucket", "open")}
PLAIN = {**HOME, catalog(1): Record("X", "X", live=True, opens=True)}  # exists by its record: fewer steps
OPEN = {**HOME, catalog(1): Record("X", "X", live=True), log("X", 1): Entry("open", "X")}
LOG_AGES = {"manifest": AGES.grace}
CHAIN_AGES = {"manifest": AGES.day}
NAME_AGES = {"catalog": AGES.grace}


def _scenario(
    actors: dict[str, Callable[[], Program]], objects: dict[Path, Object], *events: Event, **more: object
) -> Scenario:
    counted = {"X": sum(path.kind == "log" for path in objects)}
    history = (CREATED_X, *events) if catalog(1) in objects else events
    truth = Truth(history, frozenset(counted.items()))
    return Scenario(actors, Store.of(objects, {}), truth, **more)  # type: ignore[arg-type]


def _others(*news: Entry | Record) -> Callable[[], Program]:
    """Other actors, of whom only what they leave in the store is of interest: these objects, one after the other."""

    def program() -> Program:
        left = news
        while left:
            yield Wave((Append("X", left[0]) if isinstance(left[0], Entry) else PutNew(catalog(2), left[0]),))
            left = left[1:]

    return program


A, B, R, S = (Entry("write", name) for name in "abrs")


def race(mutant: Mutant | None) -> Scenario:
    """Two writers after the same numbers."""
    p = NameProtocol(mutant)
    actors = {"writer a": lambda: p.write(A, KNOWN), "writer b": lambda: p.write(B, KNOWN)}
    return _scenario(actors, PLAIN, timeouts=1 + DEEP, conflicts=1)


def crowd(mutant: Mutant | None) -> Scenario:
    """Two writers, while their entries are folded and collected."""
    p = NameProtocol(mutant)
    actors = {
        "writer a": lambda: p.write(A, KNOWN),
        "writer b": lambda: p.write(B, KNOWN),
        "folder": lambda: p.fold("X", "F"),
        "collector": lambda: p.collect_chains("X", AGES.grace, AGES.day),
    }
    return _scenario(actors, PLAIN, limits=LOG_AGES)


def fold(mutant: Mutant | None) -> Scenario:
    """A writer whose number is taken, folded and collected while it sleeps."""
    p = NameProtocol(mutant)
    actors = {
        "writer": lambda: p.write(A, KNOWN),
        "others": _others(R),
        "folder": lambda: p.fold("X", "F"),
        "collector": lambda: p.collect_chains("X", AGES.grace, AGES.day),
    }
    return _scenario(actors, PLAIN, limits=LOG_AGES, timeouts=1)


def ghost(mutant: Mutant | None) -> Scenario:
    """The same, and a create of that number, sent by another writer long ago, may still land."""
    p = NameProtocol(mutant)
    actors = {
        "writer": lambda: p.write(A, KNOWN),
        "folder": lambda: p.fold("X", "F"),
        "collector": lambda: p.collect_chains("X", AGES.grace, AGES.day),
    }
    late = frozenset({PutNew(log("X", 1), B)})
    return _scenario(actors, PLAIN, limits=LOG_AGES, timeouts=1 + DEEP, late=late)


def warm(mutant: Mutant | None) -> Scenario:
    """A reader that knows something, while the log grows, is folded and collected."""
    p = NameProtocol(mutant)
    actors = {
        "reader": lambda: p.read(KNOWN, 2),
        "others": _others(R, S),
        "folder": lambda: p.fold("X", "F"),
        "collector": lambda: p.collect_chains("X", AGES.grace, AGES.day),
    }
    return _scenario(actors, PLAIN, limits=LOG_AGES)


def sleep(mutant: Mutant | None) -> Scenario:
    """A reader that slept for days, while even the manifest that superseded its own was superseded and collected."""
    p = NameProtocol(mutant, patience=2)
    actors = {
        "reader": lambda: p.read(KNOWN),
        "others": _others(R, S),
        "folder": lambda: p.fold("X", "F", 2),
        "collector": lambda: p.collect_chains("X", AGES.grace, AGES.day),
    }
    return _scenario(actors, PLAIN, limits=CHAIN_AGES, knowledge_ages=True)


def settings(mutant: Mutant | None) -> Scenario:
    """A reader that has just learned that there is news, while a setting and after it a write take effect."""
    p = NameProtocol(mutant)
    configure = Entry("configure", "blue")
    in_manifest = mutant is Mutant.SETTINGS_IN_MANIFEST
    actors = {
        "reader": lambda: p.read(KNOWN),
        "others": _others(R, S),
        "settings": lambda: p.configure_in_manifest("X", "blue") if in_manifest else p.write(configure, KNOWN),
    }
    return _scenario(actors, PLAIN)


def _compacted() -> tuple[dict[Path, Object], Event]:
    """Compacted segment s0 with rows a and b; flat segment f, which deletes a. The live set is {b}."""
    s0 = Segment("s0", 0, frozenset({"a", "b"}), compacted=True)
    f = Segment("f", 0, frozenset(), hides=frozenset({"a"}))
    newest = Manifest("M1", "nothing folded", segments=frozenset({s0, f}))
    files: dict[Path, Object] = {file("X", s0): s0, file("X", f): f}
    return {**PLAIN, **files, manifest("X", 1): newest}, Event("write", "X", "b")


def masks(mutant: Mutant | None) -> Scenario:
    """Two compactions at once, beside a fold of f: one turns what f hides into masks, the other rewrites s0."""
    p, (objects, event) = NameProtocol(mutant, patience=2), _compacted()
    actors = {
        "compactor 1": lambda: p.compact("X", "s1", frozenset({"s0"})),
        "compactor 2": lambda: p.compact("X", "s2"),
        "folder": lambda: p.fold("X", "F", merges=frozenset({"f"})),
        "others": _others(R),
    }
    return _scenario(actors, objects, event, timeouts=1)


def inputs(mutant: Mutant | None) -> Scenario:
    """A first compaction, while one of its rows is deleted and a fold merges its input with the tombstone."""
    p = NameProtocol(mutant, patience=2)
    f = Segment("f", 0, frozenset({"a", "b"}))
    objects = {**PLAIN, file("X", f): f, manifest("X", 1): Manifest("M1", "nothing folded", segments=frozenset({f}))}
    actors = {
        "compactor": lambda: p.compact("X", "s1"),
        "folder": lambda: p.fold("X", "F", merges=frozenset({"f"})),
        "others": _others(Entry("delete", "not a")),
    }
    return _scenario(actors, objects, Event("write", "X", "a"), Event("write", "X", "b"), timeouts=1)


def floor(mutant: Mutant | None) -> Scenario:
    """A compaction that sleeps between its segment and its commit, and a collector that finds that segment unnamed."""
    p, (objects, event) = NameProtocol(mutant, patience=2), _compacted()
    actors = {
        "compactor 1": lambda: p.compact("X", "s1", frozenset({"s0"})),
        "compactor 2": lambda: p.compact("X", "s2"),
        "collector": lambda: p.collect_segments("X", "floor", AGES.grace),
    }
    return _scenario(actors, objects, event, limits=LOG_AGES, timeouts=1)


ROW = "i/a"
"""Of an import: it has the key of row a."""


def _importing(**compacted: frozenset[str]) -> tuple[dict[Path, Object], tuple[Event, ...]]:
    """An import of that row has begun, and a manifest knows; there may be compacted segments."""
    segments = frozenset(Segment(name, 0, rows, compacted=True) for name, rows in compacted.items())
    newest = Manifest("M1", "nothing folded", 1, ((1, f"begin {ROW}"),), segments, begun=1)
    files: dict[Path, Object] = {file("X", segment): segment for segment in segments}
    objects = {**PLAIN, log("X", 1): Entry("begin", f"begin {ROW}"), **files, manifest("X", 1): newest}
    rows = sorted(frozenset[str]().union(*compacted.values()))
    return objects, (*(Event("write", "X", row) for row in rows), Event("begin", "X", f"begin {ROW}"))


def imports(mutant: Mutant | None) -> Scenario:
    """An import over a compacted row, while its key is deleted, the deletion folded, and all that compacted."""
    p, (objects, events) = ImportProtocol(mutant), _importing(s0=frozenset({"a"}))
    actors = {
        "importer": lambda: p.import_("X", ROW, 1),
        "others": _others(Entry("delete", f"not {ROW}")),
        "folder": lambda: p.fold("X", "F"),
        "compactor": lambda: p.compact("X", "s1", frozenset({"s0"})),
    }
    return _scenario(actors, objects, *events)


def first_import(mutant: Mutant | None) -> Scenario:
    """The same where nothing else is compacted: a fold could think that nothing needs a tombstone."""
    p, (objects, events) = ImportProtocol(mutant, patience=2), _importing()
    actors = {
        "importer": lambda: p.import_("X", ROW, 1),
        "others": _others(Entry("delete", f"not {ROW}")),
        "folder": lambda: p.fold("X", "F"),
    }
    return _scenario(actors, objects, *events, timeouts=DEEP)


def watched_import(mutant: Mutant | None) -> Scenario:
    """The same before the eyes of a reader that knows the index from before."""
    p, (objects, events) = ImportProtocol(mutant, patience=2), _importing(s0=frozenset({"a"}))
    known = Knowledge(1, "X", 1, 1, frozenset({"a"}))
    actors = {
        "importer": lambda: p.import_("X", ROW, 1),
        "others": _others(R),
        "reader": lambda: p.read(known, 2),
    }
    return _scenario(actors, objects, *events)


DROP, EVEN = Entry("drop", "D"), Record("even 2", "X", live=False)


def delete(mutant: Mutant | None) -> Scenario:
    """A writer and a DeleteIndex after the same numbers."""
    p = NameProtocol(mutant, names=True)
    actors = {"writer": lambda: p.write(A, OPENED), "dropper": lambda: p.delete_index("D", OPENED)}
    return _scenario(actors, OPEN, timeouts=1, conflicts=DEEP)


def drop(mutant: Mutant | None) -> Scenario:
    """A writer that knows the index, while it is dropped, its drop folded and its log collected."""
    p = NameProtocol(mutant, names=True)
    actors = {
        "writer": lambda: p.write(A, OPENED),
        "others": _others(DROP, EVEN),
        "folder": lambda: p.fold("X", "F"),
        "collector": lambda: p.collect_chains("X", AGES.grace, AGES.day),
    }
    return _scenario(actors, OPEN, limits=LOG_AGES, timeouts=DEEP)


def wipe(mutant: Mutant | None) -> Scenario:
    """A writer that knows what the index was some time ago, while it is dropped and wiped."""
    p = NameProtocol(mutant, names=True)
    actors = {
        "writer": lambda: p.write(A, OPENED),
        "others": _others(DROP, EVEN),
        "collector": lambda: p.wipe(AGES.grace),
    }
    objects: dict[Path, Object] = {**OPEN, log("X", 2): R}
    return _scenario(actors, objects, Event("write", "X", "r"), limits=NAME_AGES, timeouts=DEEP, calls_age=True)


def names(mutant: Mutant | None) -> Scenario:
    """A name dropped long ago and created again, while two collectors clear what is left of the old index."""
    p = NameProtocol(mutant, names=True)
    actors = {
        "creator": lambda: p.create_index("Y"),
        "collector 1": lambda: p.collect_names(AGES.month),
        "collector 2": lambda: p.collect_names(AGES.month),
        "reader": lambda: p.read(None),
    }
    objects = {**OPEN, catalog(2): EVEN, log("X", 2): DROP}
    return _scenario(actors, objects, Event("drop", "X", "D"), limits={"catalog": AGES.month}, timeouts=1)


def again(mutant: Mutant | None) -> Scenario:
    """An index dropped and created again, before the eyes of a writer that knew the first."""
    p = NameProtocol(mutant, names=True)
    actors = {
        "others": _others(DROP, EVEN),
        "creator": lambda: p.create_index("Y"),
        "writer": lambda: p.write(A, OPENED),
    }
    return _scenario(actors, OPEN, timeouts=DEEP)


def revisit(mutant: Mutant | None) -> Scenario:
    """The same before the eyes of a reader."""
    p = NameProtocol(mutant, names=True)
    actors = {
        "others": _others(DROP, EVEN),
        "creator": lambda: p.create_index("Y"),
        "reader": lambda: p.read(OPENED, 2),
    }
    return _scenario(actors, OPEN, timeouts=1)


def birth(mutant: Mutant | None) -> Scenario:
    """An index created and written to at once, while a collector looks for what no record names."""
    p = NameProtocol(mutant, names=True)
    actors = {
        "creator": lambda: p.create_index("Y"),
        "writer": lambda: p.write(A, None),
        "collector": lambda: p.wipe(AGES.grace),
    }
    return _scenario(actors, HOME, limits=NAME_AGES)


def closing(mutant: Mutant | None) -> Scenario:
    """A bucket deleted while an index is created in it, and another client finds that index there and writes to it."""
    p = NameProtocol(mutant, names=True)
    actors = {
        "deleter": lambda: p.delete_bucket("B"),
        "creator": lambda: p.create_index("Y"),
        "writer": lambda: p.write(A, None),
    }
    return _scenario(actors, HOME, timeouts=1)


def rebirth(mutant: Mutant | None) -> Scenario:
    """A bucket deleted twice at once and created again, while two clients create the same index in it."""
    p = NameProtocol(mutant, names=True)
    actors = {
        "deleter": lambda: p.delete_bucket("B"),
        "creator 1": lambda: p.create_index("Y"),
        "creator 2": lambda: p.create_index("Z"),
        "owner": lambda: p.create_bucket("again"),
    }
    return _scenario(actors, HOME)


Make = Callable[[Mutant | None], Scenario]

# What clients must be able to hear in a scenario: without it, a search that finds nothing would mean nothing.
SCENARIOS: dict[Make, set[str]] = {
    race: {"acknowledged", "unknown"},
    fold: {"acknowledged", "unknown"},
    ghost: {"acknowledged", "unknown"},
    warm: {"read"},
    sleep: {"read"},
    settings: {"acknowledged", "read"},
    masks: set(),
    inputs: set(),
    floor: set(),
    imports: {"acknowledged"},
    first_import: {"acknowledged"},
    watched_import: {"acknowledged", "read"},
    delete: {"acknowledged", "not found", "unknown"},
    drop: {"acknowledged", "not found"},
    wipe: {"acknowledged", "not found", "unknown"},
    names: {"acknowledged", "read"},
    again: {"acknowledged", "not found"},
    revisit: {"acknowledged", "read"},
    birth: {"acknowledged", "not found"},
    closing: {"acknowledged", "not found"},
    rebirth: {"acknowledged", "exists"},
}
if DEEP:
    SCENARIOS[crowd] = {"acknowledged", "unknown"}

CAUGHT: dict[Mutant, tuple[Make, str]] = {
    Mutant.AGE_BEFORE_WAVE: (fold, "nothing is acknowledged that a later state lacks"),
    Mutant.OWN_CLOCK: (fold, "nothing is acknowledged that a later state lacks"),
    Mutant.NOT_WRITTEN: (race, "a refused write is seen by none"),
    Mutant.ID_IGNORED: (race, "nothing is acknowledged that a later state lacks"),
    Mutant.MASKS_OF_PLAN: (masks, "the live set is the same before and after fold and compaction"),
    Mutant.NO_MASKS: (masks, "the live set is the same before and after fold and compaction"),
    Mutant.INPUTS_REVIVED: (inputs, "the live set is the same before and after fold and compaction"),
    Mutant.TOMBSTONES_FORGOTTEN: (masks, "the live set is the same before and after fold and compaction"),
    Mutant.PENDING_COMPACTED: (imports, "the store tells the truth"),
    Mutant.PENDING_TOMBSTONES: (first_import, "the store tells the truth"),
    Mutant.OVERTAKEN_ROWS: (imports, "the store tells the truth"),
    Mutant.UNKNOWN_ATTACH: (watched_import, "no stale strong read"),
    Mutant.NO_WORK_FLOOR: (floor, "every file that a manifest names exists"),
    Mutant.CATALOG_BY_NAME: (names, "an index goes only by a drop in its log"),
    Mutant.GARBAGE_BY_ABSENCE: (birth, "the store tells the truth"),
    Mutant.SETTINGS_IN_MANIFEST: (settings, "no stale strong read"),
    Mutant.JOINED_LATE: (warm, "no stale strong read"),
    Mutant.OTHER_NUMBER: (race, "a write happens once or never"),
    Mutant.OTHER_ID_LOST: (ghost, "a write happens once or never"),
    Mutant.NO_MANIFEST_PROBE: (fold, "nothing is acknowledged that a later state lacks"),
    Mutant.NO_CATALOG_PROBE: (revisit, "no stale strong read"),
    Mutant.HOLE_BELOW: (race, "nothing is acknowledged that a later state lacks"),
    Mutant.OLD_KNOWLEDGE: (sleep, "no stale strong read"),
    Mutant.NOT_FOUND_AFTER_SLEEP: (wipe, "a refused write is seen by none"),
    Mutant.NO_LOOK_AT_BUCKET: (closing, "a bucket is never dropped under an acknowledged index"),
    Mutant.NO_CLOSING: (closing, "a bucket is never dropped under an acknowledged index"),
    Mutant.LAST_RECORD_COLLECTED: (names, "an index goes only by a drop in its log"),
    Mutant.TRUSTED_DEAD_LOG: (wipe, "nothing is acknowledged that a later state lacks"),
    Mutant.EXISTS_BY_RECORD: (closing, "a bucket is never dropped under an acknowledged index"),
}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda make: make.__name__)
def test_the_protocol_keeps_every_promise(scenario: Make) -> None:
    found = Search(scenario(None)).run()
    print(f"\n{scenario.__name__}: {found}")
    assert not found.broken, str(found)
    assert found.told >= SCENARIOS[scenario], "the scenario does not reach what it is about"


@pytest.mark.parametrize("mutant", Mutant, ids=lambda mutant: mutant.name.lower())
def test_a_mutant_is_caught(mutant: Mutant) -> None:
    scenario, promise = CAUGHT[mutant]
    found = Search(scenario(mutant)).run()
    print(f"\n{mutant}, in {scenario.__name__}: {found}")
    assert found.broken.startswith(promise), str(found)


@pytest.mark.parametrize("module", [protocol, protocol_names, protocol_imports], ids=["index", "names", "imports"])
def test_programs_are_in_the_form_that_can_be_searched(module: ModuleType) -> None:
    """A yield is a whole statement, or the right side of an assignment or return, where no iterator is on the stack."""
    tree = ast.parse(inspect.getsource(module))
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Yield | ast.YieldFrom):
            continue
        above = parents[node]
        assert isinstance(above, ast.Expr | ast.Assign | ast.Return), f"line {node.lineno}"
        while not isinstance(above, ast.FunctionDef):
            assert not isinstance(above, ast.For | ast.With | ast.Try), f"line {node.lineno}"
            above = parents[above]
