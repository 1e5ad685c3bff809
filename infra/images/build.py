"""Builds container images with Docker: lays out what belongs into each, then copies that over a base image.

Packages come from uv.lock, as wheels for the Python of the base; nothing is downloaded while an image is built. They
are a layer of their own below neve's, so that a new neve is a small layer to build, to push and to pull.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.servers.tools import Unavailable, go_binary

ROOT = Path(__file__).resolve().parents[2]
PLATFORM = "x86_64-manylinux_2_28"
UV = os.environ.get("UV", "uv")


@dataclass(frozen=True, slots=True)
class Image:
    """What an image holds: locked packages, which `uv export` options choose; neve itself; files of the repository."""

    locked: tuple[str, ...] = ()
    neve: bool = False
    files: tuple[str, ...] = ()

    def lay_out(self, folder: Path, python: str, platform: str = PLATFORM) -> None:
        """Fill `packages` and `program` below a folder; `python` and `platform` are those that the packages are for."""
        packages, program = folder / "packages", folder / "program"
        if self.locked:
            required = folder / "requirements.txt"
            what = ["--frozen", "--no-emit-project", "--quiet", *self.locked]
            _run([UV, "export", "--project", ROOT, *what, "--output-file", required])
            wheels = ["--only-binary=:all:", "--no-deps", "--python-version", python, "--python-platform", platform]
            install = [UV, "pip", "install", "--quiet", *wheels, "--target", packages, "--requirements", required]
            _run(install)
            shutil.rmtree(packages / "bin", ignore_errors=True)  # of no use in an image, and they name paths of here
            (packages / ".lock").unlink()
            required.unlink()
        program.mkdir()
        if self.neve:
            shutil.copytree(ROOT / "engine" / "neve", program / "neve", ignore=shutil.ignore_patterns("__pycache__"))
        for pattern in self.files:
            for file in ROOT.glob(pattern):
                shutil.copy(file, program)


FUNCTION = ("--no-dev", "--extra", "lambda")
IMAGES = {
    "query": Image(FUNCTION, neve=True, files=("lambda/*.py",)),
    "compaction": Image((*FUNCTION, "--extra", "batch"), neve=True, files=("lambda/*.py",)),
    "server": Image(("--no-dev", "--extra", "server"), neve=True),
    "bootstrap": Image(("--only-group", "bootstrap"), files=("infra/local/bootstrap.py",)),
    "minio": Image(),
    "function-base": Image(),
}


def build(name: str, base: str | None, python: str) -> str:
    """Build one image; its tag, neve-NAME. Raises CalledProcessError, Unavailable."""
    tag = f"neve-{name}"
    with TemporaryDirectory(prefix=f"{tag}-") as scratch:
        folder = Path(scratch) / "context"
        folder.mkdir()
        IMAGES[name].lay_out(folder, python)
        if name == "minio":
            shutil.copy(go_binary("minio"), folder / "program" / "minio")
        given = ["--build-arg", f"BASE={base}"] if base else []
        file = ROOT / "infra" / "images" / f"{name}.Dockerfile"
        _run(["docker", "build", "--quiet", "--tag", tag, "--file", file, *given, folder])
    return tag


def _run(command: list[str | Path]) -> None:
    plain = os.environ | {"UV_COMPILE_BYTECODE": "0"}  # bytecode is made in the image, by its own Python
    subprocess.run(command, check=True, stdout=sys.stderr, env=plain)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/images", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which (all but the last): {', '.join(IMAGES)}")
    parser.add_argument("--base", metavar="IMAGE", help="base image; default: the one that the Dockerfile names")
    parser.add_argument("--python", metavar="VERSION", default="3.13", help="of the base image (%(default)s)")
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - set(IMAGES):
        parser.error(f"there is no image {min(unknown)}")
    try:
        for name in chosen.names or list(IMAGES)[:-1]:
            print(build(name, chosen.base, chosen.python), flush=True)
    except (subprocess.CalledProcessError, Unavailable, FileNotFoundError) as error:
        raise SystemExit(f"scripts/images: {error}") from None


if __name__ == "__main__":
    main()
