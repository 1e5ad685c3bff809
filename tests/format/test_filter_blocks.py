"""The filter index as the format page describes it, read by a program of its own, says what the records say."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
from pyroaring import BitMap

from neve.segments.directory import Directory
from neve.segments.writer import write_segment
from neve.store.envelope import unseal
from tests.unit.filter_segment import as_json, small_blocks
from tests.unit.small_segment import SmallSource

Terms = dict[bytes, list[int]]
FIXTURE = Path(__file__).parent / "v1-filters" / "store" / "data"


def read_terms(folder: Path) -> Terms:
    """Rows by term, by §9.8."""
    envelope = unseal("directory", (folder / "directory").read_bytes())
    tables, raw = envelope.sections, (folder / str(envelope.fields["filters"])).read_bytes()
    assert len(raw) == tables["filter_starts"][-1]
    terms: Terms = defaultdict(list)
    for number, crc in enumerate(tables["filter_crcs"].tolist()):
        start, stop = tables["filter_starts"][number : number + 2].tolist()
        assert zlib.crc32(raw[start:stop]) == crc
        found = block_terms(zlib.decompress(raw[start:stop]))
        check_block(tables, number, found, terms)
        for term, rows in found:
            assert not terms[term] or terms[term][-1] < rows[0]
            terms[term] += rows
    return terms


def block_terms(body: bytes) -> list[tuple[bytes, list[int]]]:
    count, postings, prefix, form = struct.unpack("<IIII", body[:16])
    sizes, texts = (struct.unpack_from(f"<{count}I", body, 16 + 4 * count * place) for place in (0, 1))
    at = 16 + 8 * count + prefix
    begins, names = body[at - prefix : at], []
    for size in texts:
        names.append(begins + body[at : at + size])
        at += size
    if form == 1:
        assert count == 1
        rows = list(BitMap.deserialize(body[at:]))
    else:
        planes = [body[at + postings * place : at + postings * (place + 1)] for place in range(4)]
        rows, last = [], 0
        for step in zip(*planes, strict=True):
            last = (last + int.from_bytes(bytes(step), "little")) % 2**32
            rows.append(last)
    assert len(rows) == postings == sum(sizes)
    ends = np.cumsum([0, *sizes]).tolist()
    return [(name, rows[ends[place] : ends[place + 1]]) for place, name in enumerate(names)]


def check_block(tables: Any, number: int, found: list[tuple[bytes, list[int]]], before: Terms) -> None:
    """What the directory says of a block."""
    ends = tables["filter_ends"].tolist()
    head = tables["filter_texts"][ends[number] : ends[number + 1]].tobytes()
    first = found[0][0]
    assert head <= first
    assert all(term < head or term == head == first for term in before)
    assert tables["filter_postings"][number] == sum(len(rows) for _, rows in found)
    assert bool(tables["filter_flags"][number] & 4) == (len(found) == 1)
    assert len(found) > 1 or head == first


def expected_terms(records: list[dict[str, Any]], ignored: tuple[str, ...] = ()) -> Terms:
    """Rows by term, as the table of §9.8 has it."""
    terms: Terms = defaultdict(list)
    for row, record in enumerate(records):
        found = set()
        for key, value in record["metadata"].items():
            if key in ignored:
                continue
            base = key.encode().replace(b"\0", b"\0\xff") + b"\0\0"
            found.add(base + b"\0")
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, bool):
                    found |= {base + b"\0\1", base + b"\1" + bytes([one])}
                elif isinstance(one, int | float):
                    found |= {base + b"\0\2", base + b"\2" + ordered(float(one))}
                elif isinstance(one, str):
                    raw = one.encode()
                    long = b"\4" + raw[:48] + hashlib.blake2b(raw, digest_size=16).digest()
                    found |= {base + b"\0\3", base + (b"\3" + raw if len(raw) <= 64 else long)}
        for term in found:
            terms[term].append(row)
    return terms


def ordered(number: float) -> bytes:
    bits = int.from_bytes(struct.pack(">d", 0.0 if number == 0 else number), "big")
    return (bits ^ (2**64 - 1 if bits >= 2**63 else 2**63)).to_bytes(8, "big")


def records_of(folder: Path) -> list[dict[str, Any]]:
    return [orjson.loads(record) for record in pq.read_table(folder / "rows.parquet")["record"].to_pylist()]


@pytest.mark.parametrize("place", range(3))
def test_of_the_fixture(place: int) -> None:
    folder = sorted(FIXTURE.glob("*/segments/*/directory"))[place].parent
    terms = read_terms(folder)
    assert terms == expected_terms(records_of(folder))
    assert list(terms) == sorted(terms)
    assert (len(terms) > 10) == (place < 2)


@pytest.mark.parametrize("small", [True, False])
def test_of_a_segment_with_everything(tmp_path: Path, small: bool) -> None:
    source = SmallSource(400, 4)
    kinds: tuple[object, ...] = (
        True,
        False,
        0,
        -0.0,
        -1.5,
        10**30,
        "",
        "x" * 64,
        "x" * 65,
        "é" * 40,
        ["a", "b"],
        [3, 4],
    )
    source.metadata = [
        as_json({"k": kinds[row % len(kinds)], "n\0": row, "same": "x", "text": "t" * row, "some": [row, row % 5]})
        for row in range(400)
    ]
    source.non_filterable = ("text",)
    folder = tmp_path / "s"
    folder.mkdir()
    if small:
        with small_blocks():
            directory = write_segment(folder, "s", source)
    else:
        directory = write_segment(folder, "s", source)
    terms = read_terms(folder)
    assert terms == expected_terms(records_of(folder), ("text",))
    assert list(terms) == sorted(terms)
    check_flags(directory, terms)


def check_flags(directory: Directory, terms: Terms) -> None:
    """Blocks of numbers of a key that has several in a row are flagged."""
    index = directory.filters
    assert index is not None
    for key in (b"k", b"n\0\xff", b"some"):
        numbers = [term for term in terms if term.startswith(key + b"\0\0\2")]
        several = sum(len(terms[term]) for term in numbers) > len(terms[key + b"\0\0\0\2"])
        assert several == (key != b"n\0\xff"), "[3, 4] is several"
        if several:
            assert all(index.flags[block] & 1 for term in numbers for block in index.between(term, term + b"\0")[1:])
