"""What is known of a request once it is answered: logs, metrics and traces are made of it, after the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, TypeAlias

from neve.dataclass import dataclass
from neve.runtime import Instant
from neve.store.watching import Wave

if TYPE_CHECKING:
    from neve.query.explain import Explain  # which takes numpy: settings are read before


@dataclass(frozen=True, slots=True)
class Served:
    """One answered request. `operation` is "-" where none was recognised, `error` the code of an error answer or "".

    Nothing of it is a secret but what `headers` holds, which are there for the context of a trace alone.
    """

    request_id: str
    operation: str
    status: int
    error: str
    began: Instant
    seconds: float
    explain: Explain
    waves: tuple[Wave, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def requests(self) -> int:
        """Requests of the store, without hedges."""
        return sum(wave.bill.requests for wave in self.waves)

    @property
    def hedges(self) -> int:
        return sum(wave.bill.hedges for wave in self.waves)

    @property
    def bytes_read(self) -> int:
        return sum(wave.bill.bytes_read for wave in self.waves)

    @property
    def bytes_written(self) -> int:
        return sum(wave.bill.bytes_written for wave in self.waves)


Watcher: TypeAlias = Callable[[Served], None]
"""Is told of each answered request on the thread that answered it, before the answer is sent: it must be quick."""
