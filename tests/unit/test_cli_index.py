"""The commands that ask one index: what they print, and how they refuse."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.unit.api_calls import Calls
from tests.unit.compacted_index import DIMENSION, rows_of
from tests.unit.conftest import Run

NAME = "library/books"
ONES = json.dumps([1.0] * DIMENSION)


class TestQuery:
    def test_by_key(self, run: Run, calls: Calls) -> None:
        status, out, _ = run("query", NAME, "--key", "key-7", "-k", "3", "--json")
        answer = json.loads(out)
        assert (status, answer["distanceMetric"], len(answer["vectors"])) == (0, "cosine", 3)
        assert answer["vectors"][0] == {"key": "key-7", "distance": 0.0, "metadata": rows_of(calls)["key-7"][1]}
        assert "explain" not in answer

    def test_a_vector_comes_from_a_file_or_standard_input(
        self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        np.save(tmp_path / "q.npy", np.ones((1, DIMENSION), np.float32))
        (tmp_path / "q.json").write_text(f'{{"float32": {ONES}}}')
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(ONES.encode())))
        outs = {
            run("query", NAME, "--vector", name, "--json")
            for name in (str(tmp_path / "q.npy"), str(tmp_path / "q.json"), "-")
        }
        [(status, out, _)] = outs
        assert (status, len(json.loads(out)["vectors"])) == (0, 10)

    def test_hits_beyond_a_page_are_all_shown(self, run: Run, calls: Calls) -> None:
        hits = json.loads(run("query", NAME, "--key", "key-7", "-k", "100000", "--json")[1])["vectors"]
        assert {hit["key"] for hit in hits} == set(rows_of(calls))

    def test_a_filter_and_a_recall(self, run: Run) -> None:
        asked = ("query", NAME, "--key", "key-7", "--filter", '{"version": 2}', "--recall", "1", "--explain", "--json")
        answer = json.loads(run(*asked)[1])
        assert {hit["metadata"]["version"] for hit in answer["vectors"]} == {2}
        assert (answer["explain"]["plan"], answer["explain"]["recall"]) == ("exhaustive", 1.0)

    def test_tables(self, run: Run) -> None:
        status, out, _ = run("query", NAME, "--key", "key-7", "-k", "2", "--explain")
        assert status == 0
        for words in ("cosine distance", "key-7", '{"version":0,"third":false}', "waves, requests", "from disk"):
            assert words in out
        assert "lists, for a recall of 0.98" in out

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((NAME, "--key", "absent"), "neve: no vector has the key 'absent'"),
            (("library/none", "--key", "a"), "neve: there is no index library/none"),
            ((NAME, "--vector", "/nowhere.json"), "neve: cannot read a vector from /nowhere.json: No such file"),
            ((NAME, "--vector", __file__), f"neve: there is no vector in {__file__}: neither JSON nor a .npy file"),
            ((NAME, "--key", "key-7", "--filter", "[]"), "neve: Invalid filter"),
        ],
    )
    def test_refusals(self, run: Run, arguments: tuple[str, ...], message: str) -> None:
        status, out, err = run("query", *arguments)
        assert (status, out) == (1, "")
        assert err.startswith(message)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("library", "--key", "a"), "'library' is not BUCKET/INDEX"),
            ((NAME,), "one of the arguments --vector --key is required"),
            ((NAME, "--key", "key-7", "--filter", "{"), "'{' is not JSON"),
            ((NAME, "--key", "a", "-k", "0"), "'0' is not a number from 1 to 100000"),
            ((NAME, "--key", "a", "-k", "x"), "'x' is not a number from 1 to 100000"),
            ((NAME, "--key", "a", "--recall", "1.1"), "'1.1' is not a number from 1e-06 to 1"),
            ((NAME, "--key", "a", "--disk-size", "1GB"), "'1GB' is not a size such as 512MiB or 2GiB"),
        ],
    )
    def test_misuse(self, run: Run, arguments: tuple[str, ...], message: str) -> None:
        status, _, err = run("query", *arguments)
        assert status == 2
        assert message in err


class TestConfigure:
    def test_settings_are_shown_changed_and_reset(self, run: Run) -> None:
        assert json.loads(run("configure", NAME, "--json")[1]) == {"settings": {"recall": 0.98, "compact": 1}}
        changed = json.loads(run("configure", NAME, "recall=0.95", "compact=0", "--json")[1])
        assert changed == {"settings": {"recall": 0.95, "compact": 0}}
        assert "recall=0.95, compact=0" in run("inspect", NAME)[1]
        reset = json.loads(run("configure", NAME, "recall=", "compact=", "--json")[1])
        assert reset == {"settings": {"recall": 0.98, "compact": 1}}
        status, out, _ = run("configure", NAME)
        assert status == 0
        assert "a number from 0.5 to 0.999" in out

    def test_refusals(self, run: Run) -> None:
        assert run("configure", NAME, "recall=1") == (1, "", "neve: recall must be a number from 0.5 to 0.999\n")
        assert run("configure", NAME, "colour=1")[2] == "neve: Unknown setting 'colour': known are recall, compact\n"
        for text in ("recall", "=1", "recall=high"):
            status, _, err = run("configure", NAME, text)
            assert status == 2
            assert f"{text!r} is not NAME=NUMBER (or NAME= for the default)" in err


class TestRecall:
    def test_json(self, run: Run) -> None:
        asked = ("recall", NAME, "--k", "5", "--queries", "20", "--recall", "0.9", "--seed", "3", "--json")
        status, out, _ = run(*asked)
        answer = json.loads(out)
        assert (status, answer["topK"], answer["queries"], answer["target"]) == (0, 5, 20, 0.9)
        assert run(*asked)[1] == out

    def test_table(self, run: Run) -> None:
        status, out, _ = run("recall", NAME, "--queries", "10")
        assert status == 0
        for words in (f"Recall@10 of {NAME}, target 0.98", "perturbed", "mean with 95 % confidence: "):
            assert words in out


class TestWarm:
    def test_a_disk_is_filled_once_for_all_processes(self, run: Run, tmp_path: Path) -> None:
        disk = ("--disk", str(tmp_path))
        status, out, _ = run("warm", NAME, *disk, "--json")
        assert status == 0
        assert all(part["diskBytes"] == part["bytes"] > 0 for part in json.loads(out)["parts"])
        told = json.loads(run("query", NAME, "--key", "key-7", *disk, "--explain", "--json")[1])["explain"]
        assert told["disk"]["blocks"] > 0
        assert told["store"]["blocks"] == 0

    def test_a_disk_may_be_too_small(self, run: Run, tmp_path: Path) -> None:
        status, out, _ = run("warm", NAME, "--disk", str(tmp_path), "--disk-size", "40KiB")
        assert status == 0
        assert "did not fit: more would with a larger --disk-size" in out

    def test_a_disk_must_be_named(self, run: Run) -> None:
        assert run("warm", NAME) == (1, "", "neve: no disk is given: use --disk FOLDER or NEVE_DISK\n")


def test_inspect_shows_both_kinds_of_segments(run: Run) -> None:
    status, out, _ = run("inspect", NAME)
    assert status == 0
    for words in ("recall=0.98, compact=1", " bytes a vector, of which float32 32", "ivf", "lists"):
        assert words in out
    assert "books" in run("inspect", "library")[1]
