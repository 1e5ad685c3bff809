"""From a filter document to its condition, with the grammar and the refusals of the service.

    Filter := {"$and": [Filter, …]} | {"$or": [Filter, …]} | {key: scalar} | {key: {operator: operand, …}}

Every condition object has exactly one key; there is no implicit AND between keys.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping

from neve.errors import FieldError, ValidationFailed
from neve.filters.expression import (
    All,
    Any,
    Condition,
    Exists,
    InRange,
    Node,
    Not,
    OneOf,
    Order,
    StartsWith,
    as_double,
)

DEPTH_MAX = 32  # condition objects within each other; ours, the service documents none


class _Unacceptable(Exception):
    """The document is not a filter."""


def parse(document: object, non_filterable: Collection[str], max_constraints: int) -> Condition:
    """The condition that a JSON document asks for.

    Raises ValidationFailed: not in the grammar, then a key that cannot be filtered on, then too many constraints
    (one per value compared). Linear in the document.
    """
    try:
        node, constraints = _condition(document, 1)
    except _Unacceptable:
        raise _refused("Invalid filter") from None
    condition = Condition.of(node)
    if not condition.keys.isdisjoint(non_filterable):
        raise _refused("Invalid use of non-filterable metadata in filter")
    if constraints > max_constraints:
        raise _refused(f"Filter must have at most {max_constraints} constraints")
    return condition


def _refused(message: str) -> ValidationFailed:
    return ValidationFailed(message, FieldError("filter", message))


def _condition(document: object, depth: int) -> tuple[Node, int]:
    """One condition object as a node, and its number of constraints."""
    if depth > DEPTH_MAX or not isinstance(document, dict) or len(document) != 1:
        raise _Unacceptable
    [(key, content)] = document.items()
    if key in ("$and", "$or"):
        return _junction(All if key == "$and" else Any, content, depth)
    if not isinstance(key, str) or key.startswith("$"):
        raise _Unacceptable
    if not isinstance(content, dict):
        return _one_of(key, [content])
    return _operators(key, content)


def _junction(kind: Callable[[tuple[Node, ...]], Node], content: object, depth: int) -> tuple[Node, int]:
    if not isinstance(content, list) or not content:
        raise _Unacceptable
    parts = [_condition(part, depth + 1) for part in content]
    return kind(tuple(node for node, _ in parts)), sum(constraints for _, constraints in parts)


def _operators(key: str, content: Mapping[object, object]) -> tuple[Node, int]:
    """`{operator: operand, …}` of one key: all of them must hold."""
    if not content:
        raise _Unacceptable
    tests = [_test(key, operator, operand) for operator, operand in content.items()]
    if len(tests) == 1:
        return tests[0]
    return All(tuple(node for node, _ in tests)), sum(constraints for _, constraints in tests)


def _test(key: str, operator: object, operand: object) -> tuple[Node, int]:
    match operator:
        case "$eq":
            return _one_of(key, [operand])
        case "$ne":
            return _negated(_one_of(key, [operand]))
        case "$in":
            return _one_of(key, operand)
        case "$nin":
            return _negated(_one_of(key, operand))
        case "$gt" | "$gte" | "$lt" | "$lte":
            return InRange(key, Order(operator), _number(operand)), 1
        case "$exists" if isinstance(operand, bool):
            return (Exists(key) if operand else Not(Exists(key))), 1
        case "$startsWith" if isinstance(operand, str):
            return StartsWith(key, operand), 1
        case _:
            raise _Unacceptable


def _negated(test: tuple[Node, int]) -> tuple[Node, int]:
    node, constraints = test
    return Not(node), constraints


def _one_of(key: str, operand: object) -> tuple[Node, int]:
    """A node that holds for any of the listed scalars; each of them counts as a constraint."""
    if not isinstance(operand, list) or not operand:
        raise _Unacceptable
    strings: set[str] = set()
    numbers: set[float] = set()
    booleans: set[bool] = set()
    for value in operand:
        if isinstance(value, str):
            strings.add(value)
        elif isinstance(value, bool):
            booleans.add(value)
        else:
            numbers.add(_number(value))
    return OneOf(key, frozenset(strings), frozenset(numbers), frozenset(booleans)), len(operand)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Unacceptable
    number = as_double(value)
    if not math.isfinite(number):
        raise _Unacceptable
    return number + 0.0  # -0.0 becomes 0.0: they are equal, so their texts must be
