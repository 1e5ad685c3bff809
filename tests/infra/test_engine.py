"""The Docker engine that tests start: what is told where it cannot be had."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.servers import engine
from tests.servers.tools import Unavailable


def test_a_machine_without_an_engine_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(Unavailable, match=r"no docker, .* \(apt-get install docker\.io docker-compose mmdebstrap\)"):
        engine.installed()
    for name in engine.PROGRAMS:
        (tmp_path / name).touch(0o755)
    engine.installed()


def test_only_root_can_start_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Unavailable, match="not root"):
        engine.installed()
