"""Bills: waves, requests, bytes and dollars of one context, whatever other threads do."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path

import pytest

from neve.store.counting import Bill, BilledStore, CountingStore, bill, count_hedges
from neve.store.port import (
    UPLOAD_WHOLE_BYTES_MAX,
    Delete,
    Get,
    List,
    Put,
    PutNew,
    Reply,
    Request,
    Upload,
    upload_part_bytes,
    upload_requests,
)
from neve.testing.objects import MemoryStore


def test_a_bill_holds_what_was_asked_within_its_block(tmp_path: Path) -> None:
    store = BilledStore(MemoryStore())
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    store.wave([Put("before", b"x")])
    with bill() as own:
        store.wave([Get("before"), PutNew("a", b"12"), Upload("u", file)])
        store.wave([Get("u", 1, 4), Get("absent"), List("x/"), Delete(("before",))])
    store.wave([Get("u")])
    assert own.waves == [("Get", "PutNew", "Upload"), ("Get", "Get", "List", "Delete")]
    assert own.requests == 7
    assert (own.bytes_read, own.bytes_written) == (4, 7)
    assert own.dollars == pytest.approx(3 * 0.0004 / 1000 + 3 * 0.005 / 1000)


def test_bills_within_bills() -> None:
    store = BilledStore(MemoryStore())
    with bill() as outer:
        store.wave([Get("a")])
        with bill() as inner:
            store.wave([List("a/")])
    assert inner.waves == [("List",)]
    assert outer.waves == [("Get",), ("List",)]


def test_threads_have_bills_of_their_own() -> None:
    store = CountingStore(BilledStore(MemoryStore()))
    bills: dict[int, Bill] = {}
    gate = threading.Barrier(4)

    def ask(number: int) -> None:
        with bill() as own:
            gate.wait()
            for _ in range(50):
                store.wave([Get("a")] * number)
        bills[number] = own

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {number: own.requests for number, own in bills.items()} == {0: 0, 1: 50, 2: 100, 3: 150}
    assert store.new_bill().requests == 300
    assert store.new_bill().requests == 0


def test_a_bill_of_two_threads_misses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    added = Bill.add

    def slowly(self: Bill, requests: Sequence[Request], replies: Sequence[Reply]) -> None:
        before = self.bytes_read
        time.sleep(0.0005)  # the other thread has its turn
        assert self.bytes_read == before
        added(self, requests, replies)

    monkeypatch.setattr(Bill, "add", slowly)
    objects = MemoryStore()
    objects.wave([Put("a", b"four")])
    store = BilledStore(objects)
    with bill() as own:
        contexts = [copy_context() for _ in range(2)]
        with ThreadPoolExecutor(2) as pool:
            for _ in range(50):
                list(pool.map(lambda context: context.run(store.wave, [Get("a")]), contexts))
    assert (own.requests, own.bytes_read) == (100, 400)


def test_a_bill_is_closed_when_its_block_fails() -> None:
    store = BilledStore(MemoryStore())
    with pytest.raises(KeyError), bill() as own:
        raise KeyError
    store.wave([Get("a")])
    assert own.waves == []


def test_hedges_cost_money_and_are_no_requests_of_the_plan() -> None:
    class Hedging(MemoryStore):
        def wave(self, requests):  # type: ignore[no-untyped-def]
            count_hedges(2)
            return super().wave(requests)

    store = CountingStore(Hedging())
    with bill() as own:
        store.wave([Get("a")])
    for one in (own, store.bill):
        assert one.hedges == 2
    assert store.bill.requests == 1
    assert store.bill.dollars == pytest.approx(3 * 0.0004 / 1000)


@pytest.mark.parametrize(
    ("size", "requests"),
    [
        (0, 1),
        (UPLOAD_WHOLE_BYTES_MAX, 1),
        (UPLOAD_WHOLE_BYTES_MAX + 1, 2 + 5),
        (1 << 30, 2 + 128),
        (5 << 40, 2 + 9_000),
    ],
)
def test_requests_of_an_upload(size: int, requests: int) -> None:
    assert upload_requests(size) == requests
    assert -(-size // upload_part_bytes(size)) <= 10_000
