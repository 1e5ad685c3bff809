"""The examples run as they are shown, a second time too."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.clients.test_walkthrough import run
from tests.servers.neve import NeveServer
from tests.servers.tools import ROOT

EXAMPLES = ROOT / "engine" / "examples"


def test_every_example_is_run_here() -> None:
    assert {path.name for path in EXAMPLES.iterdir()} == {"in_process.py", "with_boto3.py"}


def test_in_process(tmp_path: Path) -> None:
    for _ in range(2):
        output = run(sys.executable, EXAMPLES / "in_process.py", tmp_path.as_uri())
        assert [line.split()[0] for line in output.splitlines()[-2:]] == ["alien", "solaris"]
    assert "from last time" in output


def test_with_boto3(neve_server: NeveServer) -> None:
    for _ in range(2):
        output = run(sys.executable, EXAMPLES / "with_boto3.py", neve_server.url)
        assert "keys: blue, green, orange, red" in output
        assert "'key': 'red'" in output.splitlines()[1]
        assert "'key': 'green'" in output.splitlines()[2]
