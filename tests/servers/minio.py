"""A real MinIO with a bucket and a user for neve: for the tests, and for ./scripts/minio."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from tempfile import TemporaryDirectory

from infra.local.bootstrap import prepared

from tests.servers.object_store import REGION, Credentials, ObjectStore
from tests.servers.process import ServerProcess, free_port
from tests.servers.tools import Unavailable, go_binary, pin

BUCKET = "neve"


@contextmanager
def minio(
    command: list[str], port: int, user: Credentials, bucket: str = BUCKET, *, own_group: bool = False
) -> Iterator[ObjectStore]:
    """Run `command`, a MinIO that listens on `port`, while the context lasts; `user` may do what neve does, no more."""
    root = Credentials.random()
    secrets = {"MINIO_ROOT_USER": root.access_key, "MINIO_ROOT_PASSWORD": root.secret_key, "MINIO_BROWSER": "off"}
    store = ObjectStore(f"127.0.0.1:{port}", bucket, user)
    with ServerProcess(command, secrets, own_group=own_group) as process:
        process.until(lambda: prepared(store.address, astuple(root), astuple(user), bucket))
        yield store


def binary_command(binary: str | Path, data: Path, port: int) -> list[str]:
    return [str(binary), "server", "--quiet", "--address", f"127.0.0.1:{port}", str(data)]


def docker_command(data: Path, port: int) -> list[str]:
    """The secrets are named, not written: docker takes their values from its own environment."""
    names = ("MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD", "MINIO_BROWSER")
    options = [option for name in names for option in ("--env", name)]
    published = ["--publish", f"127.0.0.1:{port}:9000", "--volume", f"{data}:/data"]
    return ["docker", "run", "--rm", "--init", *options, *published, pin("minio_image"), "server", "--quiet", "/data"]


def command(data: Path, port: int) -> list[str]:
    """The MinIO of PATH, else of Docker, else built by Go; raises Unavailable."""
    if found := shutil.which("minio"):
        return binary_command(found, data, port)
    if shutil.which("docker") and subprocess.run(["docker", "info"], capture_output=True).returncode == 0:
        return docker_command(data, port)
    try:
        return binary_command(go_binary("minio"), data, port)
    except Unavailable as error:
        raise Unavailable("no minio on PATH, no running Docker, and no Go to build MinIO") from error


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/minio", description=__doc__)
    parser.add_argument(
        "--data", type=Path, help="folder to keep the objects in; default: one that is deleted at the end"
    )
    parser.add_argument("--port", type=int, default=free_port(), help="port on 127.0.0.1; default: a free one")
    parser.add_argument("--bucket", default=BUCKET, help="name of the bucket to make (default: %(default)s)")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    user = Credentials.random()
    with TemporaryDirectory(prefix="neve-minio-") as temporary:
        data = (chosen.data or Path(temporary)).absolute()
        try:
            with minio(command(data, chosen.port), chosen.port, user, chosen.bucket) as store:
                print(f"export AWS_ACCESS_KEY_ID={user.access_key}")
                print(f"export AWS_SECRET_ACCESS_KEY={user.secret_key}")
                print(f"export AWS_REGION={REGION}")
                print(f"export NEVE_STORE='{store.url()}'", flush=True)
                print(f"MinIO runs in process {os.getpid()} until Ctrl-C, data in {data}", file=sys.stderr, flush=True)
                signal.pause()
        except KeyboardInterrupt:
            print("MinIO ended", file=sys.stderr)
        except (Unavailable, RuntimeError) as error:
            raise SystemExit(f"scripts/minio: {error}") from None


if __name__ == "__main__":
    main()
