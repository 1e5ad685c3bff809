"""The pages of the specification and the guides say what the code does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from neve.api import limits
from neve.api.faults import ERRORS
from neve.segments.rows import hash_key

ENGINE = Path(__file__).parents[2] / "engine"
STORE = Path(__file__).parent / "v1" / "store"
WITHOUT_NEVE = "import sys; sys.modules['neve'] = None; exec(sys.stdin.read())"
"""An import of a module that is None fails."""


def page(name: str) -> str:
    return (ENGINE / name).read_text()


def table(text: str, heading: str) -> list[list[str]]:
    """Cells of the rows of the first table after a heading."""
    lines = text[text.index(heading) :].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("|")]
    return rows[2:]


def programs() -> list[str]:
    """The reader on the format page, and how it goes on with compacted segments."""
    found = re.findall(r"```python\n(.*?)```", page("spec/format.md"), re.DOTALL)
    assert len(found) == 2
    return found


def run_without_neve(program: str, *arguments: object) -> list[str]:
    command = [sys.executable, "-I", "-c", WITHOUT_NEVE, *map(str, arguments)]
    return subprocess.run(command, input=program, capture_output=True, text=True, check=True).stdout.splitlines()


def test_the_reader_of_the_format_page_reads_a_store_without_neve() -> None:
    program, _ = programs()
    assert len([line for line in program.splitlines() if line.strip()]) <= 20
    index = max((STORE / "data").iterdir(), key=lambda folder: len(list(folder.glob("log/*"))))
    lines = run_without_neve(program, index)
    assert lines[0] == "manifest 3: 413 rows up to entry 13"
    assert [re.sub(r" \{.*", "", line).strip() for line in lines[1:]] == [
        "entry 14: write",
        "entry 15: write",
        "entry 16: configure",
        "entry 17: empty",
        "entry 18: write",
    ]
    assert lines[-1] == "entry 18: write {'key-021': [-0.6875, 1.9375, -3.3125, -0.6875]}"


def test_it_goes_on_with_the_rows_of_compacted_segments() -> None:
    (index,) = {path.parents[2] for path in (STORE / "data").glob("*/segments/*/directory")}
    rows = orjson.loads((STORE.parent / "expected.json").read_bytes())["indexes"]["stones"]["rows"]
    keys = ["key-012", "key-150", "key-299"]  # only in the oldest; in all but the newest; in the two oldest
    lines = run_without_neve("".join(programs()), index, *keys, "nobody")
    found = [re.fullmatch(r"segment \S+, row \d+: (\{.*\}) \[(.*)\]", line) for line in _joined(lines)]
    shown = [(orjson.loads(match[1]), [*map(float, match[2].split())]) for match in found if match]
    last = {record["key"]: [vector, record["metadata"]] for record, vector in shown}
    assert last == {key: rows[key] for key in keys}
    assert len(shown) > len(keys), "a masked row is there, and is none of the index's"


def _joined(lines: list[str]) -> list[str]:
    """What NumPy has broken within brackets, as one line again."""
    return re.sub(r"\n\s+", " ", "\n".join(lines)).splitlines()


def test_hashes_on_the_format_page() -> None:
    for key, digits in re.findall(r"`([^`]+)` →\s+`([0-9a-f]{16})`", page("spec/format.md")):
        assert f"{hash_key(key.encode()):016x}" == digits
    assert len(re.findall(r"→\s+`[0-9a-f]{16}`", page("spec/format.md"))) == 2


def test_the_limits_page_is_the_table_of_the_code() -> None:
    stated = [line for line in (limits.__doc__ or "").splitlines() if line.startswith("|")]
    shown = [line for line in page("docs/limits.md").splitlines() if line.startswith("|")]
    assert shown[: len(stated)] == stated


def test_the_table_of_the_code_is_the_profiles() -> None:
    numbers = {name: [text(value) for value in profile(name)] for name in limits.LIMITS}
    rows = table(limits.__doc__ or "", "| limit")
    for row, aws, wide in zip(rows, numbers["aws"], numbers["wide"], strict=True):
        assert row[1:] == [aws, wide], row


def profile(name: str) -> list[int]:
    """The numbers of a profile that the table shows: all but the default page, in the order of its rows."""
    one = limits.LIMITS[name]
    return [
        one.dimension,
        one.put_vectors,
        one.delete_keys,
        one.get_keys,
        one.top_k,
        one.query_page,
        one.list_page,
        one.list_page_bytes,
        one.filter_constraints,
        one.metadata_keys,
        one.metadata_bytes,
        one.filterable_bytes,
        one.non_filterable_keys,
        one.tags,
        one.body_bytes,
        one.buckets,
        one.indexes_per_bucket,
        one.vectors_per_index,
    ]


def text(value: int) -> str:
    """A number as the table writes it."""
    for unit, size in (("billion", 10**9), ("MiB", 2**20), ("KiB", 2**16)):
        if value % size == 0:
            return f"{value // size if unit != 'KiB' else value // 2**10} {unit}"
    return f"{value:,}"


def test_the_errors_page_is_the_table_of_the_code() -> None:
    rows = {row[0]: row[1:4] for row in table(page("docs/errors.md"), "| Exception")}
    expected = {
        f"`{kind.__name__}`": [f"`{answer.code}`", str(answer.status), answer.message or "its own"]
        for kind, answer in ERRORS.items()
    }
    assert rows == expected


@pytest.mark.parametrize("name", sorted(path.relative_to(ENGINE).as_posix() for path in ENGINE.glob("*/**/*.md")))
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page(name)):
        if "://" not in target:
            assert (ENGINE / name).parent.joinpath(target).exists(), f"{name}: {target}"
