"""Rules of the protocol that can be broken on purpose, so that the tests can show what each is for."""

from __future__ import annotations

from enum import StrEnum


class Mutant(StrEnum):
    """One rule of the protocol, broken."""

    # The rules that design §5 names.
    AGE_BEFORE_WAVE = "age judged before the wave"
    OWN_CLOCK = "grace by own clock"
    NOT_WRITTEN = "404 read as 'not written'"
    ID_IGNORED = "write id ignored"
    MASKS_OF_PLAN = "masks of the plan"
    NO_MASKS = "compacted segments without masks"
    INPUTS_REVIVED = "inputs that a fold has merged"
    TOMBSTONES_FORGOTTEN = "tombstones of flat rows alone"
    NO_WORK_FLOOR = "no work floor"
    CATALOG_BY_NAME = "catalog deleted by name"
    GARBAGE_BY_ABSENCE = "garbage by absence"
    SETTINGS_IN_MANIFEST = "settings in the manifest"
    JOINED_LATE = "a wave joined late"
    # Rules that design §4 states besides.
    OTHER_NUMBER = "an unknown outcome tried again at another number"
    NO_MANIFEST_PROBE = "a write that does not look for the next manifest"
    NO_CATALOG_PROBE = "a query that does not look for the next catalog record"
    HOLE_BELOW = "acknowledged above a hole"
    OLD_KNOWLEDGE = "knowledge of any age"
    NOT_FOUND_AFTER_SLEEP = "a wiped uid read as NotFound after an old wave"
    NO_LOOK_AT_BUCKET = "an index created without another look at its bucket"
    NO_CLOSING = "a bucket dropped without closing it first"
    # Rules of imports.
    PENDING_COMPACTED = "a compaction committed while an import may be attached"
    PENDING_TOMBSTONES = "tombstones of attached rows alone"
    OVERTAKEN_ROWS = "an import that does not ask what was written since it began"
    UNKNOWN_ATTACH = "an attach read beside a manifest that does not know its segments"
    # Rules that this model showed to be needed.
    OTHER_ID_LOST = "another's entry at our number taken for a lost race, without a LIST"
    LAST_RECORD_COLLECTED = "a dropped name's last record collected"
    TRUSTED_DEAD_LOG = "an entry below a drop acknowledged though the catalog says dropped"
    EXISTS_BY_RECORD = "an index that exists by its catalog record alone"
