"""Makes what neve needs of a MinIO: a bucket, and a user that may do no more than neve does.

Asks until MinIO answers, for a minute. All is told by the environment: MINIO_ADDRESS (host:port), MINIO_ROOT_USER and
MINIO_ROOT_PASSWORD, NEVE_BUCKET, and the user's AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. May be run again.
"""

from __future__ import annotations

import os
import sys
import time

from minio import Minio, MinioAdmin
from minio.credentials import StaticProvider
from minio.error import MinioAdminException, MinioException
from urllib3 import PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError

REGION = "us-east-1"
WAIT_S = 60.0
Keys = tuple[str, str]


def policy(bucket: str) -> dict[str, object]:
    """The least that neve must be allowed: without any of these actions a part of it does not work."""
    of_bucket = {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": [f"arn:aws:s3:::{bucket}"]}
    actions = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
    of_objects = {"Effect": "Allow", "Action": actions, "Resource": [f"arn:aws:s3:::{bucket}/*"]}
    return {"Version": "2012-10-17", "Statement": [of_bucket, of_objects]}


def allow(address: str, root: Keys, user: Keys, document: dict[str, object], name: str = "neve") -> None:
    """Make the user, if it is not there, and the policy `name`, and let the user do what that says and no more.

    Raises HTTPError, MinioAdminException.
    """
    admin = MinioAdmin(endpoint=address, credentials=StaticProvider(*root), secure=False)
    admin.user_add(*user)
    admin.policy_add(name, policy=document)
    admin.policy_set(name, user[0])


def prepared(address: str, root: Keys, user: Keys, bucket: str) -> bool | None:
    """True once the MinIO at host:port has bucket, user and policy; None while it does not answer yet."""
    once = PoolManager(timeout=Timeout(5), retries=Retry(0))
    owner = Minio(address, *root, secure=False, region=REGION, http_client=once)
    try:
        if not owner.bucket_exists(bucket):
            owner.make_bucket(bucket)
        allow(address, root, user, policy(bucket))
    except (HTTPError, MinioException, MinioAdminException):
        return None
    return True


def main() -> None:
    setting = os.environ
    address, bucket = setting["MINIO_ADDRESS"], setting["NEVE_BUCKET"]
    root = setting["MINIO_ROOT_USER"], setting["MINIO_ROOT_PASSWORD"]
    user = setting["AWS_ACCESS_KEY_ID"], setting["AWS_SECRET_ACCESS_KEY"]
    deadline = time.monotonic() + WAIT_S
    while not prepared(address, root, user, bucket):
        if time.monotonic() > deadline:
            sys.exit(f"MinIO at {address} has not let itself be prepared within {WAIT_S:g} s")
        time.sleep(0.2)
    print(f"MinIO at {address} has the bucket {bucket} and a user for neve")


if __name__ == "__main__":
    main()
