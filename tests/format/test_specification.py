"""The pages of the specification and the guides say what the code does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

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


def test_the_reader_of_the_format_page_reads_a_store_without_neve() -> None:
    [program] = re.findall(r"```python\n(.*?)```", page("spec/format.md"), re.DOTALL)
    assert len([line for line in program.splitlines() if line.strip()]) <= 20
    index = max((STORE / "data").iterdir(), key=lambda folder: len(list(folder.glob("log/*"))))
    ran = subprocess.run(
        [sys.executable, "-I", "-c", WITHOUT_NEVE, index], input=program, capture_output=True, text=True, check=True
    )
    lines = ran.stdout.splitlines()
    assert lines[0] == "manifest 3: 413 rows up to entry 13"
    assert [re.sub(r" \{.*", "", line).strip() for line in lines[1:]] == [
        "entry 14: write",
        "entry 15: write",
        "entry 16: configure",
        "entry 17: empty",
        "entry 18: write",
    ]
    assert lines[-1] == "entry 18: write {'key-021': [-0.6875, 1.9375, -3.3125, -0.6875]}"


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
