"""Builds the zip of the query function: neve, the handlers of lambda/, and the packages of the query path, as locked.

Compiled for one version of Python, since a function's folder is read-only and its Python would compile all of it again
in each new environment, which takes longer than a query. The same sources give the same bytes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from infra.images.build import UV, Image

ROOT = Path(__file__).resolve().parents[1]
QUERY = Image(("--no-dev",), neve=True, files=("lambda/api.py", "lambda/collect.py", "lambda/shard.py"))
TASK_ROOT = "/var/task"
"""Where Lambda puts what is in the zip."""
UNPACKED_BYTES_MAX = 200 << 20
ZIPPED_BYTES_MAX = 70 << 20
_NOT_RUN = ("tests", "*.pyi", "*.h", "*.a", "py.typed", "neve/testing", "neve/cli", "numpy/f2py", "numpy/distutils")
_OF_THIS_MACHINE = ("RECORD", "INSTALLER", "REQUESTED")
"""What an installer notes down: it names scripts that begin with the path of a Python."""
_TIME = (1980, 1, 1, 0, 0, 0)
_HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


class TooLarge(Exception):
    """The package is beyond what a function's start allows for."""


def stage(folder: Path, python: str, arch: str) -> None:
    """Fill an empty folder with what the zip holds. Raises CalledProcessError."""
    with TemporaryDirectory(prefix="neve-package-") as scratch:
        QUERY.lay_out(Path(scratch), python, f"{arch}-manylinux_2_28")
        for part in ("packages", "program"):
            shutil.copytree(Path(scratch) / part, folder, dirs_exist_ok=True)
    for pattern in (*_NOT_RUN, *_OF_THIS_MACHINE):
        for path in list(folder.glob(pattern) if "/" in pattern else folder.rglob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    compiled = ["-m", "compileall", "-qq", "--invalidation-mode", "unchecked-hash", "-s", folder, "-p", TASK_ROOT]
    subprocess.run([_interpreter(python), *compiled, folder], check=True, env=os.environ | {"PYTHONHASHSEED": "0"})


def pack(folder: Path, target: Path) -> None:
    """Zip a folder: names in order, all times alike."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as file:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _TIME)
            entry.external_attr = (0o755 if path.suffix == ".so" else 0o644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(entry, path.read_bytes(), compresslevel=6)


def check(folder: Path, target: Path) -> tuple[int, int]:
    """Bytes of the folder and of its zip; raises TooLarge."""
    unpacked, zipped = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()), target.stat().st_size
    for what, size, most in (("unpacked", unpacked, UNPACKED_BYTES_MAX), ("zipped", zipped, ZIPPED_BYTES_MAX)):
        if size > most:
            raise TooLarge(f"{what} {size:,} bytes, more than {most:,}")
    return unpacked, zipped


def _interpreter(python: str) -> str:
    if python == _HERE:
        return sys.executable
    found = subprocess.run([UV, "python", "find", "--no-project", python], capture_output=True, text=True)
    if found.returncode:
        raise FileNotFoundError(f"no Python {python} on this machine, which compiles the package")
    return found.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/package", description=__doc__)
    parser.add_argument("--python", metavar="VERSION", default=_HERE, help="of the function's runtime (%(default)s)")
    parser.add_argument("--arch", choices=("x86_64", "aarch64"), default="x86_64", help="(%(default)s)")
    parser.add_argument("--output", type=Path, default=ROOT / "dist" / "query.zip", help="the zip (dist/query.zip)")
    parser.add_argument("--stage", type=Path, metavar="DIR", help="an empty folder, to keep what the zip holds")
    chosen = parser.parse_args()
    if chosen.stage is not None and chosen.stage.exists() and any(chosen.stage.iterdir()):
        parser.error(f"{chosen.stage} is not empty")
    try:
        with TemporaryDirectory(prefix="neve-stage-") as temporary:
            folder = chosen.stage or Path(temporary)
            stage(folder, chosen.python, chosen.arch)
            pack(folder, chosen.output)
            unpacked, zipped = check(folder, chosen.output)
    except (subprocess.CalledProcessError, FileNotFoundError, TooLarge) as error:
        raise SystemExit(f"scripts/package: {error}") from None
    print(f"{chosen.output}: {zipped / 2**20:.1f} MiB, {unpacked / 2**20:.1f} MiB unpacked, Python {chosen.python}")


if __name__ == "__main__":
    main()
