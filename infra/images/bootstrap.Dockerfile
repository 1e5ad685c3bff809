# Prepares a MinIO for neve, and ends: infra/local/bootstrap.py and the client that it needs.
ARG BASE=docker.io/library/python:3.13-slim
FROM ${BASE}
COPY packages /opt/bootstrap
COPY program /opt/bootstrap
ENV PYTHONPATH=/opt/bootstrap
USER 10001:10001
ENTRYPOINT ["python3", "/opt/bootstrap/bootstrap.py"]
