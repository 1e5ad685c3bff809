"""Real servers, data, and the account of what was not run: shared by all suites."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.servers.engine import Engine, engine
from tests.servers.neve import NeveServer
from tests.servers.object_store import Credentials, ObjectStore
from tests.servers.process import free_port
from tests.servers.tools import ROOT, Unavailable, go_binary

DATA = Path(os.environ.get("NEVE_DATA") or ROOT.parent / "shared" / "data")
SAMPLE = ROOT / "tests" / "data"

# One pair of keys for every server of a session, found by any client; nothing of the machine's own settings.
USER = Credentials.random()
for _name in [name for name in os.environ if name.startswith(("AWS_", "NEVE_"))]:
    if _name not in ("NEVE_DATA", "NEVE_CACHE", "NEVE_NOT_RUN"):
        del os.environ[_name]
os.environ.update(USER.environment())

StartNeve = Callable[..., NeveServer]


def pytest_addoption(parser: pytest.Parser) -> None:
    forms = {"choices": ("processes", "docker"), "default": "processes"}
    parser.addoption("--stack", **forms, help="MinIO and neve as processes (default), or as containers")


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[Engine]:
    """A Docker engine of our own; images are built by `docker_engine.image(NAME)`."""
    with ExitStack() as stack:
        try:
            running = stack.enter_context(engine())
        except Unavailable as error:
            pytest.skip(f"no Docker engine: {error}")
        yield running


@pytest.fixture(scope="session")
def in_docker(request: pytest.FixtureRequest) -> Engine | None:
    """The engine that MinIO and neve are to run in; None for processes."""
    return request.getfixturevalue("docker_engine") if request.config.getoption("stack") == "docker" else None


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data: the big sets where they are, else the sample in the repository."""
    return DATA if DATA.is_dir() else SAMPLE


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory, in_docker: Engine | None) -> Iterator[ObjectStore]:
    """A real MinIO; `minio.fresh_url()` is the URL of an empty store on it. The credentials are in the environment."""
    from tests.servers.minio import BUCKET, binary_command, minio

    if in_docker is not None:
        from tests.servers import containers

        with containers.minio(in_docker, USER, BUCKET) as store:
            yield store
        return
    port, data = free_port(), tmp_path_factory.mktemp("minio")
    with minio(binary_command(_built("minio"), data, port), port, USER) as store:
        yield store


@pytest.fixture(scope="session")
def versitygw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A real versitygw, used like `minio`."""
    from tests.servers.versitygw import versitygw

    port, data = free_port(), tmp_path_factory.mktemp("versitygw")
    with versitygw(_built("versitygw"), data, port, USER) as store:
        yield store


@pytest.fixture(scope="session")
def neve_form(in_docker: Engine | None) -> StartNeve:
    """What makes a server, as a process or as a container; entering its context starts it."""
    if in_docker is None:
        return NeveServer
    from tests.servers.containers import NeveContainer

    return partial(NeveContainer, in_docker, user=USER)


@pytest.fixture
def start_neve(neve_form: StartNeve) -> Iterator[StartNeve]:
    """Starts servers: `start_neve(store_url, *options, environment=…)`; they end with the test."""
    with ExitStack() as servers:
        yield lambda *options, **more: servers.enter_context(neve_form(*options, **more))


@pytest.fixture(scope="session")
def neve_server(tmp_path_factory: pytest.TempPathFactory, neve_form: StartNeve) -> Iterator[NeveServer]:
    """One server on a local folder, verifying signatures, for the whole session: each test makes its own bucket."""
    keys = {"NEVE_KEYS": f"{USER.access_key}:{USER.secret_key}:tests"}
    with neve_form(tmp_path_factory.mktemp("store").as_uri(), environment=keys) as server:
        yield server


def _built(name: str) -> Path:
    try:
        return go_binary(name)
    except Unavailable as error:
        pytest.skip(str(error))


# What was not run, and why: told in the last lines, and with CI=true a failure.


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput"):
        return  # a worker's tests are accounted for by the process that collects their reports
    lines = _not_run(session.config)
    if ledger := os.environ.get("NEVE_NOT_RUN"):
        with Path(ledger).open("a") as file:
            file.writelines(f"{line}\n" for line in lines)
    if lines and os.environ.get("CI") == "true":
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> Iterator[None]:
    yield  # everything else that is told: these are to be the last lines
    for line in _not_run(config):
        terminalreporter.write_line(line, yellow=True)


def _not_run(config: pytest.Config) -> Sequence[str]:
    """One line per reason: every skipped test, and the big data sets where they are absent."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in reporter.stats.get("skipped", []))
    lines = [f"NOT RUN: {count} tests: {reason}" for reason, count in reasons.items()]
    if not DATA.is_dir():
        lines.append(f"NOT RUN: the big data sets: none at {DATA} (set NEVE_DATA); tests took the sample instead")
    return lines
