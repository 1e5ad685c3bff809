"""MinIO and neve as containers of our own engine, by testcontainers: the fixtures' second form (`--stack docker`).

They listen on free ports of the machine, whose network they share: the engine has no bridge, so no ports are mapped.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"  # its reaper's image is on the hub; the engine clears up itself
from infra.local.bootstrap import prepared
from testcontainers.core.container import DockerContainer

from tests.servers.engine import Engine
from tests.servers.neve import asking_once, healthy
from tests.servers.object_store import Credentials, ObjectStore
from tests.servers.process import free_port

if TYPE_CHECKING:
    from botocore.client import BaseClient

T = TypeVar("T")


class Container(DockerContainer):
    """A container of a local image on the machine's network; leaving the context removes it."""

    def __init__(self, engine: Engine, name: str, environment: Mapping[str, str], *command: str) -> None:
        super().__init__(engine.image(name), docker_client_kw={"environment": engine.environment})
        self.with_envs(**environment).with_command(list(command)).with_kwargs(network_mode="host", init=True)

    def output(self) -> str:
        """Everything printed so far, both streams."""
        return self.get_wrapped_container().logs().decode(errors="replace")

    def until(self, ready: Callable[[], T | None], timeout_s: float = 60.0) -> T:
        """The first answer of `ready` that is not None; RuntimeError when the container ends or time is up first."""
        deadline = time.monotonic() + timeout_s
        while (answer := ready()) is None:
            container = self.get_wrapped_container()
            container.reload()
            if container.status == "exited" or time.monotonic() > deadline:
                raise RuntimeError(f"{self.image} is not ready ({container.status}):\n{self.output()}")
            time.sleep(0.05)
        return answer


@contextmanager
def minio(engine: Engine, user: Credentials, bucket: str) -> Iterator[ObjectStore]:
    """A MinIO with a bucket, and a user for neve."""
    root, store = Credentials.random(), ObjectStore(f"127.0.0.1:{free_port()}", bucket, user)
    secrets = {"MINIO_ROOT_USER": root.access_key, "MINIO_ROOT_PASSWORD": root.secret_key}
    command = ("server", "--quiet", "--address", store.address, "/data")
    with Container(engine, "minio", secrets, *command) as container:
        container.until(lambda: prepared(store.address, astuple(root), astuple(user), bucket))
        yield store


class NeveContainer(Container):
    """A server that answers, used like NeveServer; a store in a folder is shared with it."""

    def __init__(
        self, engine: Engine, store: str, *options: str, environment: Mapping[str, str] | None = None, user: Credentials
    ) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self._clients: list[BaseClient] = []
        serving = ("serve", "--store", store, "--port", self.url.rpartition(":")[2], *options)
        super().__init__(engine, "server", user.environment() | dict(environment or {}), *serving)
        if store.startswith("file://"):
            folder = Path(store.removeprefix("file://"))
            self.with_volume_mapping(folder, str(folder), "rw").with_kwargs(
                network_mode="host", init=True, user=f"{os.getuid()}:{os.getgid()}"
            )

    def client(self, **options: Any) -> BaseClient:
        """As NeveServer's."""
        self._clients.append(asking_once(self.url, **options))
        return self._clients[-1]

    def __enter__(self) -> NeveContainer:
        super().__enter__()
        self.until(lambda: healthy(self.url) or None)
        return self

    def __exit__(self, *exception: Any) -> None:
        for client in self._clients:
            client.close()
        super().__exit__(*exception)
