"""Hypothesis strategies for what clients send: vectors, keys, metadata and filters, the nasty ones included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from neve.vectors.metric import Metric

KEY_BYTES_MAX = 1024
SUBNORMAL = 1e-42
HUGE = 3.4028234663852886e38
FIELDS = ("genre", "year", "rating", "a.b", "", "größe", "seen")
WORDS = ("mystery", "drama", "dra", "", "É", "é", "雪", "1", "true", "NaN")


def float32s(bound: float = HUGE) -> st.SearchStrategy[float]:
    """Finite float32 values within ± bound: plain ones, zeros of both signs, subnormals, the largest."""
    plain = st.floats(-min(bound, 10.0), min(bound, 10.0), width=32)
    edges = [value for value in (0.0, -0.0, 1.0, -1.0, SUBNORMAL, -SUBNORMAL, bound, -bound) if abs(value) <= bound]
    return st.one_of(plain, st.sampled_from(edges), st.floats(-bound, bound, width=32))


def vectors(dimension: int, metric: Metric, bound: float = 2.0**60) -> st.SearchStrategy[npt.NDArray[np.float32]]:
    """Vectors that an index of that metric takes (none of zero norm where cosine is measured).

    `bound` keeps squared distances within float32; pass HUGE where overflow is the point.
    """
    drawn = st.lists(float32s(bound), min_size=dimension, max_size=dimension).map(
        lambda values: np.array(values, dtype=np.float32)
    )
    return drawn.filter(lambda vector: bool(vector.any())) if metric is Metric.COSINE else drawn


@st.composite
def crowds(draw: st.DrawFn, dimension: int, metric: Metric, size_max: int = 20) -> list[npt.NDArray[np.float32]]:
    """Several vectors hard to tell apart: repeats, near-duplicates one float away, multiples, mirror images."""
    centres = draw(st.lists(vectors(dimension, metric), min_size=1, max_size=3))
    crowd: list[npt.NDArray[np.float32]] = []
    for _ in range(draw(st.integers(1, size_max))):
        centre = draw(st.sampled_from(centres))
        match draw(st.sampled_from(("same", "near", "scaled", "mirrored", "fresh"))):
            case "same":
                vector = centre.copy()
            case "near":
                vector = centre.copy()
                at = draw(st.integers(0, dimension - 1))
                vector[at] = np.nextafter(vector[at], np.float32(np.inf), dtype=np.float32)
            case "scaled":
                vector = (centre * np.float32(draw(st.sampled_from((0.5, 2.0, 3.0))))).astype(np.float32)
            case "mirrored":
                vector = -centre
            case _:
                vector = draw(vectors(dimension, metric))
        crowd.append(vector if vector.any() or metric is Metric.EUCLIDEAN else centre.copy())
    return crowd


def keys() -> st.SearchStrategy[str]:
    """Vector keys: 1 to 1,024 bytes of well-formed Unicode; similar ones, odd ones, the longest."""
    text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
    odd = st.sampled_from(
        ["/", ".", "..", "a/b", "a", "A", "a\x00", "\x00", " ", "é", "e\u0301", "雪", "🧊", "%2F", '"', "\\", "\n"]
    )
    longest = st.sampled_from(["k" * KEY_BYTES_MAX, "雪" * (KEY_BYTES_MAX // 3), "🧊" * (KEY_BYTES_MAX // 4)])
    few = st.integers(0, 15).map(lambda number: f"key-{number}")
    return st.one_of(few, few, text, odd, longest)


def scalars() -> st.SearchStrategy[object]:
    """Scalar metadata values, few enough that filters hit them."""
    numbers = st.one_of(
        st.integers(-3, 3),
        st.sampled_from([0.0, -0.0, 0.5, 1.0, 2.5, 1e300, -1e300, 2**53, 2**53 + 1, -(2**63), 2**64 - 1, 2020, 2021]),
    )
    return st.one_of(st.sampled_from(WORDS), numbers, st.booleans())


def metadata(fields: Sequence[str] = FIELDS) -> st.SearchStrategy[Mapping[str, object]]:
    """Metadata documents as the API takes them: strings, numbers, booleans, arrays of only strings or only numbers."""
    number = st.one_of(st.integers(-3, 3), st.sampled_from([0.5, 1.0, 2021]))
    value = st.one_of(
        scalars(),
        st.lists(st.sampled_from(WORDS), min_size=1, max_size=3),
        st.lists(number, min_size=1, max_size=3),
    )
    return st.dictionaries(st.sampled_from(list(fields)), value, max_size=4)


def filters(fields: Sequence[str] = FIELDS, depth: int = 2) -> st.SearchStrategy[dict[str, object]]:
    """Well-formed filter documents of every operator, nested up to `depth`."""
    field = st.sampled_from([*fields, "absent"])
    number = st.one_of(st.integers(-3, 3), st.sampled_from([0.5, 1.0, 2020, 2021, 1e300, 2**53, 2**53 + 1]))
    several = st.lists(scalars(), min_size=1, max_size=3)
    operators: st.SearchStrategy[dict[str, object]] = st.fixed_dictionaries(
        {},
        optional={
            "$eq": scalars(),
            "$ne": scalars(),
            "$gt": number,
            "$gte": number,
            "$lt": number,
            "$lte": number,
            "$in": several,
            "$nin": several,
            "$exists": st.booleans(),
            "$startsWith": st.sampled_from([word[:3] for word in WORDS]),
        },
    ).filter(bool)
    one = st.one_of(operators.map(lambda whole: dict([next(iter(whole.items()))])), operators, scalars())
    condition: st.SearchStrategy[dict[str, object]] = st.builds(lambda name, test: {name: test}, field, one)
    for _ in range(depth):
        nested = st.lists(condition, min_size=1, max_size=3)
        junction = st.builds(lambda name, parts: {name: parts}, st.sampled_from(["$and", "$or"]), nested)
        condition = st.one_of(condition, junction)
    return condition
