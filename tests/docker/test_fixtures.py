"""The second form of the fixtures (`--stack docker`): the published walkthrough against servers that are containers."""

from __future__ import annotations

import sys

from tests.clients.test_walkthrough import WALKTHROUGH, run
from tests.conftest import StartNeve
from tests.servers.engine import Engine
from tests.servers.neve import NeveServer
from tests.servers.object_store import ObjectStore


def test_walkthrough(
    in_docker: Engine | None, neve_server: NeveServer, minio: ObjectStore, start_neve: StartNeve
) -> None:
    assert in_docker is not None, "run it with --stack docker"
    on_minio = start_neve(minio.fresh_url())
    for server in (neve_server, on_minio):
        run(sys.executable, WALKTHROUGH, server.url)
    images = in_docker.docker("ps", "--format", "{{.Image}}").split()
    assert sorted(images) == ["neve-minio", "neve-server", "neve-server"]
