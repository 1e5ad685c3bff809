"""The `neve` program."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from neve import __version__
from neve.cli import compact, configure, inspect, query, recall, rows, serve, transfer, upkeep, warm
from neve.errors import NeveError

_DESCRIPTION = """\
neve: an open, serverless vector engine on object storage that speaks the Amazon S3 Vectors API.

The data lies in a store of yours, named by a URL (--store, or NEVE_STORE):

    file:///var/lib/neve                                   a folder
    s3://bucket/prefix                                     Amazon S3
    s3://bucket?endpoint=http://127.0.0.1:9000             MinIO, or another S3-compatible server
    memory://                                              this process, for a try

Credentials of a store come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the other standard variables.

Start with:

    neve check-store --store file:///tmp/neve              can this store be trusted?
    neve serve --store file:///tmp/neve                    then point boto3's endpoint_url at it
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status: 0 done, 1 refused or found wanting, 2 misused."""
    parser = argparse.ArgumentParser(
        prog="neve", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"neve {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in (serve, query, rows, transfer, compact, configure, recall, warm, inspect, upkeep):
        module.register(commands)
    args = parser.parse_args(arguments)
    try:
        status: int = args.func(args)
    except NeveError as error:
        print(f"neve: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f"neve: this command needs {error.name}: install neve[all]", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone; there is nobody to tell
        return 1
    return status
