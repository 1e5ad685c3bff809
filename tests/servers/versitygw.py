"""A real versitygw: an S3 server of another make, over a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minio.error import S3Error
from urllib3.exceptions import HTTPError

from tests.servers.object_store import REGION, Credentials, ObjectStore
from tests.servers.process import ServerProcess

BUCKET = "neve"


@contextmanager
def versitygw(binary: Path, data: Path, port: int, user: Credentials) -> Iterator[ObjectStore]:
    """Run `binary` on the folder `data` while the context lasts; `user` is its root user and owns the one bucket."""
    secrets = {"ROOT_ACCESS_KEY": user.access_key, "ROOT_SECRET_KEY": user.secret_key}
    options = ["--port", f"127.0.0.1:{port}", "--region", REGION, "--quiet", "--keep-alive"]
    store = ObjectStore(f"127.0.0.1:{port}", BUCKET, user)
    with ServerProcess([binary, *options, "posix", data], secrets) as process:
        process.until(lambda: _prepared(store))
        yield store


def _prepared(store: ObjectStore) -> bool | None:
    """True once the server has the bucket; None while it does not answer yet."""
    try:
        if not store.client().bucket_exists(store.bucket):
            store.client().make_bucket(store.bucket)
    except (HTTPError, S3Error):
        return None
    return True
