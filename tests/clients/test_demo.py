"""The demo: ends by itself, leaves no process behind, works a second time."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.servers.tools import ROOT


def test_the_demo_runs_twice(tmp_path: Path) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    for _ in range(2):
        demo = subprocess.Popen(
            [ROOT / "scripts" / "demo"],
            env=environment,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        output, _ = demo.communicate(timeout=300)
        assert demo.returncode == 0, output
        assert "everything as it should be" in output
        assert session_members(demo.pid) == []
        assert list(tmp_path.iterdir()) == []


def session_members(session: int) -> list[str]:
    """Processes of a session, by `ps`, which every system has; but for dead ones that wait for init to look."""
    processes = subprocess.run(["ps", "-A", "-o", "sess=,stat=,pid=,args="], capture_output=True, text=True, check=True)
    found = (line.split(maxsplit=2) for line in processes.stdout.splitlines())
    return [rest for owner, status, rest in found if owner == str(session) and not status.startswith("Z")]
