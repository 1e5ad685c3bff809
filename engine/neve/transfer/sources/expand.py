"""Paths, folders, wildcards and URLs → files, each with its format."""

from __future__ import annotations

from typing import Any

from neve.errors import SourceUnfit
from neve.transfer import files
from neve.transfer.mapping import ColumnMapping

ENDINGS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".ipc": "arrow",
    ".feather": "arrow",
    ".lance": "lance",
    ".npy": "npy",
    ".fvecs": "fvecs",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
REMOTE = "s3vectors://"
_WILD = frozenset("*?[")


def expand(url: str, mapping: ColumnMapping, format_: str | None) -> list[tuple[str, str]]:
    """The files of a source, in order of their names, with their formats. A few requests. Raises SourceUnfit."""
    if url.startswith(REMOTE):
        return [(url, "s3vectors")]
    url = files.absolute(url)
    if format_ == "lance" or _ending(url) == "lance":
        return [(url, "lance")]
    with files.reading(url):
        system, path = files.filesystem(url)
        if _WILD & set(path) and not system.exists(path):
            found = sorted(system.glob(path))
        elif not system.isdir(path):
            if not system.exists(path):
                raise FileNotFoundError
            return [(url, format_ or _known(url))]
        elif (tables := _tables(system, path)) or mapping.table:
            return [(_table(url, tables, mapping), "lance")]
        else:
            found = [name for name in sorted(system.find(path)) if _is_data(name[len(path) :], format_)]
    if not found:
        raise SourceUnfit(f"{url} has no file to import: known are {', '.join(ENDINGS)}")
    return [(name, format_ or _known(name)) for name in (_url(url, system, name) for name in found)]


def _ending(url: str) -> str | None:
    name = files.split_options(url)[0].rstrip("/").rpartition("/")[2]
    return ENDINGS.get("." + name.rpartition(".")[2].lower()) if "." in name else None


def _known(url: str) -> str:
    found = _ending(url)
    if found is None:
        raise SourceUnfit(f"{url} is of no known format: known are {', '.join(ENDINGS)}; or name one by --format")
    return found


def _is_data(name: str, format_: str | None) -> bool:
    """Whether a file below a folder is meant: known by its ending, and not hidden as `_` and `.` do."""
    hidden = any(part.startswith(("_", ".")) for part in name.split("/"))
    return not hidden and (format_ is not None or _ending(name) is not None)


def _tables(system: Any, path: str) -> list[str]:
    """The tables of a LanceDB folder."""
    names = (str(name).rstrip("/").rpartition("/")[2] for name in system.ls(path, detail=False))
    return sorted(name.removesuffix(".lance") for name in names if name.endswith(".lance"))


def _table(url: str, tables: list[str], mapping: ColumnMapping) -> str:
    chosen = mapping.table or (tables[0] if len(tables) == 1 else None)
    if chosen not in tables:
        problem = f"has no table {chosen!r}" if chosen else "has several tables: name one by --table"
        raise SourceUnfit(f"{url} {problem}; there are: {', '.join(tables) or 'none'}")
    plain, query = files.split_options(url)
    return f"{plain.rstrip('/')}/{chosen}.lance{query}"


def _url(url: str, system: Any, path: str) -> str:
    """The URL of a path that a listing of another URL's file system gave."""
    if files.is_local(url):
        return path
    if url.startswith("s3://"):
        return f"s3://{path}{files.split_options(url)[1]}"
    full: str = system.unstrip_protocol(path)
    return full
