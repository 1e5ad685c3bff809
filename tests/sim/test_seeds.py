"""The simulation over many seeds, and that a seed is enough to see a run again."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.servers.tools import ROOT
from tests.sim.history import Violation
from tests.sim.mutants import MUTANTS
from tests.sim.run import replay
from tests.sim.world import run

SEEDS = 200
MUTANT = "settings in the manifest"


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.sim.run", *arguments]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_two_hundred_seeds() -> None:
    done = simulate("--seeds", str(SEEDS))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{SEEDS} seeds, 0 failed" in done.stdout
    for happened in (
        "write done",
        "write OutcomeUnknown",
        "read found",
        "collect done",
        "fold done",
        "token found",
        "compact done",
        "import done",
        "import ImportOpen",
        "import ImportEnded",
    ):
        assert happened in done.stdout, f"no {happened!r} in any seed"


def test_a_seed_is_replayed_step_by_step() -> None:
    first, again = (simulate("--seed", "7", "--trace") for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert len(first.stdout.splitlines()) > 500
    assert "compact done" in first.stdout
    assert _without_moments(first.stdout) == _without_moments(again.stdout)


def _without_moments(trace: str) -> str:
    """A trace without what Lance draws and writes of its own: names of transactions, sizes of its manifests."""
    return re.sub(r"_transactions/0-\S+|put \S+/_\S+ \(\d+ bytes\)", "", trace)


def test_a_failing_seed_names_the_command_that_replays_it() -> None:
    """In a process of its own: the processes of a campaign are forked, with the mutant in them."""
    program = f"""
from tests.sim.mutants import MUTANTS
from tests.sim.run import campaign
(mutant,) = (mutant for mutant in MUTANTS if mutant.name == "{MUTANT}")
with mutant.alive():
    raise SystemExit(campaign(range(12), 1))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "FAILED; replay it with: scripts/sim --seed" in done.stdout
    assert Violation.__name__ in done.stdout


def test_a_failing_run_ends_with_its_trace(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (mutant,) = (mutant for mutant in MUTANTS if mutant.name == MUTANT)
    with mutant.alive():
        assert any(replay(seed, trace=True) for seed in range(20))
    told = capsys.readouterr().err
    assert Violation.__name__ in told
    assert " → Created" in told


def test_all_that_is_promised_is_exercised() -> None:
    """One long calm run sees every operation succeed: a simulation that refuses everything would prove nothing."""
    outcomes = run(5).outcomes
    for operation in ("write", "tag", "create", "drop", "fold", "collect", "compact", "import"):
        assert outcomes[f"{operation} done"] > 0, operation
