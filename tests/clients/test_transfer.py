"""`neve import` and `neve export`: what they bring in is what queries find, and what they write is the index."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import neve
from neve.cli import main
from neve.index.database import Database
from neve.runtime import SystemRuntime
from neve.store.connect import connect
from neve.transfer.snapshot import Snapshot, tally
from tests.conftest import StartNeve

ROWS, SMALL, DIMENSION = 2000, 1000, 16
"""What is more than `SMALL` becomes a segment, instead of more than 10,000."""
NAME = "media/films"
NAMES = {"vectorBucketName": "media", "indexName": "films"}
VECTORS = np.random.default_rng(4).standard_normal((ROWS, DIMENSION)).astype(np.float32)
Run = Callable[..., tuple[int, str, str]]


def films(start: int = 0, stop: int = ROWS, **columns: Any) -> pa.Table:
    numbers = range(start, stop)
    titles = [f"film {n}" for n in numbers]
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(VECTORS[start:stop].ravel()), DIMENSION)
    return pa.table({"id": numbers, "vector": vectors, "title": titles, "year": numbers} | columns)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty store, which commands take without being told."""
    url = (tmp_path / "store").as_uri()
    monkeypatch.setenv("NEVE_STORE", url)
    monkeypatch.setenv("NEVE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    for module in ("neve.cli.transfer", "neve.transfer.import_"):
        monkeypatch.setattr(f"{module}.SMALL_ROWS", SMALL)
    return url


@pytest.fixture
def run(store: str, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process; its status and what it printed."""

    def _run(*arguments: object) -> tuple[int, str, str]:
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as ended:
            status = int(str(ended.code))
        return status, *capsys.readouterr()

    return _run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    pq.write_table(films(), tmp_path / "films.parquet", row_group_size=300)
    return tmp_path / "films.parquet"


def state_of(store: str) -> Any:
    database = Database.open(connect(store), SystemRuntime())
    try:
        return tally(Snapshot.of(database, "media", "films").blocks()), database.index("media", "films").read()
    finally:
        database.close()


def cells(out: str) -> dict[str, str]:
    """The table that was printed: its head, and its one row."""
    head, row = (
        [cell.strip() for cell in re.split("[┃│]", line)[1:-1]] for line in out.splitlines() if line[:1] in ("┃", "│")
    )
    return dict(zip(head, row, strict=True))


class TestImport:
    def test_an_index_out_of_nothing(self, run: Run, source: Path, store: str) -> None:
        status, out, err = run("import", NAME, source, "--create", "--metric", "euclidean", "--non-filterable", "title")
        assert (status, err) == (0, "")
        told = cells(out)
        assert (told["rows"], told["rejected"]) == ("2,000", "0")
        assert int(told["lists"]) > 10
        with neve.client(store=store) as client:
            found = client.get_index(**NAMES)["index"]
            assert (found["dimension"], found["distanceMetric"]) == (DIMENSION, "euclidean")
            assert found["metadataConfiguration"] == {"nonFilterableMetadataKeys": ["title"]}
            hits = client.query_vectors(
                **NAMES, queryVector={"float32": VECTORS[77]}, topK=1, returnMetadata=True, returnDistance=True
            )["vectors"]
            assert hits == [{"key": "77", "distance": 0.0, "metadata": {"title": "film 77", "year": 77}}]
        assert run("verify", NAME)[0] == 0
        assert not list((source.parent / "cache" / "compact").glob("*/")), "no workspace stays"

    def test_again_replaces_and_few_rows_are_a_write(self, run: Run, tmp_path: Path, source: Path, store: str) -> None:
        run("import", NAME, source, "--create")
        pq.write_table(films(0, 50, title=["new"] * 50), tmp_path / "few.parquet")
        told = cells(run("import", NAME, tmp_path / "few.parquet")[1])
        assert (told["rows"], "lists" in told) == ("50", False)
        told = cells(run("import", NAME, source)[1])
        assert told["rows"] == "2,000"
        assert state_of(store)[0].rows == ROWS
        with neve.client(store=store) as client:
            [found] = client.get_vectors(**NAMES, keys=["3"], returnMetadata=True)["vectors"]
            assert found["metadata"] == {"title": "film 3", "year": 3}

    def test_rejects(self, run: Run, tmp_path: Path, store: str) -> None:
        table = films().to_pylist()[:1_900]
        table[5]["vector"] = [0.0] * DIMENSION
        table[1_500]["id"] = None
        table[1_600]["title"] = "x" * 3000
        schema = films().schema
        pq.write_table(pa.Table.from_pylist(table, schema), tmp_path / "a.parquet")
        run("import", NAME, tmp_path / "a.parquet", "--create", "--rejects", tmp_path / "out.jsonl")
        status, out, err = run("import", NAME, tmp_path / "a.parquet", "--rejects", tmp_path / "out.jsonl")
        assert status == 1
        assert (cells(out)["rows"], cells(out)["rejected"]) == ("1,897", "3")
        assert "neve: rejected 1: cosine distance does not support vectors with zero norm\n" in err
        found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
        assert [(one["row"], one["key"]) for one in found] == [(5, "5"), (1_500, None), (1_600, "1600")]
        assert {one["url"] for one in found} == {str(tmp_path / "a.parquet")}
        assert run("import", NAME, tmp_path / "a.parquet", "--max-rejects", 3)[0] == 0
        status, _, err = run("import", NAME, tmp_path / "a.parquet", "--max-rejects", 2)
        assert (status, err.splitlines()[-1]) == (1, "neve: --rejects FILE says which rows")
        assert run("import", NAME, tmp_path / "a.parquet", "--limits", "wide", "--max-rejects", 2)[0] == 0
        assert state_of(store)[0].rows == 1_898

    def test_a_mapping_that_fits_no_row_begins_nothing(
        self, run: Run, tmp_path: Path, source: Path, store: str
    ) -> None:
        run("import", NAME, source, "--create", "--dimension", 9)
        status, _, err = run("import", NAME, source)
        assert status == 1
        assert err.startswith("neve: none of the first 2,000 rows can be imported: vector must have length 9, but has")
        assert state_of(store)[1].imports == ()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--key", "ID"], "has no column 'ID'; there are: id (int64), vector (fixed_size_list<"),
            (["--vector", "year"], "column 'year' of type int64 holds no vectors"),
            (["--metadata", "title,none"], "has no column 'none'"),
            (["--rows", "a.txt"], "keys and metadata from another file go with one .npy or .fvecs file"),
        ],
    )
    def test_one_line_of_error(self, arguments: list[str], message: str, run: Run, source: Path, store: str) -> None:
        run("import", NAME, source, "--create")
        status, out, err = run("import", NAME, source, *arguments)
        assert (status, out, err.count("\n")) == (1, "", 1)
        assert err.startswith("neve: ")
        assert message in err

    def test_what_is_missing(self, run: Run, tmp_path: Path, source: Path) -> None:
        assert run("import", NAME, source)[2] == f"neve: there is no index {NAME}\n"
        assert run("import", NAME, tmp_path / "a.parquet")[2] == f"neve: there is no {tmp_path / 'a.parquet'}\n"
        assert run("import", NAME)[2] == "neve: nothing to import: name a SOURCE\n"
        assert run("import", "media", source)[0] == 2
        (tmp_path / "a.jsonl").write_text("")
        assert run("import", NAME, tmp_path / "a.jsonl", "--create")[2].startswith("neve: the source has no vector to")


PROGRAM = """
import resource, signal, sys
sys.modules.update({missing})
import neve.transfer.import_ as runner
runner.SMALL_ROWS = {small}
from neve.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({file_bytes}, resource.RLIM_INFINITY))
sys.exit(main(sys.argv[1:]))
"""


class TestProcesses:
    """What only a process of its own can show."""

    def command(self, *arguments: object, missing: str | None = None, file_bytes: int = 1 << 40) -> Any:
        modules = {} if missing is None else {missing: None}
        program = PROGRAM.format(missing=modules, small=SMALL, file_bytes=file_bytes)
        return subprocess.run(
            [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, timeout=300
        )

    @pytest.mark.parametrize("module", ["pyarrow", "fsspec"])
    def test_a_missing_extra(self, module: str, store: str, source: Path) -> None:
        done = self.command("import", NAME, source, missing=module)
        assert (done.returncode, done.stderr) == (1, f"neve: this command needs {module}: install neve[all]\n")

    def test_a_missing_sdk(self, store: str) -> None:
        done = self.command("import", NAME, "s3vectors://media/films", missing="boto3")
        assert (done.returncode, done.stderr) == (1, "neve: this command needs boto3: install neve[all]\n")

    def test_a_full_disk(self, run: Run, store: str, source: Path, tmp_path: Path) -> None:
        pq.write_table(films(0, 5), tmp_path / "few.parquet")
        run("import", NAME, tmp_path / "few.parquet", "--create")
        done = self.command("import", NAME, source, file_bytes=60_000)
        assert (done.returncode, done.stderr) == (1, "neve: [Errno 27] File too large\n")
        assert state_of(store)[0].rows == 5
        assert cells(run("import", NAME, source)[1])["rows"] == "2,000"
        assert state_of(store)[0].rows == ROWS
        done = self.command("export", NAME, tmp_path / "out", file_bytes=60_000)
        assert (done.returncode, done.stderr) == (
            1,
            f"neve: cannot write {tmp_path / 'out'}: [Errno 27] File too large\n",
        )
        assert not list((tmp_path / "out").glob("*"))

    def test_processes_share_the_work(self, store: str, source: Path) -> None:
        done = self.command("import", NAME, source, "--create", "--workers", 2, "--memory", "64MiB")
        assert done.returncode == 0, done.stderr
        assert cells(done.stdout)["rows"] == "2,000"


def test_an_open_import_is_named_and_can_be_abandoned(
    run: Run, source: Path, tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    run("import", NAME, source, "--create", "--dimension", DIMENSION, "--metadata", "none")
    with monkeypatch.context() as patch:
        patch.setattr("neve.transfer.import_.build", killed)
        assert run("import", NAME, source)[0] == 130
    pq.write_table(films(stop=1_900), tmp_path / "other.parquet")
    status, _, err = run("import", NAME, tmp_path / "other.parquet")
    assert (status, err) == (
        1,
        f"neve: an import of another source into {NAME} is open: run that one again, or end it by "
        f"`neve import --abandon {NAME}`\n",
    )
    assert run("import", "--abandon", NAME) == (0, "abandoned the import that was open\n", "")
    assert run("import", "--abandon", NAME) == (0, "no import was open\n", "")
    assert run("import", NAME, tmp_path / "other.parquet")[0] == 0


class TestExport:
    def test_round_trips(self, run: Run, tmp_path: Path, source: Path, store: str) -> None:
        run("import", NAME, source, "--create")
        digest = f"{state_of(store)[0].digest:016x}"
        targets = {"out": (), "one.parquet": ("--columns",), "db": ("--table", "films"), "a.lance": ()}
        for target, options in targets.items():
            status, out, err = run("export", NAME, tmp_path / target, *options)
            assert (status, err, cells(out)["digest"]) == (0, "", digest)
        assert duckdb.sql(f"select count(*), max(year) from '{tmp_path}/one.parquet'").fetchall() == [(ROWS, ROWS - 1)]
        assert lancedb.connect(str(tmp_path / "db")).open_table("films").count_rows() == ROWS
        for place in targets:
            name = f"media/from-{place.partition('.')[0]}"
            assert run("import", name, tmp_path / place, "--create")[0] == 0
            out = run("export", name, tmp_path / f"back-{place.partition('.')[0]}")[1]
            assert cells(out)["digest"] == digest

    def test_refusals(self, run: Run, tmp_path: Path, source: Path) -> None:
        assert run("export", NAME, tmp_path / "out")[2] == f"neve: there is no index {NAME}\n"
        run("import", NAME, source, "--create")
        status, _, err = run("export", NAME, tmp_path)
        assert (status, err) == (1, f"neve: {tmp_path} is there already: name another target, or delete it first\n")


def test_from_endpoint_to_endpoint(run: Run, source: Path, start_neve: StartNeve, tmp_path: Path, store: str) -> None:
    server = start_neve((tmp_path / "theirs").as_uri())
    run("import", NAME, source, "--create")
    url = f"s3vectors://media/films?endpoint={server.url}&region=us-east-1"
    told = cells(run("export", NAME, url, "--create")[1])
    assert (told["rows"], told["sent"], told["others there"]) == ("2,000", "2,000", "0")
    assert cells(run("export", NAME, url)[1])["there already"] == "2,000"
    told = cells(run("import", "media/back", url, "--create")[1])
    assert (told["rows"], told["rejected"]) == ("2,000", "0")
    digests = {cells(run("export", name, tmp_path / name[6:])[1])["digest"] for name in (NAME, "media/back")}
    assert digests == {f"{state_of(store)[0].digest:016x}"}
