"""Copies between neve's stores and indexes behind a real S3 Vectors endpoint, by the unmodified SDK."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from botocore.client import BaseClient

import neve
from neve.errors import SourceUnfit, TargetUnfit, TransferError, TransferIncomplete
from neve.index.database import Database
from neve.index.records import IndexConfig
from neve.runtime import SystemRuntime
from neve.segments.rows import Puts
from neve.store.connect import connect
from neve.transfer import remote
from neve.transfer.mapping import ColumnMapping
from neve.transfer.remote import Remote, RemoteUrl, Sent, check_arrived, send
from neve.transfer.rules import Rules
from neve.transfer.snapshot import Snapshot, tally
from neve.transfer.sources import plan_source, read_part
from tests.servers.neve import NeveServer

ROWS, DIMENSION = 1300, 8
OWN = {"vectorBucketName": "own", "indexName": "books"}
NUMBERS = itertools.count()


def record(number: int, version: int = 0) -> dict[str, Any]:
    vector = np.random.default_rng([number, version]).standard_normal(DIMENSION).astype(np.float32)
    metadata = {"n": number, "half": number / 2, "tags": ["ä", str(number)], "even": number % 2 == 0}
    return {"key": f"k/{number}", "data": {"float32": vector.tolist()}, "metadata": metadata if number else {}}


def put(client: Any, names: dict[str, str], records: list[dict[str, Any]]) -> None:
    for start in range(0, len(records), 500):
        client.put_vectors(**names, vectors=records[start : start + 500])


def listed(client: Any, names: dict[str, str]) -> dict[str, dict[str, Any]]:
    pages = client.get_paginator("list_vectors").paginate(**names, returnData=True, returnMetadata=True)
    return {found["key"]: found for page in pages for found in page["vectors"]}


@pytest.fixture
def client(neve_server: NeveServer) -> BaseClient:
    return neve_server.client()


@pytest.fixture
def names(client: BaseClient) -> dict[str, str]:
    """An empty index at the endpoint."""
    found = {"vectorBucketName": f"remote-{next(NUMBERS)}", "indexName": "books"}
    client.create_vector_bucket(vectorBucketName=found["vectorBucketName"])
    client.create_index(**found, dataType="float32", dimension=DIMENSION, distanceMetric="cosine")
    return found


@pytest.fixture
def url(neve_server: NeveServer, names: dict[str, str]) -> str:
    return f"s3vectors://{names['vectorBucketName']}/books?endpoint={neve_server.url}&region=us-east-1"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A store of our own, with an index of 1,300 rows."""
    store = (tmp_path / "own").as_uri()
    with neve.client(store=store) as own:
        own.create_vector_bucket(vectorBucketName="own")
        own.create_index(**OWN, dataType="float32", dimension=DIMENSION, distanceMetric="cosine")
        put(own, OWN, [record(number) for number in range(ROWS)])
    opened = Database.open(connect(store), SystemRuntime())
    yield opened
    opened.close()


@pytest.fixture
def snapshot(database: Database) -> Snapshot:
    return Snapshot.of(database, "own", "books")


def sent(snapshot: Snapshot, url: str, *, create: bool = False) -> Sent:
    return send(snapshot, url, create=create, progress=lambda *_: None)


class TestExport:
    def test_everything_arrives_once(
        self, snapshot: Snapshot, url: str, client: BaseClient, names: dict[str, str]
    ) -> None:
        first = sent(snapshot, url)
        assert (first.rows, first.sent, first.others) == (ROWS, ROWS, 0)
        assert listed(client, names) == {found["key"]: found for found in map(record, range(ROWS))}
        again = sent(snapshot, url)
        assert (again.sent, again.digest) == (0, tally(snapshot.blocks()).digest)

    def test_what_is_there_stays_and_what_is_old_is_replaced(
        self, snapshot: Snapshot, url: str, client: BaseClient, names: dict[str, str]
    ) -> None:
        put(client, names, [record(number) for number in range(700)])
        put(client, names, [record(number, 1) for number in range(100)])
        put(client, names, [record(number) for number in range(5000, 5010)])
        found = sent(snapshot, url)
        assert (found.sent, found.others) == (ROWS - 600, 10)
        there = listed(client, names)
        assert len(there) == ROWS + 10
        assert there["k/5"] == record(5)

    def test_an_index_is_created_if_asked(self, snapshot: Snapshot, neve_server: NeveServer) -> None:
        bucket = f"remote-{next(NUMBERS)}"
        url = f"s3vectors://{bucket}/new?endpoint={neve_server.url}&region=us-east-1"
        with pytest.raises(TargetUnfit, match=r"The specified index could not be found"):
            sent(snapshot, url)
        assert sent(snapshot, url, create=True).sent == ROWS
        assert sent(snapshot, url, create=True).sent == 0

    def test_another_shape_is_refused(self, snapshot: Snapshot, client: BaseClient, neve_server: NeveServer) -> None:
        bucket = f"remote-{next(NUMBERS)}"
        client.create_vector_bucket(vectorBucketName=bucket)
        for name, dimension, metric in (("flat", 8, "euclidean"), ("long", 9, "cosine")):
            client.create_index(
                vectorBucketName=bucket,
                indexName=name,
                dataType="float32",
                dimension=dimension,
                distanceMetric=metric,
            )
            with pytest.raises(TargetUnfit, match=f"{name} has d.* (9|euclidean), and the index has (8|cosine)"):
                sent(snapshot, f"s3vectors://{bucket}/{name}?endpoint={neve_server.url}&region=us-east-1")

    def test_lost_rows_are_noticed(self, snapshot: Snapshot, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def lossy(self: Remote, puts: Puts) -> None:
            real(self, Puts(puts.keys[1:], puts.vectors[1:], puts.metadata[1:]))

        real = Remote.put
        monkeypatch.setattr(Remote, "put", lossy)
        with pytest.raises(TransferIncomplete, match=r"3 of 1,300 vectors are not in s3vectors://.*: run it again"):
            sent(snapshot, url)
        monkeypatch.setattr(Remote, "put", real)
        assert sent(snapshot, url).sent == 3

    def test_calls_keep_within_the_limit_of_a_body(
        self, snapshot: Snapshot, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(remote, "_BODY_BYTES", 10_000)
        assert sent(snapshot, url).sent == ROWS


class TestImport:
    def rows(self, url: str, config: IndexConfig) -> tuple[dict[str, bytes], dict[str, bytes]]:
        source, mapping = plan_source([url], ColumnMapping()), ColumnMapping()
        rules = Rules.of(config)
        vectors: dict[str, bytes] = {}
        metadata: dict[str, bytes] = {}
        for part in source.parts:
            for puts, rejects in read_part(part, mapping, rules):
                assert not rejects
                assert not vectors.keys() & set(puts.keys)
                vectors |= zip(puts.keys, map(bytes, puts.vectors), strict=True)
                metadata |= zip(puts.keys, puts.metadata, strict=True)
        return vectors, metadata

    def test_a_remote_index_is_a_source(
        self, snapshot: Snapshot, url: str, client: BaseClient, names: dict[str, str]
    ) -> None:
        put(client, names, [record(number) for number in range(ROWS)])
        assert plan_source([url], ColumnMapping()).rows == pytest.approx(ROWS, rel=0.3)
        vectors, metadata = self.rows(url, snapshot.state.config)
        expected = {found["key"]: found for found in map(record, range(ROWS))}
        assert vectors == {k: np.array(v["data"]["float32"], np.float32).tobytes() for k, v in expected.items()}
        assert metadata["k/0"] == b"{}"
        assert metadata["k/3"] == '{"n":3,"half":1.5,"tags":["ä","3"],"even":false}'.encode()

    def test_what_has_arrived_is_compared(
        self, snapshot: Snapshot, url: str, client: BaseClient, names: dict[str, str]
    ) -> None:
        put(client, names, [record(number) for number in range(1000)])
        assert check_arrived(snapshot, url, 0, lambda *_: None).rows == 1000
        put(client, names, [record(7, 1), record(9999)])
        with pytest.raises(TransferIncomplete, match=r"2 of 1,001 vectors of .* are not in own/books as"):
            check_arrived(snapshot, url, 0, lambda *_: None)
        assert check_arrived(snapshot, url, 2, lambda *_: None).rows == 1001

    def test_another_index_of_the_name_is_another_source(
        self, snapshot: Snapshot, url: str, client: BaseClient, names: dict[str, str]
    ) -> None:
        source = plan_source([url], ColumnMapping())
        assert (source.dimension, len(source.parts)) == (DIMENSION, 4)
        client.delete_index(**names)
        with pytest.raises(SourceUnfit, match="The specified index could not be found"):
            next(read_part(source.parts[0], ColumnMapping(), Rules.of(snapshot.state.config)))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3vectors://bucket", "does not name an index; use s3vectors://bucket/index"),
        ("s3vectors://bucket/a/b", "does not name an index"),
        ("s3vectors://key:secret@bucket/index", "a URL holds no credentials"),
        ("s3vectors://bucket/index?endpoint=http://key:secret@host", "a URL holds no credentials"),
        ("s3vectors://bucket/index?profile=x", "unknown option 'profile'"),
    ],
)
def test_urls(url: str, message: str) -> None:
    with pytest.raises(TransferError, match=message):
        RemoteUrl.parse(url)


def test_wrong_credentials_and_no_endpoint(
    url: str, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch, neve_server: NeveServer
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(TargetUnfit, match=r"^s3vectors://.*InvalidSignatureException.*$"):
        sent(snapshot, url)
    with pytest.raises(SourceUnfit, match=r"^s3vectors://.*InvalidSignatureException.*$"):
        plan_source([url], ColumnMapping())
    monkeypatch.setattr(remote, "_ATTEMPTS", 1)
    with pytest.raises(SourceUnfit, match="Could not connect to the endpoint URL"):
        plan_source(["s3vectors://bucket/index?endpoint=http://127.0.0.1:9&region=us-east-1"], ColumnMapping())
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(SourceUnfit, match="Unable to locate credentials"):
        plan_source([url], ColumnMapping())
