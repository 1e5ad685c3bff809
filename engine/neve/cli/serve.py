"""`neve serve`: the S3 Vectors API over HTTP."""

from __future__ import annotations

import argparse
import os

_DESCRIPTION = """\
Serve the Amazon S3 Vectors API over HTTP, on the data in a store.

Point any AWS SDK at the address (endpoint_url=, or AWS_ENDPOINT_URL_S3VECTORS). Without keys any
signature is taken, and the server then listens on this machine only. Keys come from the settings file:

    store = "s3://bucket/prefix"
    host = "0.0.0.0"
    [[keys]]
    id = "AKIDEXAMPLE"
    secret = "…"
    name = "who it belongs to"

Each setting may also come from the environment (NEVE_STORE, NEVE_PORT, …), which wins over the file;
flags win over both. SIGTERM or Ctrl-C finish what is under way and then end the server.
"""
_FLAGS = (
    "store",
    "host",
    "port",
    "workers",
    "region",
    "account",
    "regions",
    "limits",
    "tls_cert",
    "tls_key",
    "memory",
    "disk",
    "disk_size",
    "compact",
    "access_log",
    "log",
    "metrics",
)


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its flags."""
    parser = commands.add_parser(
        "serve",
        help="serve the S3 Vectors API over HTTP",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--store", metavar="URL", help="file:///path, s3://bucket/prefix or memory:// (NEVE_STORE)")
    parser.add_argument("--settings", metavar="FILE", help="TOML file with settings; chmod 600 if it holds keys")
    parser.add_argument("--host", help="address to listen on (127.0.0.1; others need keys)")
    parser.add_argument("--port", metavar="N", help="port to listen on (7070; 0 takes a free one and prints it)")
    parser.add_argument("--workers", metavar="N", help="serving processes (1)")
    parser.add_argument("--region", help="region in the ARNs (us-east-1)")
    parser.add_argument("--account", help="account in the ARNs (000000000000)")
    parser.add_argument("--regions", metavar="A,B", help="regions that a signature may name (any)")
    parser.add_argument("--limits", metavar="aws|wide", help="the service's limits, or wider ones (aws)")
    parser.add_argument("--tls-cert", metavar="FILE", help="certificate chain in PEM form, to serve https")
    parser.add_argument("--tls-key", metavar="FILE", help="private key of the certificate")
    parser.add_argument("--memory", metavar="SIZE", help="memory of each process for blocks of segments (1GiB)")
    parser.add_argument("--disk", metavar="FOLDER", help="local folder that keeps blocks for all processes (none)")
    parser.add_argument("--disk-size", metavar="SIZE", help="how much of it may be used (10GiB)")
    parser.add_argument(
        "--no-compact", dest="compact", action="store_false", default=None, help="leave compaction to `neve compact`"
    )
    parser.add_argument("--access-log", action="store_true", default=None, help="log each request to stderr as JSON")
    parser.add_argument("--log", metavar="text|json", help="form of the other lines on stderr (text)")
    parser.add_argument(
        "--metrics", metavar="ADDRESS:PORT", help="show Prometheus metrics there, to anyone (/metrics, if without keys)"
    )
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop; the exit status. Raises SettingsInvalid, Unservable, StoreError."""
    from neve.wire.server import serve  # here, since the other commands need no uvicorn
    from neve.wire.settings import load

    return serve(load(args.settings, os.environ, {name: getattr(args, name) for name in _FLAGS}))
