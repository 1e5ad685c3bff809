"""`neve check-store`, `neve collect`, `neve verify`: trust, room and proof."""

from __future__ import annotations

import argparse
import time

from neve.cli.command import add_command, database, index_name, print_table, store_url
from neve.compaction.collect import Collected, collect
from neve.compaction.verify import verify
from neve.runtime import SystemRuntime
from neve.store.connect import connect
from neve.store.selftest import self_test
from neve.store.steady import SteadyStore

_CHECK = """\
Try whether a store can be trusted: creators race for one key (exactly one may win), a create over an object
must fail, and LIST must show new objects at once and in order. Writes and deletes objects below scratch/ only.
The same test runs by itself when a store is first used.
"""
_COLLECT = """\
Delete what has been superseded for longer than its grace period: log entries and segments after 1 hour,
manifests after 24 hours, records of buckets and indexes after 30 days, all data of a dropped index after
1 hour. Ages are those of the store's own clock. Safe at any time, beside readers, writers and other
collectors; run it every hour or so.
"""
_VERIFY = """\
Read a store, a bucket or an index whole, and hold every invariant of the protocol against it: checksums,
the chain of manifests, the live set before and after each fold, positions, order. Exit status 1 if any
is broken. The invariants are named and explained in engine/spec/protocol.md.
"""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    check = add_command(commands, "check-store", "try whether a store can be trusted", _CHECK)
    check.set_defaults(func=run_check)
    collecting = add_command(commands, "collect", "delete what is no longer needed", _COLLECT)
    collecting.add_argument("--metrics", metavar="FILE", help="what was done, for a Prometheus textfile collector")
    collecting.set_defaults(func=run_collect)
    verifying = add_command(commands, "verify", "prove a store, a bucket or an index whole", _VERIFY)
    verifying.add_argument("name", nargs="?", type=index_name, metavar="BUCKET[/INDEX]", help="what to verify (all)")
    verifying.set_defaults(func=run_verify)


def run_check(args: argparse.Namespace) -> int:
    begun = time.monotonic()
    runtime = SystemRuntime()
    tried = self_test(SteadyStore(connect(store_url(args)), runtime), runtime)
    print(
        f"fit: {tried['rounds']} races of {tried['creators']} creators had one winner each, LIST is in order and"
        f" immediate ({time.monotonic() - begun:.2f} s)"
    )
    return 0


def run_collect(args: argparse.Namespace) -> int:
    with database(args) as opened:
        done = collect(opened)
    rows = (
        ("log entries", done.log_entries),
        ("segments", done.segments),
        ("unfinished jobs", done.jobs),
        ("manifests", done.manifests),
        ("bucket and catalog records", done.records),
        ("dropped indexes", done.dropped_indexes),
    )
    print_table("Collected", ("objects", "deleted"), rows)
    for reason in done.left:
        print(f"left alone: {reason}")
    if args.metrics:
        write_collected(done, args.metrics)
    return 1 if done.left else 0


def write_collected(done: Collected, path: str) -> None:
    """Replace a file by the metrics of a collection that has just ended."""
    from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

    registry = CollectorRegistry()
    objects = Gauge("neve_collected_objects", "Objects that the last run deleted", ("kind",), registry=registry)
    for kind in ("log_entries", "segments", "jobs", "manifests", "records", "dropped_indexes"):
        objects.labels(kind).set(getattr(done, kind))
    left = Gauge("neve_collection_left", "Indexes that it had to leave alone", registry=registry)
    left.set(len(done.left))
    Gauge("neve_collection_time_seconds", "When it ended", registry=registry).set_to_current_time()
    write_to_textfile(path, registry)


def run_verify(args: argparse.Namespace) -> int:
    with database(args) as opened:
        found = verify(opened, *(args.name or ("", "")))
    for finding in found.findings:
        print(f"{finding.invariant}: {finding.where}: {finding.detail}")
    verdict = f"{len(found.findings)} findings" if found.findings else "whole"
    print(f"{verdict}: {found.objects:,} objects, {found.indexes:,} indexes, {found.rows:,} vectors")
    return 1 if found.findings else 0
