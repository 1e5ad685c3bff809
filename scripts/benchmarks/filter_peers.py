"""How each engine is asked with a filter: ours by its document, LanceDB in SQL, over columns with scalar indexes."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from scripts.benchmarks.engines import IMPORTED, LANCEDB, LANCEDB_PQ, Engine
from scripts.benchmarks.figure import Param
from scripts.benchmarks.filter_sets import Filter
from scripts.benchmarks.search_warm import Answers, Asking, Settings, settings_grid, tuned_by

ENGINES = (IMPORTED, *(replace(engine, how=f"{engine.how}-scalar") for engine in (LANCEDB, LANCEDB_PQ)))
"""LanceDB's have a scalar index for each metadata key."""
FLAT: Settings = {"nprobes": 0}
FLAT_ROWS = 20_000
"""Of so many matching rows LanceDB may also look at all vectors without its index, if that is faster."""
_COMPARED = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_LISTS_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class FilteredAnswers(Answers):
    fewest: float
    """The least share of hits that a query has of those that it should have."""


@dataclass(frozen=True, slots=True)
class FilteredAsking(Asking):
    """Asks with a filter."""

    filter: Filter = field(kw_only=True)

    @property
    def told(self) -> dict[str, Param]:
        """Settings, and the filter as the engine takes it."""
        return {**self.settings, **condition(self.session.engine, self.filter)}

    def ask(self, numbers: Sequence[int]) -> FilteredAnswers:
        asked = {"queries": str(self.dataset.queries), "numbers": list(numbers), "k": self.k}
        told = self.session.call("ask", settings=self.told, **asked)
        recalls, fewest = self.filter.judged(numbers, self.k, told["keys"])
        return FilteredAnswers(told["seconds"], recalls, fewest)

    def best(self, numbers: Sequence[int]) -> Settings:
        """What is fastest at the common recall: ours is asked as it is, and LanceDB's settings are tuned."""
        if self.session.engine.ours:
            return {}
        self._check()
        flat = [[FLAT]] if self.filter.matches <= FLAT_ROWS else []
        return tuned_by(self, numbers, [*flat, *settings_grid(self)]).settings

    def _check(self) -> None:
        """AssertionError when LanceDB understands another filter."""
        where = condition(self.session.engine, self.filter)
        if where:
            count = self.session.call("count", **where)
            assert count == self.filter.matches, f"{where} keeps {count} rows, not {self.filter.matches}"


def tries(engine: Engine, filter_: Filter, tuned: Settings) -> list[Settings]:
    """What may be fastest on a far store: the settings that are so on a folder, and for LanceDB no index at all."""
    flat = not engine.ours and filter_.matches <= FLAT_ROWS and tuned != FLAT
    return [tuned, FLAT] if flat else [tuned]


def condition(engine: Engine, filter_: Filter) -> dict[str, Param]:
    """What an engine's search is given beside its settings."""
    if filter_.document is None:
        return {}
    if engine.ours:
        return {"filter": json.dumps(filter_.document)}
    metadata = filter_.dataset.corpus.metadata[:_LISTS_ROWS]
    lists = {name for row in metadata for name, value in row.items() if isinstance(value, list)}
    return {"where": sql(filter_.document, lists)}


def sql(document: Mapping[str, Any], lists: Collection[str]) -> str:
    """A filter as a condition in SQL that keeps the same rows; `lists` are the keys whose values are lists."""
    [(name, test)] = document.items()
    if name in ("$and", "$or"):
        return "(" + f" {name[1:].upper()} ".join(sql(part, lists) for part in test) + ")"
    tests = test if isinstance(test, dict) else {"$eq": test}
    told = [_test(name, operator, operand, name in lists) for operator, operand in tests.items()]
    return told[0] if len(told) == 1 else "(" + " AND ".join(told) + ")"


def _test(name: str, operator: str, operand: Any, is_list: bool) -> str:
    column = f"`{name}`"
    if operator == "$exists":
        return f"{column} IS {'NOT ' if operand else ''}NULL"
    if operator in ("$ne", "$nin"):  # of a row without the key they hold
        inverse = _test(name, {"$ne": "$eq", "$nin": "$in"}[operator], operand, is_list)
        return f"({column} IS NULL OR NOT {inverse})"
    if operator == "$in":
        values = ", ".join(map(_literal, operand))
        return f"array_has_any({column}, [{values}])" if is_list else f"{column} IN ({values})"
    if operator == "$eq":
        return f"array_has({column}, {_literal(operand)})" if is_list else f"{column} = {_literal(operand)}"
    if is_list:
        raise ValueError(f"{operator} over lists has no condition in SQL that an index answers")
    if operator == "$startsWith":
        return f"starts_with({column}, {_literal(operand)})"
    return f"{column} {_COMPARED[operator]} {_literal(operand)}"


def _literal(value: str | float | bool) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value).lower() if isinstance(value, bool) else repr(value)
