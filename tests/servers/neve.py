"""The server under test: `python -m neve serve` in a process of its own."""

from __future__ import annotations

import re
import sys
import urllib.request
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tests.servers.process import ServerProcess

if TYPE_CHECKING:
    from botocore.client import BaseClient

LISTENING = re.compile(r"neve listening on (https?://\S+)")


class NeveServer(ServerProcess):
    """A server on a free port, answering; leaving the context ends it and its workers."""

    def __init__(
        self, store: str, *options: str, environment: Mapping[str, str] | None = None, own_group: bool = False
    ) -> None:
        command = [sys.executable, "-m", "neve", "serve", "--store", store, "--port", "0", *options]
        self._clients: list[BaseClient] = []
        super().__init__(command, {"PYTHONUNBUFFERED": "1", **(environment or {})}, own_group=own_group)
        try:
            self.url = self.until(self._answering)
        except BaseException:
            self.end()
            raise

    def client(self, **options: Any) -> BaseClient:
        """An unmodified boto3 client that asks once: a test sees each answer. It is closed with the server."""
        self._clients.append(asking_once(self.url, **options))
        return self._clients[-1]

    def __exit__(self, *exception: object) -> None:
        for client in self._clients:
            client.close()
        super().__exit__(*exception)

    def _answering(self) -> str | None:
        """The server's URL once /healthz is 200; with TLS as soon as it listens, since only the test trusts it."""
        found = LISTENING.search(self.output())
        if found is None or found[1].startswith("https:"):
            return found and found[1]
        return found[1] if healthy(found[1]) else None


def asking_once(url: str, **options: Any) -> BaseClient:
    """An unmodified boto3 client of a server that repeats nothing by itself."""
    import boto3  # here, since the import takes a second that unit tests need not wait for
    from botocore.config import Config

    once = Config(retries={"total_max_attempts": 1}, max_pool_connections=32)
    return boto3.client("s3vectors", **{"endpoint_url": url, "config": once, **options})


def healthy(url: str) -> bool:
    """Whether the server behind a URL says that it is alive."""
    try:
        with urllib.request.urlopen(url + "/healthz", timeout=5):
            return True
    except OSError:
        return False
