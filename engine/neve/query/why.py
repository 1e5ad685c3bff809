"""Why a filter finds nothing: how many rows satisfy each of its conditions, and of which kinds the values are."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

import numpy as np
import orjson

from neve.filters.expression import All, Any, Condition, Exists, InRange, Node, Not, OneOf, StartsWith
from neve.index.state import Compacted, State
from neve.query.explain import Reason
from neve.query.matching import all_metadata, row_set, term_reader, want_bound
from neve.query.session import Session
from neve.query.termspans import Unindexed, bind, of_kind
from neve.segments.directory import Directory
from neve.segments.filters import FilterIndex
from neve.segments.terms import Kind

REASONS_MAX = 16
"""Of a filter of more conditions those are told that nothing satisfies, before others."""
TEXT_MAX = 120
"""Characters of a condition that are told, so that a header can carry all of them."""
_KINDS = {Kind.STRING: "strings", Kind.NUMBER: "numbers", Kind.BOOLEAN: "booleans"}
_ASKED = {Kind.STRING: "a string", Kind.NUMBER: "a number", Kind.BOOLEAN: "a boolean"}


def why(session: Session, state: State, condition: Condition) -> list[Reason]:
    """What each condition of a filter comes to, in the order as written.

    Counts live rows; of compacted ones also those that a newer row or deletion hides which is not compacted yet. Reads
    blocks of terms, in one wave more, and what else `matching` does. Raises StoreError.
    """
    counts = _Counts(condition)
    for part in state.parts:
        counts.add_documents(orjson.loads(raw) for raw in part.rows.metadata.pick(np.flatnonzero(part.live)))
    for compacted in state.compacted:
        counts.add_segment(session, compacted)
    return counts.reasons()


class _Counts:
    """Rows that satisfy each test of a filter, each of the parts that a row must satisfy all, and these one by one."""

    def __init__(self, condition: Condition) -> None:
        self._keys = sorted(condition.keys)
        parts = list(_parts(condition.root))
        self._tests = list(dict.fromkeys(node for part in parts for node in (part, *_tests(part))))
        places = {test: place for place, test in enumerate(self._tests)}
        self._parts = [places[part] for part in parts]
        self._within = [[places[test] for test in _tests(part) if test is not part] for part in parts]
        self._rows = 0
        self._satisfy = [0] * len(self._tests)
        self._together = [0] * len(parts)
        """Of each part: the rows that satisfy it and all before it."""
        self._kinds = Counter[tuple[str, Kind]]()

    def add_documents(self, documents: Iterable[Mapping[str, object]]) -> None:
        for document in documents:
            self._rows += 1
            passed = [test.matches(document) for test in self._tests]
            self._satisfy = [count + one for count, one in zip(self._satisfy, passed, strict=True)]
            for place, part in enumerate(self._parts):
                if not passed[part]:
                    break
                self._together[place] += 1
            for key in self._keys:
                if key in document:
                    self._kinds.update((key, kind) for kind in (Kind.ROWS, *_kinds_of(document[key])))

    def add_segment(self, session: Session, compacted: Compacted) -> None:
        directory, masked = compacted.directory, compacted.masked
        live = np.ones(directory.rows, np.bool_) if masked is None else ~masked
        if directory.filters is not None:
            with suppress(Unindexed):
                self._add_index(session, directory, directory.filters, np.packbits(live))
                return
        documents = zip(all_metadata(session, directory), live.tolist(), strict=True)
        self.add_documents(document for document, alive in documents if alive)

    def _add_index(self, session: Session, directory: Directory, index: FilterIndex, live: np.ndarray) -> None:
        tests = [bind(test, index) for test in self._tests]
        kinds = {(key, kind): of_kind(key, kind) for key in self._keys for kind in (Kind.ROWS, *_KINDS)}
        read = term_reader(session, want_bound(directory, *tests, *kinds.values()))
        self._rows += _count(live)
        for place, test in enumerate(tests):
            self._satisfy[place] += _count(row_set(read, directory, test) & live)
        left = live
        for place, part in enumerate(self._parts):
            left = left & row_set(read, directory, tests[part])
            self._together[place] += _count(left)
        for kind, leaf in kinds.items():
            self._kinds[kind] += _count(row_set(read, directory, leaf) & live)

    def reasons(self) -> list[Reason]:
        found = []
        for part, within, together in zip(self._parts, self._within, self._together, strict=True):
            found.append(self._reason(part, together))
            found += [self._reason(test, None) for test in within]
        if len(found) > REASONS_MAX:
            some = [reason.rows > 0 and reason.together != 0 for reason in found]
            telling = sorted(range(len(found)), key=lambda place: (some[place], place))
            found = [found[place] for place in sorted(telling[:REASONS_MAX])]
        return found

    def _reason(self, place: int, together: int | None) -> Reason:
        test, rows = self._tests[place], self._satisfy[place]
        note = ""
        if together is not None and self._together[-1]:
            note = "newer rows, not compacted yet, replace or delete what matches"
        elif not self._rows:
            note = "the index has no rows"
        elif not rows and isinstance(test, OneOf | InRange | StartsWith | Exists):
            note = self._of_kinds(test)
        return Reason(_text(test), rows, together, note)

    def _of_kinds(self, test: OneOf | InRange | StartsWith | Exists) -> str:
        """What is wrong with a test that no row satisfies, as far as the kinds of values tell."""
        key, having = _cut(test.key), self._kinds[test.key, Kind.ROWS]
        if not having:
            return f"no row has the key `{key}`"
        asked = _kinds_asked(test)
        found = {kind: count for kind in _KINDS if (count := self._kinds[test.key, kind])}
        if asked.issuperset(found):
            return ""
        held = " and ".join(f"{_KINDS[kind]} in {_share(count, having)} %" for kind, count in found.items())
        compared = " or ".join(_ASKED[kind] for kind in _KINDS if kind in asked)
        return f"`{key}` holds {held} of the rows that have it, the filter compares with {compared}"


def _parts(node: Node) -> Iterator[Node]:
    """What a row must satisfy all."""
    if isinstance(node, All):
        for part in node.parts:
            yield from _parts(part)
    else:
        yield node


def _tests(node: Node) -> Iterator[Node]:
    """The tests of a condition, each of one key."""
    if isinstance(node, All | Any):
        for part in node.parts:
            yield from _tests(part)
    else:
        yield node


def _kinds_of(value: object) -> set[Kind]:
    values = value if isinstance(value, list) else [value]
    return {
        Kind.STRING if isinstance(one, str) else Kind.BOOLEAN if isinstance(one, bool) else Kind.NUMBER
        for one in values
        if isinstance(one, str | bool | int | float)
    }


def _kinds_asked(node: Node) -> set[Kind]:
    match node:
        case OneOf(_, strings, numbers, booleans):
            kinds = {Kind.STRING: strings, Kind.NUMBER: numbers, Kind.BOOLEAN: booleans}
            return {kind for kind, values in kinds.items() if values}
        case InRange():
            return {Kind.NUMBER}
        case StartsWith():
            return {Kind.STRING}
    return set()


def _count(row_set: np.ndarray) -> int:
    """How many rows a set has, whose last bits are 0."""
    return int(np.bitwise_count(row_set).sum())


def _share(count: int, of: int) -> str:
    """Per cent; 100 and 0 only where it is all, or none."""
    return "100" if count == of else f"{min(max(100 * count / of, 0.1), 99.9):.3g}"


def _text(node: Node) -> str:
    return _cut(json.dumps(_document(node), ensure_ascii=False, separators=(",", ":")))


def _document(node: Node) -> object:
    """The condition as somebody would write it."""
    match node:
        case Not(OneOf(key, _, _, _) as part):
            values = _values(part)
            return {key: {"$nin": values} if len(values) > 1 else {"$ne": values[0]}}
        case Not(Exists(key)):
            return {key: {"$exists": False}}
        case OneOf(key, _, _, _):
            values = _values(node)
            return {key: {"$in": values} if len(values) > 1 else values[0]}
        case InRange(key, order, bound):
            return {key: {order.value: _plain(bound)}}
        case All(parts) | Any(parts):
            return {"$and" if isinstance(node, All) else "$or": [_document(part) for part in parts]}
    return node.document()


def _values(node: OneOf) -> list[object]:
    return [*sorted(node.strings), *map(_plain, sorted(node.numbers)), *sorted(node.booleans)]


def _plain(number: float) -> float:
    """A whole number without its ".0"."""
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + "…"
