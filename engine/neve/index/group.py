"""Group commit: writes that arrive together share one log entry, each with its own outcome."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import field

from neve.dataclass import dataclass
from neve.index.entry import Write
from neve.index.state import State
from neve.runtime import Runtime, Signal


@dataclass(slots=True, eq=False)
class Pending:
    """A write that waits for its group. `prepare` makes it for an index; `write` was made for that of `state`.

    One that `follows_state` holds only right after that very state, and is made anew for any other, of the same keys
    or fewer.
    """

    prepare: Callable[[State], Write]
    invocation: str | None
    state: State
    write: Write
    done: Signal
    follows_state: bool = False
    error: BaseException | None = None
    leads: bool = False
    keys: frozenset[str] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        self.keys = frozenset(self.write.puts.keys) | frozenset(self.write.deletes)

    @property
    def size_bytes(self) -> int:
        puts = self.write.puts
        return puts.vectors.nbytes + sum(map(len, puts.metadata)) + 32 * len(self.keys)


class WriteGroups:
    """Forms groups and lets one caller at a time commit one; a group holds a key once, and is closed before it is sent.

    That a group holds a key once makes it harmless when a repeat of one of its calls is appended right after it.
    """

    def __init__(self, runtime: Runtime, commit: Callable[[list[Pending]], None], size_bytes_max: int) -> None:
        self._commit = commit
        self._runtime = runtime
        self._size_bytes_max = size_bytes_max
        self._lock = threading.Lock()
        self._waiting: list[Pending] = []
        self._busy = False

    def submit(self, pending: Pending) -> None:
        """Have a write committed, and raise its error if it has one. Blocks until its group is through."""
        with self._lock:
            self._waiting.append(pending)
            pending.leads, self._busy = not self._busy, True
        if not pending.leads:
            pending.done.wait()
        if pending.leads:
            self._lead()
        if pending.error is not None:
            raise pending.error

    def _lead(self) -> None:
        """Commit one group, the caller's write in it, and hand the lead to the first who waits."""
        with self._lock:
            group, self._waiting = self._split()
        try:
            self._commit(group)
        except BaseException as error:
            for pending in group:
                pending.error = pending.error or error
            if not isinstance(error, Exception):
                raise
        finally:
            for pending in group:
                pending.done.set()
            with self._lock:
                heir = self._waiting[0] if self._waiting else None
                self._busy = heir is not None
                if heir is not None:
                    heir.leads = True
            if heir is not None:
                heir.done.set()

    def _split(self) -> tuple[list[Pending], list[Pending]]:
        """The group to commit now, and who waits on, each in the order of arrival; the first is always in the group."""
        group: list[Pending] = []
        rest: list[Pending] = []
        keys: set[str] = set()
        size = 0
        for pending in self._waiting:
            if group and (
                rest or size + pending.size_bytes > self._size_bytes_max or not keys.isdisjoint(pending.keys)
            ):
                rest.append(pending)
                continue
            group.append(pending)
            keys |= pending.keys
            size += pending.size_bytes
        return group, rest
