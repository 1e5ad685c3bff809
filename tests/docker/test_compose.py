"""infra/local/compose.yaml under a Docker engine: its containers find each other, compact, and keep what they got."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.clients.stack_life import client_of, explained_query, fill, until_compacted
from tests.servers.engine import Engine
from tests.servers.neve import healthy
from tests.servers.object_store import REGION, Credentials
from tests.servers.process import free_port
from tests.servers.tools import ROOT

FILE = ROOT / "infra" / "local" / "compose.yaml"
NEEDED = ("server", "bootstrap", "minio")


class Composition:
    """The services of the file, with secrets and ports of their own."""

    def __init__(self, engine: Engine) -> None:
        root, user, client = (Credentials.random() for _ in range(3))
        ports = free_port(), free_port()
        self._engine = engine
        self._settings = {
            "MINIO_ROOT_USER": root.access_key,
            "MINIO_ROOT_PASSWORD": root.secret_key,
            "AWS_ACCESS_KEY_ID": user.access_key,
            "AWS_SECRET_ACCESS_KEY": user.secret_key,
            "NEVE_KEYS": f"{client.access_key}:{client.secret_key}:tests",
            "MINIO_PORT": str(ports[0]),
            "NEVE_PORT": str(ports[1]),
        }
        self.secrets = [root.secret_key, user.secret_key, client.secret_key]
        self.exported = {
            "AWS_ENDPOINT_URL_S3VECTORS": f"http://127.0.0.1:{ports[1]}",
            "AWS_ACCESS_KEY_ID": client.access_key,
            "AWS_SECRET_ACCESS_KEY": client.secret_key,
            "AWS_DEFAULT_REGION": REGION,
        }

    def run(self, *arguments: str) -> str:
        return self._engine.command("docker-compose", "--file", str(FILE), *arguments, environment=self._settings)

    @contextmanager
    def up(self) -> Iterator[None]:
        """The services, answering; they end with the context, and what they have stored stays."""
        self.run("up", "--detach")
        try:
            for _ in range(600):
                if healthy(self.exported["AWS_ENDPOINT_URL_S3VECTORS"]):
                    break
                subprocess.run(["sleep", "0.1"], check=True)
            else:
                raise AssertionError(self.run("logs", "--no-color"))
            yield
        finally:
            logs = self.run("logs", "--no-color")
            print(logs)  # shown where a test fails
            self.run("down")
        assert not [secret for secret in self.secrets if secret in logs]


@pytest.fixture
def composition(docker_engine: Engine) -> Iterator[Composition]:
    for image in NEEDED:
        docker_engine.image(image)
    composition = Composition(docker_engine)
    yield composition
    composition.run("down", "--volumes")


def test_it_answers_compacts_and_keeps_what_it_was_given(composition: Composition) -> None:
    with composition.up():
        client = client_of(composition.exported)
        fill(client)
        until_compacted(client)
        client.close()
        assert "Collected" in composition.run("logs", "--no-color", "collect")
        assert all(secret not in arguments_of_all_processes() for secret in composition.secrets)
    with composition.up():
        client = client_of(composition.exported)
        assert explained_query(client, 32_999)["listsTotal"] > 0
        client.close()


def arguments_of_all_processes() -> str:
    return subprocess.run(["ps", "-A", "-o", "args="], capture_output=True, text=True, check=True).stdout


def test_without_its_secrets_it_does_not_start(docker_engine: Engine) -> None:
    with pytest.raises(RuntimeError, match="MINIO_ROOT_USER"):
        docker_engine.command("docker-compose", "--file", str(FILE), "config")
