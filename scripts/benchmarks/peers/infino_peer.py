"""infino: it has no settings of a search; `optimize` is what brings its recall up."""

from __future__ import annotations

import atexit
import os
import shutil
from collections.abc import Mapping, Sequence
from itertools import islice
from tempfile import mkdtemp

import infino
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from answering import BATCH_ROWS, COLUMNS, Engine, answer

TABLE = "corpus"
DISK_BYTES = 16 << 30
APPEND_ROWS = 200_000


class Infino(Engine):
    version = infino.__version__

    def __init__(self) -> None:
        self._disk = ""
        atexit.register(lambda: shutil.rmtree(self._disk, ignore_errors=True))

    def build(self, rows: str, place: Mapping[str, str], how: str, non_filterable: Sequence[str]) -> None:
        """In as few appends as memory allows: what is appended at once is indexed at once."""
        file = pq.ParquetFile(rows)
        dimension = file.schema_arrow.field("vector").type.list_size
        kinds = (pa.large_utf8(), pa.large_utf8(), pa.list_(pa.float32(), dimension))
        schema = pa.schema([pa.field(*column, nullable=False) for column in zip(COLUMNS, kinds, strict=True)])
        self.connect(place)
        index = infino.IndexSpec().vector("vector", dimension, "cosine")
        table = self._database.create_table(TABLE, schema, index)
        batches = file.iter_batches(BATCH_ROWS)
        while some := list(islice(batches, APPEND_ROWS // BATCH_ROWS)):
            table.append(pa.Table.from_batches(some).select(COLUMNS).cast(schema))
        table.optimize()
        table.gc(0)

    def connect(self, place: Mapping[str, str]) -> None:
        """With an empty disk cache, without which it reads its files anew for every search, even those of a folder."""
        shutil.rmtree(self._disk, ignore_errors=True)
        self._disk = mkdtemp(prefix="infino-")
        options = {}
        if place["endpoint"]:
            names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")
            options = {name.lower(): os.environ[name] for name in names}
            options |= {"aws_endpoint": place["endpoint"], "aws_allow_http": "true"}
        self._database = infino.connect(
            place["uri"], storage_options=options or None, cache_dir=self._disk, cache_budget_bytes=DISK_BYTES
        )

    def open(self) -> None:
        self._table = self._database.open_table(TABLE)

    def search(self, query: np.ndarray, k: int) -> Sequence[str]:
        found = self._table.vector_search("vector", query.tolist(), k, projection=["key", "metadata"])
        return found["key"].to_pylist()


if __name__ == "__main__":
    answer(Infino)
