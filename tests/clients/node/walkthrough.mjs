// The published walkthrough of S3 Vectors, with unmodified @aws-sdk/client-s3vectors: `node walkthrough.mjs ENDPOINT_URL`.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { NotFoundException, S3Vectors, paginateListVectors } from "@aws-sdk/client-s3vectors";

const client = new S3Vectors({ endpoint: process.argv[2] });
const vectorBucketName = `walkthrough-${randomUUID()}`;
const index = { vectorBucketName, indexName: "documents" };
const first = (value, dimension = 1024) => ({ float32: [value, ...Array(dimension - 1).fill(0)] });
const mystery = { genre: "mystery", year: 2020, raw_text: "hello" };

await client.createVectorBucket({ vectorBucketName });
const { indexArn } = await client.createIndex({
  ...index,
  dataType: "float32",
  dimension: 1024,
  distanceMetric: "cosine",
  metadataConfiguration: { nonFilterableMetadataKeys: ["raw_text"] },
});
const described = (await client.getIndex(index)).index;
assert.equal(described.indexArn, indexArn);
assert.ok(described.creationTime instanceof Date);
assert.ok(Math.abs(Date.now() - described.creationTime) < 60_000);

await client.putVectors({ ...index, vectors: [{ key: "doc1", data: first(0.1), metadata: mystery }] });
const got = await client.getVectors({ ...index, keys: ["doc1"], returnData: true, returnMetadata: true });
assert.equal(got.vectors[0].data.float32[0], 0.10000000149011612);
assert.deepEqual(got.vectors[0].metadata, mystery);

const asked = { indexArn, queryVector: first(0.19), topK: 5 };
const near = await client.queryVectors({ ...asked, returnDistance: true });
assert.equal(near.distanceMetric, "cosine");
assert.deepEqual(near.vectors, [{ key: "doc1", distance: 0 }]);

const newer = { ...mystery, year: 2021 };
await client.putVectors({ ...index, vectors: [{ key: "doc1", data: first(0.1), metadata: newer }] });
const filter = { $and: [{ genre: { $eq: "mystery" } }, { year: { $gte: 2021 } }] };
const filtered = await client.queryVectors({ ...asked, filter, returnMetadata: true });
assert.deepEqual(filtered.vectors, [{ key: "doc1", metadata: newer }]);
await assert.rejects(client.queryVectors({ ...asked, filter: { raw_text: { $eq: "hello" } } }), {
  name: "ValidationException",
  message: "Invalid use of non-filterable metadata in filter",
});

await client.deleteVectors({ ...index, keys: ["doc1"] });
const empty = await client.listVectors(index);
assert.deepEqual(empty.vectors, []);
assert.equal(empty.nextToken, undefined);

const vectors = Array.from({ length: 25 }, (_, number) => ({ key: `k${number}`, data: first(number + 1) }));
await client.putVectors({ ...index, vectors });
const keys = [];
for await (const page of paginateListVectors({ client, pageSize: 10 }, index)) {
  keys.push(...page.vectors.map((vector) => vector.key));
}
assert.deepEqual(keys.sort(), vectors.map((vector) => vector.key).sort());

const squares = { vectorBucketName, indexName: "squares" };
await client.createIndex({ ...squares, dataType: "float32", dimension: 3, distanceMetric: "euclidean" });
await client.putVectors({ ...squares, vectors: [{ key: "a", data: first(0.1, 3) }] });
const squared = await client.queryVectors({ ...squares, queryVector: first(0.19, 3), topK: 1, returnDistance: true });
assert.ok(Math.abs(squared.vectors[0].distance - 0.0081) < 1e-6);

await client.tagResource({ resourceArn: indexArn, tags: { team: "a/b c" } });
assert.deepEqual((await client.listTagsForResource({ resourceArn: indexArn })).tags, { team: "a/b c" });
await client.untagResource({ resourceArn: indexArn, tagKeys: ["team"] });
assert.deepEqual((await client.listTagsForResource({ resourceArn: indexArn })).tags, {});

await client.deleteIndex(index);
await client.deleteIndex(squares);
await assert.rejects(client.getIndex(index), NotFoundException);
await client.deleteVectorBucket({ vectorBucketName });
console.log("walked through with @aws-sdk/client-s3vectors");
