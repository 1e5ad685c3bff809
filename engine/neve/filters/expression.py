"""The expression tree of a metadata filter: what is asked of a row, as values that can be evaluated or planned with.

Types are strict: `true` is not 1 and `"1"` is not 1. Numbers compare as doubles. An array answers a test when any
of its elements does. A missing key answers no test; under `Not` it therefore matches.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import TypeAlias

from neve.dataclass import dataclass

Scalar: TypeAlias = str | float | bool


class Order(StrEnum):
    """The four range operators, spelled as in the filter language."""

    GREATER = "$gt"
    AT_LEAST = "$gte"
    LESS = "$lt"
    AT_MOST = "$lte"


@dataclass(frozen=True, slots=True)
class OneOf:
    """The value equals one of those listed (`$eq`, `$in`); apart by type, since True == 1 in Python."""

    key: str
    strings: frozenset[str]
    numbers: frozenset[float]
    booleans: frozenset[bool]

    def matches(self, metadata: Mapping[str, object]) -> bool:
        value = metadata.get(self.key)
        if isinstance(value, list):
            return any(self._holds(element) for element in value)
        return self._holds(value)

    def _holds(self, value: object) -> bool:
        if isinstance(value, str):
            return value in self.strings
        if isinstance(value, bool):
            return value in self.booleans
        if isinstance(value, int | float):
            return bool(self.numbers) and as_double(value) in self.numbers
        return False

    def document(self) -> object:
        values = [*sorted(self.strings), *sorted(self.numbers), *sorted(self.booleans)]
        return {self.key: {"$in": values}}


@dataclass(frozen=True, slots=True)
class InRange:
    """The value is a number on the asked side of `bound`."""

    key: str
    order: Order
    bound: float

    def matches(self, metadata: Mapping[str, object]) -> bool:
        value = metadata.get(self.key)
        if isinstance(value, list):
            return any(self._holds(element) for element in value)
        return self._holds(value)

    def _holds(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        number = as_double(value)
        match self.order:
            case Order.GREATER:
                return number > self.bound
            case Order.AT_LEAST:
                return number >= self.bound
            case Order.LESS:
                return number < self.bound
            case Order.AT_MOST:
                return number <= self.bound

    def document(self) -> object:
        return {self.key: {self.order.value: self.bound}}


@dataclass(frozen=True, slots=True)
class StartsWith:
    """The value is a string that begins with `prefix`."""

    key: str
    prefix: str

    def matches(self, metadata: Mapping[str, object]) -> bool:
        value = metadata.get(self.key)
        if isinstance(value, list):
            return any(isinstance(element, str) and element.startswith(self.prefix) for element in value)
        return isinstance(value, str) and value.startswith(self.prefix)

    def document(self) -> object:
        return {self.key: {"$startsWith": self.prefix}}


@dataclass(frozen=True, slots=True)
class Exists:
    """The key is there."""

    key: str

    def matches(self, metadata: Mapping[str, object]) -> bool:
        return self.key in metadata

    def document(self) -> object:
        return {self.key: {"$exists": True}}


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not match (`$ne`, `$nin`, `$exists: false`)."""

    part: Node

    def matches(self, metadata: Mapping[str, object]) -> bool:
        return not self.part.matches(metadata)

    def document(self) -> object:
        return {"$not": self.part.document()}


@dataclass(frozen=True, slots=True)
class All:
    """Every part matches."""

    parts: tuple[Node, ...]

    def matches(self, metadata: Mapping[str, object]) -> bool:
        return all(part.matches(metadata) for part in self.parts)

    def document(self) -> object:
        return {"$and": [part.document() for part in self.parts]}


@dataclass(frozen=True, slots=True)
class Any:
    """At least one part matches."""

    parts: tuple[Node, ...]

    def matches(self, metadata: Mapping[str, object]) -> bool:
        return any(part.matches(metadata) for part in self.parts)

    def document(self) -> object:
        return {"$or": [part.document() for part in self.parts]}


Node: TypeAlias = OneOf | InRange | StartsWith | Exists | Not | All | Any


@dataclass(frozen=True, slots=True)
class Condition:
    """A whole filter: its tree, its canonical text (equal texts are one condition), the metadata keys it looks at."""

    root: Node
    text: str
    keys: frozenset[str]

    @classmethod
    def of(cls, root: Node) -> Condition:
        return cls(root, json.dumps(root.document(), separators=(",", ":")), frozenset(_keys(root)))

    @classmethod
    def from_text(cls, text: str) -> Condition:
        """The condition that has this canonical text; raises ValueError where none has."""
        try:
            condition = cls.of(_node(json.loads(text)))
        except RecursionError:
            raise ValueError("not the text of a condition: too deep") from None
        if condition.text != text:
            raise ValueError("not the text of a condition")
        return condition

    def matches(self, metadata: Mapping[str, object]) -> bool:
        """Whether a row with this metadata (parsed JSON) belongs to the answer."""
        return self.root.matches(metadata)


def as_double(number: float) -> float:
    """The number as a double; integers beyond its range become infinite, so that they still compare rightly."""
    try:
        return float(number)
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")


def _node(document: object) -> Node:
    """The node of a document that `document()` has made; raises ValueError where it has made none like it."""
    match list(document.items()) if isinstance(document, dict) else []:
        case [("$and", [*parts])]:
            return All(tuple(map(_node, parts)))
        case [("$or", [*parts])]:
            return Any(tuple(map(_node, parts)))
        case [("$not", part)]:
            return Not(_node(part))
        case [(str(key), {"$in": [*values]})]:
            booleans = frozenset(value for value in values if isinstance(value, bool))
            strings = frozenset(value for value in values if isinstance(value, str))
            return OneOf(key, strings, frozenset(value for value in values if isinstance(value, float)), booleans)
        case [(str(key), {"$startsWith": str(prefix)})]:
            return StartsWith(key, prefix)
        case [(str(key), {"$exists": True})]:
            return Exists(key)
        case [(str(key), {**test})] if len(test) == 1:
            [(order, bound)] = test.items()
            if isinstance(bound, float):
                return InRange(key, Order(str(order)), bound)
    raise ValueError("not the document of a condition")


def _keys(node: Node) -> set[str]:
    match node:
        case All(parts) | Any(parts):
            return {key for part in parts for key in _keys(part)}
        case Not(part):
            return _keys(part)
        case _:
            return {node.key}
