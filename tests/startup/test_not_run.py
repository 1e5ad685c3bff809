"""The account of what was not run, which CI relies on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.tools import ROOT

SUITE = """
import pytest

@pytest.mark.parametrize("number", range(3))
def test_needs_more(number):
    pytest.skip("no such tool, which draws maps")

def test_runs():
    pass
"""
LINE = "NOT RUN: 3 tests: no such tool, which draws maps"


@pytest.mark.parametrize(("processes", "ci", "status"), [("0", "false", 0), ("0", "true", 1), ("2", "true", 1)])
def test_a_skip_is_told_and_fails_ci(tmp_path: Path, processes: str, ci: str, status: int) -> None:
    done, ledger = run(tmp_path, SUITE, processes, CI=ci, NEVE_DATA=str(tmp_path))
    assert done.returncode == status, done.stdout
    assert LINE in done.stdout.splitlines()[-2:]
    assert ledger == [LINE]


def test_absent_data_is_told_and_fails_ci(tmp_path: Path) -> None:
    done, ledger = run(tmp_path, "def test_runs(): pass", "0", CI="true", NEVE_DATA=str(tmp_path / "nowhere"))
    assert done.returncode == 1
    assert len(ledger) == 1
    assert "big data sets" in ledger[0]


def test_all_run_is_no_line(tmp_path: Path) -> None:
    done, ledger = run(tmp_path, "def test_runs(): pass", "0", CI="true", NEVE_DATA=str(tmp_path))
    assert done.returncode == 0
    assert ledger == []


def run(
    folder: Path, suite: str, processes: str, **environment: str
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """The outcome of a suite under our conftest, and what it wrote for ./scripts/test to collect."""
    (folder / "test_suite.py").write_text(suite)
    (folder / "pytest.ini").write_text("[pytest]\n")
    ledger = folder / "ledger"
    ledger.touch()
    command = [sys.executable, "-m", "pytest", "-ra", "-p", "xdist.plugin", "-p", "tests.conftest", "-n", processes]
    settings = {"PYTHONPATH": str(ROOT), "NEVE_NOT_RUN": str(ledger), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=folder, env=os.environ | settings | environment, capture_output=True, text=True)
    return done, ledger.read_text().splitlines()
