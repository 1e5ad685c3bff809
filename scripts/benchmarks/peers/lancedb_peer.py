"""LanceDB, IVF_RQ or IVF_PQ; "IVF_RQ-scalar" has metadata in columns of their own with scalar indexes, too."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import lancedb
import numpy as np
import pyarrow.parquet as pq
from answering import BATCH_ROWS, Engine, answer
from lancedb.index import Bitmap, BTree, IvfPq, IvfRq, LabelList
from lancedb_columns import Columns
from lancedb_settings import BITS, DIMENSIONS_PER_CODE, ROWS_PER_LIST

TABLE = "corpus"
SCALAR = {"BITMAP": Bitmap, "BTREE": BTree, "LABEL_LIST": LabelList}


class LanceDB(Engine):
    version = lancedb.__version__

    def build(self, rows: str, place: Mapping[str, str], how: str, non_filterable: Sequence[str]) -> None:
        file = pq.ParquetFile(rows)
        self.connect(place)
        kind, _, scalar = how.partition("-")
        columns = Columns.of(rows, non_filterable if scalar else None)
        batches = map(columns.beside, file.iter_batches(BATCH_ROWS))
        table = self._database.create_table(TABLE, batches, schema=columns.schema(file.schema_arrow))
        lists = max(1, file.metadata.num_rows // ROWS_PER_LIST)
        if kind == "IVF_PQ":
            parts = file.schema_arrow.field("vector").type.list_size // DIMENSIONS_PER_CODE
            index = IvfPq(distance_type="cosine", num_partitions=lists, num_sub_vectors=parts)
        else:
            index = IvfRq(distance_type="cosine", num_partitions=lists, num_bits=BITS)
        table.create_index("vector", config=index)
        for name, suited in columns.indexes.items():
            table.create_index(name, config=SCALAR[suited]())

    def connect(self, place: Mapping[str, str]) -> None:
        options = {"endpoint": place["endpoint"], "allow_http": "true", "region": os.environ["AWS_REGION"]}
        self._database = lancedb.connect(place["uri"], storage_options=options if place["endpoint"] else None)

    def open(self) -> None:
        self._table = self._database.open_table(TABLE)

    def count(self, where: str) -> int:
        """How many rows meet a condition in SQL."""
        return self._table.count_rows(where)

    def search(self, query: np.ndarray, k: int, *, nprobes: int = 0, refine: int = 0, where: str = "") -> Sequence[str]:
        """Without `nprobes` all vectors are looked at, or all that meet the condition."""
        asked = self._table.search(query).distance_type("cosine").limit(k)
        asked = asked.nprobes(nprobes).refine_factor(refine) if nprobes else asked.bypass_vector_index()
        asked = asked.where(where, prefilter=True) if where else asked
        return asked.select(["key", "metadata", "_distance"]).to_arrow()["key"].to_pylist()


if __name__ == "__main__":
    answer(LanceDB)
