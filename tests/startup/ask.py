"""Opens a store with the query path alone and asks it once: `python ask.py STORE_URL BUCKET INDEX`. Prints JSON."""

import json
import sys
from importlib.metadata import distributions

import neve


def main(store: str, bucket: str, index: str) -> None:
    client = neve.client(store=store)
    answer = client.query_vectors(
        vectorBucketName=bucket,
        indexName=index,
        queryVector={"float32": [3.0, 0.0]},
        topK=2,
        filter={"odd": True},
        returnDistance=True,
        returnMetadata=True,
    )
    answer.pop("ResponseMetadata", None)
    installed = sorted({found.name.lower().replace("_", "-") for found in distributions()})
    modules = sorted({name.partition(".")[0] for name in sys.modules})
    print(json.dumps({"answer": answer, "installed": installed, "modules": modules}))


if __name__ == "__main__":
    main(*sys.argv[1:])
