"""Store URLs."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from neve.errors import StoreUnfit
from neve.store.objects import memory_store, s3_store
from neve.store.port import Store

FORMS = "memory://, file:///path, or s3://bucket[/prefix][?endpoint=URL&region=NAME]"


def connect(url: str) -> Store:
    """The store of a URL: memory://, file:///path, s3://bucket[/prefix][?endpoint=URL&region=NAME].

    Credentials come from the standard AWS environment variables, never from the URL. Raises StoreUnfit. No request.
    """
    try:
        parts = urlsplit(url)
        options = {name: values[-1] for name, values in parse_qs(parts.query, strict_parsing=bool(parts.query)).items()}
    except ValueError as error:
        raise StoreUnfit(f"not a store URL; use {FORMS}") from error
    if "@" in parts.netloc or (parts.scheme == "s3" and "@" in parts.path):  # where a secret has a slash in it
        raise StoreUnfit("a store URL holds no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead")
    if unknown := set(options) - ({"endpoint", "region"} if parts.scheme == "s3" else set()):
        raise StoreUnfit(f"unknown option {min(unknown)!r} in the store URL; use {FORMS}")
    match parts.scheme:
        case "memory" if not parts.netloc and not parts.path:
            return memory_store()
        case "file" if not parts.netloc and len(parts.path) > 1:
            from neve.store.folder import FolderStore  # here, since a function's store is a remote one

            return FolderStore(Path(unquote(parts.path)))
        case "s3" if parts.netloc:
            folder = unquote(parts.path).strip("/")
            prefix = f"{folder}/" if folder else ""
            return s3_store(parts.netloc, prefix=prefix, endpoint=options.get("endpoint"), region=options.get("region"))
    raise StoreUnfit(f"not a store URL: {parts.scheme or 'no scheme'!r}; use {FORMS}")
