"""One contract, every store that neve runs on; and what the self-test says of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from neve.errors import StoreUnfit
from neve.runtime import SystemRuntime
from neve.store.connect import connect
from neve.store.port import List, Listed, Store
from neve.store.selftest import self_test
from neve.testing.store_contract import StoreContract
from tests.contract.test_kit import CheckedThenWritten, ConditionIgnored, LateList, UnsortedList
from tests.servers.object_store import ObjectStore


class SelfTested(StoreContract):
    """The contract, and the self-test that every store meets at its first use."""

    def test_the_self_test_accepts_it_and_leaves_nothing(self, store: Store) -> None:
        for _ in range(3):
            self_test(store, SystemRuntime())
        assert store.wave([List("scratch/")]) == [Listed((), complete=True)]


class TestMemory(SelfTested):
    @pytest.fixture
    def store(self) -> Store:
        return connect("memory://")


class TestFolder(SelfTested):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return connect(f"file://{tmp_path}/store")


class TestMinio(SelfTested):
    @pytest.fixture
    def store(self, minio: ObjectStore) -> Store:
        return connect(minio.fresh_url())


class TestVersitygw(SelfTested):
    """Its folder backend checks preconditions under a lock of the key since 1.8; older ones did not."""

    @pytest.fixture
    def store(self, versitygw: ObjectStore) -> Store:
        return connect(versitygw.fresh_url())


@pytest.mark.parametrize("broken", [ConditionIgnored, CheckedThenWritten, UnsortedList, LateList])
def test_the_self_test_refuses_unfit_stores(broken: type[Store]) -> None:
    with pytest.raises(StoreUnfit):
        self_test(broken(), SystemRuntime())
