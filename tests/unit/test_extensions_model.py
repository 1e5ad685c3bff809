"""Selections and patches against a dict, whatever writes, folds and compactions have made of the rows."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from random import Random
from typing import Any
from unittest.mock import patch

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from neve.api import selections
from neve.api.options import CallOptions
from neve.query import listing, selection
from neve.segments import writer
from neve.segments.keyblocks import block_edges
from neve.segments.rows import hash_key
from neve.store.objects import memory_store
from neve.testing.reference import distances, meets
from neve.testing.strategies import FIELDS, filters, metadata, scalars
from neve.vectors.metric import Metric
from tests.compacting import compact_in, short_calibrations, workspaces
from tests.unit.api_calls import calls_on

ADDRESS = {"vectorBucketName": "library", "indexName": "books"}
KEYS = [*(f"{letter}{number}" for letter in ("a", "ab", "b", "é", "雪", "%") for number in range(8)), "a", "\x00", " "]
PREFIXES = ["", "a", "ab", "ab3", "é", "雪7", "%", "%4", "\x00", "c"]

keys = st.sampled_from(KEYS)
patches = st.dictionaries(st.sampled_from(list(FIELDS)), st.none() | scalars(), max_size=3)
chosen = st.none() | filters()
processes = st.integers(0, 1)
prefixes = st.sampled_from(PREFIXES)


class Machine(RuleBasedStateMachine):
    """Two processes on one store, and the dict beside them."""

    metric = Metric.EUCLIDEAN

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.stack.enter_context(short_calibrations())
        self.stack.enter_context(patch.object(listing, "BLOCKS_A_PAGE", 2))
        self.stack.enter_context(patch.object(writer, "block_edges", partial(block_edges, block_bytes=200)))
        self.stack.enter_context(patch.object(selection, "BLOCKS_A_LIST", 1))
        self.stack.enter_context(patch.object(selections, "DELETED_AT_ONCE", 4))
        self.folder = self.stack.enter_context(workspaces())
        store = memory_store()
        self.processes = [calls_on(store=store), calls_on(store=store)]
        self.rows: dict[str, tuple[list[float], dict[str, Any]]] = {}

    def teardown(self) -> None:
        for calls in self.processes:
            calls.service.database.close()
        self.stack.close()

    @initialize(documents=st.lists(metadata(), min_size=5, max_size=5), chance=st.randoms(use_true_random=False))
    def make(self, documents: list[Mapping[str, object]], chance: Random) -> None:
        """All keys, compacted; then some overwritten or deleted, and of these some compacted again."""
        call = self.processes[0]
        call("CreateVectorBucket", vectorBucketName="library")
        call("CreateIndex", **ADDRESS, dataType="float32", dimension=2, distanceMetric=self.metric.value)
        self.documents = documents
        self.write(0, KEYS, chance)
        self.compact(0, full=True)
        for _ in range(2):
            self.write(0, chance.sample(KEYS, 9), chance)
            self.delete(1, chance.sample(KEYS, 3))
            if chance.random() < 0.5:
                self.compact(1, full=False)

    def write(self, process: int, named: list[str], chance: Random) -> None:
        records = []
        for key in named:
            vector, values = [float(chance.randint(1, 9)) for _ in range(2)], dict(chance.choice(self.documents))
            self.rows[key] = (vector, values)
            records.append({"key": key, "data": {"float32": vector}, "metadata": values})
        self.processes[process]("PutVectors", **ADDRESS, vectors=records)

    def selected(self, document: Mapping[str, object] | None, prefix: str = "") -> list[str]:
        """Keys of the dict, in the order of listings."""
        found = [
            key
            for key, (_, values) in self.rows.items()
            if key.startswith(prefix) and (document is None or meets(document, values))
        ]
        return sorted(found, key=lambda key: (hash_key(key.encode()), key.encode()))

    @rule(
        process=processes,
        named=st.lists(keys, min_size=1, max_size=9, unique=True),
        chance=st.randoms(use_true_random=False),
    )
    def put(self, process: int, named: list[str], chance: Random) -> None:
        self.write(process, named, chance)

    @rule(process=processes, named=st.lists(keys, min_size=1, max_size=5, unique=True))
    def delete(self, process: int, named: list[str]) -> None:
        self.processes[process]("DeleteVectors", **ADDRESS, keys=named)
        for key in named:
            self.rows.pop(key, None)

    @rule(process=processes, document=filters())
    def delete_by_filter(self, process: int, document: dict[str, object]) -> None:
        doomed = self.selected(document)
        asked = {**ADDRESS, "filter": document}
        if len(doomed) > 20:  # of many only some
            asked["filter"] = document = {"$and": [document, {"genre": {"$exists": True}}]}
            doomed = self.selected(document)
        assert self.processes[1 - process]("DeleteVectorsByFilter", **asked, dryRun=True) == {"deleted": len(doomed)}
        assert self.processes[process]("DeleteVectorsByFilter", **asked) == {"deleted": len(doomed)}
        for key in doomed:
            del self.rows[key]

    @rule(process=processes, changes=st.dictionaries(keys, patches, min_size=1, max_size=5), replaces=st.booleans())
    def patch(self, process: int, changes: dict[str, dict[str, object]], replaces: bool) -> None:
        vectors = [{"key": key, "metadata": change} for key, change in changes.items()]
        asked = {**ADDRESS, "vectors": vectors, "mode": "replace" if replaces else "merge"}
        missing = [key for key in changes if key not in self.rows]
        invalid = replaces and any(value is None for change in changes.values() for value in change.values())
        if missing or invalid:
            found = self.processes[process].refused("PatchMetadata", asked)
            assert found.code == "ValidationException"
            return
        assert self.processes[process]("PatchMetadata", **asked) == {}
        for key, change in changes.items():
            vector, before = self.rows[key]
            merged = change if replaces else {**before, **change}
            self.rows[key] = (vector, {name: value for name, value in merged.items() if value is not None})

    @rule(process=processes, document=chosen, prefix=prefixes)
    def count(self, process: int, document: dict[str, object] | None, prefix: str) -> None:
        asked = {"filter": document} | ({"prefix": prefix} if prefix else {})
        expected = len(self.selected(document, prefix))
        assert self.processes[process]("CountVectors", **ADDRESS, **asked) == {"count": expected}

    @rule(
        process=processes,
        document=chosen,
        prefix=prefixes,
        size=st.sampled_from([1, 4, 1000]),
        segments=st.sampled_from([1, 3]),
        compacts=st.booleans(),
    )
    def pages(
        self, process: int, document: dict[str, object] | None, prefix: str, size: int, segments: int, compacts: bool
    ) -> None:
        """Page by page; `compacts`: the other process does, after the first page."""
        options, listed = CallOptions(filter=document, prefix=prefix), []
        for segment in range(segments):
            token = None
            while True:
                asked = {"maxResults": size, "segmentCount": segments, "segmentIndex": segment, "nextToken": token}
                page = self.processes[process](
                    "ListVectors", options, **ADDRESS, **asked, returnData=True, returnMetadata=True
                )
                assert len(page["vectors"]) <= size
                listed += [(row["key"], (row["data"]["float32"], row["metadata"])) for row in page["vectors"]]
                if compacts and (listed or segment):
                    self.compact(1 - process, full=False)
                    compacts = False
                if (token := page.get("nextToken")) is None:
                    break
        assert [key for key, _ in listed] == self.selected(document, prefix)
        assert all(self.rows[key] == row for key, row in listed)

    @rule(
        process=processes, document=chosen, vector=st.lists(st.integers(1, 9), min_size=2, max_size=2), data=st.data()
    )
    def query_within(
        self, process: int, document: dict[str, object] | None, vector: list[int], data: st.DataObject
    ) -> None:
        """Integers, so that squared distances are exact; of cosine distances those near the bound may differ."""
        near = self.selected(document)
        if not near:
            return
        rows = np.array([self.rows[key][0] for key in near], np.float32)
        exact = dict(zip(near, distances(self.metric, rows, [float(x) for x in vector]).tolist(), strict=True))
        bound = data.draw(st.sampled_from([0.0, 1.0, 1e308, *sorted(set(exact.values()))[:3]]), label="bound")
        asked = {"topK": 1000, "queryVector": {"float32": vector}, "filter": document, "returnDistance": True}
        hits = self.processes[process]("QueryVectors", CallOptions(distance=bound), **ADDRESS, **asked)["vectors"]
        slack = 0.0 if self.metric is Metric.EUCLIDEAN else 1e-6
        found = {hit["key"] for hit in hits}
        assert all(hit["distance"] <= bound for hit in hits)
        assert {key for key, far in exact.items() if far <= bound - slack} <= found
        assert found <= {key for key, far in exact.items() if far <= bound + slack}

    @rule(process=processes)
    def fold(self, process: int) -> None:
        self.processes[process].service.database.index("library", "books").fold()

    @rule(process=processes, full=st.booleans())
    def compact(self, process: int, full: bool) -> None:
        database = self.processes[process].service.database
        database.index("library", "books").fold()
        compact_in(database, self.folder / str(process), "library", "books", full=full)

    @invariant()
    def every_row_is_there(self) -> None:
        if self.rows:
            assert self.processes[0]("CountVectors", **ADDRESS) == {"count": len(self.rows)}


class CosineMachine(Machine):
    metric = Metric.COSINE


TestEuclidean = Machine.TestCase
TestCosine = CosineMachine.TestCase
TestEuclidean.settings = TestCosine.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
