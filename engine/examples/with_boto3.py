"""The same as against Amazon S3 Vectors, only the endpoint is ours: `python with_boto3.py ENDPOINT_URL`.

Start a server with `./scripts/serve --store file:///tmp/neve`; without keys it takes any signature.
Instead of `endpoint_url` the variable AWS_ENDPOINT_URL_S3VECTORS does, so a program need not change at all.
"""

import sys

import boto3

s3vectors = boto3.client("s3vectors", endpoint_url=sys.argv[1], region_name="us-east-1")
bucket = s3vectors.create_vector_bucket(vectorBucketName="example")["vectorBucketArn"]
index = s3vectors.create_index(
    vectorBucketName="example",
    indexName="colours",
    dataType="float32",
    dimension=3,
    distanceMetric="euclidean",
)["indexArn"]

colours = {"red": [1, 0, 0], "orange": [1, 0.5, 0], "green": [0, 1, 0], "blue": [0, 0, 1]}
vectors = [
    {"key": name, "data": {"float32": rgb}, "metadata": {"warm": name in ("red", "orange")}}
    for name, rgb in colours.items()
]
s3vectors.put_vectors(indexArn=index, vectors=vectors)
pages = s3vectors.get_paginator("list_vectors").paginate(indexArn=index)
print("keys:", ", ".join(sorted(vector["key"] for page in pages for vector in page["vectors"])))

asked = {"indexArn": index, "queryVector": {"float32": [0.9, 0.4, 0.1]}, "topK": 2, "returnDistance": True}
print("nearest:", s3vectors.query_vectors(**asked)["vectors"])
print("nearest cold one:", s3vectors.query_vectors(**asked | {"filter": {"warm": False}, "topK": 1})["vectors"])

s3vectors.delete_index(indexArn=index)
s3vectors.delete_vector_bucket(vectorBucketArn=bucket)
