# Every command of neve; without one it serves.
ARG BASE=docker.io/library/python:3.13-slim
FROM ${BASE}
RUN mkdir -p /var/cache/neve && chown 10001:10001 /var/cache/neve
COPY packages /opt/neve
RUN python3 -m compileall -qq -j 0 --invalidation-mode unchecked-hash /opt/neve
COPY program /opt/neve
RUN python3 -m compileall -qq -j 0 --invalidation-mode unchecked-hash /opt/neve/neve
ENV PYTHONPATH=/opt/neve PYTHONUNBUFFERED=1 NEVE_CACHE=/var/cache/neve
USER 10001:10001
VOLUME /var/cache/neve
ENTRYPOINT ["python3", "-m", "neve"]
CMD ["serve"]
