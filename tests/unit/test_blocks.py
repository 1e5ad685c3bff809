"""Blocks: right values from whichever tier, checked bytes, bounded memory."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from neve.errors import ObjectCorrupt, ObjectGone, StoreUnavailable
from neve.store.blocks import VALUE_OVERHEAD_BYTES, Block, Blocks, Slab, Tally, Wanted
from neve.store.disk import DiskTier
from neve.store.port import Delete, Put, Store
from neve.store.ranges import Spacing
from neve.store.steady import ATTEMPTS_MAX, SteadyStore
from neve.testing.clock import ManualClock, ManualRuntime
from neve.testing.faults import Fate, FaultStore, ScriptedFates
from neve.testing.objects import MemoryStore

KEY = "data/u/segments/s/codes"
BODY = random.Random(5).randbytes(40_000)
PLENTY = 1 << 30
SLAB = 5_000
SPACING = Spacing(gap_bytes=100, gap_bytes_max=100, requests=64, span_bytes_max=1 << 20)


def block(start: int, stop: int, key: str = KEY) -> Block:
    return Block(key, start, stop, zlib.crc32(BODY[start:stop]))


def want(start: int, stop: int, key: str = KEY) -> Wanted:
    return Wanted(block(start, stop, key), bytes, stop - start)


def store_of(*keys: str, faults: dict[int, Fate] | None = None) -> tuple[SteadyStore, MemoryStore]:
    objects = MemoryStore()
    objects.wave([Put(key, BODY) for key in keys])
    return SteadyStore(FaultStore(objects, ScriptedFates(faults or {})), ManualRuntime(ManualClock())), objects


def read(blocks: Blocks, store: Store, wanted: Sequence[Wanted]) -> tuple[list[object], Tally]:
    reading = blocks.plan(wanted)
    return reading.values(store.wave(reading.requests)), reading.tally


def test_values_come_in_the_order_wanted_and_then_from_memory() -> None:
    store, _ = store_of(KEY, "other")
    blocks = Blocks(PLENTY, spacing=SPACING)
    ranges = [(900, 1000, KEY), (0, 50, KEY), (120, 130, KEY), (0, 50, "other"), (900, 1000, KEY)]
    wanted = [want(*one) for one in ranges]
    values, tally = read(blocks, store, wanted)
    assert values == [BODY[start:stop] for start, stop, _ in ranges]
    assert tally == Tally(store_blocks=4, store_bytes=210, requests=3, read_bytes=280)
    again, tally = read(blocks, store, wanted)
    assert again == values
    assert tally == Tally(memory_blocks=5, memory_bytes=310)
    assert blocks.get((KEY, 900)) == BODY[900:1000]
    assert blocks.get_many([(KEY, 120), (KEY, 121), ("other", 0)]) == [BODY[120:130], None, BODY[:50]]


def test_values_are_what_decode_made() -> None:
    store, _ = store_of(KEY)
    values, _ = read(Blocks(PLENTY), store, [Wanted(block(0, 4), lambda raw: (len(raw), raw[0]), 100)])
    assert values == [(4, BODY[0])]


def test_a_value_planned_stays_though_memory_drops_it() -> None:
    store, _ = store_of(KEY)
    blocks = Blocks(1000 + VALUE_OVERHEAD_BYTES)
    read(blocks, store, [want(0, 1000)])
    reading = blocks.plan([want(0, 1000), want(5000, 6000)])
    for first in (7000, 9000):  # a value in use has a second chance
        read(blocks, store, [want(first, first + 1000)])
    assert blocks.get((KEY, 0)) is None
    assert reading.values(store.wave(reading.requests)) == [BODY[0:1000], BODY[5000:6000]]


def test_damage_on_the_way_is_read_again() -> None:
    store, _ = store_of(KEY, faults={0: Fate.FLIPPED, 1: Fate.CUT, 2: Fate.UNAVAILABLE})
    values, _ = read(Blocks(PLENTY), store, [want(0, 40_000)])
    assert values == [BODY]


def test_damage_in_the_store_names_the_object_and_the_range() -> None:
    store, objects = store_of(KEY)
    objects.wave([Put(KEY, BODY[:150] + bytes([BODY[150] ^ 4]) + BODY[151:])])
    blocks = Blocks(PLENTY, spacing=SPACING)
    with pytest.raises(ObjectCorrupt, match=f"bytes 120 to 200 of {KEY} do not match"):
        read(blocks, store, [want(0, 100), want(120, 200)])
    assert blocks.get((KEY, 120)) is None
    assert read(blocks, store, [want(0, 100), want(201, 300)])[0] == [BODY[:100], BODY[201:300]]


def test_an_object_cut_short_is_corrupt() -> None:
    store, objects = store_of(KEY)
    objects.wave([Put(KEY, BODY[:150])])
    with pytest.raises(ObjectCorrupt, match="bytes 120 to 200"):
        read(Blocks(PLENTY), store, [want(0, 100), want(120, 200)])


def test_an_empty_block_cannot_be_made() -> None:
    with pytest.raises(AssertionError, match="empty"):
        Block(KEY, 5, 5, 0)


def test_a_missing_object_is_gone() -> None:
    store, objects = store_of(KEY)
    objects.wave([Delete((KEY,))])
    with pytest.raises(ObjectGone, match=KEY):
        read(Blocks(PLENTY), store, [want(0, 100)])


def test_a_store_that_stays_away_is_unavailable() -> None:
    store, _ = store_of(KEY, faults=dict.fromkeys(range(ATTEMPTS_MAX), Fate.UNAVAILABLE))
    with pytest.raises(StoreUnavailable):
        read(Blocks(PLENTY), store, [want(0, 100)])


@pytest.mark.parametrize("error", [ValueError, KeyError, IndexError, UnicodeDecodeError("utf-8", b"", 0, 1, "")])
def test_whole_bytes_that_cannot_be_decoded_are_corrupt(error: type[Exception] | Exception) -> None:
    def decode(raw: memoryview) -> object:
        raise error

    store, _ = store_of(KEY)
    with pytest.raises(ObjectCorrupt, match=f"bytes 7 to 9 of {KEY} cannot be decoded"):
        read(Blocks(PLENTY), store, [Wanted(block(7, 9), decode, 2)])


def test_memory_keeps_its_bound_and_what_is_in_use() -> None:
    store, _ = store_of(KEY)
    blocks = Blocks(10 * (1000 + VALUE_OVERHEAD_BYTES))
    for first in range(0, 40_000, 1000):
        read(blocks, store, [want(first, first + 1000)])
        assert blocks.get((KEY, 0)) == BODY[:1000]
        assert blocks.memory_bytes <= 10 * (1000 + VALUE_OVERHEAD_BYTES)
    held = [first for first in range(0, 40_000, 1000) if blocks.get((KEY, first)) is not None]
    assert held == [0, *range(31_000, 40_000, 1000)]


def test_a_value_beyond_the_bound_is_handed_out_and_not_kept() -> None:
    store, _ = store_of(KEY)
    blocks = Blocks(1000)
    assert read(blocks, store, [want(0, 20_000)])[0] == [BODY[:20_000]]
    assert blocks.memory_bytes == 0
    assert blocks.get((KEY, 0)) is None


def test_ids_asked_for_in_vain_are_forgotten() -> None:
    store, _ = store_of(KEY)
    blocks = Blocks(2 * (1000 + VALUE_OVERHEAD_BYTES))
    blocks.get_many([("nowhere", start) for start in range(10_000)])
    for first in range(0, 40_000, 1000):
        read(blocks, store, [want(first, first + 1000)])
    assert len(blocks._memory._used) <= 5


class Room:
    """What a slab's values are put in: they read it when they are compared."""

    def __init__(self, first: int) -> None:
        self.first, self.body = first, bytearray(SLAB)


@dataclass(frozen=True)
class Placed:
    room: Room
    start: int
    stop: int

    def __bytes__(self) -> bytes:
        return bytes(self.room.body[self.start - self.room.first : self.stop - self.room.first])


def want_placed(start: int, stop: int, key: str = KEY) -> Wanted:
    first = start // SLAB * SLAB

    def decode(raw: memoryview, room: Room) -> Placed:
        room.body[start - first : stop - first] = raw
        return Placed(room, start, stop)

    return Wanted(block(start, stop, key), decode, stop - start, Slab((key, -1 - first), lambda: Room(first)))


def test_values_of_a_slab_share_its_room_and_go_together() -> None:
    store, _ = store_of(KEY)
    blocks = Blocks(6 * (1000 + VALUE_OVERHEAD_BYTES))
    placed, _ = read(blocks, store, [want_placed(first, first + 1000) for first in (0, 1000, 3000)])
    assert [bytes(one) for one in placed] == [BODY[:1000], BODY[1000:2000], BODY[3000:4000]]
    assert len({id(one.room) for one in placed}) == 1
    assert blocks.memory_bytes == 3 * (1000 + VALUE_OVERHEAD_BYTES)
    assert blocks.get((KEY, 1000)) is placed[1]  # so the slab gets a second chance
    read(blocks, store, [want(first, first + 1000) for first in range(10_000, 14_000, 1000)])
    assert blocks.get_many([(KEY, 0), (KEY, 1000), (KEY, 3000)]) == placed
    assert blocks.get((KEY, 10_000)) is None
    blocks = Blocks(4 * (1000 + VALUE_OVERHEAD_BYTES))
    placed, _ = read(blocks, store, [want_placed(0, 1000), want_placed(3000, 4000)])
    read(blocks, store, [want(first, first + 1000) for first in range(10_000, 13_000, 1000)])
    assert blocks.get_many([(KEY, 0), (KEY, 3000)]) == [None, None]
    assert bytes(placed[1]) == BODY[3000:4000]  # who has it keeps it
    again, _ = read(blocks, store, [want_placed(0, 1000)])
    assert bytes(again[0]) == BODY[:1000]
    assert again[0].room is not placed[0].room


def test_a_slab_beyond_the_bound_is_handed_out_and_not_kept() -> None:
    store, _ = store_of(KEY)
    blocks = Blocks(1000)
    placed, _ = read(blocks, store, [want_placed(0, 1000), want_placed(2000, 3000)])
    assert [bytes(one) for one in placed] == [BODY[:1000], BODY[2000:3000]]
    assert blocks.memory_bytes == 0
    assert blocks.get_many([(KEY, 0), (KEY, 2000)]) == [None, None]


def test_threads_get_right_values_while_memory_is_too_small() -> None:
    store, _ = store_of(KEY, "other")
    blocks = Blocks(8 * (100 + VALUE_OVERHEAD_BYTES))

    def work(seed: int) -> int:
        chance = random.Random(seed)
        for _ in range(150):
            starts = [chance.randrange(40) * 1000 for _ in range(6)]
            wants = [chance.choice([want, want_placed]) for _ in starts]
            places = zip(wants, starts, strict=True)
            wanted = [one(start, start + 100, KEY if one is want else "other") for one, start in places]
            values, _ = read(blocks, store, wanted)
            assert list(map(bytes, values)) == [BODY[start : start + 100] for start in starts]
        return seed

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(work, range(6))) == list(range(6))
    assert blocks.memory_bytes <= 8 * (100 + VALUE_OVERHEAD_BYTES)
    assert blocks.memory_bytes == sum(blocks._memory._sizes.values())


def test_disk_answers_when_memory_has_forgotten(tmp_path: Path) -> None:
    store, objects = store_of(KEY, "other")
    runtime = ManualRuntime(ManualClock())
    wanted = [want(100, 200), want(250, 300, "other"), want(30_000, 40_000)]
    first = Blocks(0, DiskTier(tmp_path, PLENTY, runtime))
    values, tally = read(first, store, wanted)
    assert tally.store_blocks == 3
    first.close()
    objects.wave([Delete((KEY, "other"))])
    second = Blocks(PLENTY, DiskTier(tmp_path, PLENTY, runtime))
    again, tally = read(second, store, wanted)
    assert again == values == [BODY[100:200], BODY[250:300], BODY[30_000:]]
    assert tally == Tally(disk_blocks=3, disk_bytes=10_150)
    assert read(second, store, wanted)[1] == Tally(memory_blocks=3, memory_bytes=10_150)


def test_damage_on_disk_is_read_from_the_store_and_mended(tmp_path: Path) -> None:
    store, _ = store_of(KEY)
    runtime = ManualRuntime(ManualClock())
    blocks = Blocks(0, DiskTier(tmp_path, PLENTY, runtime), SPACING)
    wanted = [want(first, first + 1000) for first in range(0, 40_000, 2000)]
    values, _ = read(blocks, store, wanted)
    runtime.settle()
    (file,) = (path for path in tmp_path.rglob("*-0"))
    raw = bytearray(file.read_bytes())
    raw[500] ^= 1
    raw[20_999] ^= 128
    file.write_bytes(raw)
    again, tally = read(blocks, store, wanted)
    assert again == values
    assert (tally.disk_blocks, tally.store_blocks) == (18, 2)
    runtime.settle()
    assert read(blocks, store, wanted)[1].disk_blocks == 20
