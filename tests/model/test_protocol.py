"""The protocol of design §4, searched exhaustively; and each of its rules, broken, found out.

Every scenario is a few actors on a small store. The search tries all orders of their requests, with clocks that stand
still or jump between any two, creates whose reply is lost and which land at any later moment, and conflicts. The true
protocol keeps every promise in every one of these worlds; each mutant breaks one in some scenario, and its shortest
trace is what the rule is there to prevent (`pytest -k mutant -s` prints them).

NEVE_MODEL=deep searches larger scenarios as well, for some minutes.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.model.protocol import Knowledge, Mutant
from tests.model.protocol_names import NameProtocol
from tests.model.protocol_search import Ages, Program, Scenario, Wave
from tests.model.protocol_store import (
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

AGES = Ages()
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
    truth = Truth((CREATED_X, *events), frozenset(counted.items()))
    return Scenario(actors, Store.of(objects, {}), truth, **more)  # type: ignore[arg-type]


def _others(*entries: Entry, first: int = 1) -> Callable[[], Program]:
    """Other writers, of whom only what they leave in the log is of interest: these entries, one after the other."""

    def program() -> Program:
        left = tuple(enumerate(entries, first))
        while left:
            (number, entry), left = left[0], left[1:]
            yield Wave((PutNew(log("X", number), entry),))

    return program


A, B, R, S = (Entry("write", name) for name in "abrs")


def race(mutant: Mutant | None) -> Scenario:
    """Two writers after the same numbers."""
    p = NameProtocol(mutant)
    actors = {"writer a": lambda: p.write(A, KNOWN), "writer b": lambda: p.write(B, KNOWN)}
    return _scenario(actors, PLAIN, timeouts=1, conflicts=1)


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
    """A reader that has just learned that there is news, while a setting and a write are acknowledged one after the other."""
    p = NameProtocol(mutant)
    configure = Entry("configure", "blue")
    in_manifest = mutant is Mutant.SETTINGS_IN_MANIFEST
    actors = {
        "reader": lambda: p.read(KNOWN),
        "others": _others(R),
        "settings": lambda: p.configure_in_manifest("X", "blue") if in_manifest else p.write(configure, KNOWN),
        "writer": lambda: p.write(A, KNOWN),
    }
    return _scenario(actors, PLAIN)


def _compacted() -> tuple[dict[Path, Object], Event]:
    """Segment s0 with rows a and b; flat segment f, which deletes a. The live set is {b}."""
    s0 = Segment("s0", 0, frozenset({"a", "b"}))
    f = Segment("f", 0, frozenset(), hides=frozenset({"a"}))
    newest = Manifest("M1", "nothing folded", segments=frozenset({s0, f}))
    files: dict[Path, Object] = {file("X", s0): s0, file("X", f): f}
    return {**PLAIN, **files, manifest("X", 1): newest}, Event("write", "X", "b")


def masks(mutant: Mutant | None) -> Scenario:
    """Two compactions at once: one turns what f hides into masks, the other rewrites s0, planned before that."""
    p, (objects, event) = NameProtocol(mutant, patience=2), _compacted()
    actors = {
        "compactor 1": lambda: p.merge("X", "s1", frozenset({"s0"})),
        "compactor 2": lambda: p.merge("X", "s2", frozenset({"f"})),
        "folder": lambda: p.fold("X", "F"),
        "others": _others(R),
    }
    return _scenario(actors, objects, event, timeouts=1)


def floor(mutant: Mutant | None) -> Scenario:
    """A compaction that sleeps between its segment and its commit, and a collector that finds that segment unnamed."""
    p, (objects, event) = NameProtocol(mutant, patience=2), _compacted()
    actors = {
        "compactor": lambda: p.merge("X", "s1", frozenset({"s0"})),
        "folder": lambda: p.fold("X", "F"),
        "others": _others(R),
        "collector": lambda: p.collect_segments("X", "floor", AGES.grace),
    }
    return _scenario(actors, objects, event, limits=LOG_AGES, timeouts=1)


def drop(mutant: Mutant | None) -> Scenario:
    """A writer that knows the index, while it is dropped, its drop folded and its log collected."""
    p = NameProtocol(mutant, names=True)
    actors = {
        "writer": lambda: p.write(A, OPENED),
        "dropper": lambda: p.delete_index("D", OPENED),
        "folder": lambda: p.fold("X", "F"),
        "collector": lambda: p.collect_chains("X", AGES.grace, AGES.day),
    }
    return _scenario(actors, OPEN, limits=LOG_AGES, timeouts=1, calls_age=True)


def wipe(mutant: Mutant | None) -> Scenario:
    """A writer that knows the index, while it is dropped and wiped."""
    p = NameProtocol(mutant, names=True)
    actors = {
        "writer": lambda: p.write(A, OPENED),
        "dropper": lambda: p.delete_index("D", OPENED),
        "collector": lambda: p.wipe(AGES.grace, AGES.day),
    }
    return _scenario(actors, OPEN, limits=CHAIN_AGES | NAME_AGES, timeouts=1, calls_age=True, knowledge_ages=True)


SCENARIOS = [race, fold, warm, sleep, settings, masks, floor, drop, wipe]
