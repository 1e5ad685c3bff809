"""A Docker engine of our own: no bridge, no hub, no port mapping; containers share the network of the machine.

It needs root and Debian's packages `docker.io`, `docker-compose` and `mmdebstrap`; with CI=true they are installed. Its
images lie in the cache, so that a later run builds again only what has changed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.servers.process import ServerProcess
from tests.servers.tools import ROOT, Unavailable, cache, locked, made

PACKAGES = ("docker.io", "docker-compose", "mmdebstrap")
PROGRAMS = ("docker", "dockerd", "docker-compose", "mmdebstrap")
INSTALL_TIMEOUT_S = 300
COMMAND_TIMEOUT_S = 300
DEBIAN = (
    *("--variant=essential", "--include=python3,ca-certificates,libstdc++6"),
    *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "locale", "man")),
    "bookworm",
)
_DIGEST = hashlib.sha256(" ".join(DEBIAN).encode()).hexdigest()[:12]
BASE, BASE_PYTHON = f"neve-base:{_DIGEST}", "3.11"
"""The image that all images here are made from, Debian with its Python, and the version of that."""


class Engine(ServerProcess):
    """A running engine; leaving the context ends it, by its own process id, after whatever containers it runs."""

    def __init__(self, folder: Path, images: Path) -> None:
        self.host = f"unix://{folder}/docker.sock"
        self._images: dict[str, str] = {}
        self._namespace = folder / "run" / "netns" / "default"
        own = ["--host", self.host, "--data-root", images, "--exec-root", folder / "run"]
        network = ["--bridge", "none", "--iptables=false", "--ip6tables=false"]
        super().__init__(["dockerd", *own, "--pidfile", folder / "pid", *network], {})
        self.environment = {"DOCKER_HOST": self.host, "DOCKER_BUILDKIT": "0", "DOCKER_CONFIG": str(folder)}

    def __enter__(self) -> Engine:
        try:
            self.until(lambda: self._run(["docker", "info"], {}).returncode == 0 or None)
            self._clear()  # what a run left that was killed
            if not self.docker("images", "--quiet", BASE):
                self.docker("import", str(base_tar()), BASE)
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._clear()
        super().__exit__(*exception)
        if self._namespace.exists():  # where the engine keeps hold of the machine's network, even when it has ended
            subprocess.run(["umount", self._namespace], check=True)

    def image(self, name: str) -> str:
        """The tag of an image of infra/images, built on first use if something of it has changed since it last was."""
        if name not in self._images:
            base = self.image("function-base") if name in ("query", "compaction") else BASE
            build = [str(ROOT / "scripts" / "images"), name, "--base", base, "--python", BASE_PYTHON]
            self._images[name] = self.command(*build).strip()
        return self._images[name]

    def _clear(self) -> None:
        """Leave nothing but images that have names, and the layers of these."""
        if containers := self.docker("ps", "--all", "--quiet").split():
            self.docker("rm", "--force", "--volumes", *containers)
        for kind in ("volume", "image"):
            self.docker(kind, "prune", "--force")

    def docker(self, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
        """What `docker ARGUMENTS…` prints; raises RuntimeError with both its streams when it fails."""
        return self.command("docker", *arguments, environment=environment)

    def command(self, *command: str, environment: Mapping[str, str] | None = None) -> str:
        """What a command prints that finds this engine in its environment; raises RuntimeError."""
        done = self._run(command, environment or {})
        if done.returncode:
            raise RuntimeError(f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def _run(self, command: list[str] | tuple[str, ...], environment: Mapping[str, str]) -> subprocess.CompletedProcess:
        told = os.environ | self.environment | dict(environment)
        return subprocess.run(command, env=told, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S)


@contextmanager
def engine() -> Iterator[Engine]:
    """An engine with BASE, and with images of earlier runs; another process waits. Raises Unavailable."""
    installed()
    images = cache() / "engine"
    images.mkdir(parents=True, exist_ok=True)
    with (
        locked(images.with_name(".engine.lock")),
        TemporaryDirectory(prefix="neve-engine-") as folder,
        Engine(Path(folder), images) as running,
    ):
        yield running


def installed() -> None:
    """See that the engine's programs are there; with CI=true install them. Raises Unavailable."""
    if os.geteuid() != 0:
        raise Unavailable("not root, which a Docker engine of one's own needs")
    if not (missing := [name for name in PROGRAMS if shutil.which(name) is None]):
        return
    install = f"apt-get install {' '.join(PACKAGES)}"
    if os.environ.get("CI") != "true" or shutil.which("apt-get") is None:
        raise Unavailable(f"no {', '.join(missing)} ({install})")
    print(f"neve: {install}", file=sys.stderr, flush=True)
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
        subprocess.run(
            ["apt-get", "--quiet=2", *command], check=True, env=quiet, stdout=sys.stderr, timeout=INSTALL_TIMEOUT_S
        )


def base_tar() -> Path:
    """The root of a small Debian with Python, made of Debian's packages on first use (a minute)."""

    def build(target: Path) -> None:
        command = ["mmdebstrap", "--quiet", "--format=tar", *DEBIAN, str(target)]
        subprocess.run(command, check=True, stdout=sys.stderr, timeout=INSTALL_TIMEOUT_S)

    return made(f"base-{_DIGEST}.tar", build)


def main() -> None:
    """Install the engine and make the base image now, so that no test pays for it."""
    try:
        installed()
        base_tar()
    except Unavailable as error:
        print(f"neve: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
