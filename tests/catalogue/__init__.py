"""The error catalogue of the API (API notes, §7) as data: every refusal that depends on the request and the state.

A suite runs `SETUP`, then the operation of each case, and compares code, status, message and
fields; none of them may change what is stored. `BROKEN_BODIES` are the bodies that are no request at all.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.catalogue.addresses import ADDRESSES, CONFLICTS, MISSING
from tests.catalogue.bodies import BROKEN_BODIES, BrokenBody
from tests.catalogue.cases import SETUP, Case
from tests.catalogue.configuration import CONFIGURATION
from tests.catalogue.constraints import CONSTRAINTS
from tests.catalogue.queries import QUERIES
from tests.catalogue.records import RECORDS

__all__ = ["BROKEN_BODIES", "CASES", "SETUP", "BrokenBody", "Case"]

CASES: Sequence[Case] = (
    *CONSTRAINTS,
    *ADDRESSES,
    *MISSING,
    *CONFLICTS,
    *CONFIGURATION,
    *RECORDS,
    *QUERIES,
)
