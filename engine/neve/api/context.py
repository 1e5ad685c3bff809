"""What every operation is handed."""

from __future__ import annotations

from neve.api.address import Identity
from neve.api.limits import Limits
from neve.api.options import CallOptions
from neve.api.pages import SearchCache
from neve.api.tokens import Tokens
from neve.dataclass import dataclass
from neve.filters.expression import Condition
from neve.index.database import Database
from neve.index.state import State
from neve.query.explain import Explain
from neve.query.session import Session


@dataclass(frozen=True, slots=True)
class Context:
    """One call's surroundings: the database, what this call reads of it, whose it is, its limits, and what is asked.

    `explain` counts what the call does, whether or not anybody asks for it.
    """

    database: Database
    session: Session
    identity: Identity
    limits: Limits
    tokens: Tokens
    searches: SearchCache
    options: CallOptions
    explain: Explain

    def explain_filter(self, state: State, condition: Condition | None, found: int) -> None:
        """Enter why a filter found nothing, where it did not and that is asked for. Raises StoreError."""
        if self.options.explain and condition is not None and not found:
            from neve.query.why import why  # seldom needed

            self.explain.why = why(self.session, state, condition)
