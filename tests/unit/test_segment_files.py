"""Segments from source to bytes and back: what the directory leads to, what streams out again, and what damage does."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neve.errors import ObjectCorrupt, StoreForeign, StoreUnavailable
from neve.segments import stream, writer
from neve.segments.directory import Directory
from neve.segments.keyblocks import KeyBlock, match_rows
from neve.segments.layout import KEY_ENTRY, LOCATION, code_row, split_record
from neve.segments.rows import Keys, hash_key
from neve.segments.stream import Fetch, RowBlock, key_blocks, row_blocks, row_entries, verify_segment
from neve.segments.term_writer import Posting, TermRows
from neve.segments.writer import write_segment
from neve.store.blocks import Block
from neve.store.envelope import seal, unseal
from neve.vectors.metric import Metric
from tests.unit.small_segment import SmallSource, fetch_from

SOURCES = {
    "one row": SmallSource(1, 1),
    "a page and a row": SmallSource(65, 3, dimension=1),
    "empty lists": SmallSource(40, 60, metric=Metric.EUCLIDEAN),
    "many pages": SmallSource(2500, 40, dimension=24, block_rows=333),
    "wide": SmallSource(70, 4, dimension=4096),
}


OBJECTS = ("codes.lance/data/rows.lance", "vectors.lance/data/rows.lance", "rows.parquet", "keys", "filters")


@pytest.fixture(autouse=True, scope="module")
def small_pages() -> Iterator[None]:
    """Pages, row groups and requests so small that there are many of each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "PAGE_BYTES", 20_000)
        patch.setattr(writer, "GROUP_ROWS_MAX", 150)
        patch.setattr(stream, "RANGE_BYTES", 30_000)
        yield


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest) -> SmallSource:
    return SOURCES[request.param]


@pytest.fixture
def written(source: SmallSource, tmp_path: Path) -> tuple[Directory, Path]:
    return write(source, tmp_path)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """A segment that no test changes."""
    source = SmallSource(800, 6, block_rows=1)
    return Stored(source, *write(source, tmp_path_factory.mktemp("stored")))


@dataclass(frozen=True)
class Stored:
    source: SmallSource
    directory: Directory
    folder: Path

    @property
    def fetch(self) -> Fetch:
        return fetch_from(self.folder)


def write(source: SmallSource, folder: Path) -> tuple[Directory, Path]:
    (folder / "s1").mkdir(parents=True)
    return write_segment(folder / "s1", "s1", source), folder / "s1"


def read(block: Block, folder: Path) -> bytes:
    raw = fetch_from(folder)(block.key, block.start, block.stop)
    assert zlib.crc32(raw) == block.crc
    return raw


class TestWhatTheDirectoryLeadsTo:
    def test_lists_hold_their_codes_and_all_of_the_next_wave(
        self, source: SmallSource, written: tuple[Directory, Path]
    ) -> None:
        directory, folder = written
        for list_ in range(source.lists):
            if not len(source.members(list_)):
                assert directory.list_starts[list_] == directory.list_starts[list_ + 1]
                continue
            codes = np.frombuffer(read(directory.list_block(list_), folder), code_row(source.dimension))
            assert codes["row"].tolist() == source.members(list_).tolist()
            for name, held in (("code", source.packed), ("factor", source.factors), ("bias", source.biases)):
                assert np.array_equal(codes[name], held[codes["row"]])
            assert np.array_equal(codes["hash"], source.hashes[codes["row"]])
            for code in codes[:: max(1, len(codes) // 3)]:
                self.check_row(source, directory, folder, code)
        assert directory.list_blocks(np.array([0])) == [directory.list_block(0)]

    def test_key_blocks_lead_to_every_row(self, source: SmallSource, written: tuple[Directory, Path]) -> None:
        directory, folder = written
        for row, key in enumerate(source.keys):
            number = directory.key_block_of(hash_key(key))
            assert number is not None
            block = directory.key_block(number)
            entry = KeyBlock.decode(block.key, read(block, folder)).find(hash_key(key), key)
            assert entry is not None
            assert (entry["row"], entry["position"]) == (row, source.positions[row])
            self.check_row(source, directory, folder, entry)
        below = int(directory.key_heads[0]) - 1
        assert directory.key_block_of(below) is None

    @staticmethod
    def check_row(source: SmallSource, directory: Directory, folder: Path, place: np.void) -> None:
        row = int(place["row"])
        vector = read(directory.vector_block(row, int(place["vector_crc"])), folder)
        assert vector == source.vectors[row].tobytes()
        at, size, crc = (int(place[name]) for name in ("record_at", "record_bytes", "record_crc"))
        record = read(directory.record_block(at, size, crc), folder)
        assert split_record("rows", record) == (source.keys[row], source.metadata[row])
        assert orjson.loads(record) == {
            "key": source.keys[row].decode(),
            "metadata": orjson.loads(source.metadata[row]),
        }

    def test_objects_stand_below_the_folder(self, tmp_path: Path) -> None:
        directory, folder = write(SmallSource(10, 2), tmp_path)
        moved = Directory.decode("d", (folder / "directory").read_bytes(), "data/u/segments/s1/")
        assert moved.list_block(1).key == "data/u/segments/s1/codes.lance/data/rows.lance"
        assert moved.key_block(0) == replace(directory.key_block(0), key="data/u/segments/s1/keys")
        assert moved.vector_block(3, 7).key == "data/u/segments/s1/vectors.lance/data/rows.lance"
        assert moved.record_block(5, 6, 7) == Block("data/u/segments/s1/rows.parquet", 5, 11, 7)

    def test_size_is_that_of_all_objects(self, tmp_path: Path) -> None:
        directory, folder = write(SmallSource(500, 5), tmp_path)
        assert directory.size_bytes == sum((folder / name).stat().st_size for name in OBJECTS)

    def test_the_same_source_gives_the_same_bytes(self, tmp_path: Path) -> None:
        first, second = (write(SmallSource(700, 9), tmp_path / name)[1] for name in ("a", "b"))
        for name in ("directory", *OBJECTS):
            assert (first / name).read_bytes() == (second / name).read_bytes(), name
        assert [path.name for path in first.parent.iterdir()] == ["s1"]


class TestStream:
    def test_all_rows_come_back_in_row_order(self, source: SmallSource, written: tuple[Directory, Path]) -> None:
        directory, folder = written
        fetch = fetch_from(folder)
        blocks = list(row_blocks(directory, fetch, row_entries(directory, fetch)))
        self.check(source, blocks, 0, source.rows)
        assert all(block.vectors.nbytes <= max(30_000, 4 * source.dimension) for block in blocks)

    @settings(deadline=None, max_examples=20)
    @given(st.integers(0, 800), st.integers(0, 800))
    def test_any_run_of_rows_comes_back(self, stored: Stored, start: int, stop: int) -> None:
        entries = row_entries(stored.directory, stored.fetch)
        blocks = list(row_blocks(stored.directory, stored.fetch, entries, start, stop))
        self.check(stored.source, blocks, start, stop)

    def test_entries_may_be_kept_in_a_file(self, stored: Stored, tmp_path: Path) -> None:
        kept = np.memmap(tmp_path / "entries", KEY_ENTRY, "w+", shape=800)
        assert row_entries(stored.directory, stored.fetch, kept) is kept
        assert np.array_equal(kept, row_entries(stored.directory, stored.fetch))

    @staticmethod
    def check(source: SmallSource, blocks: list[RowBlock], start: int, stop: int) -> None:
        some = slice(start, stop)
        assert [key for block in blocks for key in block.keys] == source.keys[some]
        assert [text for block in blocks for text in block.metadata] == source.metadata[some]
        for name in ("hashes", "positions", "vectors"):
            held = getattr(source, name)[some]
            assert np.array_equal(np.concatenate([held[:0], *(getattr(block, name) for block in blocks)]), held)

    def test_rows_of_keys_are_found_through_the_key_index(self, stored: Stored) -> None:
        asked = [*stored.source.keys[::7], b"nobody", b"nothing"]
        keys, _ = Keys.of(asked, 1)
        read = partial(key_blocks, stored.directory, stored.fetch)
        rows = match_rows(keys, stored.directory.key_heads, read)
        assert sorted(rows.tolist()) == list(range(0, 800, 7))


class TestDamage:
    @pytest.mark.parametrize("name", OBJECTS)
    def test_every_flipped_byte_of_a_checked_range_is_noticed(self, stored: Stored, name: str) -> None:
        ranges = [
            (block.start, block.stop)
            for blocks in (self.lists(stored), self.key_blocks(stored), self.rows(stored), self.filters(stored))
            for block in blocks
            if block.key == name and block.stop > block.start
        ]
        rng = np.random.default_rng(len(name))
        covered = sum(stop - start for start, stop in ranges)
        assert covered > 0.9 * (stored.folder / name).stat().st_size or name == "rows.parquet"
        for start, stop in (ranges[0], ranges[-1], *(ranges[i] for i in rng.integers(0, len(ranges), 25))):
            place = int(rng.integers(start, stop))
            with pytest.raises(ObjectCorrupt, match=name):
                verify_segment(stored.directory, flipped(stored.fetch, name, place))

    @staticmethod
    def lists(stored: Stored) -> list[Block]:
        return stored.directory.list_blocks(np.flatnonzero(np.diff(stored.directory.list_starts)))

    @staticmethod
    def key_blocks(stored: Stored) -> list[Block]:
        return [stored.directory.key_block(number) for number in range(stored.directory.key_blocks)]

    @staticmethod
    def filters(stored: Stored) -> list[Block]:
        assert stored.directory.filters is not None
        return stored.directory.filter_blocks(range(len(stored.directory.filters)))

    @staticmethod
    def rows(stored: Stored) -> list[Block]:
        entries = row_entries(stored.directory, stored.fetch)
        records = [
            stored.directory.record_block(*map(int, entry[["record_at", "record_bytes", "record_crc"]].tolist()))
            for entry in entries
        ]
        return records + [stored.directory.vector_block(row, 0) for row in range(len(entries))]

    @pytest.mark.parametrize("name", OBJECTS)
    def test_a_file_that_ends_early_is_noticed(self, stored: Stored, name: str) -> None:
        def short(key: str, start: int, stop: int) -> bytes:
            return stored.fetch(key, start, stop)[: -1 if key == name else None]

        with pytest.raises(ObjectCorrupt, match=name):
            verify_segment(stored.directory, short)

    def test_a_key_index_that_lacks_a_row_or_repeats_one_is_noticed(self, stored: Stored) -> None:
        whole = replace_block(stored, lambda entries: entries)
        assert len(row_entries(*whole)) == 800
        for wrong in (1, 5000):
            with pytest.raises(ObjectCorrupt, match="keys"):
                row_entries(*replace_block(stored, lambda entries, wrong=wrong: with_field(entries, "row", wrong)))
        with pytest.raises(ObjectCorrupt, match="overlap"):
            row_entries(*replace_block(stored, lambda entries: with_field(entries, "record_at", 1 << 40)))

    @pytest.mark.parametrize("field", LOCATION)
    def test_key_index_and_codes_that_differ_are_noticed(self, stored: Stored, field: str) -> None:
        with pytest.raises(ObjectCorrupt):
            verify_segment(
                *replace_block(stored, lambda entries: with_field(entries, field, int(entries[field][0]) ^ 1))
            )

    def test_a_filter_index_of_other_records_is_noticed(self, stored: Stored, tmp_path: Path) -> None:
        terms = TermRows(tmp_path / "right", stored.source.non_filterable)
        verify_segment(stored.directory, stored.fetch, terms=terms)
        assert terms.rows == 800
        with pytest.raises(ObjectCorrupt, match=r"filters has other terms than the records: b'metadata"):
            verify_segment(stored.directory, stored.fetch, terms=TermRows(tmp_path / "more", ()))
        with pytest.raises(ObjectCorrupt, match=r"filters has other terms than the records: b'a"):
            verify_segment(stored.directory, stored.fetch, terms=TermRows(tmp_path / "fewer", ("metadata", "a")))

    def test_a_byte_that_changes_while_the_segment_is_written_is_noticed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        written = writer._write_keys

        def damaging(path: Path, *rest: object) -> object:
            vectors = path.parent / "vectors.lance/data/rows.lance"
            raw = bytearray(vectors.read_bytes())
            raw[999] ^= 16
            vectors.write_bytes(raw)
            return written(path, *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(writer, "_write_keys", damaging)
        with pytest.raises(ObjectCorrupt, match="vectors"):
            write(SmallSource(300, 4), tmp_path)

    def test_terms_that_are_written_wrong_are_noticed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        written = writer.write_terms

        def without_one(path: Path, postings: Iterable[Posting], rows: int) -> object:
            return written(path, [*postings][:-1], rows)

        monkeypatch.setattr(writer, "write_terms", without_one)
        with pytest.raises(ObjectCorrupt, match="filters has other terms than the records"):
            write(SmallSource(300, 4), tmp_path)


def flipped(fetch: Fetch, name: str, place: int) -> Fetch:
    """The same objects with one bit of one of them flipped."""

    def damaged(key: str, start: int, stop: int) -> bytes:
        raw = bytearray(fetch(key, start, stop))
        if key == name and start <= place < stop:
            raw[place - start] ^= 1 << place % 8
        return bytes(raw)

    return damaged


def with_field(entries: np.ndarray, name: str, value: int) -> np.ndarray:
    changed = entries.copy()
    changed[name][0] = value
    return changed


def replace_block(stored: Stored, change: Callable[[np.ndarray], np.ndarray]) -> tuple[Directory, Fetch]:
    """The segment with the entries of its first key block changed, and a checksum that says so."""
    directory = stored.directory
    block = next(key_blocks(directory, stored.fetch, [0]))
    raw = KeyBlock(change(block.entries), block.keys).encode()
    crcs = directory.key_crcs.copy()
    crcs[0] = zlib.crc32(raw)

    def fetch(key: str, start: int, stop: int) -> bytes:
        found = stored.fetch(key, start, stop)
        return raw + found[len(raw) :] if key == "keys" and start == 0 else found

    return replace(directory, key_crcs=crcs), fetch


class TestSources:
    def test_too_few_and_too_many_rows_are_refused(self, tmp_path: Path) -> None:
        for rows in (99, 101):
            source = SmallSource(100, 2)
            source.rows = rows
            with pytest.raises(ValueError, match="rows"):
                write(source, tmp_path / str(rows))

    def test_what_a_source_raises_comes_through(self, tmp_path: Path) -> None:
        class Failing(SmallSource):
            def row_blocks(self) -> Iterator[RowBlock]:
                yield next(super().row_blocks())
                raise StoreUnavailable("gone")

        with pytest.raises(StoreUnavailable, match="gone"):
            write(Failing(300, 2), tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["s1"]

    def test_lists_whose_primary_rows_are_elsewhere_are_refused(self, tmp_path: Path) -> None:
        class Confused(SmallSource):
            def members(self, list_: int) -> np.ndarray:
                return super().members(list_)[::-1]

        with pytest.raises(ObjectCorrupt, match="other rows"):
            write(Confused(300, 4), tmp_path)


class TestDirectoryBytes:
    def test_decode_gives_what_was_encoded(self, stored: Stored) -> None:
        raw = stored.directory.encode()
        again = Directory.decode("d", raw, "")
        assert again.encode() == raw == (stored.folder / "directory").read_bytes()
        assert Directory.decode("d", raw, "data/s1/").encode() == raw

    @settings(deadline=None, max_examples=200)
    @given(st.data())
    def test_no_flipped_bit_goes_unnoticed(self, stored: Stored, data: st.DataObject) -> None:
        raw = bytearray(stored.directory.encode())
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        with pytest.raises((ObjectCorrupt, StoreForeign), match="the-key"):
            Directory.decode("the-key", bytes(raw), "")

    def test_no_truncation_goes_unnoticed(self, stored: Stored) -> None:
        raw = stored.directory.encode()
        for stop in (0, 1, 55, 56, 500, len(raw) // 2, len(raw) - 1):
            with pytest.raises(ObjectCorrupt, match="the-key"):
                Directory.decode("the-key", raw[:stop], "")

    def test_a_directory_of_another_segment_is_refused(self, stored: Stored) -> None:
        with pytest.raises(ObjectCorrupt, match="belongs to segment s1"):
            Directory.decode("the-key", stored.directory.encode(), "data/u/segments/s2/")

    @pytest.mark.parametrize(
        ("member", "value"),
        [
            ("rows", 0),
            ("rows", -1),
            ("rows", 801),
            ("rows", True),
            ("rows", 1e3),
            ("rows", None),
            ("dimension", 4),
            ("metric", "manhattan"),
            ("name", 5),
            ("codes", ["codes.lance/../../other", 0]),
            ("codes", ["codes.lance/data/rows.lance", -64]),
            ("codes", "codes.lance"),
            ("records", "/etc/passwd"),
            ("keys", ""),
            ("filters", ""),
            ("filters", 7),
            ("beta", "steep"),
            ("beta", None),
            ("beta", -1.0),
            ("size_bytes", 2**60),
        ],
    )
    def test_members_that_make_no_sense(self, stored: Stored, member: str, value: object) -> None:
        envelope = unseal("d", stored.directory.encode())
        assert member in envelope.fields
        forged = seal({**envelope.fields, member: value}, envelope.sections)
        with pytest.raises(ObjectCorrupt, match="the-key"):
            Directory.decode("the-key", forged, "")

    def test_sections_that_make_no_sense(self, stored: Stored) -> None:
        envelope = unseal("d", stored.directory.encode())
        for name, array in envelope.sections.items():
            wrongs = [array[:-1], array.reshape(-1, 1, 1), array.astype("<c16")]
            if name.endswith(("_starts", "_heads", "_ks", "_targets")):
                wrongs += [array[::-1], np.full_like(array, 7)]
            if array.dtype.kind == "f" and array.size:
                wrongs += [np.full_like(array, np.nan)]
            if name.startswith("calibration_"):
                wrongs += [array - 100]
            for wrong in wrongs:
                if not len(array):
                    continue
                forged = seal(dict(envelope.fields), {**envelope.sections, name: wrong})
                with pytest.raises(ObjectCorrupt, match="the-key"):
                    Directory.decode("the-key", forged, "")
            without = {other: array for other, array in envelope.sections.items() if other != name}
            with pytest.raises(ObjectCorrupt, match="the-key"):
                Directory.decode("the-key", seal(dict(envelope.fields), without), "")


def test_rows_of_bytes_are_as_wide_as_the_format_says() -> None:
    assert [code_row(dimension).itemsize for dimension in (1, 2, 5, 384)] == [41, 41, 43, 232]
    assert KEY_ENTRY.itemsize == 42
