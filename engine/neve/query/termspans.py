"""A filter bound to the filter index of a segment: which terms answer each of its tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from neve.dataclass import dataclass
from neve.filters.expression import All, Any, Exists, InRange, Node, Not, OneOf, Order, StartsWith
from neve.segments.filters import FilterIndex
from neve.segments.terms import TEXT_BYTES, Kind, after, number_bytes, stem, stem_of, text_term

Span: TypeAlias = tuple[bytes, bytes]
"""Terms from the first to before the second."""


class Unindexed(Exception):
    """The terms of a segment do not tell which rows match."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """The rows of the terms of some spans; where `inside` is given, the rows of its terms that no span has."""

    spans: tuple[Span, ...]
    inside: Span | None = None

    @property
    def read(self) -> tuple[Span, ...]:
        """All spans whose terms it takes to tell."""
        return self.spans if self.inside is None else (*self.spans, self.inside)


@dataclass(frozen=True, slots=True)
class Every:
    parts: tuple[Bound, ...]


@dataclass(frozen=True, slots=True)
class Some:
    parts: tuple[Bound, ...]


@dataclass(frozen=True, slots=True)
class Other:
    """The rows that the part does not have."""

    part: Bound


Bound: TypeAlias = Leaf | Every | Some | Other


def bind(node: Node, index: FilterIndex) -> Bound:
    """The tree of a condition over the terms of an index. Raises Unindexed."""
    match node:
        case OneOf():
            return Leaf(tuple(_one(term) for term in _terms(node)))
        case Exists(key):
            return of_kind(key, Kind.ROWS)
        case StartsWith(key, prefix):
            return _prefixed(key, prefix.encode())
        case InRange(key):
            return _numbers(index, key, *_interval(node))
        case Not(part):
            return Other(bind(part, index))
        case Any(parts):
            return Some(tuple(bind(part, index) for part in parts))
        case All(parts):
            return Every(tuple(_merged(parts, index)))


def of_kind(key: str, kind: Kind) -> Leaf:
    """The rows that have a key with a value of a kind; with any if it is ROWS."""
    return Leaf((_one(stem(key, Kind.ROWS) + (b"" if kind is Kind.ROWS else bytes([kind]))),))


def leaves(bound: Bound) -> Iterator[Leaf]:
    """All tests of a tree."""
    match bound:
        case Leaf():
            yield bound
        case Other(part):
            yield from leaves(part)
        case Every(parts) | Some(parts):
            for part in parts:
                yield from leaves(part)


def at_least(bound: Bound, index: FilterIndex, rows: int) -> int:
    """So many of `rows` rows match for certain, by the directory alone; 0 where it cannot tell."""
    match bound:
        case Leaf(spans, inside) if inside is not None:
            found = _known(index, [inside]) - sum(index.count_between(*span) for span in spans)
        case Leaf(spans):
            found = _known(index, spans)
        case Other(part):
            found = rows - _at_most(part, index, rows)
        case Every(parts):
            found = sum(at_least(part, index, rows) for part in parts) - (len(parts) - 1) * rows
        case Some(parts):
            found = max(at_least(part, index, rows) for part in parts)
    return max(0, min(rows, found))


def _at_most(bound: Bound, index: FilterIndex, rows: int) -> int:
    match bound:
        case Leaf(spans, inside) if inside is not None:
            found = index.count_between(*inside) - _known(index, spans)
        case Leaf(spans):
            found = sum(index.count_between(*span) for span in spans)
        case Other(part):
            found = rows - at_least(part, index, rows)
        case Every(parts):
            found = min(_at_most(part, index, rows) for part in parts)
        case Some(parts):
            found = sum(_at_most(part, index, rows) for part in parts)
    return max(0, min(rows, found))


def _known(index: FilterIndex, spans: Sequence[Span]) -> int:
    """So many rows have some term of some spans of one key for certain: of several terms a row may have all."""
    numbers = bool(spans) and all(stem_of(low)[-1] == Kind.NUMBER for low, _ in spans)
    if numbers and not index.has_many(spans[0][0], spans[-1][1]):
        return sum(index.known_between(*span) for span in spans)
    return max((index.largest_between(*span) for span in spans), default=0)


def _one(term: bytes) -> Span:
    return term, term + b"\0"


def _terms(node: OneOf) -> Iterator[bytes]:
    yield from (stem(node.key, Kind.BOOLEAN) + bytes([value]) for value in sorted(node.booleans))
    yield from (stem(node.key, Kind.NUMBER) + number_bytes(value) for value in sorted(node.numbers))
    yield from (text_term(node.key, value) for value in sorted(node.strings))


def _prefixed(key: str, prefix: bytes) -> Leaf:
    if len(prefix) > TEXT_BYTES:
        raise Unindexed
    starts = [stem(key, kind) + prefix for kind in (Kind.STRING, Kind.LONG)]
    return Leaf(tuple((start, after(start)) for start in starts))


def _all_numbers(key: str) -> Span:
    numbers = stem(key, Kind.NUMBER)
    return numbers, after(numbers)


def _interval(node: InRange) -> Span:
    """The terms of the numbers on the asked side of a bound."""
    first, last = _all_numbers(node.key)
    bound = first + number_bytes(node.bound)
    match node.order:
        case Order.GREATER:
            return bound + b"\0", last
        case Order.AT_LEAST:
            return bound, last
        case Order.LESS:
            return first, bound
        case Order.AT_MOST:
            return first, bound + b"\0"


def _numbers(index: FilterIndex, key: str, low: bytes, high: bytes) -> Leaf:
    """Rows with a number between two bounds; of long spans the terms outside are read, where no row has several."""
    first, last = _all_numbers(key)
    outside = ((first, low), (high, last))
    within = index.count_between(low, high)
    if within > sum(index.count_between(*span) for span in outside) and not index.has_many(first, last):
        [with_number] = of_kind(key, Kind.NUMBER).spans
        return Leaf(outside, inside=with_number)
    return Leaf(((low, high),))


def _merged(parts: tuple[Node, ...], index: FilterIndex) -> Iterator[Bound]:
    """Parts that must all match; ranges of one key as one, where no row has several numbers under it."""
    ranges: dict[str, list[Span]] = {}
    for part in parts:
        if isinstance(part, InRange) and not index.has_many(*_all_numbers(part.key)):
            ranges.setdefault(part.key, []).append(_interval(part))
        else:
            yield bind(part, index)
    for key, spans in ranges.items():
        yield _numbers(index, key, max(low for low, _ in spans), min(high for _, high in spans))
