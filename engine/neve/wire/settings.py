"""Settings of a server or a function: one TOML file, the environment (NEVE_…) over it, flags over both.

Secrets live in the file, which nobody else may read, or in NEVE_KEYS; never in arguments, logs, errors or a repr.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from neve.api.limits import LIMITS
from neve.dataclass import dataclass
from neve.errors import NeveError
from neve.store.tiers import DISK_BYTES, MEMORY_BYTES, SIZE_FORM, Tiers, parse_size
from neve.wire.logs import FORMS, TEXT
from neve.wire.sigv4 import AccessKey

SHARD_BYTES = 32 << 20
"""For these one function reads half a second (75 MB/s): more than a wave more takes, and an invocation of others."""
_PREFIX = "NEVE_"
_SHAPES = {
    "region": (re.compile(r"[a-z0-9-]{1,64}", re.ASCII), "lower-case letters, digits and hyphens"),
    "account": (re.compile(r"[0-9]{12}", re.ASCII), "twelve digits"),
    "shard_function": (re.compile(r"[A-Za-z0-9_:$-]{0,170}", re.ASCII), "the name or the ARN of a function"),
    "shard_endpoint": (
        re.compile(r"(https://[a-z0-9.-]+(:[0-9]{1,5})?|http://(127\.0\.0\.1|localhost)(:[0-9]{1,5})?)?", re.ASCII),
        "https://HOST[:PORT], or http:// of this machine",
    ),
}
_NUMBERS = {"port": (0, 65535), "workers": (1, 256), "shard_threads": (1, 16)}
_SIZES = {"memory": 1 << 20, "disk_size": 64 << 20, "shard_bytes": 1 << 20}
_SWITCHES = ("compact", "access_log")
_METRICS = re.compile(r"(?:\[([0-9a-f:.%]+)\]|([^\[\]:]+)):([0-9]{1,5})", re.ASCII)
_KEY_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}", re.ASCII)


class SettingsInvalid(NeveError):
    """A setting is unknown, of the wrong type or out of bounds, or its file is unreadable or readable by others."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a server needs to know. No `regions`: a signature may name any; no `keys`: anyone may call.

    `memory` bytes of each process hold blocks of segments, as `disk_size` bytes of the folder `disk` do for all, unless
    that is "". `compact`: whether indexes are compacted in the background. `metrics`: ADDRESS:PORT that shows metrics
    and nothing else, to anyone who reaches it; "": where the API is, if anyone may call that. `shard_function`: name or
    ARN of a function of Lambda, in `region`, that scores shares of queries whose lists, as far as they are not at hand,
    have `shard_bytes` or more; `shard_endpoint`: that of Lambda, where it is not the region's own. Without a
    function, `shard_threads` threads of the process share what a query reads.
    """

    store: str
    host: str = "127.0.0.1"
    port: int = 7070
    workers: int = 1
    region: str = "us-east-1"
    account: str = "000000000000"
    regions: tuple[str, ...] = ()
    limits: str = "aws"
    tls_cert: str = ""
    tls_key: str = ""
    memory: int = MEMORY_BYTES
    disk: str = ""
    disk_size: int = DISK_BYTES
    compact: bool = True
    access_log: bool = False
    log: str = TEXT
    metrics: str = ""
    shard_function: str = ""
    shard_endpoint: str = ""
    shard_bytes: int = SHARD_BYTES
    shard_threads: int = 1
    keys: tuple[AccessKey, ...] = ()

    def __post_init__(self) -> None:
        if not self.store:
            raise SettingsInvalid("store is not set: give --store URL, NEVE_STORE or `store` in the settings file")
        for name, (shape, meaning) in _SHAPES.items():
            if not shape.fullmatch(getattr(self, name)):
                raise SettingsInvalid(f"{name} must be {meaning}, not {getattr(self, name)!r}")
        for name, (low, high) in _NUMBERS.items():
            if not low <= getattr(self, name) <= high:
                raise SettingsInvalid(f"{name} must be between {low} and {high}, not {getattr(self, name)}")
        for name, low in _SIZES.items():
            if getattr(self, name) < low:
                raise SettingsInvalid(f"{name} must be at least {low >> 20}MiB, not {getattr(self, name)} bytes")
        if self.limits not in LIMITS:
            raise SettingsInvalid(f"limits must be one of {', '.join(LIMITS)}, not {self.limits!r}")
        if self.log not in FORMS:
            raise SettingsInvalid(f"log must be one of {', '.join(FORMS)}, not {self.log!r}")
        if self.metrics and self.metrics_address[1] > 65535:
            raise SettingsInvalid(f"metrics must be ADDRESS:PORT with a port up to 65535, not {self.metrics!r}")
        if bool(self.tls_cert) != bool(self.tls_key):
            raise SettingsInvalid("tls_cert and tls_key must be given together")
        if self.workers > 1 and self.store.startswith("memory:"):
            raise SettingsInvalid("a store in memory belongs to one process: it cannot be served by several workers")
        _check_keys(self.keys)

    @property
    def metrics_address(self) -> tuple[str, int]:
        """Host and port of `metrics`; raises SettingsInvalid."""
        found = _METRICS.fullmatch(self.metrics)
        if found is None:
            raise SettingsInvalid(f"metrics must be ADDRESS:PORT, such as 127.0.0.1:9464, not {self.metrics!r}")
        return found[1] or found[2], int(found[3])

    @property
    def tiers(self) -> Tiers:
        """What each process holds of the store."""
        return Tiers(self.memory, self.disk, self.disk_size)


def load(file: str | None, environment: Mapping[str, str], flags: Mapping[str, object]) -> Settings:
    """The settings of `file` (else of the one that NEVE_SETTINGS names), `environment` and `flags`, later ones winning.

    A flag of None was not given. Raises SettingsInvalid, which names the setting and where it came from.
    """
    path = file or environment.get(_PREFIX + "SETTINGS")
    document = _read(Path(path)) if path else {}
    known = [field.name for field in fields(Settings)]
    if unknown := sorted(set(document) - set(known)):
        raise SettingsInvalid(f"unknown setting {unknown[0]!r} in {path}; known are {', '.join(known)}")
    values = {name: _typed(name, value, str(path)) for name, value in document.items()}
    for name in known:
        if text := environment.get(_PREFIX + name.upper()):
            values[name] = _from_text(name, text)
    for name, value in flags.items():
        if value is not None:
            origin = "--" + name.replace("_", "-")
            values[name] = _from_text(name, value, origin) if isinstance(value, str) else _typed(name, value, origin)
    return Settings(**{"store": "", **values})  # type: ignore[arg-type]  # _typed has checked each against its field


def _read(path: Path) -> dict[str, object]:
    import tomllib  # here, since a function has no file

    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            document = tomllib.load(file)
    except OSError as error:
        raise SettingsInvalid(f"cannot read the settings file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"the settings file {path} is not TOML: {_without_text(error)}") from None
    if "keys" in document and mode & 0o077:
        raise SettingsInvalid(
            f"the settings file {path} holds secrets and others can read or write it (mode {mode:04o}): "
            f"run `chmod 600 {path}`"
        )
    return document


def _without_text(error: Exception) -> str:
    """Where a parse failed, without what stood there: that may be a secret."""
    place = re.search(r"\(at (?:line \d+, column \d+|end of document)\)", str(error))
    return f"it does not parse {place.group()}" if place else "it does not parse"


def _typed(name: str, value: object, origin: str) -> object:
    """A value out of TOML or off a flag, as its setting's type."""
    kind = _kind(name)
    if name == "keys":
        return _keys(value, origin)
    if name in _SIZES and isinstance(value, str):
        return _size(value, f"{name} in {origin}")
    if name == "regions" and isinstance(value, list) and all(isinstance(region, str) for region in value):
        return tuple(value)
    if kind is not tuple and type(value) is kind:
        return value
    expected = {str: "a string", int: "a number", bool: "true or false", tuple: "a list of strings"}[kind]
    expected = SIZE_FORM if name in _SIZES else expected
    raise SettingsInvalid(f"{name} in {origin} must be {expected}")


def _from_text(name: str, text: str, origin: str = "") -> object:
    """A value out of the environment or off a flag, as its setting's type; lists are separated by commas."""
    origin = origin or _PREFIX + name.upper()
    kind = _kind(name)
    if kind is str:
        return text
    if name in _SIZES:
        return _size(text, origin)
    if kind is int:
        if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
            raise SettingsInvalid(f"{origin} must be a number, not {text!r}")
        return int(text)
    if kind is bool:
        if text.lower() not in ("true", "false", "1", "0"):
            raise SettingsInvalid(f"{origin} must be true or false, not {text!r}")
        return text.lower() in ("true", "1")
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if name == "keys":
        triples = [part.split(":", 2) for part in parts]
        return _keys([dict(zip(("id", "secret", "name"), triple, strict=False)) for triple in triples], origin)
    return tuple(parts)


def _kind(name: str) -> type[str] | type[int] | type[bool] | type[tuple[object, ...]]:
    if name in ("regions", "keys"):
        return tuple
    return int if name in (*_NUMBERS, *_SIZES) else bool if name in _SWITCHES else str


def _size(text: str, origin: str) -> int:
    try:
        return parse_size(text)
    except ValueError:
        raise SettingsInvalid(f"{origin} must be {SIZE_FORM}, not {text!r}") from None


def _keys(value: object, origin: str) -> tuple[AccessKey, ...]:
    if not isinstance(value, list):
        raise SettingsInvalid(f"keys in {origin} must be tables: [[keys]] with id, secret and name")
    keys = []
    for number, table in enumerate(value, start=1):
        place = f"key {number} in {origin}"
        if not isinstance(table, dict) or not all(isinstance(part, str) for part in table.values()):
            raise SettingsInvalid(f"{place} must have the strings id, secret and name")
        if unknown := sorted(set(table) - {"id", "secret", "name"}):
            raise SettingsInvalid(f"unknown setting {unknown[0]!r} of {place}; known are id, secret, name")
        if not table.get("id") or not table.get("secret"):
            raise SettingsInvalid(f"{place} must have id and secret")
        keys.append(AccessKey(**table))
    return tuple(keys)


def _check_keys(keys: tuple[AccessKey, ...]) -> None:
    seen: set[str] = set()
    for number, key in enumerate(keys, start=1):
        # The offending id is not shown: in a broken NEVE_KEYS it may be a secret.
        if not _KEY_ID.fullmatch(key.id):
            raise SettingsInvalid(f"the id of key {number} must be 1 to 128 letters, digits, '_', '.' or '-'")
        if key.id in seen:
            raise SettingsInvalid(f"the id of key {number} is given more than once")
        seen.add(key.id)
