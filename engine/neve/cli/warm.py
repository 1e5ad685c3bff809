"""`neve warm`: an index read ahead onto the local disk."""

from __future__ import annotations

import argparse
import json
from typing import Any

from neve.api.options import CallOptions
from neve.api.render import to_json
from neve.cli.command import print_table, size
from neve.cli.service import Commands, add_index_command, address, service
from neve.errors import StoreUnfit

_DESCRIPTION = """\
Read an index ahead onto the local disk, as far as it has room: codes first, then the key index, the filter
index, vectors and metadata. Every process of this machine that is given the folder then reads from there
(`neve serve --disk`). What is there already is not read again. It fills disks only: a server loads its own memory on
POST /neve/WarmIndex (in boto3's manner: client.warm_index of neve.client).

    neve warm library/books --disk /var/cache/neve
"""


def register(commands: Commands) -> None:
    parser = add_index_command(commands, "warm", "read an index ahead onto the local disk", _DESCRIPTION)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    if not args.disk:
        raise StoreUnfit("no disk is given: use --disk FOLDER or NEVE_DISK")
    with service(args, memory_bytes=0) as opened:
        answer: dict[str, Any] = to_json(opened.call("WarmIndex", address(args), CallOptions()))
    if args.json:
        print(json.dumps(answer))
        return 0
    parts = answer["parts"]
    rows = [
        (part["part"], part["blocks"], size(part["bytes"]), size(part["diskBytes"]), size(part["leftBytes"]))
        for part in parts
    ]
    print_table("/".join(args.name), ("part", "blocks", "size", "on disk", "no room"), rows)
    if left := sum(part["leftBytes"] for part in parts):
        print(f"{size(left)} did not fit: more would with a larger --disk-size")
    return 0
