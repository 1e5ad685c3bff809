"""`neve list`, `neve count`, `neve delete`, `neve patch`: the vectors of an index, by filter, prefix and key."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from neve.api.document import dump_json, parse_json
from neve.api.limits import LIMITS
from neve.api.model import PATCHES_MAX
from neve.api.options import CallOptions
from neve.api.render import Style, to_json
from neve.cli.service import Commands, a_document, add_index_command, address, service
from neve.errors import Malformed, NeveError, ValidationFailed

_LIST = """\
List the vectors of an index, one JSON object a line, in the order of the hashes of their keys.

    neve list library/books                                          the keys
    neve list library/books --prefix 1851/ --metadata                with metadata, those whose keys begin so
    neve list library/books --filter '{"year": {"$lt": 1900}}'       those that match
"""
_COUNT = """\
Count the vectors of an index, exactly.

    neve count library/books --filter '{"year": {"$lt": 1900}}'
"""
_DELETE = """\
Delete the vectors that match a filter. Without --yes it only says how many there are. What is put while it
works is deleted if it matches when its turn comes; a vector that no longer matches by then stays. Run it
again after a failure: it goes on.

    neve delete library/books --filter '{"year": {"$lt": 1900}}'
    neve delete library/books --filter '{"year": {"$lt": 1900}}' --yes
"""
_PATCH = """\
Change metadata without sending vectors. A line of the file is {"key": …, "metadata": {…}}: its members are
set, those that are null are removed (RFC 7396); with --replace it is the new metadata. Of each 500 lines all are
applied or, where one is refused, none.

    echo '{"key": "moby-dick", "metadata": {"read": true, "shelf": null}}' | neve patch library/books -
"""
_PAGE = 1000
_STYLE = Style(parse_json, lambda vector: vector.tolist(), lambda seconds: seconds)


def register(commands: Commands) -> None:
    listing = add_index_command(commands, "list", "list vectors by filter and prefix", _LIST)
    _add_selection(listing)
    listing.add_argument("--metadata", action="store_true", help="show metadata")
    listing.add_argument("--vectors", action="store_true", help="show vectors")
    listing.set_defaults(func=run_list)
    counting = add_index_command(commands, "count", "count vectors by filter and prefix", _COUNT)
    _add_selection(counting)
    counting.set_defaults(func=run_count)
    deleting = add_index_command(commands, "delete", "delete the vectors that match a filter", _DELETE)
    deleting.add_argument("--filter", type=a_document, required=True, metavar="JSON", help="which to delete")
    deleting.add_argument("--yes", action="store_true", help="delete them, do not only count")
    deleting.set_defaults(func=run_delete)
    patching = add_index_command(commands, "patch", "change metadata without the vectors", _PATCH)
    patching.add_argument("file", metavar="FILE|-", help="patches, one JSON object a line; - is standard input")
    patching.add_argument("--replace", action="store_true", help="replace metadata whole")
    patching.add_argument(
        "--limits", choices=list(LIMITS), default="aws", help="of metadata, as for `neve serve` (aws)"
    )
    patching.set_defaults(func=run_patch)


def _add_selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--filter", type=a_document, metavar="JSON", help="condition on the metadata")
    parser.add_argument("--prefix", default="", metavar="TEXT", help="what the keys begin with")


def run_list(args: argparse.Namespace) -> int:
    asked = CallOptions(filter=args.filter, prefix=args.prefix)
    members = address(args) | {"maxResults": _PAGE, "returnData": args.vectors, "returnMetadata": args.metadata}
    with service(args) as opened:
        more = True
        while more:
            page: dict[str, Any] = to_json(opened.call("ListVectors", members, asked), _STYLE)
            for vector in page["vectors"]:
                print(dump_json(vector).decode())
            members["nextToken"] = page.get("nextToken")
            more = "nextToken" in page
    return 0


def run_count(args: argparse.Namespace) -> int:
    members = address(args) | {"filter": args.filter, "prefix": args.prefix or None}
    with service(args) as opened:
        answer = to_json(opened.call("CountVectors", members, CallOptions()))
    print(answer["count"])
    return 0


def run_delete(args: argparse.Namespace) -> int:
    members = address(args) | {"filter": args.filter, "dryRun": not args.yes}
    with service(args) as opened:
        answer = to_json(opened.call("DeleteVectorsByFilter", members, CallOptions()))
    print(f"{answer['deleted']:,} vectors deleted" if args.yes else f"{answer['deleted']:,} vectors match: add --yes")
    return 0


def run_patch(args: argparse.Namespace) -> int:
    members = address(args) | {"mode": "replace" if args.replace else "merge"}
    done = 0
    with service(args, limits=args.limits) as opened, _opened(args.file) as file:
        patches = _documents(file)
        try:
            while vectors := list(islice(patches, PATCHES_MAX)):
                opened.call("PatchMetadata", members | {"vectors": vectors}, CallOptions())
                done += len(vectors)
        except NeveError:
            print(f"{done:,} patches applied before this:", file=sys.stderr)
            raise
    print(f"{done:,} patches applied")
    return 0


def _opened(name: str) -> BinaryIO:
    try:
        return sys.stdin.buffer if name == "-" else Path(name).open("rb")
    except OSError as error:
        raise ValidationFailed(f"cannot read {name}: {error.strerror}") from None


def _documents(file: BinaryIO) -> Iterator[object]:
    for number, line in enumerate(file, start=1):
        try:
            if line.strip():
                yield parse_json(line)
        except Malformed:
            raise ValidationFailed(f"line {number} is not JSON") from None
