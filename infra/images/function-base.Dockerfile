# Stands in for the platform's base image where that cannot be had: any Python. The runtime interface client comes with
# the function, by neve's extra `lambda`.
ARG BASE=docker.io/library/python:3.13-slim
FROM ${BASE}
ENV LAMBDA_TASK_ROOT=/var/task
WORKDIR /var/task
ENTRYPOINT ["python3", "-m", "awslambdaric"]
