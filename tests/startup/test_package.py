"""The zip of the query function: its size, and that it runs with nothing else than the runtime interface client."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

import pytest
from scripts import package

from tests.servers.function import ALONE, answer_of, client_alone, function, url_event
from tests.servers.tools import Unavailable, program

BUCKET = {"vectorBucketName": "shelf"}
INDEX = {**BUCKET, "indexName": "books"}
CREATED = {**INDEX, "dataType": "float32", "dimension": 2, "distanceMetric": "euclidean"}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The content of the zip, as a function finds it."""
    try:
        program(os.environ.get("UV", "uv"), "which installs the packages")
    except Unavailable as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("package")
    staged, target, unpacked = (folder / name for name in ("staged", "query.zip", "unpacked"))
    package.stage(staged, f"{sys.version_info.major}.{sys.version_info.minor}", "x86_64")
    package.pack(staged, target)
    size_bytes, zipped_bytes = package.check(staged, target)
    assert size_bytes < 200 << 20
    assert zipped_bytes < 70 << 20
    with zipfile.ZipFile(target) as file:
        file.extractall(unpacked)
    return unpacked


def test_the_handlers_run_from_the_package_alone(unpacked: Path, tmp_path: Path) -> None:
    for name in ("client", "store"):
        (tmp_path / name).mkdir()
    settings = {"NEVE_STORE": (tmp_path / "store").as_uri()}
    where = {"options": ALONE, "path": (unpacked, client_alone(tmp_path / "client"))}
    with function("api", settings, **where) as api:
        vector = {"key": "a", "data": {"float32": [1, 0]}, "metadata": {"year": 1979}}
        put = {**INDEX, "vectors": [vector]}
        for operation, members in (("CreateVectorBucket", BUCKET), ("CreateIndex", CREATED), ("PutVectors", put)):
            assert answer_of(api.invoke(url_event(operation, members)))[0] == 200
        asked = {**INDEX, "queryVector": {"float32": [1, 1]}, "topK": 1, "filter": {"year": {"$lt": 1980}}}
        assert api.call("QueryVectors", asked)[1]["vectors"] == [{"key": "a"}]
    with function("collect", settings, **where) as collect:
        assert set(collect.invoke({}).values()) == {0}


def test_it_holds_the_query_path_and_no_more(unpacked: Path) -> None:
    packages = {"neve", "numkong", "numpy", "obstore", "orjson", "pyroaring", "typing_extensions"}
    handlers = {path.stem for path in (package.ROOT / "lambda").glob("*.py")} - {"compact"}
    modules = {path.name.partition(".")[0].partition("-")[0] for path in unpacked.iterdir()} - {"__pycache__"}
    assert modules == packages | handlers


def test_every_module_is_compiled_and_never_again(unpacked: Path) -> None:
    """Of each there is bytecode that Python takes without a look at its source: bit 0 set, bit 1 not (PEP 552)."""
    sources = [path for path in unpacked.rglob("*.py") if path.suffix == ".py"]
    assert len(sources) > 200
    for path in sources:
        compiled = path.parent / "__pycache__" / f"{path.stem}.{sys.implementation.cache_tag}.pyc"
        assert compiled.read_bytes()[4:8] == b"\x01\0\0\0", path


def test_the_same_files_make_the_same_zip(tmp_path: Path) -> None:
    made = []
    for number in range(2):
        folder = tmp_path / f"{number}"
        (folder / "b").mkdir(parents=True)
        for name in ("b/two.py", "a.so") if number else ("a.so", "b/two.py"):
            (folder / name).write_text(name)
            os.utime(folder / name, (number, number))
        package.pack(folder, tmp_path / f"{number}.zip")
        made.append((tmp_path / f"{number}.zip").read_bytes())
    assert made[0] == made[1]


@pytest.mark.parametrize("limit", ["UNPACKED_BYTES_MAX", "ZIPPED_BYTES_MAX"])
def test_a_package_that_is_too_large_is_refused(limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(bytes(10))
    package.pack(tmp_path / "folder", tmp_path / "zip")
    monkeypatch.setattr(package, limit, 9)
    with pytest.raises(package.TooLarge, match="more than 9"):
        package.check(tmp_path / "folder", tmp_path / "zip")
