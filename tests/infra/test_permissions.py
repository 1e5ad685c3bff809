"""What is allowed is enough, and nothing of it is too much: tried on MinIO, which enforces the same policies as AWS."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from infra.local import bootstrap
from minio.credentials import AssumeRoleProvider

from neve.compaction.build import Means
from neve.compaction.collect import collect
from neve.compaction.compact_elsewhere import compact_elsewhere
from neve.compaction.elsewhere import Elsewhere
from neve.compaction.executors import Inline
from neve.compaction.verify import verify
from neve.errors import StoreDenied
from neve.index.database import Database
from neve.index.entry import Write
from neve.index.records import Encryption, IndexConfig
from neve.query.shard_tasks import Portion, ShardTask
from neve.runtime import SystemRuntime
from neve.segments.rows import Puts
from neve.store.connect import connect
from neve.store.port import Delete, List, done, listed
from neve.vectors.metric import Metric
from neve.wire.shard import Shard
from tests.compacting import compact_in, short_calibrations, workspaces
from tests.infra.template import Permission, on_store
from tests.reading import nearest_keys
from tests.servers.object_store import REGION, Credentials, ObjectStore

NUMBERS = count()
KEYS = [f"key-{number}" for number in range(300)]
VECTORS = np.random.default_rng(5).normal(size=(len(KEYS), 4)).astype(np.float32)
Work = Callable[[str, str], None]
"""Does what a role is for, with a fresh store and with one that has an index."""


@pytest.fixture
def folder() -> Iterator[Path]:
    with workspaces() as folder, short_calibrations():
        yield folder


def opened(url: str) -> Database:
    return Database.open(connect(url), SystemRuntime())


def write(database: Database) -> None:
    database.create_bucket("library", Encryption(), {}, quota=10)
    database.create_index("library", "books", IndexConfig(4, Metric.COSINE, None, Encryption()), {}, quota=10)
    puts = Puts(KEYS, VECTORS, [b"{}"] * len(KEYS))
    database.index("library", "books").write(lambda _: Write(puts))


def query(database: Database) -> None:
    state = database.index("library", "books").read()
    assert nearest_keys(database, state, VECTORS[7], 1) == [KEYS[7]]


def answer(fresh: str, _filled: str) -> None:
    """As the function behind the URL: on a store that nobody has used."""
    database = opened(fresh)
    write(database)
    query(database)
    database.close()


def compact(folder: Path, fresh: str, filled: str) -> None:
    """As the function that compacts, which may be the first to open a store, and split a large index into a job."""
    opened(fresh).close()
    database = opened(filled)
    means = Means(folder, executor=Inline())
    assert compact_elsewhere(database, "library", "books", means, Elsewhere(filled), asked=True) is not None
    query(database)
    database.close()


def clear(_fresh: str, filled: str) -> None:
    """As the function that collects."""
    assert collect(opened(filled)).left == []


def everything(folder: Path, fresh: str, _filled: str) -> None:
    """As all of neve, by one user."""
    answer(fresh, "")
    database = opened(fresh)
    assert compact_in(database, folder, "library", "books") is not None
    assert collect(database).left == []
    assert verify(database, "", "").findings == []
    query(database)
    database.close()


WORK: dict[str, Callable[[Path], Work]] = {
    "ApiRole": lambda _: answer,
    "CompactRole": lambda folder: lambda fresh, filled: compact(folder, fresh, filled),
    "CollectRole": lambda _: clear,
    "local": lambda folder: lambda fresh, filled: everything(folder, fresh, filled),
}
MISSED = {
    "s3:ListBucket": "refuses List of",
    "s3:GetObject": "refuses Get of",
    "s3:PutObject": "refuses Put",
    "s3:DeleteObject": "refuses Delete of",
}


def allowed(role: str, store: ObjectStore, prefix: str) -> list[Permission]:
    if role != "local":
        return on_store(role, store, prefix)
    [of_bucket, of_objects] = bootstrap.policy(store.bucket)["Statement"]
    statements = [(statement["Action"], statement["Resource"]) for statement in (of_bucket, of_objects)]
    return [(action, where) for actions, [where] in statements for action in actions]


def assume(store: ObjectStore, permissions: Sequence[Permission], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have these permissions, and no others, from here on."""
    statements = [{"Effect": "Allow", "Action": action, "Resource": resource} for action, resource in permissions]
    found = AssumeRoleProvider(
        sts_endpoint=store.endpoint,
        access_key=store.user.access_key,
        secret_key=store.user.secret_key,
        duration_seconds=900,
        policy=json.dumps({"Version": "2012-10-17", "Statement": statements}),
        region=REGION,
    ).retrieve()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", found.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", found.secret_key)
    monkeypatch.setenv("AWS_SESSION_TOKEN", found.session_token or "")


@pytest.fixture
def stores(minio: ObjectStore) -> tuple[str, str, str]:
    """The prefix of two stores, the URL of a fresh one, and of one with an index."""
    prefix = f"permitted-{next(NUMBERS)}-{os.getpid()}"
    filled = minio.url(f"{prefix}/filled")
    database = opened(filled)
    write(database)
    database.close()
    return prefix, minio.url(f"{prefix}/fresh"), filled


NOWHERE = ObjectStore("nowhere", "neve", Credentials("", ""))
EACH = [(role, number) for role in WORK for number in range(len(allowed(role, NOWHERE, "")))]
NAMES = ["-".join((role, *allowed(role, NOWHERE, "")[number])) for role, number in EACH]


@pytest.mark.parametrize("role", WORK)
def test_what_a_role_may_do_is_enough(
    role: str, minio: ObjectStore, stores: tuple[str, str, str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix, fresh, filled = stores
    assume(minio, allowed(role, minio, f"{prefix}/*"), monkeypatch)
    WORK[role](folder)(fresh, filled)


@pytest.mark.parametrize(("role", "number"), EACH, ids=NAMES)
def test_nothing_that_a_role_may_do_is_too_much(
    role: str,
    number: int,
    minio: ObjectStore,
    stores: tuple[str, str, str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without any one permission it fails, and says what it was refused."""
    prefix, fresh, filled = stores
    permissions = allowed(role, minio, f"{prefix}/*")
    action, _ = permissions.pop(number)
    assume(minio, permissions, monkeypatch)
    with pytest.raises(StoreDenied, match=MISSED[action]):
        WORK[role](folder)(fresh, filled)


def test_a_shard_may_read_and_know_what_is_gone(
    minio: ObjectStore, stores: tuple[str, str, str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A query that lags behind is told that its segment is gone, and starts afresh.

    It lists nothing. Amazon S3 says of what is gone that it is forbidden to who may not list; MinIO does not.
    """
    prefix, _, filled = stores
    database = opened(filled)
    assert compact_in(database, folder, "library", "books") is not None
    state = database.index("library", "books").read()
    [segment] = state.compacted
    lists = np.flatnonzero(np.diff(segment.directory.list_starts)).astype(np.uint32)
    task = ShardTask(state.uid, VECTORS[0], None, 10, (Portion(segment.info, lists),)).to_fields()
    list_, get = (permission for permission in on_store("ShardRole", minio, f"{prefix}/*"))
    assert (list_[0], get[0]) == ("s3:ListBucket", "s3:GetObject")

    def answered(*permissions: Permission) -> object:
        with monkeypatch.context() as for_a_while:
            assume(minio, permissions, for_a_while)
            return Shard({"NEVE_STORE": filled})(task).get("error")

    assert answered(list_, get) is None
    assert answered(list_) == "StoreDenied"
    files = listed(database.store.wave([List(segment.directory.folder)])[0]).entries
    done(database.store.wave([Delete(tuple(entry.key for entry in files))])[0])
    assert answered(list_, get) == "ObjectGone"
    database.close()
