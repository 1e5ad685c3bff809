"""What every operation is handed."""

from __future__ import annotations

from dataclasses import dataclass

from neve.api.address import Identity
from neve.api.limits import Limits
from neve.api.options import CallOptions
from neve.api.pages import SearchCache
from neve.api.tokens import Tokens
from neve.index.database import Database


@dataclass(frozen=True, slots=True)
class Context:
    """One call's surroundings: the database, whose it is, its limits, and what the caller asked for."""

    database: Database
    identity: Identity
    limits: Limits
    tokens: Tokens
    searches: SearchCache
    options: CallOptions
