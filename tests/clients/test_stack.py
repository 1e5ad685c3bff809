"""./scripts/stack: what it prints is all that a client needs; compaction runs beside it; it ends, and begins, whole."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.clients.stack_life import client_of, explained_query, fill, until_compacted
from tests.clients.test_walkthrough import or_not_run
from tests.servers.process import ServerProcess
from tests.servers.tools import ROOT, go_binary

EXPORTS = {"AWS_ENDPOINT_URL_S3VECTORS", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"}


@contextmanager
def stack(data: Path) -> Iterator[tuple[ServerProcess, dict[str, str]]]:
    """The script on a folder, ready, and what it has told to export; ended by a Ctrl-C."""
    script = ServerProcess([ROOT / "scripts" / "stack", "--data", data, "--port", "0"], {})
    with script:
        script.until(lambda: "Collected" in script.output() or None)
        lines = re.findall(r"^export ([^=]*)=(.*)$", script.output(), re.M)
        yield script, {name: shlex.split(value)[0] for name, value in lines}
        os.kill(script.pid, signal.SIGINT)
        assert script.wait(60) == 0
    processes = subprocess.run(["ps", "-A", "-o", "args="], capture_output=True, text=True, check=True).stdout
    assert str(data) not in processes  # MinIO, the server and its cache all name it


def test_a_stack_answers_compacts_and_keeps_what_it_was_given(tmp_path: Path) -> None:
    or_not_run(lambda: go_binary("minio"))
    with stack(tmp_path / "data") as (_, exported):
        assert set(exported) == EXPORTS
        client = client_of(exported)
        fill(client)
        until_compacted(client)
        client.close()
    with stack(tmp_path / "data") as (_, again):
        client = client_of(again)
        assert explained_query(client, 32_999)["listsTotal"] > 0
        client.close()
