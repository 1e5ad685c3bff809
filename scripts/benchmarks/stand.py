"""Where the suites measure: the corpus, empty stores, servers."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.clients.corpus import Corpus, debian_or_sample
from tests.servers.minio import command, minio
from tests.servers.object_store import Credentials, ObjectStore
from tests.servers.process import free_port
from tests.servers.tools import ROOT, Unavailable

QUICK_ROWS = 3_000
INDEX = {"vectorBucketName": "bench", "indexName": "corpus"}


@dataclass(frozen=True, slots=True)
class Stand:
    """What every suite is given. `quick`: small enough for a smoke test, too small for figures worth quoting."""

    quick: bool
    corpus: Corpus
    scratch: Path
    minio: ObjectStore | None
    user: Credentials
    data: Path | None
    """The folder of the big sets, where there is one."""
    engines: tuple[str, ...] = ()
    """The engines to be measured; () are all."""
    drop: bool = False
    """Whether synthetic sets and what was built of them go when they are measured."""
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def empty_folder(self) -> Path:
        """An empty folder on disk."""
        folder = self.scratch / f"store-{next(self._numbers)}"
        folder.mkdir()
        return folder

    @contextmanager
    def folder_in_memory(self) -> Iterator[str]:
        """URL of an empty folder whose flushes cost nothing, where this machine has such a place."""
        memory = Path("/dev/shm")
        with TemporaryDirectory(prefix="neve-bench-", dir=memory if memory.is_dir() else self.scratch) as folder:
            yield Path(folder).as_uri()

    def stores(self) -> Mapping[str, str]:
        """URLs of empty stores by kind."""
        found = {"folder": self.empty_folder().as_uri()}
        return found if self.minio is None else {**found, "minio": self.minio.fresh_url()}


@contextmanager
def stand(quick: bool, data: Path | None, engines: Sequence[str] = (), *, drop: bool = False) -> Iterator[Stand]:
    """The stand of a run; its servers and folders are gone afterwards. Sets credentials in the environment."""
    user = Credentials.random()
    for name in [name for name in os.environ if name.startswith("NEVE_") and name != "NEVE_CACHE"]:
        del os.environ[name]
    os.environ.update(user.environment())
    corpus = debian_or_sample(data or ROOT / "tests" / "data")
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="neve-bench-")))
        server: ObjectStore | None = None
        try:
            port = free_port()
            server = stack.enter_context(minio(command(scratch / "minio", port), port, user))
        except Unavailable as error:
            print(f"NOT MEASURED: MinIO: {error}", file=sys.stderr)
        yield Stand(
            quick, corpus.head(QUICK_ROWS) if quick else corpus, scratch, server, user, data, tuple(engines), drop
        )
