"""The outputs of the operations, as values; `render` turns them into JSON members."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from neve.api.requests import Float32s
from neve.dataclass import dataclass
from neve.index.records import Encryption
from neve.query.explain import Explain
from neve.query.recall import Measured
from neve.query.warm import Warmed
from neve.store.counting import Bill
from neve.vectors.metric import Metric


@dataclass(frozen=True, slots=True)
class Nothing:
    """`{}`: the operation is done."""


@dataclass(frozen=True, slots=True)
class BucketCreated:
    arn: str


@dataclass(frozen=True, slots=True)
class BucketSummary:
    name: str
    arn: str
    created_s: float


@dataclass(frozen=True, slots=True)
class BucketDescription:
    summary: BucketSummary
    encryption: Encryption


@dataclass(frozen=True, slots=True)
class BucketPage:
    buckets: tuple[BucketSummary, ...]
    next_token: str | None


@dataclass(frozen=True, slots=True)
class IndexCreated:
    arn: str


@dataclass(frozen=True, slots=True)
class IndexSummary:
    bucket: str
    name: str
    arn: str
    created_s: float


@dataclass(frozen=True, slots=True)
class IndexDescription:
    summary: IndexSummary
    dimension: int
    metric: Metric
    non_filterable: tuple[str, ...] | None
    encryption: Encryption


@dataclass(frozen=True, slots=True)
class IndexPage:
    indexes: tuple[IndexSummary, ...]
    next_token: str | None


@dataclass(frozen=True, slots=True)
class OutputVector:
    """A stored vector; `data` and `metadata` (the stored JSON) are None where they were not asked for."""

    key: str
    data: Float32s | None
    metadata: bytes | None


@dataclass(frozen=True, slots=True)
class VectorPage:
    """What GetVectors and ListVectors answer."""

    vectors: tuple[OutputVector, ...]
    next_token: str | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer of a query; `distance` is a float32, widened."""

    key: str
    distance: float | None
    metadata: bytes | None


@dataclass(frozen=True, slots=True)
class HitPage:
    hits: tuple[Hit, ...]
    metric: Metric
    next_token: str | None


@dataclass(frozen=True, slots=True)
class Tags:
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """The value of every setting of an index."""

    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Counted:
    """How many rows were selected."""

    count: int


@dataclass(frozen=True, slots=True)
class Deleted:
    """How many rows were deleted, or would be."""

    count: int


@dataclass(frozen=True, slots=True)
class Explained:
    """A result, with what the call that led to it did and cost."""

    result: Result
    explain: Explain
    bill: Bill
    seconds: float


Result: TypeAlias = (
    Nothing
    | BucketCreated
    | BucketDescription
    | BucketPage
    | IndexCreated
    | IndexDescription
    | IndexPage
    | VectorPage
    | HitPage
    | Tags
    | IndexSettings
    | Counted
    | Deleted
    | Measured
    | Warmed
    | Explained
)
