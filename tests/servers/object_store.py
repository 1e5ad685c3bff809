"""A running S3-compatible server, as neve and its tests see it."""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minio import Minio

REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class Credentials:
    access_key: str
    secret_key: str

    @staticmethod
    def random() -> Credentials:
        return Credentials("NEVE" + secrets.token_hex(8).upper(), secrets.token_hex(20))

    def environment(self) -> dict[str, str]:
        """The standard variables, and nothing of the machine's own AWS settings."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """Where a server listens (host:port), one bucket of it, and who may use that bucket."""

    address: str
    bucket: str
    user: Credentials
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def endpoint(self) -> str:
        return f"http://{self.address}"

    def url(self, prefix: str = "") -> str:
        """The store URL of a prefix; "" is the whole bucket."""
        return f"s3://{self.bucket}/{prefix}".rstrip("/") + f"?endpoint={self.endpoint}&region={REGION}"

    def fresh_url(self) -> str:
        """The store URL of a prefix that nobody has used."""
        return self.url(f"store-{next(self._numbers)}")

    def client(self) -> Minio:
        """The `minio` package's client for this server, to look at the objects themselves."""
        from minio import Minio  # here, since the import takes a second that unit tests need not wait for

        return Minio(self.address, self.user.access_key, self.user.secret_key, secure=False, region=REGION)
