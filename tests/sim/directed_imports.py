"""Scenarios by hand of imports, each raising Violation where it goes wrong."""

from __future__ import annotations

from neve.index import hint as hints
from neve.index import manifest as manifests
from neve.store.port import Found, Get, Put, PutNew, Request
from tests.sim.client import KEYS
from tests.sim.directed import CROWD, HOUR_S, machine, stage, supersede


def import_over_older_rows() -> None:
    """What it replaces lies in the log, in a flat segment and in a compacted one; some of it is deleted by then."""
    with stage() as world, machine() as folder:
        actor = world.actor("actor")
        actor.write(*CROWD)
        actor.fold()
        actor.compact(folder)
        actor.write("k2", "k3", "old1")
        actor.delete("old2")
        actor.fold()
        actor.write("k4")
        actor.delete("k3")
        world.simulation.join([actor.begin_import(folder, *KEYS, "old0", "old1", "old2")])
        actor.read()
        actor.write("k5")
        actor.fold()
        actor.compact(folder)
        actor.read()


def import_beside_writes() -> None:
    """While it is built some of its keys are written and deleted; all of that is compacted before it is attached."""
    with stage() as world, machine() as folder:
        importer, other = world.actor("importer"), world.actor("other")
        importing = importer.begin_import(folder / "importer", *KEYS, asleep_at="upload", seconds=600)
        world.pass_time(60)
        other.write("k0", "k3")
        other.delete("k1", "k4")
        other.fold()
        other.compact(folder / "other")
        world.simulation.join([importing])
        other.read()
        other.fold()
        other.read()


def import_asleep_before_it_attaches() -> None:
    """Its segments are pending; others write, delete and fold meanwhile, and somebody was compacting before."""
    with stage() as world, machine() as folder:
        importer, other, compactor = (
            world.actor("importer"),
            world.actor("other"),
            world.actor("compactor", strict=False),
        )
        other.write(*CROWD)
        other.fold()
        other.compact(folder / "other")
        importing = importer.begin_import(folder / "importer", *KEYS[:4], asleep_at="upload", seconds=600)
        world.pass_time(60)
        other.write("k4", *CROWD[10:])  # too many to be merged with what is folded next
        other.fold()
        compacting = compactor.begin_compact(folder / "compactor", "upload", 1200, in_vain=True)
        importer.process.hold = lambda request: 1500.0 if _tells_of_pending(request) else 0.0
        world.pass_time(900)
        other.write("k0")
        other.delete("k1", "old3")
        other.fold()
        world.simulation.join([compacting, importing])
        other.read()


def deletion_while_an_import_is_pending() -> None:
    """Nothing else is compacted yet, so that a fold could think that nothing needs the tombstone."""
    with stage() as world, machine() as folder:
        importer, other = world.actor("importer"), world.actor("other")
        importer.process.hold = lambda request: 600.0 if _tells_of_pending(request) else 0.0
        importing = importer.begin_import(folder, *KEYS)
        world.pass_time(60)
        other.delete("k1", "k3")
        other.fold()
        other.delete("k2")
        other.fold()
        world.simulation.join([importing])
        other.read()


def import_that_takes_days() -> None:
    """What was written since it began is folded and ages; and so does what it has uploaded."""
    with stage() as world, machine() as folder:
        importer, other = world.actor("importer"), world.actor("other")
        importer.process.hold = lambda request: 3 * HOUR_S if _names_pending(request) else 0.0
        importing = importer.begin_import(folder / "importer", *KEYS, asleep_at="train", seconds=30 * HOUR_S)
        world.pass_time(60)
        for key in KEYS[:3]:
            other.write(key)
            other.delete("k5")
            other.fold()
            other.compact(folder / "other")
            world.pass_time(8 * HOUR_S)
            other.collect()
        world.pass_time(7 * HOUR_S)
        supersede(other)
        world.pass_time(1.5 * HOUR_S)
        importer.process.hold = lambda request: 0.0
        other.collect()
        world.simulation.join([importing], hours=30)
        other.read()


def reader_of_an_older_manifest() -> None:
    """It asks for the next entries while a fold is awaited; the import is named and attached between two replies."""
    with stage() as world, machine() as folder:
        importer, reader = world.actor("importer"), world.actor("reader")
        reader.read()
        importer.process.hold = lambda request: 600.0 if _names_pending(request) else 0.0
        importing = importer.begin_import(folder, *KEYS)
        world.pass_time(60)
        reader.process.hold = lambda request: 1200.0 if isinstance(request, Get) and "/log/" in request.key else 0.0
        reading = [reader.begin(lambda client: client.read("b0", "i0")) for _ in range(2)]
        world.simulation.join([importing, *reading])
        reader.process.hold = lambda request: 0.0
        reader.write("k3")
        reader.read()


def _tells_of_pending(request: Request) -> bool:
    """Of a hint: whether its manifest is one that an import may be attached on; it is written next."""
    if not isinstance(request, Put) or not request.key.startswith("hints/"):
        return False
    hint = hints.read_hint(request.key, Found(request.body))
    return hint is not None and hint.manifest.pending is not None


def _names_pending(request: Request) -> bool:
    """Of a manifest: whether it is one that an import may be attached on."""
    if not isinstance(request, PutNew) or "/manifest/" not in request.key:
        return False
    return manifests.decode(request.key, request.body).pending is not None
