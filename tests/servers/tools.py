"""Programs of the tests that uv.lock does not bring: pinned in scripts/versions, made once, kept in a cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[2]
NODE_PACKAGE = ROOT / "tests" / "clients" / "node"


class Unavailable(Exception):
    """This machine lacks what a test needs; the message says what, and what for."""


def pin(name: str) -> str:
    """What scripts/versions says of `name`."""
    lines = (ROOT / "scripts" / "versions").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))[name]


def program(name: str, purpose: str) -> str:
    """Path of a program of this machine; raises Unavailable."""
    found = shutil.which(name)
    if found is None:
        raise Unavailable(f"no {name}, {purpose}")
    return found


def go_binary(name: str) -> Path:
    """A pinned server, built by `go install` on first use (minutes); raises Unavailable without Go."""
    version = pin(name).rpartition("@")[2]

    def build(target: Path) -> None:
        go = program("go", f"which builds {name}")
        with TemporaryDirectory(dir=target.parent) as scratch:
            _run([go, "install", pin(name)], f"building {name} {version}", GOBIN=scratch)
            (Path(scratch) / name).replace(target)

    return made(f"bin/{name}-{version}", build)


def oldest_boto3() -> Path:
    """The Python of an environment with the oldest boto3 that knows s3vectors, and nothing else."""
    version = pin("boto3_oldest")

    def build(target: Path) -> None:
        uv = program(os.environ.get("UV", "uv"), "which installs the oldest boto3")
        _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, target], f"installing boto3 {version}")
        python = target / "bin" / "python"
        _run([uv, "pip", "install", "--quiet", "--python", python, f"boto3=={version}"], "")

    return made(f"boto3-{version}", build) / "bin" / "python"


def node_modules() -> Path:
    """The node_modules of tests/clients/node/package-lock.json; raises Unavailable without Node.js or npm."""
    program("node", "which runs the Node.js SDK")
    lock = hashlib.sha256((NODE_PACKAGE / "package-lock.json").read_bytes()).hexdigest()[:12]

    def build(target: Path) -> None:
        npm = program("npm", "which installs the Node.js SDK")
        target.mkdir(exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(NODE_PACKAGE / name, target)
        _run([npm, "ci", "--silent", "--no-audit", "--no-fund"], "installing the Node.js SDK", cwd=target)

    return made(f"node-{lock}", build) / "node_modules"


def cache() -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("NEVE_CACHE") or home / "neve")


def made(name: str, build: Callable[[Path], None]) -> Path:
    """Path of `name` in the cache, built when it is not there whole; one process builds, others wait for it."""
    target = cache() / name
    complete = target.with_name(f".{target.name}.complete")
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.with_name(f".{target.name}.lock")):
        if not (complete.exists() and target.exists()):
            build(target)
            complete.touch()
    return target


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file; other processes wait."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(command: list[str | Path], what: str, cwd: Path | None = None, **environment: str) -> None:
    if what:
        print(f"neve: {what}", file=sys.stderr, flush=True)
    subprocess.run(command, check=True, cwd=cwd, stdout=sys.stderr, env=os.environ | environment)


def main() -> None:
    """Make everything now, so that no test pays for it; what cannot be had is left for the tests to report."""
    for make in (lambda: go_binary("minio"), lambda: go_binary("versitygw"), oldest_boto3, node_modules):
        try:
            make()
        except Unavailable as error:
            print(f"neve: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
