"""What clients saw, and whether one order of all operations explains it.

Everything observable is a register that holds one unique value or nothing: a key of an index, the tags of an index or
a bucket, whether an index (value: its creation) or a bucket exists. The check is by intervals: it never condemns a
history that some order explains, and it finds lost, resurrected, torn and stale values. A write of unknown outcome may
take effect at any time after it began, or never; one that a read has shown took effect before that read ended.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

SOMETHING = "*"
"""In an observation: the register was not empty, and that is all that was learnt."""


class Outcome(StrEnum):
    PENDING = "pending"
    """Not answered; also where the client died."""
    DONE = "done"
    REFUSED = "refused"
    """Answered with an error that says that nothing happened."""
    UNKNOWN = "unknown"


class Violation(AssertionError):
    """No order of the operations explains what was seen."""


@dataclass(slots=True, eq=False)
class Change:
    """One operation that sets registers: `values` maps a register to its new value, None where it is emptied."""

    name: str
    begun_s: float
    values: dict[str, str | None]
    outcome: Outcome = Outcome.PENDING
    returned_s: float = math.inf
    seen_by_s: float = math.inf
    """The end of the first observation that shows it."""
    repeated: bool = False
    """Asked for twice under one id; where the first has left the engine's records, it happens a second time."""
    stands_by_s: float = math.inf
    """What came later than this is newer, even if it shows earlier: an import's rows are as old as its begin."""

    def end(self, outcome: Outcome, now_s: float) -> None:
        self.outcome, self.returned_s = outcome, now_s

    @property
    def happened_by_s(self) -> float:
        """It had taken effect by then, for certain."""
        answered_s = self.returned_s if self.outcome is Outcome.DONE else math.inf
        return answered_s if self.repeated else min(self.seen_by_s, answered_s)

    @property
    def replaceable_s(self) -> float:
        """Whatever begins after this moment replaces it."""
        return self.happened_by_s if self.repeated else min(self.happened_by_s, self.stands_by_s)


@dataclass(frozen=True, slots=True)
class Observation:
    """What one read showed of some registers; a register of `values` that shows None was empty.

    All of them at one moment, between `begun_s` and `ended_s`, or not before `fresh_s` where a read may be older.
    """

    name: str
    begun_s: float
    ended_s: float
    values: Mapping[str, str | None]
    fresh_s: float = math.nan

    @property
    def current_s(self) -> float:
        """Whatever had happened before this moment must show."""
        return self.begun_s if math.isnan(self.fresh_s) else self.fresh_s


@dataclass(slots=True)
class History:
    """The operations of one run."""

    changes: list[Change] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)

    def begin(self, name: str, now_s: float, values: Mapping[str, str | None]) -> Change:
        """A change that has just been asked for."""
        change = Change(name, now_s, dict(values))
        self.changes.append(change)
        return change

    def observe(
        self, name: str, begun_s: float, ended_s: float, values: Mapping[str, str | None], fresh_s: float = math.nan
    ) -> None:
        self.observations.append(Observation(name, begun_s, ended_s, dict(values), fresh_s))

    def writer(self, register: str, value: str) -> Change:
        """The change that set that value."""
        return next(change for change in self.changes if change.values.get(register) == value)

    def check(self) -> None:
        """Raise Violation where an observation cannot be explained. Cost: observations × changes of their registers."""
        _Checker(self).run()


class _Checker:
    def __init__(self, history: History) -> None:
        self._history = history
        self._writer: dict[tuple[str, str], Change] = {}
        self._by_register: defaultdict[str, list[Change]] = defaultdict(list)
        for change in history.changes:
            for register, value in change.values.items():
                self._by_register[register].append(change)
                if value is not None:
                    assert (register, value) not in self._writer, "values are unique"
                    self._writer[register, value] = change

    def run(self) -> None:
        ordered = sorted(self._history.observations, key=lambda observation: observation.ended_s)
        for observation in ordered:
            for change in self._shown(observation):
                change.seen_by_s = min(change.seen_by_s, observation.ended_s)
        for observation in ordered:
            self._check(observation)

    def _shown(self, observation: Observation) -> list[Change]:
        """The changes whose values an observation shows; raises Violation on values that nobody can have written."""
        shown: dict[int, Change] = {}
        for register, value in observation.values.items():
            if value is None or value == SOMETHING:
                continue
            change = self._writer.get((register, value))
            if change is None:
                raise Violation(f"{observation.name} shows {register} = {value}, which nobody wrote")
            if change.outcome is Outcome.REFUSED:
                raise Violation(f"{observation.name} shows {register} = {value} of the refused {change.name}")
            if change.begun_s > observation.ended_s:
                raise Violation(f"{observation.name} shows {register} = {value} before {change.name} began")
            shown[id(change)] = change
        return list(shown.values())

    def _check(self, observation: Observation) -> None:
        shown = self._shown(observation)
        # What is shown had happened, and so had all that ended before it began: a read is one state.
        moment_s = max([observation.current_s, *(change.begun_s for change in shown)])
        happened = set(map(id, shown))
        for register, value in observation.values.items():
            rivals = self._by_register[register]
            certain = [r for r in rivals if _may_happen(r) and (r.happened_by_s < moment_s or id(r) in happened)]
            if value == SOMETHING:
                self._check_something(observation, register, certain, rivals)
            elif value is not None:
                self._check_value(observation, register, self._writer[register, value], certain)
            else:
                self._check_empty(observation, register, certain, rivals)

    def _check_something(
        self, seen: Observation, register: str, certain: Iterable[Change], rivals: Iterable[Change]
    ) -> None:
        for writer in rivals:
            possible = writer.values[register] is not None and _may_happen(writer) and writer.begun_s <= seen.ended_s
            if possible and not any(_replaces(rival, writer) for rival in certain):
                return
        raise Violation(f"{seen.name} finds {register}, which nobody can have made")

    def _check_value(self, seen: Observation, register: str, writer: Change, certain: Iterable[Change]) -> None:
        for rival in certain:
            if _replaces(rival, writer):
                raise Violation(
                    f"{seen.name} shows {register} of {writer.name}, which {rival.name} had replaced: "
                    f"{_span(writer)}, {_span(rival)}, read {seen.begun_s:.3f}–{seen.ended_s:.3f}"
                )

    def _check_empty(
        self, seen: Observation, register: str, certain: Iterable[Change], rivals: Iterable[Change]
    ) -> None:
        emptied = [r for r in rivals if r.values[register] is None and _may_happen(r) and r.begun_s <= seen.ended_s]
        for writer in certain:
            if writer.values[register] is None:
                continue
            if not any(eraser.happened_by_s >= writer.begun_s for eraser in emptied):
                raise Violation(
                    f"{seen.name} lacks {register} = {writer.values[register]} of {writer.name}: "
                    f"{_span(writer)}, read {seen.begun_s:.3f}–{seen.ended_s:.3f}"
                )


def _replaces(rival: Change, writer: Change) -> bool:
    """Whether, if both took effect, the rival did later for certain."""
    return rival is not writer and rival.begun_s > writer.replaceable_s


def _may_happen(change: Change) -> bool:
    return change.outcome is not Outcome.REFUSED


def _span(change: Change) -> str:
    returned = "never answered" if math.isinf(change.returned_s) else f"{change.outcome} at {change.returned_s:.3f}"
    return f"{change.name} begun {change.begun_s:.3f}, {returned}"
