"""Indexes behind any S3 Vectors endpoint, through the AWS SDK: read by segments, written by batches.

`s3vectors://bucket/index[?endpoint=URL&region=NAME]`; without an endpoint it is Amazon's, or that of
AWS_ENDPOINT_URL_S3_VECTORS. Credentials come as the SDK finds them, never from the URL.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import orjson

from neve.api.document import dump_json, parse_json
from neve.api.limits import LIMITS
from neve.compaction.build import Progress
from neve.errors import SourceUnfit, TargetUnfit, TransferError, TransferIncomplete
from neve.segments.rows import Puts
from neve.transfer.mapping import ColumnMapping
from neve.transfer.rules import Raw
from neve.transfer.snapshot import Snapshot, Tally, digests, sorted_among
from neve.transfer.sources.parts import Head, SourcePart

FORM = "s3vectors://bucket/index[?endpoint=URL&region=NAME]"
SEGMENTS = 16
"""Of a listing, the most that ListVectors knows."""
PART_SEGMENTS = 4
"""Of a part of an import: so many are listed at the same time."""
PUT_THREADS = 8
_REGION = "us-east-1"
"""In the signature of requests to an endpoint of its own, where none is told."""
_ATTEMPTS = 10
_POOL = 32
_COMPONENT_BYTES = 22
"""A float32 as the shortest double prints in so many bytes, with its comma."""
_BODY_BYTES = 16 << 20
_NAME = re.compile(r"[^/]+")


@dataclass(frozen=True, slots=True)
class RemoteUrl:
    """A parsed URL."""

    bucket: str
    index: str
    endpoint: str | None
    region: str | None

    @classmethod
    def parse(cls, url: str) -> RemoteUrl:
        """Raises TransferError."""
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query))
        index = parts.path.removeprefix("/")
        if parts.scheme != "s3vectors" or not parts.netloc or not _NAME.fullmatch(index):
            raise TransferError(f"{url} does not name an index; use {FORM}")
        if "@" in parts.netloc or "@" in options.get("endpoint", ""):
            raise TransferError("a URL holds no credentials; they come as the AWS SDK finds them")
        if unknown := options.keys() - {"endpoint", "region"}:
            raise TransferError(f"unknown option {min(unknown)!r}; use {FORM}")
        return cls(parts.netloc, index, options.get("endpoint"), options.get("region"))

    @property
    def names(self) -> dict[str, str]:
        return {"vectorBucketName": self.bucket, "indexName": self.index}


@contextmanager
def connected(url: str, unfit: type[TransferError]) -> Iterator[Remote]:
    """The index of a URL. What the SDK raises becomes `unfit`, in one line with the URL."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    found = RemoteUrl.parse(url)
    config = Config(
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        max_pool_connections=_POOL,
        parameter_validation=False,  # it looks at every component
    )
    try:
        session = boto3.Session(region_name=found.region)  # a new one finds renewed credentials
        region = session.region_name or (found.endpoint and _REGION)
        client = session.client("s3vectors", region, endpoint_url=found.endpoint, config=config)
        try:
            yield Remote(client, found)
        finally:
            client.close()
    except (BotoCoreError, ClientError) as error:
        raise unfit(f"{url}: {str(error).splitlines()[0]}") from error


@dataclass(frozen=True, slots=True)
class Remote:
    """An index by the SDK's client; its methods raise what the SDK raises."""

    client: Any
    url: RemoteUrl

    def describe(self) -> dict[str, Any]:
        """The `index` member of GetIndex."""
        found: dict[str, Any] = self.client.get_index(**self.url.names)["index"]
        return found

    def first_keys(self) -> int:
        """How many vectors the first page of the first segment has. 1 request."""
        asked = {"segmentCount": SEGMENTS, "segmentIndex": 0, "maxResults": LIMITS["aws"].list_page}
        return len(self.client.list_vectors(**self.url.names, **asked)["vectors"])

    def pages(self, segments: Sequence[int]) -> Iterator[list[dict[str, Any]]]:
        """All vectors of some of the 16 segments, with data and metadata, page by page; a thread a segment."""
        with ThreadPoolExecutor(len(segments)) as threads:
            pending = {threads.submit(self._page, segment, None): segment for segment in segments}
            try:
                while pending:
                    for future in wait(pending, return_when=FIRST_COMPLETED).done:
                        segment, page = pending.pop(future), future.result()
                        if "nextToken" in page:
                            pending[threads.submit(self._page, segment, page["nextToken"])] = segment
                        yield page["vectors"]
            finally:
                for future in pending:
                    future.cancel()

    def _page(self, segment: int, token: str | None) -> dict[str, Any]:
        after = {} if token is None else {"nextToken": token}
        page: dict[str, Any] = self.client.list_vectors(
            **self.url.names,
            **after,
            segmentCount=SEGMENTS,
            segmentIndex=segment,
            maxResults=LIMITS["aws"].list_page,
            returnData=True,
            returnMetadata=True,
        )
        return page

    def puts(self, segments: Sequence[int] = range(SEGMENTS)) -> Iterator[Puts]:
        """As `pages`, as columns."""
        for page in self.pages(segments):
            if page:
                vectors = np.array([row["data"]["float32"] for row in page], np.float32)
                yield Puts([row["key"] for row in page], vectors, [_encoded(row.get("metadata")) for row in page])

    def put(self, puts: Puts) -> None:
        """PutVectors of all rows, in as many calls as its limits ask for, one after another."""
        rows = list(zip(puts.keys, puts.vectors, puts.metadata, strict=True))
        width = _COMPONENT_BYTES * puts.vectors.shape[1]
        start = size = 0
        for place, (key, _, metadata) in enumerate(rows):
            more = width + len(key.encode()) + 2 * len(metadata) + 64
            if place - start == LIMITS["aws"].put_vectors or (size + more > _BODY_BYTES and place > start):
                self._put(rows[start:place])
                start, size = place, 0
            size += more
        if rows:
            self._put(rows[start:])

    def _put(self, rows: Sequence[tuple[str, np.ndarray, bytes]]) -> None:
        records = [
            {"key": key, "data": {"float32": vector.tolist()}, "metadata": parse_json(metadata)}
            for key, vector, metadata in rows
        ]
        self.client.put_vectors(**self.url.names, vectors=records)


class RemoteIndex:
    """A remote index as a source of an import. What is written to it meanwhile may be read or not."""

    def fingerprint(self, url: str, _mapping: ColumnMapping) -> str:
        """Says whether it is still the same index: nothing says whether its vectors are."""
        with connected(url, SourceUnfit) as remote:
            found = remote.describe()
        return f"{found['creationTime'].timestamp()} {found['dimension']}"

    def head(self, url: str, _mapping: ColumnMapping) -> Head:
        """The rows are estimated by the first of the 16 segments, where that has no more than a page of keys."""
        with connected(url, SourceUnfit) as remote:
            dimension, rows = int(remote.describe()["dimension"]), SEGMENTS * remote.first_keys()
        return Head(rows, dimension, range(PART_SEGMENTS, SEGMENTS + 1, PART_SEGMENTS), PART_SEGMENTS)

    def read(self, part: SourcePart, _mapping: ColumnMapping, dimension: int, _block_rows: int) -> Iterator[Raw]:
        row = 0
        with connected(part.url, SourceUnfit) as remote:
            for page in remote.pages(range(part.start, part.stop)):
                keys, documents = [found["key"] for found in page], [found.get("metadata") for found in page]
                vectors = np.array([found["data"]["float32"] for found in page], np.float32).reshape(len(page), -1)
                problems = {}
                if page and vectors.shape[1] != dimension:
                    reason = f"vector must have length {dimension}, but has length {vectors.shape[1]}"
                    problems = dict.fromkeys(range(len(page)), reason)
                    vectors = np.zeros((len(page), dimension), np.float32)
                yield Raw(part.url, range(row, row + len(page)), keys, vectors, documents, problems)
                row += len(page)


@dataclass(frozen=True, slots=True)
class Sent:
    """What an export to a remote index has done: `sent` of `rows`, the rest was there already, and so were `others`."""

    rows: int
    sent: int
    others: int
    digest: int


def send(snapshot: Snapshot, url: str, *, create: bool, progress: Progress) -> Sent:
    """Put what a remote index does not have yet, and list it again to see that it has everything.

    Goes on where an earlier run has stopped. Raises TargetUnfit, and TransferIncomplete where a row is not there at
    the end as it was sent. Lists the remote index twice; memory: 16 bytes a row.
    """
    with connected(url, TargetUnfit) as remote:
        if create:
            _create(remote, snapshot)
        _check_shape(remote, snapshot)
        there = _listed(remote, progress, "look")
        tally, own, sent = Tally(), list[np.ndarray](), 0
        with ThreadPoolExecutor(PUT_THREADS) as threads:
            pending: set[Future[None]] = set()
            try:
                for puts in snapshot.blocks():
                    digested = digests(puts)
                    tally.add(digested)
                    own.append(digested)
                    absent = np.flatnonzero(~sorted_among(digested, there))
                    sent += len(absent)
                    for some in np.array_split(absent, range(500, len(absent), 500)):
                        if len(pending) >= 2 * PUT_THREADS:
                            pending = _finish(pending)
                        pending.add(threads.submit(remote.put, _take(puts, some.tolist())))
                    progress("put", tally.rows, max(tally.rows, snapshot.rows))
                while pending:
                    pending = _finish(pending)
            finally:
                for future in pending:
                    future.cancel()
        there = _listed(remote, progress, "verify")
    lost = sum(int(np.count_nonzero(~sorted_among(run, there))) for run in own)
    if lost:
        raise TransferIncomplete(f"{lost:,} of {tally.rows:,} vectors are not in {url} as they were sent: run it again")
    return Sent(tally.rows, sent, len(there) - tally.rows, tally.digest)


def check_arrived(snapshot: Snapshot, url: str, rejected: int, progress: Progress) -> Tally:
    """See that an index has all vectors of a remote one, but for so many that were rejected; the tally of the latter.

    Raises SourceUnfit, and TransferIncomplete where one is missing or not as it is there. Reads both whole; memory: 16
    bytes a row.
    """
    with connected(url, SourceUnfit) as remote:
        there = _listed(remote, progress, "verify")
    here = np.sort(np.concatenate([np.empty(0, np.uint64), *map(digests, snapshot.blocks())]))
    lost = int(np.count_nonzero(~sorted_among(there, here)))
    if lost > rejected:
        path = snapshot.state.record.path
        raise TransferIncomplete(
            f"{lost - rejected:,} of {len(there):,} vectors of {url} are not in {path} as they are there: "
            "unless either was written to meanwhile, import again"
        )
    tally = Tally()
    tally.add(there)
    return tally


def _finish(pending: set[Future[None]]) -> set[Future[None]]:
    """Wait for one; raise its error."""
    done, rest = wait(pending, return_when=FIRST_COMPLETED)
    for future in done:
        future.result()
    return rest


def _listed(remote: Remote, progress: Progress, stage: str) -> np.ndarray:
    """The digests of all vectors of a remote index, sorted, uint64 [n]."""
    found: list[np.ndarray] = [np.empty(0, np.uint64)]
    count = 0
    for puts in remote.puts():
        found.append(digests(puts))
        progress(stage, count := count + len(puts.keys), 0)
    return np.sort(np.concatenate(found))


def _create(remote: Remote, snapshot: Snapshot) -> None:
    """Create bucket and index where they are missing."""
    config, errors = snapshot.state.config, remote.client.exceptions
    bucket = {"vectorBucketName": remote.url.bucket}
    with suppress(errors.ConflictException):
        remote.client.create_vector_bucket(**bucket)
    shape: dict[str, Any] = {
        "dataType": "float32",
        "dimension": config.dimension,
        "distanceMetric": config.metric.value,
    }
    if config.non_filterable:
        shape["metadataConfiguration"] = {"nonFilterableMetadataKeys": list(config.non_filterable)}
    with suppress(errors.ConflictException):
        remote.client.create_index(**remote.url.names, **shape)


def _check_shape(remote: Remote, snapshot: Snapshot) -> None:
    config, there = snapshot.state.config, remote.describe()
    for name, own, other in (
        ("dimension", config.dimension, there["dimension"]),
        ("distance metric", config.metric.value, there["distanceMetric"]),
    ):
        if own != other:
            raise TargetUnfit(f"{remote.url.bucket}/{remote.url.index} has {name} {other}, and the index has {own}")


def _take(puts: Puts, rows: Sequence[int]) -> Puts:
    return Puts([puts.keys[row] for row in rows], puts.vectors[rows], [puts.metadata[row] for row in rows])


def _encoded(metadata: object) -> bytes:
    if metadata is None:
        return b"{}"
    try:
        return orjson.dumps(metadata)
    except TypeError:
        return dump_json(metadata)
