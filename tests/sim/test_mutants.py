"""Every mutant of the protocol is caught, by what leaves the real protocol unharmed."""

from __future__ import annotations

import pytest

from tests.sim import directed, directed_imports
from tests.sim.mutants import MUTANTS, Mutant

SCENARIOS = (
    directed.writer_asleep_within_its_wave,
    directed.writer_beside_a_collector_with_a_fast_clock,
    directed.reader_arriving_during_a_wave,
    directed.collector_asleep_beside_another,
    directed.read_back_with_a_flipped_version_digit,
    directed.old_work_on_a_new_manifest,
    directed.index_dropped_and_made_again_under_a_writer,
    directed.index_forgotten_by_all_but_a_writer,
    directed.token_of_collected_entries,
    directed.ghost_of_a_folded_entry,
    directed.index_made_while_collected,
    directed.compaction_of_overwritten_rows,
    directed.compaction_beside_another,
    directed.inputs_folded_away_under_a_compaction,
    directed.tombstone_of_a_compacted_row,
    directed.tombstone_older_than_a_compacted_row,
    directed.compaction_asleep_before_its_commit,
    directed.hint_with_anothers_directories,
    directed_imports.import_over_older_rows,
    directed_imports.import_beside_writes,
    directed_imports.import_asleep_before_it_attaches,
    directed_imports.deletion_while_an_import_is_pending,
    directed_imports.import_that_takes_days,
    directed_imports.reader_of_an_older_manifest,
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_the_mutant_is_caught(mutant: Mutant) -> None:
    mutant.scenario()
    with mutant.alive(), pytest.raises(AssertionError):
        mutant.scenario()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_the_protocol_survives(scenario: object) -> None:
    scenario()  # type: ignore[operator]


def test_design_names_ten_compaction_adds_seven_and_imports_six() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == 23
