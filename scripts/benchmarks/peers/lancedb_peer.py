"""LanceDB, IVF_RQ."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import lancedb
import numpy as np
import pyarrow as pa
from answering import Engine, answer
from lancedb.index import IvfRq
from lancedb_settings import BITS, ROWS_PER_LIST

TABLE = "corpus"


class LanceDB(Engine):
    version = lancedb.__version__

    def build(self, rows: str, place: Mapping[str, str], non_filterable: Sequence[str]) -> None:
        with pa.memory_map(rows) as source:
            reader = pa.ipc.open_file(source)
            count = sum(reader.get_batch(number).num_rows for number in range(reader.num_record_batches))
            batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
            self.connect(place)
            table = self._database.create_table(TABLE, batches, schema=reader.schema)
        lists = max(1, count // ROWS_PER_LIST)
        table.create_index("vector", config=IvfRq(distance_type="cosine", num_partitions=lists, num_bits=BITS))

    def connect(self, place: Mapping[str, str]) -> None:
        options = {"endpoint": place["endpoint"], "allow_http": "true", "region": os.environ["AWS_REGION"]}
        self._database = lancedb.connect(place["uri"], storage_options=options if place["endpoint"] else None)

    def open(self) -> None:
        self._table = self._database.open_table(TABLE)

    def search(self, query: np.ndarray, k: int, *, nprobes: int, refine: int) -> Sequence[str]:
        asked = self._table.search(query).distance_type("cosine").nprobes(nprobes).refine_factor(refine).limit(k)
        return asked.select(["key", "metadata", "_distance"]).to_arrow()["key"].to_pylist()


if __name__ == "__main__":
    answer(LanceDB)
