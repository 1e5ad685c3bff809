"""`neve recall`: how much of the truth queries find."""

from __future__ import annotations

import argparse
import json
from typing import Any

from neve.api.model import MEASURED_K_MAX, MEASURED_QUERIES_MAX
from neve.api.options import CallOptions
from neve.api.render import to_json
from neve.cli.command import print_table
from neve.cli.service import Commands, a_number, add_index_command, address, service

_DESCRIPTION = """\
Measure recall@k of an index as it is now: the share of the true k nearest vectors that queries find.

Queries are made of the index's own rows, drawn by the seed: half of them as they are ("member"), half with
noise of half their length ("perturbed"); the row itself does not count. Their true neighbours come from one
pass over all vectors. The interval holds the mean with 95 % confidence (bootstrap over queries; Wilson's
where every query found everything), for queries like these: what is unlike the data needs its own test.

Reads the whole index once. Run it after a compaction, or after a change of `recall` by `neve configure`.

    neve recall library/books
    neve recall library/books --k 100 --recall 0.995
"""


def register(commands: Commands) -> None:
    parser = add_index_command(commands, "recall", "measure how much of the truth queries find", _DESCRIPTION)
    parser.add_argument("--k", type=a_number(int, 1, MEASURED_K_MAX), default=10, metavar="N", help="neighbours (10)")
    parser.add_argument(
        "--queries", type=a_number(int, 2, MEASURED_QUERIES_MAX), default=200, metavar="N", help="queries (200)"
    )
    parser.add_argument(
        "--recall", type=a_number(float, 0.001, 0.9999), metavar="R", help="target of the queries (the index's own)"
    )
    parser.add_argument("--seed", type=a_number(int, 0, 2**31 - 1), default=0, metavar="N", help="of the draw (0)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    members = address(args) | {"topK": args.k, "queries": args.queries, "seed": args.seed}
    with service(args) as opened:
        answer: dict[str, Any] = to_json(opened.call("MeasureRecall", members, CallOptions(recall=args.recall)))
    if args.json:
        print(json.dumps(answer))
        return 0
    rows = [
        (name, origin["queries"], f"{origin['mean']:.4f}", f"{origin['percentile5']:.4f}")
        for name, origin in ({"all": answer} | answer["origins"]).items()
    ]
    title = f"Recall@{answer['topK']} of {'/'.join(args.name)}, target {answer['target']:g}"
    print_table(title, ("queries", "count", "mean", "5th percentile"), rows)
    interval = answer["confidenceInterval"]
    print(f"mean with 95 % confidence: {interval['low']:.4f} to {interval['high']:.4f}")
    return 0
