"""What commands that ask an index share: the service over their store, and the options of its tiers."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from neve.api.document import parse_json
from neve.api.limits import LIMITS
from neve.api.service import Identity, Service
from neve.cli.command import add_command, index_name, store_url
from neve.errors import Malformed
from neve.index.database import Database
from neve.runtime import SystemRuntime
from neve.store.connect import connect
from neve.store.tiers import DISK_BYTES, MEMORY_BYTES, Tiers, parse_size

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_index_command(commands: Commands, name: str, summary: str, description: str) -> argparse.ArgumentParser:
    """A command on one index: BUCKET/INDEX, with the options of its store and its disk tier."""
    parser = add_command(commands, name, summary, description)
    parser.add_argument("name", type=one_index, metavar="BUCKET/INDEX")
    disk, size = os.environ.get("NEVE_DISK", ""), os.environ.get("NEVE_DISK_SIZE", "")
    parser.add_argument("--disk", metavar="FOLDER", default=disk, help="local folder that keeps blocks (NEVE_DISK)")
    parser.add_argument(
        "--disk-size",
        metavar="SIZE",
        type=a_size,
        default=size or DISK_BYTES,
        help="how much of it may be used (NEVE_DISK_SIZE; 10GiB)",
    )
    return parser


@contextmanager
def service(args: argparse.Namespace, memory_bytes: int = MEMORY_BYTES, limits: str = "wide") -> Iterator[Service]:
    """The service over a command's store, within a profile of limits; closed afterwards."""
    runtime = SystemRuntime()
    tiers = Tiers(memory_bytes, args.disk, args.disk_size)
    opened = Database.open(connect(store_url(args)), runtime, blocks=tiers.open(runtime))
    try:
        yield Service(opened, Identity(), LIMITS[limits])
    finally:
        opened.close()


def address(args: argparse.Namespace) -> dict[str, object]:
    """The members that address a command's index."""
    bucket, index = args.name
    return {"vectorBucketName": bucket, "indexName": index}


def a_size(text: str) -> int:
    """A size in bytes, for argparse."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def a_number(kind: Callable[[str], float], low: float, high: float) -> Callable[[str], float]:
    """A number from `low` to `high`, for argparse."""

    def number(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = high + 1
        if low <= value <= high:
            return value
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {low:g} to {high:g}")

    return number


def a_document(text: str) -> object:
    """A JSON document, for argparse."""
    try:
        return parse_json(text.encode())
    except (Malformed, UnicodeEncodeError):
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON") from None


def one_index(text: str) -> tuple[str, str]:
    """BUCKET/INDEX, for argparse."""
    bucket, index = index_name(text)
    if not index:
        raise argparse.ArgumentTypeError(f"{text!r} is not BUCKET/INDEX")
    return bucket, index
