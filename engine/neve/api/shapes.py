"""A small declarative model of inputs, after Smithy: JSON types first (Malformed), then all constraints at once.

A shape decodes a JSON value into a Python one. Constraint violations are collected, not raised, in the order of the
model; a wrong JSON type is raised at once, wherever it stands, since types are checked before constraints.
Decisions where JSON leaves a choice: `null` members are absent, `null` elements are of a wrong type; a number
without fraction is an integer however it is written (5.0, 5e0), since JSON has one kind of number, while 5.5 or
a number beyond 32 bits is of a wrong type; unknown members are ignored, except in a union, which must have one member.
"""

from __future__ import annotations

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import numpy as np

from neve.dataclass import dataclass
from neve.errors import FieldError, Malformed, ValidationFailed

VIOLATIONS_MAX = 1000  # reported of one request; bounds the answer, since the request may hold millions
_INTEGER_MIN, _INTEGER_MAX = -(2**31), 2**31 - 1
_NOT_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


class Violations:
    """The broken constraints found so far."""

    __slots__ = ("fields",)

    def __init__(self) -> None:
        self.fields: list[FieldError] = []

    def add(self, subject: str, path: str, rule: str) -> None:
        if len(self.fields) < VIOLATIONS_MAX:
            self.fields.append(FieldError(path, f"{subject} at '{path}' failed to satisfy constraint: Member {rule}"))

    def raise_any(self) -> None:
        if not self.fields:
            return
        count = len(self.fields)
        noun = "error" if count == 1 else "errors"
        texts = "; ".join(field.message for field in self.fields)
        raise ValidationFailed(f"{count} validation {noun} detected. {texts}", *self.fields)


class Shape(ABC):
    """What a member may hold."""

    __slots__ = ()

    @abstractmethod
    def decode(self, value: object, path: str, violations: Violations) -> object:
        """The decoded value, meaningless once there are violations; raises Malformed."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A rule for the characters of a string: the text that errors quote, and the test itself."""

    text: str
    accepts: Callable[[str], bool]


def expression(pattern: str) -> Pattern:
    """A pattern that Python's `re` understands as the service does; the whole string must match."""
    compiled = re.compile(pattern)
    return Pattern(f"^{pattern}$", lambda value: compiled.fullmatch(value) is not None)


def _of_tag_characters(value: str) -> bool:
    return all(char in "_.:/=+-@" or unicodedata.category(char)[0] in "LZN" for char in set(value))


# Python's `re` has no Unicode categories, so this one is spelled out.
TAG_PATTERN = Pattern(r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$", _of_tag_characters)


@dataclass(frozen=True, slots=True, kw_only=True)
class Text(Shape):
    """A string; lengths count code points."""

    length: tuple[int, int] | None = None
    enum: tuple[str, ...] = ()
    pattern: Pattern | None = None

    def decode(self, value: object, path: str, violations: Violations) -> object:
        text = _text(value)
        if self.length is not None and not self.length[0] <= len(text) <= self.length[1]:
            _wrong_length(len(text), self.length, path, violations)
        if self.enum and text not in self.enum:
            violations.add("Value", path, f"must satisfy enum value set: [{', '.join(self.enum)}]")
        if self.pattern is not None and not self.pattern.accepts(text):
            violations.add("Value", path, f"must satisfy regular expression pattern: {self.pattern.text}")
        return text


@dataclass(frozen=True, slots=True)
class Integer(Shape):
    """A 32-bit integer, at least `least` and, unless None, at most `most`."""

    least: int
    most: int | None = None

    def decode(self, value: object, path: str, violations: Violations) -> object:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, np.integer):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not _INTEGER_MIN <= value <= _INTEGER_MAX:
            raise Malformed("An integer was expected")
        if self.most is None and value < self.least:
            violations.add("Value", path, f"must be greater than or equal to {self.least}")
        if self.most is not None and not self.least <= value <= self.most:
            violations.add("Value", path, f"must be between {self.least} and {self.most}, inclusive")
        return value


@dataclass(frozen=True, slots=True)
class Boolean(Shape):
    """true or false."""

    def decode(self, value: object, path: str, violations: Violations) -> object:
        if not isinstance(value, bool):
            raise Malformed("A boolean was expected")
        return value


@dataclass(frozen=True, slots=True)
class Document(Shape):
    """Any JSON value; its rules are the operation's."""

    def decode(self, value: object, path: str, violations: Violations) -> object:
        return value


@dataclass(frozen=True, slots=True)
class ListOf(Shape):
    """An array of one shape, decoded into a tuple."""

    element: Shape
    length: tuple[int, int] | None = None

    def decode(self, value: object, path: str, violations: Violations) -> object:
        if not isinstance(value, list | tuple):
            raise Malformed("An array was expected")
        if self.length is not None and not self.length[0] <= len(value) <= self.length[1]:
            _wrong_length(len(value), self.length, path, violations)
        decode = self.element.decode
        return tuple([decode(element, f"{path}/{place}", violations) for place, element in enumerate(value)])


@dataclass(frozen=True, slots=True)
class MapOf(Shape):
    """An object with free keys; a bad key is reported at the path of the map itself."""

    key: Text
    value: Text

    def decode(self, value: object, path: str, violations: Violations) -> object:
        if not isinstance(value, Mapping):
            raise Malformed("An object was expected")
        decoded: dict[object, object] = {}
        for key, element in value.items():
            text = self.key.decode(key, path, violations)
            decoded[text] = self.value.decode(element, f"{path}/{text}", violations)
        return decoded


@dataclass(frozen=True, slots=True)
class Float32Vector(Shape):
    """The union `{"float32": [numbers]}`, rounded to float32; "NaN" and the infinities come as strings.

    A NumPy vector of numbers may stand for the array.
    """

    def decode(self, value: object, path: str, violations: Violations) -> object:
        if not isinstance(value, Mapping):
            raise Malformed("An object was expected")
        if [member for member, content in value.items() if content is not None] != ["float32"]:
            raise Malformed("Vector data must have exactly one member, float32")
        with np.errstate(over="ignore", under="ignore"):
            return _float32s(value["float32"])


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a structure; `field` is the name of it in the request."""

    name: str
    shape: Shape
    required: bool = False

    @property
    def field(self) -> str:
        return re.sub(r"(?<!^)([A-Z])", r"_\1", self.name).lower()


@dataclass(frozen=True, slots=True)
class Structure(Shape):
    """An object with the given members, decoded by calling `build` with those that are there."""

    build: Callable[..., object]
    # Name, field, shape, required: tuples, since a loop of 10,000 records runs over them.
    members: tuple[tuple[str, str, Shape, bool], ...]

    def decode(self, value: object, path: str, violations: Violations) -> object:
        if not isinstance(value, Mapping):
            raise Malformed("An object was expected")
        fields: dict[str, object] = {}
        for name, field, shape, required in self.members:
            content = value.get(name)
            if content is not None:
                fields[field] = shape.decode(content, f"{path}/{name}", violations)
            elif required:
                violations.add("Value", f"{path}/{name}", "must not be null")
        # What is incomplete is never built: whoever decodes raises the violations.
        return None if violations.fields else self.build(**fields)


def structure(build: Callable[..., object], *members: Member) -> Structure:
    """The shape of an object that decodes into the dataclass `build`."""
    return Structure(build, tuple((member.name, member.field, member.shape, member.required) for member in members))


def decode(shape: Structure, members: object) -> object:
    """The request that a JSON document holds; raises Malformed, then ValidationFailed with every broken constraint."""
    violations = Violations()
    request = shape.decode(members, "", violations)
    violations.raise_any()
    return request


def well_formed(text: str) -> str:
    """The same text; raises Malformed where it has lone surrogates, which no JSON text can hold."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Malformed("A string is not well-formed Unicode") from error
    return text


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise Malformed("A string was expected")
    return value if value.isascii() else well_formed(value)


def _wrong_length(length: int, bounds: tuple[int, int], path: str, violations: Violations) -> None:
    rule = f"must have length between {bounds[0]} and {bounds[1]}, inclusive"
    violations.add(f"Value with length {length}", path, rule)


def _float32s(values: object) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """The components, rounded; one pass in C for plain numbers, a slow one for anything else."""
    if isinstance(values, np.ndarray):
        if values.ndim != 1 or values.dtype.kind not in "fiu":
            raise Malformed("An array of numbers was expected")
        return np.array(values, dtype=np.float32)
    if not isinstance(values, list | tuple):
        raise Malformed("An array of numbers was expected")
    kinds = set(map(type, values))
    try:
        numbers = values if kinds <= {float, int} else [_component(value) for value in values]
        return np.array(numbers, dtype=np.float32)
    except OverflowError as error:
        raise Malformed("A number is beyond the range of doubles") from error


def _component(value: object) -> float:
    if isinstance(value, str) and value in _NOT_FINITE:
        return _NOT_FINITE[value]
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating | np.integer):
        raise Malformed("A number was expected")
    return float(value)
