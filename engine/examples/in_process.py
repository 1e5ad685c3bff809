"""Vectors in a folder, without a server: `python in_process.py [STORE_URL]`. The method names are boto3's."""

import sys

import neve

STORE = sys.argv[1] if len(sys.argv) > 1 else "file:///tmp/neve-example"
INDEX = {"vectorBucketName": "media", "indexName": "films"}
FILMS = {
    "alien": ([0.9, 0.1, 0.0], {"genre": "horror", "year": 1979}),
    "solaris": ([0.8, 0.1, 0.4], {"genre": "drama", "year": 1972}),
    "amelie": ([0.0, 0.9, 0.3], {"genre": "comedy", "year": 2001}),
}

client = neve.client(store=STORE)
try:
    client.create_vector_bucket(vectorBucketName=INDEX["vectorBucketName"])
    client.create_index(**INDEX, dataType="float32", dimension=3, distanceMetric="cosine")
except client.exceptions.ConflictException:
    print("the index is there from last time")

client.put_vectors(
    **INDEX,
    vectors=[{"key": key, "data": {"float32": data}, "metadata": about} for key, (data, about) in FILMS.items()],
)
answer = client.query_vectors(
    **INDEX,
    queryVector={"float32": [1.0, 0.0, 0.2]},
    topK=2,
    filter={"year": {"$lt": 2000}},
    returnMetadata=True,
    returnDistance=True,
)
for hit in answer["vectors"]:
    print(f"{hit['key']:10} {hit['distance']:.4f} {hit['metadata']}")
