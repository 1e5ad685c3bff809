"""The rules for vectors, keys and metadata, checked against one index; the first bad record is blamed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from neve.api.document import dump_json
from neve.api.limits import Limits
from neve.api.requests import Float32s, PutVector
from neve.errors import FieldError, ValidationFailed
from neve.index.records import IndexConfig
from neve.segments.rows import Puts
from neve.vectors.metric import Metric

KEY_BYTES_MAX = 1024
_NO_METADATA = b"{}"


def checked_puts(vectors: Sequence[PutVector], config: IndexConfig, limits: Limits) -> Puts:
    """The records as columns, each key once (its last record wins); raises ValidationFailed."""
    non_filterable = frozenset(config.non_filterable or ())
    metadata: list[bytes] = []
    for place, record in enumerate(vectors):
        _check_key(record.key, f"vectors[{place}].key")
        if (problem := vector_problem(record.data, config)) is not None:
            raise invalid_record(record.key, problem, f"vectors[{place}]")
        if record.metadata is None:
            metadata.append(_NO_METADATA)
            continue
        if (problem := metadata_problem(record.metadata, non_filterable, limits)) is not None:
            raise invalid_record(record.key, problem, f"vectors[{place}].metadata")
        metadata.append(dump_json(record.metadata))
    last = {record.key: place for place, record in enumerate(vectors)}
    places = list(last.values())
    matrix = np.stack([vectors[place].data for place in places])
    return Puts(list(last), matrix, [metadata[place] for place in places])


def check_keys(keys: Sequence[str], path: str = "keys[{}]") -> None:
    """Raises ValidationFailed where a key is too long in UTF-8; `path` is that of one, {} for its place."""
    for place, key in enumerate(keys):
        _check_key(key, path.format(place))


def check_distinct(keys: Sequence[str], path: str = "keys") -> None:
    """Raises ValidationFailed where a key repeats."""
    if len(set(keys)) != len(keys):
        message = "Request must not contain duplicate keys"
        raise ValidationFailed(message, FieldError(path, message))


def check_query(vector: Float32s, config: IndexConfig) -> None:
    """Raises ValidationFailed where the index could not hold such a vector."""
    if (problem := vector_problem(vector, config)) is not None:
        raise ValidationFailed(
            "Query vector contains invalid values or is invalid for this index",
            FieldError("vector", f"Invalid input: {problem}"),
        )


def vector_problem(vector: Float32s, config: IndexConfig) -> str | None:
    """What is wrong with a vector, after its rounding to float32; None when nothing is."""
    if len(vector) != config.dimension:
        return f"vector must have length {config.dimension}, but has length {len(vector)}"
    if not np.isfinite(vector).all():
        return "vector contains NaNs or Infs"
    if config.metric is Metric.COSINE and not vector.any():
        return "cosine distance does not support vectors with zero norm"
    return None


def metadata_bytes(metadata: Mapping[str, object], without: Collection[str] = ()) -> int:
    """Size of checked metadata by the service's size model (API notes §3), which is not JSON's."""
    entries = ((key, value) for key, value in metadata.items() if key not in without)
    return 4 + sum(8 + _text_bytes(key) + _value_bytes(value) for key, value in entries)


def key_problem(key: str) -> str | None:
    """What is wrong with a key of 1 to 1,024 characters; None when nothing is."""
    if len(key) > KEY_BYTES_MAX // 4 and _text_bytes(key) > KEY_BYTES_MAX:
        return "Record key length exceeds the maximum allowed"
    return None


def _check_key(key: str, path: str) -> None:
    if (problem := key_problem(key)) is not None:
        raise ValidationFailed(problem, FieldError(path, problem))


def invalid_record(key: str, problem: str, path: str) -> ValidationFailed:
    """The refusal of a record."""
    return ValidationFailed(f"Invalid record for key '{key}': {problem}", FieldError(path, problem))


def metadata_problem(metadata: object, non_filterable: Collection[str], limits: Limits) -> str | None:
    """What is wrong with a metadata document; types come before sizes, which are those of right types only."""
    if not isinstance(metadata, dict):
        return "Metadata must be an object"
    if len(metadata) > limits.metadata_keys:
        return f"Metadata object must have at most {limits.metadata_keys} keys"
    for value in metadata.values():
        if (problem := _value_problem(value)) is not None:
            return problem
    if metadata_bytes(metadata) > limits.metadata_bytes:
        return f"Metadata object must have at most {limits.metadata_bytes} bytes"
    if metadata_bytes(metadata, non_filterable) > limits.filterable_bytes:
        return f"Filterable metadata must have at most {limits.filterable_bytes} bytes"
    return None


def _value_problem(value: object) -> str | None:
    if isinstance(value, str | bool | int | float):
        return None
    if not isinstance(value, list):
        return "Metadata values must be strings, numbers, booleans, or arrays"
    if not value:
        return "Empty arrays are not allowed in metadata"
    kinds = {str if isinstance(element, str) else _element_kind(element) for element in value}
    return None if kinds in ({str}, {float}) else "Metadata array values must be strings or numbers"


def _element_kind(element: object) -> type:
    return float if isinstance(element, int | float) and not isinstance(element, bool) else object


def _value_bytes(value: object) -> int:
    if isinstance(value, str):
        return _text_bytes(value)
    if isinstance(value, bool):
        return 0
    if isinstance(value, list):
        return sum(4 + _value_bytes(element) for element in value)
    return 4


def _text_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
