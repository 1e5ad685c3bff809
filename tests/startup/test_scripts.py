"""The scripts do what they say, and leave nothing behind."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from pathlib import Path

import pytest
from minio import Minio

from tests.servers import minio as minio_server
from tests.servers.object_store import REGION
from tests.servers.process import ServerProcess
from tests.servers.tools import ROOT, Unavailable

SCRIPTS = ROOT / "scripts"
EXPORTS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "NEVE_STORE"}


def test_minio_prints_what_to_export_and_ends_when_asked(tmp_path: Path) -> None:
    try:
        minio_server.command(tmp_path, 1)
    except Unavailable as error:
        pytest.skip(str(error))
    script = ServerProcess([SCRIPTS / "minio"], {"TMPDIR": str(tmp_path)})
    with script:
        script.until(lambda: "until Ctrl-C" in script.output() or None)
        exported = dict(line.split("=", 1) for line in re.findall(r"^export (.*)$", script.output(), re.M))
        told = {name: shlex.split(value)[0] for name, value in exported.items()}
        assert set(told) == EXPORTS
        [address] = re.findall(r"endpoint=http://([^&]+)", told["NEVE_STORE"])
        keys = told["AWS_ACCESS_KEY_ID"], told["AWS_SECRET_ACCESS_KEY"]
        client = Minio(address, *keys, secure=False, region=REGION)
        client.fput_object("neve", "prefix/object", __file__)
        assert [found.object_name for found in client.list_objects("neve", recursive=True)] == ["prefix/object"]
        assert keys[1] not in arguments_of_all_processes()
        os.kill(script.pid, signal.SIGINT)
        assert script.wait(30) == 0
        assert address not in arguments_of_all_processes()
        assert list(tmp_path.iterdir()) == []


def arguments_of_all_processes() -> str:
    return subprocess.run(["ps", "-A", "-o", "args="], capture_output=True, text=True, check=True).stdout


def test_docker_is_handed_no_secret_in_its_arguments(tmp_path: Path) -> None:
    command = minio_server.docker_command(tmp_path, 9876)
    assert "127.0.0.1:9876:9000" in command
    assert f"{tmp_path}:/data" in command
    assert "MINIO_ROOT_PASSWORD" in command
    assert not any(argument.startswith("MINIO_ROOT_PASSWORD=") for argument in command)


def test_serve_takes_the_arguments_of_neve_serve(tmp_path: Path) -> None:
    done = subprocess.run([SCRIPTS / "serve", "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--store" in done.stdout


BASH = sorted(path for path in SCRIPTS.iterdir() if path.is_file() and "bash" in path.read_text().partition("\n")[0])


@pytest.mark.parametrize("script", BASH, ids=lambda path: path.name)
def test_scripts_parse(script: Path) -> None:
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)
