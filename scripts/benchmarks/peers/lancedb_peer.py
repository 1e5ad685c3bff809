"""LanceDB, IVF_RQ or IVF_PQ."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import lancedb
import numpy as np
import pyarrow.parquet as pq
from answering import BATCH_ROWS, Engine, answer
from lancedb.index import IvfPq, IvfRq
from lancedb_settings import BITS, DIMENSIONS_PER_CODE, ROWS_PER_LIST

TABLE = "corpus"


class LanceDB(Engine):
    version = lancedb.__version__

    def build(self, rows: str, place: Mapping[str, str], how: str, non_filterable: Sequence[str]) -> None:
        file = pq.ParquetFile(rows)
        self.connect(place)
        table = self._database.create_table(TABLE, file.iter_batches(BATCH_ROWS), schema=file.schema_arrow)
        lists = max(1, file.metadata.num_rows // ROWS_PER_LIST)
        if how == "IVF_PQ":
            parts = file.schema_arrow.field("vector").type.list_size // DIMENSIONS_PER_CODE
            kind = IvfPq(distance_type="cosine", num_partitions=lists, num_sub_vectors=parts)
        else:
            kind = IvfRq(distance_type="cosine", num_partitions=lists, num_bits=BITS)
        table.create_index("vector", config=kind)

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
