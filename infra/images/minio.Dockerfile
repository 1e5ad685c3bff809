# MinIO, built from the source that scripts/versions pins.
ARG BASE=docker.io/library/debian:bookworm-slim
FROM ${BASE}
RUN mkdir /data && chown 10001:10001 /data
COPY program/minio /usr/local/bin/minio
ENV MINIO_BROWSER=off
USER 10001:10001
VOLUME /data
ENTRYPOINT ["minio"]
CMD ["server", "--quiet", "/data"]
