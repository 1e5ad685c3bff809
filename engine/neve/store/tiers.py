"""The tiers above a store, as a process is told to have them."""

from __future__ import annotations

import re
from pathlib import Path

from neve.dataclass import dataclass
from neve.runtime import Runtime
from neve.store.blocks import Blocks

MEMORY_BYTES = 1 << 30
DISK_BYTES = 10 << 30
SIZE_FORM = "a size such as 512MiB or 2GiB"

_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_SIZE = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,3}))? ?(|KiB|MiB|GiB|TiB)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Tiers:
    """Bytes of memory; and a folder of a local disk, of which some bytes may be used, "" for none.

    Memory belongs to one process; the folder may be shared by all of a machine.
    """

    memory_bytes: int = MEMORY_BYTES
    disk: str = ""
    disk_bytes: int = DISK_BYTES

    def open(self, runtime: Runtime) -> Blocks:
        """The tiers, to be closed after use. No request; the folder is made when something is first written to it."""
        if not self.disk:
            return Blocks(self.memory_bytes)
        from neve.store.disk import DiskTier  # here, since it needs POSIX

        return Blocks(self.memory_bytes, DiskTier(Path(self.disk), self.disk_bytes, runtime))


def parse_size(text: str) -> int:
    """Bytes of a size as people write it, see SIZE_FORM; raises ValueError."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not {SIZE_FORM}")
    whole, fraction, unit = found.groups()
    return int(float(f"{whole}.{fraction or 0}") * _UNITS[unit]) if fraction else int(whole) * _UNITS[unit]
