"""Filters: the table of the grammar, and a naive evaluator that knows nothing of ours."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neve.errors import ValidationFailed
from neve.filters.parse import DEPTH_MAX, parse

ALL_KEYS = ["", "a", "b", "a.b"]
keys = st.sampled_from(ALL_KEYS)
texts = st.text("ab1é", max_size=3)
numbers = st.integers(-3, 3) | st.sampled_from([0.5, -0.0, 1.0, 2.5, 1e300, 2**53 + 1, 10**40])
scalars = texts | numbers | st.booleans()
values = scalars | st.lists(texts, min_size=1, max_size=3) | st.lists(numbers, min_size=1, max_size=3)
metadata = st.dictionaries(keys, values, max_size=3)
tests = st.one_of(
    st.tuples(st.sampled_from(["$eq", "$ne"]), scalars),
    st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), numbers),
    st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(scalars, min_size=1, max_size=3)),
    st.tuples(st.just("$exists"), st.booleans()),
    st.tuples(st.just("$startsWith"), texts),
)
conditions = st.dictionaries(keys, scalars, min_size=1, max_size=1) | st.dictionaries(
    keys, st.lists(tests, min_size=1, max_size=2).map(dict), min_size=1, max_size=1
)
filters = st.recursive(
    conditions,
    lambda parts: st.builds(
        lambda kind, inner: {kind: inner}, st.sampled_from(["$and", "$or"]), st.lists(parts, min_size=1, max_size=3)
    ),
    max_leaves=6,
)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["$and", "$or", "$eq", "$in", "$gt", "$exists", "a", "$x"]), inner, max_size=2
        )
    ),
    max_leaves=20,
)


def naive(document: Mapping[str, object], row: Mapping[str, object]) -> bool:
    """The meaning of a well-formed filter, word for word from the API notes."""
    [(key, content)] = document.items()
    if key == "$and":
        return False not in [naive(part, row) for part in content]
    if key == "$or":
        return True in [naive(part, row) for part in content]
    if type(content) is not dict:
        content = {"$eq": content}
    return False not in [naive_test(operator, operand, key, row) for operator, operand in content.items()]


def naive_test(operator: str, operand: object, key: str, row: Mapping[str, object]) -> bool:
    if operator == "$exists":
        return (key in row) == operand
    if operator in ("$ne", "$nin"):
        return not naive_test({"$ne": "$eq", "$nin": "$in"}[operator], operand, key, row)
    if key not in row:
        return False
    elements = row[key] if type(row[key]) is list else [row[key]]
    return True in [naive_element(operator, operand, element) for element in elements]


def naive_element(operator: str, operand: object, element: object) -> bool:
    if operator == "$in":
        return True in [naive_element("$eq", one, element) for one in operand]
    kind = naive_kind(element)
    if operator == "$startsWith":
        return kind == "string" and element[: len(operand)] == operand
    if kind != naive_kind(operand):
        return False
    if kind == "number":
        element, operand = float(element), float(operand)
    if operator == "$eq":
        return element == operand
    return {
        "$gt": element > operand,
        "$gte": element >= operand,
        "$lt": element < operand,
        "$lte": element <= operand,
    }[operator]


def naive_kind(value: object) -> str:
    return {str: "string", bool: "boolean", int: "number", float: "number"}[type(value)]


@given(filters, metadata)
def test_matches_the_naive_evaluator(document: dict[str, object], row: dict[str, object]) -> None:
    assert parse(document, (), 1000).matches(row) == naive(document, row)


@given(filters, filters, st.lists(metadata, max_size=5))
def test_equal_texts_are_one_condition(
    one: dict[str, object], other: dict[str, object], rows: list[dict[str, object]]
) -> None:
    first, second = parse(one, (), 1000), parse(other, (), 1000)
    assert parse(one, (), 1000) == first
    if first.text == second.text:
        assert first == second
        assert [first.matches(row) for row in rows] == [second.matches(row) for row in rows]


@given(documents)
def test_any_document_is_a_condition_or_a_validation_error(document: object) -> None:
    try:
        condition = parse(document, (), 100)
    except ValidationFailed as error:
        refusal = error
    else:
        condition.matches({"a": [1.0]})
        return
    assert [field.path for field in refusal.fields] == ["filter"]


@pytest.mark.parametrize("wrap", [lambda inner: {"$and": [inner]}, lambda inner: [inner], lambda inner: {"a": inner}])
def test_nesting_without_end_is_refused(wrap: object) -> None:
    document: object = {"a": 1}
    for _ in range(100_000):
        document = wrap(document)
    with pytest.raises(ValidationFailed, match=r"^Invalid filter$"):
        parse(document, (), 100)


def nested(depth: int) -> dict[str, object]:
    document: dict[str, object] = {"a": 1}
    for _ in range(depth - 1):
        document = {"$or": [document]}
    return document


def test_depth_is_bounded() -> None:
    assert parse(nested(DEPTH_MAX), (), 100).matches({"a": 1})
    with pytest.raises(ValidationFailed, match=r"^Invalid filter$"):
        parse(nested(DEPTH_MAX + 1), (), 100)


@pytest.mark.parametrize(
    ("document", "constraints"),
    [
        ({"a": 1}, 1),
        ({"a": {"$in": ["x", 1, True]}}, 3),
        ({"a": {"$nin": ["x", "x"]}}, 2),
        ({"a": {"$gte": 0, "$lte": 5}}, 2),
        ({"$and": [{"a": {"$exists": True}}, {"$or": [{"a": 1}, {"b": {"$startsWith": "x"}}]}]}, 3),
    ],
)
def test_constraints_are_counted_by_value(document: dict[str, object], constraints: int) -> None:
    parse(document, (), constraints)
    with pytest.raises(ValidationFailed, match=f"^Filter must have at most {constraints - 1} constraints$"):
        parse(document, (), constraints - 1)


@pytest.mark.parametrize(
    ("document", "row", "expected"),
    [
        ({"a": True}, {"a": 1}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": 0}, {"a": [False]}, False),
        ({"a": "1"}, {"a": 1}, False),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 2**53}, {"a": 2**53 + 1}, True),
        ({"a": {"$gt": 1e300}}, {"a": 10**400}, True),
        ({"a": {"$gt": 0}}, {"a": "1"}, False),
        ({"a": {"$gt": 0}}, {"a": True}, False),
        ({"a": {"$gt": 4}}, {"a": [1, 5]}, True),
        ({"a": {"$gte": 2, "$lte": 3}}, {"a": [1, 5]}, True),
        ({"a": {"$ne": "x"}}, {}, True),
        ({"a": {"$ne": "x"}}, {"a": ["x", "y"]}, False),
        ({"a": {"$ne": "x"}}, {"a": 5}, True),
        ({"a": {"$nin": ["x", 5]}}, {"a": 5.0}, False),
        ({"a": {"$exists": False}}, {}, True),
        ({"a": {"$exists": False}}, {"a": False}, False),
        ({"a": {"$startsWith": ""}}, {"a": "x"}, True),
        ({"a": {"$startsWith": ""}}, {"a": 1}, False),
        ({"a": {"$startsWith": "é"}}, {"a": ["x", "été"]}, True),
        ({"a": "NaN"}, {"a": "NaN"}, True),
        ({"a.b": 1}, {"a": {"b": 1}}, False),
        ({"a.b": 1}, {"a.b": 1}, True),
        ({"": 1}, {"": 1}, True),
        ({"a": "É"}, {"a": "E\u0301"}, False),
    ],
)
def test_meaning(document: dict[str, object], row: dict[str, object], expected: bool) -> None:
    assert parse(document, (), 100).matches(row) is expected


def test_condition_names_its_keys() -> None:
    document = {"$and": [{"a": 1}, {"$or": [{"b": {"$ne": 2}}, {"": {"$exists": False}}]}]}
    assert parse(document, (), 100).keys == {"a", "b", ""}


def test_shorthand_and_operator_are_one_condition() -> None:
    assert (
        parse({"a": 1}, (), 9).text == parse({"a": {"$eq": 1.0}}, (), 9).text == parse({"a": {"$in": [1]}}, (), 9).text
    )
    assert parse({"a": 1}, (), 9).text != parse({"a": True}, (), 9).text
    assert parse({"a": 0.0}, (), 9).text == parse({"a": -0.0}, (), 9).text
