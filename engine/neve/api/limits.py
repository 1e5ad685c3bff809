"""The numbers that bound a request, in two profiles. This table is the one place that states them.

| limit                                 | `aws`      | `wide`      |
|---------------------------------------|-----------:|------------:|
| dimension                             | 4,096      | 16,384      |
| vectors a PutVectors                  | 500        | 10,000      |
| keys a DeleteVectors                  | 500        | 10,000      |
| keys a GetVectors                     | 100        | 1,000       |
| topK                                  | 10,000     | 100,000     |
| hits a page of QueryVectors           | 100        | 1,000       |
| vectors a page of ListVectors         | 1,000      | 10,000      |
| bytes a page of ListVectors           | 1 MiB      | 16 MiB      |
| filter constraints                    | 100        | 1,000       |
| metadata keys a vector                | 50         | 500         |
| metadata bytes a vector               | 40,960     | 1 MiB       |
| filterable metadata bytes a vector    | 2,048      | 64 KiB      |
| non-filterable keys an index          | 10         | 100         |
| tags a resource                       | 50         | 50          |
| body bytes a request                  | 20 MiB     | 256 MiB     |
| vector buckets                        | 10,000     | 100,000     |
| indexes a bucket                      | 10,000     | 100,000     |
| vectors an index                      | 2 billion  | 10 billion  |

Names, keys, prefixes, tags, page tokens and segments have the service's limits in both, since the storage format
relies on them. `aws` is the service's own (API notes §3).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from neve.dataclass import dataclass

_KIB = 1024
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """One profile. Every number is inclusive; metadata bytes are those of the size model, not of JSON."""

    dimension: int
    put_vectors: int
    delete_keys: int
    get_keys: int
    top_k: int
    query_page: int
    list_page: int
    list_page_default: int
    list_page_bytes: int
    filter_constraints: int
    metadata_keys: int
    metadata_bytes: int
    filterable_bytes: int
    non_filterable_keys: int
    tags: int
    body_bytes: int
    buckets: int
    indexes_per_bucket: int
    vectors_per_index: int


LIMITS: Mapping[str, Limits] = MappingProxyType(
    {
        "aws": Limits(
            dimension=4096,
            put_vectors=500,
            delete_keys=500,
            get_keys=100,
            top_k=10_000,
            query_page=100,
            list_page=1000,
            list_page_default=500,
            list_page_bytes=_MIB,
            filter_constraints=100,
            metadata_keys=50,
            metadata_bytes=40_960,
            filterable_bytes=2048,
            non_filterable_keys=10,
            tags=50,
            body_bytes=20 * _MIB,
            buckets=10_000,
            indexes_per_bucket=10_000,
            vectors_per_index=2_000_000_000,
        ),
        "wide": Limits(
            dimension=16_384,
            put_vectors=10_000,
            delete_keys=10_000,
            get_keys=1000,
            top_k=100_000,
            query_page=1000,
            list_page=10_000,
            list_page_default=500,
            list_page_bytes=16 * _MIB,
            filter_constraints=1000,
            metadata_keys=500,
            metadata_bytes=_MIB,
            filterable_bytes=64 * _KIB,
            non_filterable_keys=100,
            tags=50,
            body_bytes=256 * _MIB,
            buckets=100_000,
            indexes_per_bucket=100_000,
            vectors_per_index=10_000_000_000,
        ),
    }
)
