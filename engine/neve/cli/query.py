"""`neve query`: one query, from the command line."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from neve.api.document import dump_json, parse_json
from neve.api.options import CallOptions
from neve.api.render import Style, extras, to_json
from neve.api.results import Result
from neve.api.service import Service
from neve.cli.command import print_table, size
from neve.cli.service import Commands, a_document, a_number, add_index_command, address, service
from neve.errors import Malformed, ValidationFailed

_DESCRIPTION = """\
Ask an index for the nearest vectors, in this process: no server is needed.

    neve query library/books --key moby-dick                        like a vector of the index
    neve query library/books --vector query.npy -k 20               a vector out of a file
    echo '[0.1, 0.9, 0.2]' | neve query library/books --vector -    or from standard input
    neve query library/books --key moby-dick --filter '{"year": {"$lt": 1900}}' --explain

A vector is a .npy file of one row, or JSON: a list of numbers, or {"float32": [...]}. --explain shows what
the query did and what it cost. --recall 1 looks at every row. A process begins cold: with --disk (NEVE_DISK)
it finds on disk what earlier ones have read.
"""
_STYLE = Style(parse_json, lambda vector: vector.tolist(), lambda seconds: seconds)


def register(commands: Commands) -> None:
    parser = add_index_command(commands, "query", "ask an index for the nearest vectors", _DESCRIPTION)
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--vector", metavar="FILE|-", help="the vector to look for: .npy or JSON; - is standard input")
    asked.add_argument("--key", metavar="KEY", help="look for what is like the vector of that key")
    parser.add_argument("-k", type=a_number(int, 1, 100_000), default=10, metavar="N", help="how many hits (10)")
    parser.add_argument(
        "--filter", type=a_document, metavar="JSON", help="condition on the metadata, as QueryVectors has it"
    )
    parser.add_argument(
        "--recall", type=a_number(float, 1e-6, 1), metavar="R", help="share of the true hits to find (the index's own)"
    )
    parser.add_argument(
        "--max-distance", type=a_number(float, 0, sys.float_info.max), metavar="D", help="leave out what is farther"
    )
    parser.add_argument("--explain", action="store_true", help="show what the query did and what it cost")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    with service(args) as opened:
        vector = _vector_of(opened, args) if args.key is not None else _read_vector(args.vector)
        members = address(args) | {
            "topK": args.k,
            "queryVector": {"float32": vector},
            "filter": args.filter,
            "returnDistance": True,
            "returnMetadata": True,
        }
        asked = CallOptions(recall=args.recall, distance=args.max_distance)
        result = opened.call("QueryVectors", members, replace(asked, explain=args.explain))
        answer, explanation = _shown(result), cast("Any", extras(result).get("explain"))
        hits, token = answer["vectors"], answer.get("nextToken")
        while token is not None:
            page = _shown(opened.call("QueryVectors", members | {"nextToken": token}, asked))
            hits, token = hits + page["vectors"], page.get("nextToken")
    if args.json:
        shown = {"vectors": hits, "distanceMetric": answer["distanceMetric"]}
        print(dump_json(shown | ({"explain": explanation} if explanation else {})).decode())
        return 0
    rows = [
        (rank, hit["key"], f"{hit['distance']:.6g}", dump_json(hit["metadata"]).decode())
        for rank, hit in enumerate(hits, start=1)
    ]
    print_table("/".join(args.name), ("", "key", f"{answer['distanceMetric']} distance", "metadata"), rows)
    if explanation is not None:
        print_table("What it did", ("", ""), _facts(explanation))
        if "why" in explanation:
            print_table("Why nothing matched", ("condition", "rows", "with those before", ""), _reasons(explanation))
    return 0


def _vector_of(opened: Service, args: argparse.Namespace) -> object:
    members = address(args) | {"keys": [args.key], "returnData": True}
    found = _shown(opened.call("GetVectors", members, CallOptions()))["vectors"]
    if not found:
        raise ValidationFailed(f"no vector has the key {args.key!r}")
    return found[0]["data"]["float32"]


def _shown(result: Result) -> dict[str, Any]:
    return to_json(result, _STYLE)


def _read_vector(name: str) -> object:
    """The numbers of a file, or of standard input; whether they are a vector is the operation's to judge."""
    try:
        if name.endswith(".npy"):
            return np.load(name, allow_pickle=False).squeeze()
        document = parse_json(sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes())
    except OSError as error:
        raise ValidationFailed(f"cannot read a vector from {name}: {error.strerror}") from None
    except (ValueError, Malformed):
        raise ValidationFailed(f"there is no vector in {name}: neither JSON nor a .npy file") from None
    return document.get("float32") if isinstance(document, dict) else document


def _facts(told: Any) -> list[tuple[str, str]]:
    facts = [
        ("time", f"{told['milliseconds']:.1f} ms"),
        ("waves, requests", f"{told['waves']}, {told['requests']} ({told['hedges']} sent again because slow)"),
        ("price of the requests", f"${told['dollars']:.3g}"),
        *((f"from {tier}", f"{told[tier]['blocks']:,} blocks, {size(told[tier]['bytes'])}") for tier in _TIERS),
    ]
    if "plan" in told:
        target = "" if told["recall"] is None else f", for a recall of {told['recall']:g}"
        facts += [
            ("plan", told["plan"] + target),
            ("lists", f"{told['lists']:,} of {told['listsTotal']:,}"),
            ("rows", f"{told['recentRows']:,} recent, {told['rowsScored']:,} by their codes"),
            ("candidates", f"{told['candidates']:,} by their vectors"),
        ]
    if "matches" in told:
        facts.append(("matches", f"{told['matches']:,} compacted rows pass the filter"))
    return facts


def _reasons(told: Any) -> list[tuple[str, int, str, str]]:
    return [
        (one["condition"], one["rows"], f"{one['together']:,}" if "together" in one else "", one.get("note", ""))
        for one in told["why"]
    ]


_TIERS = ("memory", "disk", "store")
