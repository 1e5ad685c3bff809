"""The disk tier: shared, bounded, private, and never in the way when the disk is damaged, full or gone."""

from __future__ import annotations

import logging
import os
import resource
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from neve.store.disk import CHUNK_BYTES, FOLDER, PAUSE_S, TOUCH_S, WAITING_BYTES_MAX, DiskTier
from neve.store.port import Block
from neve.testing.clock import ManualClock, ManualRuntime

BODY = Random(6).randbytes(300_000)
PLENTY = 1 << 30


def block(key: str, start: int, stop: int, offset: int = 0) -> Block:
    """A block of an object whose bytes from `offset` on are BODY."""
    return Block(key, start, stop, zlib.crc32(BODY[start - offset : stop - offset]))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def runtime(clock: ManualClock) -> ManualRuntime:
    return ManualRuntime(clock)


@pytest.fixture
def tier(tmp_path: Path, runtime: ManualRuntime) -> DiskTier:
    return DiskTier(tmp_path / "deep" / "cache", PLENTY, runtime)


def write(tier: DiskTier, runtime: ManualRuntime, key: str, start: int, raw: bytes) -> None:
    tier.write(key, start, raw)
    runtime.settle()


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*-*") if path.is_file()]


def held_bytes(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in files(folder))


def test_what_was_written_is_read_and_the_rest_is_not(tier: DiskTier, runtime: ManualRuntime) -> None:
    write(tier, runtime, "a", 1000, BODY[1000:5000])
    here, part, beyond, other = block("a", 1000, 3000), block("a", 900, 1100), block("a", 6000, 7000), block("b", 0, 9)
    assert tier.read([beyond, here, other, part]) == {here: BODY[1000:3000]}
    assert tier.read([block("a", 4000, 5000), block("a", 1500, 1501)]).keys() == {
        block("a", 4000, 5000),
        block("a", 1500, 1501),
    }


def test_a_hole_between_writes_is_absent(tier: DiskTier, runtime: ManualRuntime) -> None:
    write(tier, runtime, "a", 0, BODY[:1000])
    write(tier, runtime, "a", 200_000, BODY[200_000:])
    assert tier.read([block("a", 100_000, 100_500), block("a", 900, 1100)]) == {}
    assert len(tier.read([block("a", 0, 1000), block("a", 200_000, 300_000)])) == 2


def test_blocks_beyond_a_chunk_and_across_two(tier: DiskTier, runtime: ManualRuntime, tmp_path: Path) -> None:
    offset = CHUNK_BYTES - 100_000
    write(tier, runtime, "a", offset, BODY)
    before = block("a", offset, CHUNK_BYTES, offset)
    across = block("a", CHUNK_BYTES - 5, CHUNK_BYTES + 5, offset)
    after = block("a", CHUNK_BYTES, CHUNK_BYTES + 200_000, offset)
    assert tier.read([after, across, before]) == {
        before: BODY[:100_000],
        across: BODY[99_995:100_005],
        after: BODY[100_000:],
    }
    assert len(files(tmp_path)) == 2
    assert held_bytes(tmp_path) < 400_000, "a chunk is sparse"


def test_a_flipped_bit_a_torn_write_and_a_foreign_file_are_absence(
    tier: DiskTier, runtime: ManualRuntime, tmp_path: Path
) -> None:
    write(tier, runtime, "a", 0, BODY[:10_000])
    (file,) = files(tmp_path)
    raw = bytearray(file.read_bytes())
    for at in (0, 4999, 9999):
        raw[at] ^= 1
        file.write_bytes(raw)
        assert tier.read([block("a", 0, 10_000)]) == {}
        raw[at] ^= 1
    file.write_bytes(raw[:7000])
    assert tier.read([block("a", 0, 6000), block("a", 6000, 10_000)]).keys() == {block("a", 0, 6000)}
    file.write_bytes(b"not ours")
    assert tier.read([block("a", 0, 6000)]) == {}


def test_two_processes_share_it(tier: DiskTier, runtime: ManualRuntime, tmp_path: Path) -> None:
    write(tier, runtime, "a", 0, BODY[:10_000])
    script = f"""
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from zlib import crc32
from neve.runtime import SystemRuntime
from neve.store.disk import DiskTier
from neve.store.port import Block
body = Random(6).randbytes(300_000)
runtime = SystemRuntime()
tier = DiskTier(Path({str(tmp_path / "deep" / "cache")!r}), {PLENTY}, runtime)
assert len(tier.read([Block("a", 50, 9_000, crc32(body[50:9_000]))])) == 1
tier.write("b", 100, body[100:200])
tier.close()
runtime.close()
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    assert tier.read([block("b", 100, 200)]) == {block("b", 100, 200): BODY[100:200]}


def test_the_folder_is_for_this_user_alone(tier: DiskTier, runtime: ManualRuntime, tmp_path: Path) -> None:
    write(tier, runtime, "a", 0, BODY)
    folder = tmp_path / "deep" / "cache" / FOLDER
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_a_folder_open_to_others_is_not_used(
    tier: DiskTier, runtime: ManualRuntime, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "deep" / "cache" / FOLDER
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    write(tier, runtime, "a", 0, BODY)
    assert tier.read([block("a", 0, 100)]) == {}
    assert list(folder.iterdir()) == []
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_links_are_not_followed(tier: DiskTier, runtime: ManualRuntime, tmp_path: Path) -> None:
    write(tier, runtime, "a", 0, BODY)
    (file,) = files(tmp_path)
    target = tmp_path / "target"
    target.write_bytes(BODY)
    file.unlink()
    file.symlink_to(target)
    assert tier.read([block("a", 0, 100)]) == {}
    write(tier, runtime, "a", 0, bytes(100))
    assert target.read_bytes() == BODY


def test_the_least_recently_used_files_go_when_the_bound_is_passed(tmp_path: Path, runtime: ManualRuntime) -> None:
    bound = 2_000_000
    tier = DiskTier(tmp_path, bound, runtime)
    for number in range(30):
        write(tier, runtime, f"object {number}", 0, BODY)
        for age, name in enumerate(sorted(files(tmp_path), key=lambda path: path.stat().st_mtime_ns, reverse=True)):
            os.utime(name, (0, 1_000_000 - age))  # a second apart, in the order written
        assert held_bytes(tmp_path) <= bound + bound / 16 + len(BODY)
    kept = [number for number in range(30) if tier.read([block(f"object {number}", 0, 300_000)])]
    assert len(kept) >= 4
    assert kept == list(range(30 - len(kept), 30))


def test_use_is_noted_once_a_minute(tmp_path: Path) -> None:
    clock = ManualClock(time.time() + 10 * TOUCH_S)
    runtime = ManualRuntime(clock)
    tier = DiskTier(tmp_path, PLENTY, runtime)
    write(tier, runtime, "a", 0, BODY)
    (file,) = files(tmp_path)
    noted: list[int] = []
    for now_s, then_s in ((clock.now_s, 0), (clock.now_s, clock.now_s - TOUCH_S + 1)):
        clock.now_s = now_s
        os.utime(file, (then_s, then_s))
        before = file.stat().st_mtime_ns
        assert tier.read([block("a", 0, 100)])
        noted.append(file.stat().st_mtime_ns - before)
    assert noted[0] > 0
    assert noted[1] == 0
    os.utime(file, (0, 0))
    assert tier.read([block("a", 0, 100, 5)]) == {}
    assert file.stat().st_mtime_ns == 0, "a miss is no use"


def test_one_process_at_a_time_evicts(tmp_path: Path, runtime: ManualRuntime) -> None:
    import fcntl

    tier = DiskTier(tmp_path, 100_000, runtime)
    write(tier, runtime, "a", 0, BODY)
    assert files(tmp_path) == []
    with (tmp_path / FOLDER / "lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        write(tier, runtime, "a", 0, BODY)
        assert len(files(tmp_path)) == 1
    write(tier, runtime, "b", 0, BODY)
    assert files(tmp_path) == []


@contextmanager
def full_disk() -> Iterator[None]:
    """Files take no byte beyond 16,000,000, by the kernel's word."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_000_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_costs_one_warning_and_reading_goes_on(
    tier: DiskTier, runtime: ManualRuntime, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    offset = 15_900_000
    whole, torn = (block("a", offset, stop, offset) for stop in (16_000_000, 16_200_000))
    write(tier, runtime, "old", 0, BODY)
    write(tier, runtime, "new", 0, BODY)
    with full_disk():
        for _ in range(3):
            write(tier, runtime, "a", offset, BODY)
            assert tier.read([whole, torn]).keys() == {whole}
            assert tier.read([block("new", 5, 9)])
    assert len(caplog.records) == 1
    assert "the store is asked instead" in caplog.text
    write(tier, runtime, "a", offset, BODY)
    assert not tier.read([torn]), "writing pauses"
    clock.advance(PAUSE_S + 1)
    write(tier, runtime, "a", offset, BODY)
    assert tier.read([torn])


def test_a_full_disk_gives_up_the_oldest(tier: DiskTier, runtime: ManualRuntime, tmp_path: Path) -> None:
    write(tier, runtime, "old", 0, BODY)
    (oldest,) = files(tmp_path)
    os.utime(oldest, (0, 0))
    write(tier, runtime, "new", 0, BODY)
    with full_disk():
        write(tier, runtime, "a", 17_000_000, BODY)
    assert not oldest.exists()
    assert tier.read([block("new", 0, 300_000)])


def test_a_broken_folder_is_left_alone_and_used_again_when_it_is_back(
    tier: DiskTier, runtime: ManualRuntime, clock: ManualClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "deep").write_bytes(b"a file where the folder should be")
    for _ in range(3):
        write(tier, runtime, "a", 0, BODY)
        assert tier.read([block("a", 0, 100)]) == {}
    assert len(caplog.records) == 1
    (tmp_path / "deep").unlink()
    clock.advance(PAUSE_S + 1)
    write(tier, runtime, "a", 0, BODY)
    assert len(tier.read([block("a", 0, 100)])) == 1


def test_a_folder_removed_while_in_use_is_made_again(
    tier: DiskTier, runtime: ManualRuntime, clock: ManualClock, tmp_path: Path
) -> None:
    import shutil

    write(tier, runtime, "a", 0, BODY)
    shutil.rmtree(tmp_path / "deep")
    assert tier.read([block("a", 0, 100)]) == {}
    write(tier, runtime, "a", 0, BODY)
    clock.advance(PAUSE_S + 1)
    write(tier, runtime, "a", 0, BODY)
    assert len(tier.read([block("a", 0, 100)])) == 1


def test_too_much_waiting_is_dropped_and_close_writes_the_rest(tier: DiskTier, tmp_path: Path) -> None:
    big = bytes(WAITING_BYTES_MAX // 4)
    for number in range(6):
        tier.write("a", number * CHUNK_BYTES, big)
    assert files(tmp_path) == []
    tier.close()
    assert len(files(tmp_path)) == 4
