"""Create-if-absent with a known outcome, over replies that may be lost and requests that may land late."""

from __future__ import annotations

from neve.errors import OutcomeUnknown, StoreError, StoreUnavailable
from neve.runtime import Instant, Runtime
from neve.store.port import Created, Exists, Failed, Get, PutNew, Reply, Store, Unknown, body

ATTEMPTS_MAX = 8
PAUSE_S = 0.05
LOST_S_MAX = 1800.0
"""Half the shortest grace period: what stands at a key later than this may have replaced ours, collected meanwhile."""


def create(store: Store, runtime: Runtime, put: PutNew) -> bytes | None:
    """Create an object: None when it is ours, else the bytes of whoever came first. 1 PUT, and 1 GET when lost."""
    sent = runtime.now()
    return settle(store, runtime, put, store.wave([put])[0], sent)


def settle(store: Store, runtime: Runtime, put: PutNew, reply: Reply, sent: Instant) -> bytes | None:
    """The outcome of a create, first `sent` then and answered with `reply`; None when ours, else the winner's bytes.

    Every body carries a unique write id, so equal bytes are ours. While the key is absent after an unknown reply, the
    first request may still be under way: the same key and bytes are tried again, never another key. Raises
    OutcomeUnknown when that stays open, StoreUnavailable when the store refuses creates of a key that nobody holds.
    """
    unsettled = False
    for attempt in range(ATTEMPTS_MAX):
        match reply:
            case Created():
                return None
            case Failed(error):
                raise OutcomeUnknown(f"the create of {put.key} was not settled: {error}") if unsettled else error
            case Unknown():
                unsettled = True
            case Exists():
                pass
            case _:
                raise StoreError(f"unexpected reply to a create: {reply!r}")
        try:
            found = body(store.wave([Get(put.key)])[0])
        except StoreError as error:
            raise OutcomeUnknown(f"the create of {put.key} could not be read back: {error}") from error
        if found == put.body:
            return None
        if found is not None:
            if unsettled and sent.until(runtime.now()) > LOST_S_MAX:
                break
            return found
        runtime.sleep(runtime.uniform(0.5, 1.5) * PAUSE_S * 2**attempt)
        reply = store.wave([put])[0]
    if unsettled:
        raise OutcomeUnknown(f"the create of {put.key} was not settled after {ATTEMPTS_MAX} tries")
    raise StoreUnavailable(f"the store refuses to create {put.key} though nothing is there")
