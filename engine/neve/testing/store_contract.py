"""What every object store must do for neve, as one pytest class: subclass it and give it a `store` fixture.

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self) -> Store:
            return connect("s3://bucket/prefix?endpoint=…")

Every test works under a prefix of its own, so the store may hold other things. Stores without faults are expected:
a single lost reply fails a test. No law asks for a key that is also the folder of another key (`a` beside `a/b`):
folders and some servers cannot hold both, and neve writes no such keys.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from neve.store.port import (
    Created,
    Delete,
    Done,
    Entry,
    Exists,
    Failed,
    Found,
    Get,
    List,
    Listed,
    Missing,
    Put,
    PutNew,
    Reply,
    Request,
    Store,
    Upload,
)

CREATORS = 8
ROUNDS = 12
BIG_BYTES = 20_000_000
BIG_UPLOAD_BYTES = 80_000_000
CLOCKS_APART_MAX_S = 300.0


class StoreContract:
    """The laws of the port; each test states one."""

    # Reads

    def test_get_returns_the_whole_object(self, store: Store) -> None:
        key = _prefix() + "whole"
        _put(store, key, b"firn and ice")
        assert _one(store, Get(key)) == Found(b"firn and ice")

    def test_get_of_an_absent_key_is_missing(self, store: Store) -> None:
        prefix = _prefix()
        assert _one(store, Get(prefix + "absent")) == Missing()
        assert _one(store, Get(prefix + "absent", start=3, stop=9)) == Missing()
        assert _one(store, Get(prefix + "absent", suffix=4)) == Missing()

    def test_get_of_ranges(self, store: Store) -> None:
        key = _prefix() + "ranges"
        _put(store, key, bytes(range(256)))
        ranges = [(0, 1), (0, 256), (10, 20), (255, 256), (100, 101), (3, 200)]
        replies = store.wave([Get(key, start, stop) for start, stop in ranges])
        assert replies == [Found(bytes(range(start, stop))) for start, stop in ranges]

    def test_get_from_a_start_to_the_end(self, store: Store) -> None:
        key = _prefix() + "rest"
        _put(store, key, bytes(range(256)))
        assert _one(store, Get(key, start=250)) == Found(bytes(range(250, 256)))

    def test_a_range_beyond_the_end_is_cut(self, store: Store) -> None:
        key = _prefix() + "short"
        _put(store, key, b"0123456789")
        replies = store.wave([Get(key, 8, 12), Get(key, 10, 12), Get(key, 30, 40), Get(key, start=10)])
        assert replies == [Found(b"89"), Found(b""), Found(b""), Found(b"")]

    def test_get_of_a_suffix(self, store: Store) -> None:
        key = _prefix() + "suffix"
        _put(store, key, b"0123456789")
        replies = store.wave([Get(key, suffix=1), Get(key, suffix=4), Get(key, suffix=10)])
        assert replies == [Found(b"9"), Found(b"6789"), Found(b"0123456789")]

    def test_an_empty_object_is_found(self, store: Store) -> None:
        key = _prefix() + "empty"
        assert _one(store, PutNew(key, b"")) == Created()
        assert _one(store, Get(key)) == Found(b"")

    def test_big_objects_come_back_as_they_went(self, store: Store) -> None:
        key = _prefix() + "big"
        big = bytes(range(251)) * (BIG_BYTES // 251 + 1)
        assert _one(store, PutNew(key, big)) == Created()
        assert _one(store, PutNew(key, b"small")) == Exists()
        whole, middle, tail = store.wave([Get(key), Get(key, 10_000_000, 10_000_500), Get(key, suffix=7)])
        assert isinstance(whole, Found)
        assert whole.body == big, "a big object changed on its way"
        assert middle == Found(big[10_000_000:10_000_500])
        assert tail == Found(big[-7:])
        assert _listed(store, List(key.removesuffix("big"))).entries[0].size_bytes == len(big)
        assert _one(store, Delete((key,))) == Done()

    # Creates

    def test_put_new_succeeds_once(self, store: Store) -> None:
        key = _prefix() + "once"
        assert _one(store, PutNew(key, b"first")) == Created()
        assert _one(store, PutNew(key, b"second")) == Exists()
        assert _one(store, PutNew(key, b"first")) == Exists()
        assert _one(store, Get(key)) == Found(b"first")

    def test_racing_creators_have_exactly_one_winner(self, store: Store) -> None:
        prefix = _prefix()
        for number in range(ROUNDS):
            key = f"{prefix}race-{number:03d}"
            replies = _race(store, [PutNew(key, f"creator {creator}".encode()) for creator in range(CREATORS)])
            winners = [creator for creator, reply in enumerate(replies) if reply == Created()]
            assert len(winners) == 1, f"round {number}: {replies}"
            assert all(reply in (Created(), Exists()) for reply in replies), f"round {number}: {replies}"
            assert _one(store, Get(key)) == Found(f"creator {winners[0]}".encode())

    def test_racing_creators_in_one_wave_have_exactly_one_winner(self, store: Store) -> None:
        key = _prefix() + "race"
        replies = store.wave([PutNew(key, b"%d" % creator) for creator in range(CREATORS)])
        assert sorted(type(reply).__name__ for reply in replies) == ["Created"] + ["Exists"] * (CREATORS - 1)
        assert _one(store, Get(key)) == Found(b"%d" % replies.index(Created()))

    def test_a_deleted_key_can_be_created_again(self, store: Store) -> None:
        key = _prefix() + "again"
        _put(store, key, b"one")
        assert _one(store, Delete((key,))) == Done()
        assert _one(store, PutNew(key, b"two")) == Created()
        assert _one(store, Get(key)) == Found(b"two")

    def test_put_writes_over_what_is_there(self, store: Store) -> None:
        key = _prefix() + "over"
        assert _one(store, Put(key, b"long before")) == Done()
        assert _one(store, Put(key, b"after")) == Done()
        assert _one(store, Get(key)) == Found(b"after")
        assert _one(store, PutNew(key, b"never")) == Exists()

    # Deletes

    def test_delete_of_present_and_absent_keys(self, store: Store) -> None:
        prefix = _prefix()
        _put(store, prefix + "present", b"x")
        _put(store, prefix + "kept", b"x")
        assert _one(store, Delete((prefix + "present", prefix + "absent"))) == Done()
        assert _one(store, Delete((prefix + "present",))) == Done()
        assert _keys(store, List(prefix)) == [prefix + "kept"]

    def test_delete_of_a_thousand_keys_at_once(self, store: Store) -> None:
        prefix = _prefix()
        keys = [f"{prefix}{number:04d}" for number in range(1000)]
        _create_all(store, keys)
        assert _one(store, Delete(tuple(keys))) == Done()
        assert _listed(store, List(prefix)) == Listed((), complete=True)

    # Lists

    def test_list_is_in_the_order_of_the_bytes(self, store: Store) -> None:
        prefix = _prefix()
        names = [
            "0",
            "00",
            "0000000010",
            "9",
            "A",
            "Z",
            "a-",
            "a-b",
            "a.",
            "a.b",
            "a/0",
            "a/b",
            "a0",
            "a_",
            "aa",
            "b",
        ]
        _create_all(store, [prefix + name for name in reversed(names)])
        assert _keys(store, List(prefix)) == [prefix + name for name in names]

    def test_list_after_a_key_leaves_out_that_key(self, store: Store) -> None:
        prefix = _prefix()
        _create_all(store, [f"{prefix}{number:03d}" for number in range(10)])
        assert _keys(store, List(prefix, after=prefix + "006")) == [prefix + name for name in ("007", "008", "009")]
        assert _keys(store, List(prefix, after=prefix + "0065")) == [prefix + name for name in ("007", "008", "009")]
        assert _keys(store, List(prefix, after=prefix + "009")) == []

    def test_list_after_a_key_outside_the_prefix(self, store: Store) -> None:
        prefix = _prefix()
        _create_all(store, [prefix + "b/0", prefix + "b/1"])
        assert _keys(store, List(prefix + "b/", after=prefix + "a")) == [prefix + "b/0", prefix + "b/1"]
        assert _keys(store, List(prefix + "b/", after=prefix + "c")) == []

    def test_list_of_a_prefix_takes_no_neighbours(self, store: Store) -> None:
        prefix = _prefix()
        _create_all(
            store, [prefix + name for name in ("lo/g", "log-old/1", "log.x/1", "log/1", "log/2/3", "log0/1", "lo/1")]
        )
        assert _keys(store, List(prefix + "log/")) == [prefix + "log/1", prefix + "log/2/3"]
        assert _keys(store, List(prefix + "absent/")) == []

    def test_list_stops_at_its_limit(self, store: Store) -> None:
        prefix = _prefix()
        keys = [f"{prefix}{number}" for number in range(5)]
        _create_all(store, keys)
        page = _listed(store, List(prefix, limit=3))
        assert [entry.key for entry in page.entries] == keys[:3]
        assert not page.complete
        rest = _listed(store, List(prefix, after=keys[2], limit=3))
        assert [entry.key for entry in rest.entries] == keys[3:]
        assert rest.complete

    def test_list_goes_through_pages_of_a_thousand(self, store: Store) -> None:
        prefix = _prefix()
        keys = [f"{prefix}{number:05d}" for number in range(2300)]
        _create_all(store, keys)
        pages: list[Listed] = []
        after = ""
        while not pages or not pages[-1].complete:
            pages.append(_listed(store, List(prefix, after=after)))
            after = pages[-1].entries[-1].key
        assert [len(page.entries) for page in pages] == [1000, 1000, 300]
        assert [entry.key for page in pages for entry in page.entries] == keys
        for first in range(0, len(keys), 1000):
            assert _one(store, Delete(tuple(keys[first : first + 1000]))) == Done()

    def test_list_tells_sizes_and_plausible_times(self, store: Store) -> None:
        prefix = _prefix()
        _put(store, prefix + "a", b"12345")
        _put(store, prefix + "b", b"")
        first, second = _listed(store, List(prefix)).entries
        assert [first.size_bytes, second.size_bytes] == [5, 0]
        for entry in (first, second):
            assert abs(entry.modified_s - time.time()) < CLOCKS_APART_MAX_S, "the store's clock is far from ours"
        assert first.modified_s <= second.modified_s + 1

    def test_list_sees_a_create_at_once(self, store: Store) -> None:
        prefix = _prefix()
        for number in range(30):
            _put(store, f"{prefix}{number:02d}", b"x")
            assert len(_keys(store, List(prefix))) == number + 1
        assert _one(store, Delete((prefix + "07",))) == Done()
        assert prefix + "07" not in _keys(store, List(prefix))

    # Uploads

    def test_an_upload_is_the_file(self, store: Store, tmp_path: Path) -> None:
        prefix = _prefix()
        for name, content in (("some", b"firn and ice"), ("empty", b"")):
            (tmp_path / name).write_bytes(content)
            assert _one(store, Upload(prefix + name, tmp_path / name)) == Done()
            assert _one(store, Get(prefix + name)) == Found(content)
            assert _one(store, PutNew(prefix + name, b"late")) == Exists()

    def test_an_upload_may_be_repeated(self, store: Store, tmp_path: Path) -> None:
        key, file = _prefix() + "deep/er/again", tmp_path / "file"
        file.write_bytes(b"same bytes")
        assert store.wave([Upload(key, file)] * 3) == [Done()] * 3
        assert _one(store, Upload(key, file)) == Done()
        assert _one(store, Get(key, 5, 10)) == Found(b"bytes")
        assert file.read_bytes() == b"same bytes"

    def test_a_big_upload_goes_in_parts_and_comes_back_whole(self, store: Store, tmp_path: Path) -> None:
        key, file = _prefix() + "big", tmp_path / "big"
        piece = bytes(range(251)) * 4177
        with file.open("wb") as writing:
            for _ in range(BIG_UPLOAD_BYTES // len(piece) + 1):
                writing.write(piece)
        assert _one(store, Upload(key, file)) == Done()
        size = file.stat().st_size
        assert _listed(store, List(key.removesuffix("big"))).entries[0].size_bytes == size
        for start in range(0, size, 15 * len(piece)):
            assert _one(store, Get(key, start, start + len(piece))) == Found(piece), f"the bytes from {start} on differ"
        assert _one(store, Delete((key,))) == Done()

    def test_an_upload_of_no_file_fails_and_makes_nothing(self, store: Store, tmp_path: Path) -> None:
        key = _prefix() + "nothing"
        assert isinstance(_one(store, Upload(key, tmp_path / "absent")), Failed)
        assert _one(store, Get(key)) == Missing()

    # Waves and keys

    def test_a_wave_of_mixed_requests_replies_in_their_order(self, store: Store) -> None:
        prefix = _prefix()
        _put(store, prefix + "there", b"0123456789")
        _put(store, prefix + "goes", b"x")
        replies = store.wave(
            [
                Get(prefix + "there"),
                PutNew(prefix + "new", b"n"),
                Get(prefix + "absent"),
                PutNew(prefix + "there", b"n"),
                Put(prefix + "hint", b"h"),
                Delete((prefix + "goes",)),
                Get(prefix + "there", 2, 4),
                List(prefix + "none/"),
                Get(prefix + "there", suffix=3),
            ]
        )
        expected = [
            Found(b"0123456789"),
            Created(),
            Missing(),
            Exists(),
            Done(),
            Done(),
            Found(b"23"),
            Listed((), complete=True),
            Found(b"789"),
        ]
        assert replies == expected

    def test_a_wide_wave(self, store: Store) -> None:
        prefix = _prefix()
        keys = [f"{prefix}{number:03d}" for number in range(200)]
        replies = store.wave([PutNew(key, key.encode()) for key in keys])
        assert replies == [Created()] * len(keys)
        assert store.wave([Get(key) for key in keys]) == [Found(key.encode()) for key in keys]

    def test_an_empty_wave(self, store: Store) -> None:
        assert store.wave([]) == []

    def test_keys_with_dots_dashes_and_depth(self, store: Store) -> None:
        prefix = _prefix()
        names = [
            "a.b-c/d_e/00000000000000000001",
            "neve.json",
            "x..y/z",
            "-dash",
            "deep/er/and/deep/er/still.lance",
            "U" * 180,
        ]
        keys = [prefix + name for name in names]
        _create_all(store, keys)
        assert store.wave([Get(key) for key in keys]) == [Found(key.encode()) for key in keys]
        assert _keys(store, List(prefix)) == sorted(keys)


def _prefix() -> str:
    return f"contract/{secrets.token_hex(8)}/"


def _one(store: Store, request: Request) -> Reply:
    (reply,) = store.wave([request])
    return reply


def _put(store: Store, key: str, body: bytes) -> None:
    assert _one(store, PutNew(key, body)) == Created()


def _create_all(store: Store, keys: Sequence[str]) -> None:
    for first in range(0, len(keys), 100):
        wave = [PutNew(key, key.encode()) for key in keys[first : first + 100]]
        assert store.wave(wave) == [Created()] * len(wave)


def _listed(store: Store, request: List) -> Listed:
    reply = _one(store, request)
    assert isinstance(reply, Listed), reply
    return reply


def _keys(store: Store, request: List) -> list[str]:
    page = _listed(store, request)
    assert page.complete
    entries: tuple[Entry, ...] = page.entries
    return [entry.key for entry in entries]


def _race(store: Store, requests: Sequence[Request]) -> list[Reply]:
    """Send each request from a thread of its own, all at once."""
    barrier = threading.Barrier(len(requests))
    replies: dict[int, Reply] = {}

    def send(place: int) -> None:
        barrier.wait()
        replies[place] = _one(store, requests[place])

    threads = [threading.Thread(target=send, args=(place,)) for place in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [replies[place] for place in range(len(requests))]
