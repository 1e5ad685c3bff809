"""The commands that list, count, delete and patch: what they print, and how they refuse."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.unit.api_calls import Calls
from tests.unit.compacted_index import rows_of
from tests.unit.conftest import Run

NAME = "library/books"
OLD = '{"$and": [{"version": 1}, {"third": true}]}'


def test_list(run: Run, calls: Calls) -> None:
    rows = rows_of(calls)
    status, out, _ = run("list", NAME)
    assert status == 0
    listed = [json.loads(line) for line in out.splitlines()]
    assert [list(row) for row in listed] == [["key"]] * len(rows)
    assert {row["key"] for row in listed} == set(rows)
    out = run("list", NAME, "--prefix", "key-1", "--filter", OLD, "--metadata", "--vectors")[1]
    found = {row["key"]: row for row in map(json.loads, out.splitlines())}
    expected = {k for k, (_, m) in rows.items() if k.startswith("key-1") and m["version"] == 1 and m["third"]}
    assert set(found) == expected
    for key, row in found.items():
        assert row["metadata"] == rows[key][1]
        assert row["data"]["float32"] == rows[key][0].astype(float).tolist()


def test_count(run: Run, calls: Calls) -> None:
    rows = rows_of(calls)
    assert run("count", NAME) == (0, f"{len(rows)}\n", "")
    third = sum(metadata["third"] for key, (_, metadata) in rows.items() if key.startswith("key-2"))
    assert run("count", NAME, "--filter", '{"third": true}', "--prefix", "key-2") == (0, f"{third}\n", "")


def test_query_within_a_distance(run: Run) -> None:
    hits = json.loads(run("query", NAME, "--key", "key-7", "-k", "9", "--json")[1])["vectors"]
    within = json.loads(
        run("query", NAME, "--key", "key-7", "-k", "9", "--max-distance", repr(hits[4]["distance"]), "--json")[1]
    )
    assert within["vectors"] == hits[:5]


def test_delete_counts_unless_it_is_told_yes(run: Run, calls: Calls) -> None:
    rows = rows_of(calls)
    doomed = {key for key, (_, metadata) in rows.items() if metadata["version"] == 1 and metadata["third"]}
    assert run("delete", NAME, "--filter", OLD) == (0, f"{len(doomed)} vectors match: add --yes\n", "")
    assert set(rows_of(calls)) == set(rows)
    assert run("delete", NAME, "--filter", OLD, "--yes") == (0, f"{len(doomed)} vectors deleted\n", "")
    assert set(rows_of(calls)) == set(rows) - doomed


def test_patch(run: Run, calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = rows_of(calls)
    keys = sorted(before)[:600]
    file = tmp_path / "patches.jsonl"
    lines = [json.dumps({"key": key, "metadata": {"third": None, "n": place}}) for place, key in enumerate(keys)]
    file.write_text("\n".join([*lines[:3], "", *lines[3:]]))
    assert run("patch", NAME, str(file)) == (0, "600 patches applied\n", "")
    after = rows_of(calls)
    assert {k: after[k][1] for k in keys} == {
        k: {"version": before[k][1]["version"], "n": place} for place, k in enumerate(keys)
    }
    line = json.dumps({"key": keys[0], "metadata": {"only": "this"}}).encode()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(line)))
    assert run("patch", NAME, "-", "--replace") == (0, "1 patches applied\n", "")
    assert rows_of(calls)[keys[0]][1] == {"only": "this"}


def test_a_patch_that_is_refused_says_how_many_were_applied(run: Run, calls: Calls, tmp_path: Path) -> None:
    file = tmp_path / "patches.jsonl"
    lines = [json.dumps({"key": key, "metadata": {"x": 1}}) for key in [*sorted(rows_of(calls))[:500], "absent"]]
    file.write_text("\n".join(lines))
    message = "neve: Invalid record for key 'absent': the index has no vector with this key\n"
    status, out, err = run("patch", NAME, str(file))
    assert (status, out) == (1, "")
    assert err == "500 patches applied before this:\n" + message
    file.write_text("{]")
    assert run("patch", NAME, str(file))[2] == "0 patches applied before this:\nneve: line 1 is not JSON\n"
    assert run("patch", NAME, "/nowhere")[2] == "neve: cannot read /nowhere: No such file or directory\n"
    status, _, err = run("patch", NAME, str(file), "--limits", "none")
    assert (status, "invalid choice: 'none'" in err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("delete", NAME), 2, "the following arguments are required: --filter"),
        (("delete", NAME, "--filter", "{"), 2, "'{' is not JSON"),
        (("delete", NAME, "--filter", "{}", "--yes"), 1, "neve: Invalid filter"),
        (("count", "library/none"), 1, "neve: there is no index library/none"),
        (("list", NAME, "--filter", "[]"), 1, "neve: Invalid filter"),
        (("query", NAME, "--key", "key-7", "--max-distance", "-1"), 2, "'-1' is not a number from 0"),
        (("query", NAME, "--key", "key-7", "--max-distance", "nan"), 2, "'nan' is not a number from 0"),
    ],
)
def test_refusals(run: Run, arguments: tuple[str, ...], status: int, message: str) -> None:
    found, out, err = run(*arguments)
    assert (found, out) == (status, "")
    assert message in err
