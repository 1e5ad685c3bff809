"""List prices of us-east-1 in dollars, beside those of a store (neve/store/prices.py); a gigabyte is 10⁹ bytes.

Of Lambda: aws.amazon.com/lambda/pricing, x86. Of the hosted service: aws.amazon.com/s3/pricing, S3 Vectors, as of
2026-10-02. Free tiers, discounts and transfer out of the region are left out of both.
"""

from __future__ import annotations

GB_SECOND = 0.0000166667
"""Of memory, 1,024 MB each, while a function starts or runs."""
INVOCATION = 0.20 / 1e6

HOSTED_QUERY = 2.50 / 1e6
HOSTED_PROCESSED = ((100_000, 0.004e-12), (10_000_000, 0.002e-12), (2_000_000_000, 0.0004e-12))
"""Of a byte that a query processes: up to so many vectors of the index, and beyond."""
HOSTED_PUT_BYTE, HOSTED_PUT_BYTES_MIN = 0.20e-9, 128 << 10
"""Of a byte that is put, and as how much a smaller put counts."""
HOSTED_GB_MONTH = 0.06


def hosted_query(vectors: int, vector_bytes: float) -> float:
    """Of one query of an index; `vector_bytes` on average: data, key and filterable metadata."""
    dollars, below = HOSTED_QUERY, 0
    for upper, price in HOSTED_PROCESSED:
        dollars += max(0, min(vectors, upper) - below) * vector_bytes * price
        below = upper
    return dollars


def hosted_put(size_bytes: float) -> float:
    """Of one PutVectors: data, keys and all metadata."""
    return max(size_bytes, HOSTED_PUT_BYTES_MIN) * HOSTED_PUT_BYTE


def invocation(seconds: float, memory_mb: float) -> float:
    """Of one invocation of a function, its start included where it had to."""
    return INVOCATION + seconds * memory_mb / 1024 * GB_SECOND
