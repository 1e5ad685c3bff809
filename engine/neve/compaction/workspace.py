"""The local folder that a compaction works in: the rows it has gathered, and the output of each task that is done.

It outlives the process, so that one that is killed loses a task and not the work. A file gets its name when it is
whole; only the columns of gathered rows grow in place, and what is beyond the sizes in `gathered.json` never counts.
Nothing waits for the disk, so what a crash of the whole machine leaves is not gone on with: the job names its boot.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import orjson

from neve.compaction.plan import Plan
from neve.segments.columns import Column
from neve.segments.flat import Batch
from neve.segments.rows import Keys, Rows
from neve.vectors.metric import Metric

_JOB, _GATHERED = "job.json", "gathered.json"
_KEYS = {"hashes": "<u8", "positions": "<u8", "keys": "u1", "key_bytes": "<u4"}
_COLUMNS: Mapping[str, str] = {
    **_KEYS,
    "metadata": "u1",
    "metadata_bytes": "<u4",
    "vectors": "<f4",
    **{f"deleted_{name}": dtype for name, dtype in _KEYS.items()},
}


@dataclass(frozen=True, slots=True)
class Job:
    """What a workspace is for: with it, a task needs nothing but the folder."""

    uid: str
    dimension: int
    metric: Metric
    non_filterable: tuple[str, ...]
    memory_bytes: int
    plan: Plan
    boot: str

    def encode(self) -> bytes:
        fields = {
            "uid": self.uid,
            "dimension": self.dimension,
            "metric": self.metric,
            "non_filterable": self.non_filterable,
            "memory_bytes": self.memory_bytes,
            "plan": self.plan.to_fields(),
            "boot": self.boot,
        }
        return orjson.dumps(fields)

    @classmethod
    def decode(cls, raw: bytes) -> Job:
        """Raises LookupError, ValueError or TypeError on what is no job of this version."""
        fields: dict[str, Any] = orjson.loads(raw)
        plan = Plan.from_fields(fields["plan"])
        shape = fields["dimension"], Metric(fields["metric"]), tuple(fields["non_filterable"])
        return cls(fields["uid"], *shape, fields["memory_bytes"], plan, fields["boot"])


class Workspace:
    """The files of one job. Tasks read and write files of their own; only who holds the lock gathers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        return self.folder / name

    def job(self) -> Job:
        """The job; raises OSError, LookupError, ValueError or TypeError where there is none of this version."""
        return Job.decode(self.path(_JOB).read_bytes())

    def has(self, name: str) -> bool:
        return self.path(name).exists()

    def save(self, name: str, array: np.ndarray) -> None:
        """Keep an array under a name."""
        with self.writing(name) as path, open(path, "wb") as file:
            np.save(file, array)

    def load(self, name: str) -> np.ndarray:
        """A kept array, as a file in memory."""
        return np.asarray(np.load(self.path(name), mmap_mode="r"))

    def allocate(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Keep an array of zeros under a name, unless it is there, for tasks to fill range by range."""
        if not self.has(name):
            with self.writing(name) as path:
                np.lib.format.open_memmap(path, "w+", dtype, shape)

    def fill(self, name: str, start: int, array: np.ndarray) -> None:
        """Write rows of an allocated array from `start` on. Tasks of other ranges may do so at the same time."""
        # not through a file in memory: two hosts that share a folder would write each other's pages
        with open(self.path(name), "r+b") as file:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            file.seek(start * int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize, os.SEEK_CUR)
            file.write(np.ascontiguousarray(array, dtype).tobytes())

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A path to write a file at; it gets its name at the end."""
        path = self.path(f".{name}.{os.getpid()}")
        yield path
        path.replace(self.path(name))

    def sweep(self) -> None:
        """Delete what a process that was killed had not finished."""
        for path in self.folder.glob(".*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    @property
    def starts(self) -> np.ndarray:
        """The first row of each gathered input, and the end of the last: int64 [inputs + 1]."""
        return np.array(self._progress()[0], np.int64)

    def gather(self, blocks: Iterable[Batch]) -> None:
        """Append the rows and tombstones of the next input, all of them or, if this raises or is killed, none."""
        starts, sizes = self._progress()
        rows = starts[-1]
        with ExitStack() as stack:
            files = {name: stack.enter_context(_at(self.path(name), sizes.get(name, 0))) for name in _COLUMNS}
            for block in blocks:
                rows += len(block.rows)
                for name, array in _columns(block).items():
                    files[name].write(np.ascontiguousarray(array, _COLUMNS[name]).tobytes())
            sizes = {name: file.tell() for name, file in files.items()}
        self.put(_GATHERED, orjson.dumps([[*starts, rows], sizes]))

    def inputs(self, dimension: int) -> Batch:
        """All gathered rows and tombstones, in the order of gathering; the larger columns are files in memory."""
        sizes = self._progress()[1]
        found = {name: _mapped(self.path(name), dtype, sizes.get(name, 0)) for name, dtype in _COLUMNS.items()}
        keys, deleted = (
            Keys(found[p + "hashes"], _column(found[p + "keys"], found[p + "key_bytes"]), found[p + "positions"])
            for p in ("", "deleted_")
        )
        metadata = _column(found["metadata"], found["metadata_bytes"])
        return Batch(Rows(keys, found["vectors"].reshape(-1, dimension), metadata), deleted)

    def _progress(self) -> tuple[list[int], dict[str, int]]:
        try:
            starts, sizes = orjson.loads(self.path(_GATHERED).read_bytes())
        except FileNotFoundError:
            return [0], {}
        return starts, sizes

    def put(self, name: str, raw: bytes) -> None:
        """Keep bytes under a name."""
        with self.writing(name) as path:
            path.write_bytes(raw)


def boot() -> str:
    """Names the time since the machine was started; "" where it has no name."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def workspaces() -> Path:
    """The folder for workspaces: below NEVE_CACHE, or the user's cache."""
    named = os.environ.get("NEVE_CACHE")
    return (Path(named) if named else Path.home() / ".cache" / "neve") / "compact"


@contextmanager
def locked(root: Path, name: str) -> Iterator[Path | None]:
    """The folder of a name below `root`, for one holder at a time on a machine; None while another has it.

    It is for one workspace, and need not exist.
    """
    root.mkdir(parents=True, exist_ok=True)
    path = root / f"{name}.lock"
    with open(path, "ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = os.fstat(lock.fileno()).st_ino == path.stat().st_ino  # else its holder has just deleted it
        except (BlockingIOError, FileNotFoundError):
            held = False
        if not held:
            yield None
            return
        try:
            yield root / name
        finally:
            if not (root / name).exists():
                path.unlink(missing_ok=True)


def begin(folder: Path, job: Job) -> Workspace:
    """A workspace for a job in place of whatever the folder holds.

    Its place is the job's own: a task of another job that outlives its process writes nothing here.
    """
    shutil.rmtree(folder, ignore_errors=True)
    workspace = Workspace(folder / f"{job.plan.seed:016x}")
    workspace.folder.mkdir(parents=True)
    workspace.put(_JOB, job.encode())
    return workspace


def under_way(folder: Path) -> Workspace | None:
    """The workspace that an earlier process has left in the folder; None where there is none."""
    for workspace in map(Workspace, folder.glob("*")):
        with suppress(OSError, LookupError, ValueError, TypeError):
            if workspace.job().boot == boot() != "":
                workspace.sweep()
                return workspace
    return None


def _columns(block: Batch) -> dict[str, np.ndarray]:
    rows, deleted = block.rows, block.deleted
    return {
        **_key_columns(rows.keys, ""),
        "metadata": rows.metadata.data,
        "metadata_bytes": np.diff(rows.metadata.offsets),
        "vectors": rows.vectors,
        **_key_columns(deleted, "deleted_"),
    }


def _key_columns(keys: Keys, prefix: str) -> dict[str, np.ndarray]:
    columns = (keys.hashes, keys.positions, keys.keys.data, np.diff(keys.keys.offsets))
    return {prefix + name: column for name, column in zip(_KEYS, columns, strict=True)}


def _column(data: np.ndarray, lengths: np.ndarray) -> Column:
    offsets = np.zeros(len(lengths) + 1, np.uint64)
    np.cumsum(lengths, out=offsets[1:], dtype=np.uint64)
    return Column(data, offsets)


def _at(path: Path, size: int) -> IO[bytes]:
    """A file to append to from a size on; what was beyond is cut off."""
    file = open(path, "ab")  # noqa: SIM115, the caller's stack closes it
    file.truncate(size)
    return file


def _mapped(path: Path, dtype: str, size: int) -> np.ndarray:
    if not size:
        return np.empty(0, dtype)
    return np.asarray(np.memmap(path, dtype, "r", shape=size // np.dtype(dtype).itemsize))
